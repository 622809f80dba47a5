"""Abilities of the device that rows are on, which decide how metrics compute on it."""

from __future__ import annotations

import functools

import torch

# NVIDIA's cards for data centres. Others multiply float64 at a thirty-second or less of the rate of float32; of AMD's
# some do and some don't under one number, so they are taken for others.
_WITH_QUICK_FLOAT64 = {(6, 0), (7, 0), (8, 0), (9, 0), (10, 0)}


def multiplies_float64_quickly(device: torch.device) -> bool:
    """True on a card on which products in float64 take hardly longer than in float32."""
    return device.type == "cuda" and torch.version.hip is None and _capability(device) in _WITH_QUICK_FLOAT64


@functools.cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)
