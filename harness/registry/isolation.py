"""Settings of the process that a plugin must not change for its neighbours: put back after its code has run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_process() -> Iterator[None]:
    """End a copy of this process that comes back from a plugin's code: it would do all that follows a second time."""
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(0)


@contextmanager
def isolated() -> Iterator[None]:
    """Put back torch's default dtype, threads, gradient mode and global random state, and the working folder.

    Without it, what one learner sets (`torch.set_default_dtype`) or draws (`torch.randn`) would be part of the results
    of the others, and these would be stored under keys that do not say so.
    """
    dtype, n_threads, is_grad_enabled = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    random_state, folder = torch.get_rng_state(), os.getcwd()  # noqa: PTH109  # restored as it was
    try:
        with one_process():
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)
        torch.set_grad_enabled(is_grad_enabled)
        torch.set_rng_state(random_state)
        os.chdir(folder)
