"""Rows of one stream that came before their turn: held until it comes, as far as there is room.

Rows come in the order of their documents and are given in blocks, in the order of a pass. Where there is no room those
whose turn is last are let go; they are taken when they come again.
"""

from __future__ import annotations

from math import ceil

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.capturing import activations

_NOT_HELD = -1


class WaitingRows:
    """Rows of a pass that wait for their turn.

    Args:
        order: the places of the rows in the activations, in the order of the pass.
        n_rows: the number of all rows of the activations.
        first: the number of the row that is wanted first: the beginning of a block.
        max_bytes: what held rows may take; two blocks always may.
    """

    def __init__(self, order: Int[Tensor, " n"], n_rows: int, first: int, max_bytes: float) -> None:
        self._block_rows = activations.BLOCK_ROWS
        self._turn = torch.full((n_rows,), -1, dtype=torch.int32)
        self._turn[order] = torch.arange(len(order), dtype=torch.int32)
        self._slot = torch.full((len(order),), _NOT_HELD, dtype=torch.int32)
        self._n_blocks = ceil(len(order) / self._block_rows)
        self._counts = torch.zeros(self._n_blocks, dtype=torch.long)
        self._sizes = torch.full((self._n_blocks,), self._block_rows)
        if self._n_blocks:
            self._sizes[-1] = len(order) - (self._n_blocks - 1) * self._block_rows
        self._next = first // self._block_rows
        self._limit = self._n_blocks
        """The first of the blocks that are left until they come again: there was no room for them."""
        self.let_go = False
        """True once rows were let go for want of room."""
        self._max_bytes = max_bytes
        self._held: Float[Tensor, "s d"] | None = None
        self._places = self._free = torch.empty(0, dtype=torch.long)
        self._n_free = 0
        """The number of slots that are free: the first ones in `_free`, of which the last is taken first."""

    @property
    def is_over(self) -> bool:
        """True when all blocks have been taken."""
        return self._next == self._n_blocks

    @property
    def has_next(self) -> bool:
        """True when all rows of the next block are there."""
        return bool(self._counts[self._next] == self._sizes[self._next])

    def wants(self, start: int, end: int) -> bool:
        """True if some of the rows at these places in the activations are lacking."""
        return bool(self._lacking(start, end).any())

    def receive(self, start: int, x: Float[Tensor, "b d"]) -> None:
        """Keep those of the rows from a place in the activations on that are lacking."""
        held = self._room(x)
        chosen = self._lacking(start, start + len(x)).nonzero().flatten()
        turns = self._turn[start + chosen].long()
        while len(turns) > self._n_free:
            self._let_go()
            is_kept = turns < self._limit * self._block_rows
            chosen, turns = chosen[is_kept], turns[is_kept]
        self._n_free -= len(turns)
        slots = self._free[self._n_free : self._n_free + len(turns)]
        held[slots] = x[chosen]
        self._places[slots] = start + chosen
        self._slot[turns] = slots.int()
        self._counts += torch.bincount(turns // self._block_rows, minlength=self._n_blocks)
        ahead = slice(self._next, self._limit)
        if torch.equal(self._counts[ahead], self._sizes[ahead]):
            self._limit = self._n_blocks

    def take(self) -> tuple[Float[Tensor, "b d"], Int[Tensor, " b"]]:
        """The rows of the next block and their places in the activations."""
        assert self._held is not None and self.has_next
        slots = self._release(self._next)
        self._next += 1
        return self._held[slots], self._places[slots]

    def _lacking(self, start: int, end: int) -> Bool[Tensor, " b"]:
        turns = self._turn[start:end].long()
        is_in_time = (turns >= self._next * self._block_rows) & (turns < self._limit * self._block_rows)
        return is_in_time & (self._slot[turns.clamp(min=0)] == _NOT_HELD) if len(self._slot) else is_in_time

    def _room(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "s d"]:
        """The rows that may be held; memory is taken only for those that are."""
        if self._held is None:
            n_affordable = int(self._max_bytes / (x.shape[1] * x.dtype.itemsize))
            n_slots = min(max(n_affordable, 2 * self._block_rows), len(self._slot))
            self._held = torch.empty(n_slots, x.shape[1], dtype=x.dtype)
            self._places, self._free = torch.empty(n_slots, dtype=torch.long), torch.arange(n_slots)
            self._n_free = n_slots
        return self._held

    def _let_go(self) -> None:
        """Let the held rows of the last block go."""
        self.let_go = True
        self._limit -= 1
        self._release(self._limit)
        self._counts[self._limit] = 0

    def _release(self, block: int) -> Int[Tensor, " b"]:
        """Free the slots of the rows of a block that are held, and give them in the order of the rows."""
        own = slice(block * self._block_rows, (block + 1) * self._block_rows)
        slots = self._slot[own].long()
        self._slot[own] = _NOT_HELD
        slots = slots[slots != _NOT_HELD]
        self._free[self._n_free : self._n_free + len(slots)] = slots
        self._n_free += len(slots)
        return slots
