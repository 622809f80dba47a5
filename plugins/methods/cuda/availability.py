"""The devices that kernels in Triton run on."""

from __future__ import annotations

import functools
import warnings
from importlib.util import find_spec

import torch


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
    """True if Triton reaches the card, for which it compiles a little C on each machine."""
    try:
        from triton.runtime import driver

        driver.active.get_current_target()
    except Exception as error:  # of many kinds, and each of them means that no kernel would run
        warnings.warn(
            "what has kernels for the GPU runs without them, step by step in torch, as Triton does not start "
            f"({error}). It needs a C compiler (gcc, or CC), Python's headers (python3-dev) and a folder that "
            "can be written (TRITON_CACHE_DIR).",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True
