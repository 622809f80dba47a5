"""Compilation of kernels by Triton, and their launch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import triton
from triton import knobs

from harness.plugins.methods import compile_time


def kernel(*changing: str) -> Callable[[Callable[..., Any]], Any]:
    """Compile when first launched, and not anew for other values of the arguments named."""

    def decorate(function: Callable[..., Any]) -> Any:
        return triton.jit(function, do_not_specialize=list(changing))

    return decorate


def _leave_out_compilation() -> None:
    """Have Triton tell of each kernel that it compiles, or reads compiled from disk, at its first launch."""
    others = knobs.runtime.jit_cache_hook, knobs.runtime.jit_post_compile_hook

    def before(**about: Any) -> Any:
        compile_time.begin()
        return others[0] and others[0](**about)

    def after(**about: Any) -> Any:
        compile_time.end()
        return others[1] and others[1](**about)

    knobs.runtime.jit_cache_hook, knobs.runtime.jit_post_compile_hook = before, after


_leave_out_compilation()


def launch(function: Any, grid: tuple[int, ...], *arguments: Any, **constants: Any) -> None:
    """Run a grid of programs of a kernel on the device of its first argument; nothing where the grid is empty."""
    if all(grid):
        with torch.cuda.device_of(arguments[0]):
            # A product and a sum may round once together: said here, as Triton's own choice differs between versions.
            function[grid](*arguments, enable_fp_fusion=True, **constants)


def block(n: int, least: int = 64) -> int:
    """The power of two that holds n numbers: what a program takes at once."""
    return max(least, int(triton.next_power_of_2(n)))
