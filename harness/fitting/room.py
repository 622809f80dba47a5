"""Room on a card for a learner and its batches: what would have fitted, once one did not."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from harness.errors import OutOfMemory

_ASKED = re.compile(r"Tried to allocate ([0-9.]+) ([KMG]iB)")
_UNITS = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


class Memory(NamedTuple):
    """Bytes of a card's memory."""

    has: int
    """All that this process can have."""
    held: int
    """Bytes that tensors hold between batches."""
    wanted: int
    """Bytes that they held at most, with those asked for last: a batch needs that much, or more."""


def memory_of(device: torch.device, error: BaseException) -> Memory:
    """The memory of a card after a batch did not fit: of this one, or the current one if a plugin chose by itself."""
    card = device if device.type == "cuda" else None
    asked = _ASKED.search(str(error))
    n_asked = round(float(asked[1]) * _UNITS[asked[2]]) if asked else 0
    free, _ = torch.cuda.mem_get_info(card)
    has = free + torch.cuda.memory_reserved(card)
    return Memory(has, torch.cuda.memory_allocated(card), torch.cuda.max_memory_allocated(card) + n_asked)


def explained(error: BaseException, name: str, batch_rows: int, memory: Memory) -> OutOfMemory:
    """The error of a batch that did not fit, with the size of one that would, if there is any.

    Batches are not made smaller: what a learner learns depends on them.
    """
    has, held, wanted = (f"{n / 1e9:.3g} GB" for n in memory)
    n_rows = batch_rows * (memory.has - memory.held) // max(memory.wanted - memory.held, 1)
    fitting = 1 << min(n_rows, batch_rows - 1).bit_length() - 1 if min(n_rows, batch_rows - 1) > 0 else 0
    smaller = f"batch_rows of {fitting} or fewer would fit, or" if fitting else "No batch would fit: it takes"
    made = OutOfMemory(
        f"{name}: a batch of {batch_rows} rows needs {wanted} or more on a card of which {has} are to be had and "
        f"{held} are held. {smaller} fewer latents, or fewer learners at a time."
    )
    made.__cause__ = error
    return made
