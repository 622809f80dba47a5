"""A model on trial: texts, their windows, and the rows of these in batches of any make."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.model import HasOwnRows, Window
from harness.testing.checks import NotChecked

TEXTS = (
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on through 12 rainy days.",
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, and "
    "nothing particular to interest me on shore, I thought I would sail about a little and see the watery part of the "
    "world. It is a way I have of driving off the spleen, and regulating the circulation.",
    "In the beginning God created the heaven and the earth. And the earth was without form, and void.",
    "Überraschung: naïve café visitors paid 3.50 € 😀 and left.",
    "No",
)
"""Texts that each begin with a word of their own; the second fills several windows."""
CONTEXT = 24
LONG_CONTEXTS = (96, 400)
_MAX_SITES = 3


class ModelUnderTest:
    """A model, by what makes a fresh one, and the shape that its Spec states (None: it states none)."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Any], shape: Mapping[str, int] | None = None) -> None:
        self.make = make
        self.shape = shape
        self._has_failed = False

    @cached_property
    def model(self) -> Any:
        """One for nearly all checks: models may be large. One that can't be made is the first check's to tell."""
        if self._has_failed:
            raise NotChecked("nothing to check before `says_what_it_is` holds")
        self._has_failed = True
        made = self.make()
        self._has_failed = False
        return made

    @property
    def reader(self) -> Any:
        """The model, where it runs texts."""
        if isinstance(self.model, HasOwnRows):
            raise NotChecked("it has rows of its own and runs no texts")
        return self.model

    @cached_property
    def sites(self) -> list[str]:
        """The residual stream after the first block, one in the middle and the last."""
        last = self.model.n_layers - 1
        return [f"resid_post.{layer}" for layer in sorted({0, last // 2, last})[:_MAX_SITES]]

    @cached_property
    def windows(self) -> list[Window]:
        """The windows of all texts, none longer than `CONTEXT`."""
        return [window for windows in self.reader.windows(list(TEXTS), CONTEXT) for window in windows]

    @cached_property
    def long_windows(self) -> list[Window]:
        """A window of up to each of `LONG_CONTEXTS` tokens, as far as the model can take it."""
        found: list[Window] = []
        for context in LONG_CONTEXTS:
            window = self.reader.windows([" ".join(TEXTS * 5)], context)[0][0]
            if found:
                try:
                    self.read([window])
                except Exception:  # positions end somewhere: it may raise anything
                    break
            found.append(window)
        return found

    def read(
        self,
        windows: Sequence[Window],
        sites: Sequence[str] | None = None,
        model: Any = None,
        n_tokens: int = 0,
        pad_id: int = 0,
    ) -> dict[str, list[Float[Tensor, "t d"]]]:
        """The rows of each window, all in one batch that is padded to at least `n_tokens` with `pad_id`."""
        ids, mask = batch(windows, n_tokens, pad_id)
        found = (model or self.reader).activations(ids, mask, list(sites or self.sites))
        lengths = [len(window.ids) for window in windows]
        return {site: [x[i, :n].cpu() for i, n in enumerate(lengths)] for site, x in found.items()}


def batch(
    windows: Sequence[Window], n_tokens: int = 0, pad_id: int = 0
) -> tuple[Int[Tensor, "b t"], Bool[Tensor, "b t"]]:
    """Ids and mask of windows that are filled up on the right."""
    shape = len(windows), max(n_tokens, *(len(window.ids) for window in windows))
    ids, mask = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.bool)
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(list(window.ids))
        mask[row, : len(window.ids)] = True
    return ids, mask


def error_of(x: Float[Tensor, "n d"], other: Float[Tensor, "n d"]) -> float:
    """The largest distance between two rows, as a share of the norm of the second."""
    norms = other.double().norm(dim=-1)
    floor = 1e-3 * norms.median() if norms.numel() else norms.new_zeros(())
    errors = (x.double() - other.double()).norm(dim=-1) / norms.clamp(min=max(float(floor), 1e-30))
    return float(errors.max()) if errors.numel() else 0.0


def is_rounding(error: float, dtype: torch.dtype) -> bool:
    """True if rows of a dtype may differ by as much; NaN is no rounding."""
    return bool(error <= torch.finfo(dtype).eps ** 0.5)
