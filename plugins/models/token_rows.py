"""Rows of the residual stream that stand for the tokens of a window, where it has rows of other things as well.

A model may put a prompt, class tokens or images in front, or pad to a multiple of some length. Where the tokens are is
found out: a token that is changed changes its own row of what the first block gets, and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness import ConfigError
from harness.plugins.models.padding import differ

Entering = Callable[[Int[Tensor, "b t"]], Float[Tensor, "b r d"]]
"""A function that gives what enters the first block: r rows for t tokens."""


class TokenRows:
    """Finds the first row that is a token's, for windows of every length."""

    def __init__(self, entering: Entering, text: Callable[[int], Int[Tensor, " t"]]) -> None:
        """Take what gives the ids of a text of so many tokens, too."""
        self._entering, self.text = entering, text
        self._first: dict[tuple[int, int], int] = {}

    def of(self, x: Float[Tensor, "b r d"], n_tokens: int) -> Float[Tensor, "b t d"]:
        """The rows of the tokens."""
        first = self.first(n_tokens, x.shape[1])
        return x[:, first : first + n_tokens]

    def split(self, tensor: Tensor, shape: torch.Size) -> tuple[Tensor, Float[Tensor, "b t d"]]:
        """A copy of a tensor of the model's that holds windows of this shape, and the rows of the tokens within it."""
        copy = tensor.clone(memory_format=torch.contiguous_format)
        b, t = shape
        rows = copy.view(b, -1, copy.shape[-1])  # some modules see all tokens of a batch in one row
        first = self.first(t, rows.shape[1])
        return copy, rows[:, first : first + t]

    def first(self, n_tokens: int, n_rows: int) -> int:
        """The number of the first token's row; the others follow it."""
        if n_rows == n_tokens:
            return 0
        if (n_tokens, n_rows) not in self._first:
            self._first[n_tokens, n_rows] = self._locate(n_tokens, n_rows)
        return self._first[n_tokens, n_rows]

    def _locate(self, n_tokens: int, n_rows: int) -> int:
        places = sorted({0, n_tokens // 2, n_tokens - 1})
        ids = self.text(n_tokens).repeat(1 + len(places), 1)
        for number, place in enumerate(places, start=1):
            others = self.text(2 * n_tokens)
            ids[number, place] = others[others != ids[0, place]][0]
        x = self._entering(ids)
        changed = [
            [row for row in range(x.shape[1]) if differ(x[i : i + 1, row], x[:1, row])] for i in range(1, len(x))
        ]
        firsts = {tuple(row - place for row in rows) for rows, place in zip(changed, places, strict=True)}
        found: Sequence[int] = firsts.pop() if len(firsts) == 1 else ()
        if len(found) != 1 or x.shape[1] != n_rows:
            raise ConfigError(
                f"the residual stream has {n_rows} rows for a window of {n_tokens} tokens, and which of them are the "
                "tokens' can't be told: a token changes none of them alone. This model can't be read."
            )
        return found[0]
