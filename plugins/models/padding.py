"""Batches: whether a model's rows are those of each window alone, found by trial at the lengths at hand.

Not all models that mix tokens obey the mask, and some compute otherwise where the batch is long: rotary tables of
another scale, attention of another kind. A trial at a few tokens can't see that, so each new span of lengths is tried.
In some the windows of a batch share what is scarce, such as places at an expert.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness import ConfigError

Run: TypeAlias = Callable[[Int[Tensor, "b t"], Bool[Tensor, "b t"]], tuple[Float[Tensor, "b t d"], Any]]
"""A function that gives the rows of windows, and what the pass has changed in the model."""


_TOKENS_BESIDE = 32


class Padding:
    """Says whether windows may share a batch, filled up to a common length. Where once they may not, they never may."""

    def __init__(self, run: Run, text: Callable[[int], Int[Tensor, " t"]]) -> None:
        """Take what runs windows, and what gives the ids of a text of so many tokens."""
        self._run, self._text = run, text
        self._alike: tuple[int, int] | None = None
        self.leaks = False

    def is_harmless(self, shortest: int, longest: int) -> bool:
        """True if windows from `shortest` tokens on give the rows that they give alone when they are filled up to
        `longest` and run beside others.
        """
        first, last = self._alike or (longest, longest)
        if self._alike is None:
            self.leaks = self._differ_beside(min(longest, _TOKENS_BESIDE))
        if not self.leaks:
            # From lengths that are known to be alike, to shorter and to longer ones.
            self.leaks = self._changes_rows(shortest, first) or self._changes_rows(last, longest)
            self._alike = min(shortest, first), max(longest, last)
        return not self.leaks

    def _differ_beside(self, n_tokens: int) -> bool:
        """True if a window's rows change where another one of its length, with other tokens, comes before it."""
        ids = self._text(n_tokens)[None]
        both = torch.cat([ids.flip(1), ids])
        (alone, _), (beside, _) = (self._run(windows, torch.ones_like(windows).bool()) for windows in (ids, both))
        return differ(beside[1:], alone)

    def _changes_rows(self, shortest: int, longest: int) -> bool:
        """True if filling up changes windows anywhere between two lengths: each of a chain is filled up to the next.

        The chain doubles: at a few tokens a change may not show. Its lengths are odd, as blocks of tokens are not.
        """
        lengths = {shortest, longest, *(longest >> k | 1 for k in range(1, longest.bit_length()))}
        chain = sorted(n for n in lengths if shortest <= n <= longest)
        return any(itertools.starmap(self._differ_filled, itertools.pairwise(chain)))

    def _differ_filled(self, n_tokens: int, n_filled: int) -> bool:
        ids, mask = self._text(n_filled)[None], torch.arange(n_filled)[None] < n_tokens
        alone, state = self._run(ids[:, :n_tokens], mask[:, :n_tokens])
        try:
            filled, other_state = self._run(ids.where(mask, 0), mask)
        except ConfigError:  # the model can't take it; anything else, such as memory that is short, says nothing of it
            return True
        return state != other_state or differ(filled[:, :n_tokens], alone)


def differ(x: Float[Tensor, "*n d"], other: Float[Tensor, "*n d"]) -> bool:
    """True if any row differs by more than rounding: in float32 by 7e-5 of its norm. Rows that both overflow don't."""
    error, norm = (x - other).float().norm(dim=-1), other.float().norm(dim=-1)
    overflow = ~(x.isfinite().all(dim=-1) | other.isfinite().all(dim=-1))
    return not bool(((error <= torch.finfo(other.dtype).eps ** 0.6 * norm) | overflow).all())
