"""The devices that kernels in Triton run on."""

from __future__ import annotations

import functools
import os
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

from harness.plugins.methods.code_folder import others_may_write


def runs_kernels(device: torch.device) -> bool:
    """True for NVIDIA cards from Ampere on, where Triton is installed and starts; on others it was never tried."""
    return device.type == "cuda" and _has_kernels(device)


@functools.cache  # asked at every step
def _has_kernels(device: torch.device) -> bool:
    if torch.version.hip is not None or find_spec("triton") is None:
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0) and _triton_starts()


@functools.cache
def _triton_starts() -> bool:
    """True if Triton reaches the card, for which it compiles a little C on each machine, and loads what it finds."""
    try:
        folder = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton")
        if others_may_write(folder):
            raise PermissionError(f"others may write in {folder}, where it keeps compiled code")
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # of many kinds, and each of them means that no kernel would run
        warnings.warn(
            "what has kernels for the GPU runs without them, step by step in torch, as Triton does not start "
            f"({error}). It needs a C compiler (gcc, or CC), Python's headers (python3-dev) and a folder that "
            "you can write, and nobody else (TRITON_CACHE_DIR).",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
