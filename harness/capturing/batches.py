"""Windows run through a model in batches of fixed shapes.

Invariant: the windows beside it change no bit of a window's activations, so a run that was cut off and goes on gives
the numbers of one that was not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.contracts.model import TextModel, Window

_BATCH_WINDOWS = 8
_LENGTH_STEP = 16


class Ran(NamedTuple):
    """Some windows of about one length."""

    places: list[int]
    """Positions of these windows among those that were given."""
    x: Float[Tensor, "n t d"]
    """Activations, on the CPU."""
    mask: Bool[Tensor, "n t"]
    """False for padding."""


def run_alike(model: TextModel, windows: Sequence[Window], site: str) -> Iterator[Ran]:
    """The activations of all windows at a site, batch by batch."""
    by_length: dict[int, list[int]] = defaultdict(list)
    for place, window in enumerate(windows):
        by_length[-(-len(window.ids) // _LENGTH_STEP) * _LENGTH_STEP].append(place)
    for n_tokens, group in by_length.items():
        for first in range(0, len(group), _BATCH_WINDOWS):
            places = group[first : first + _BATCH_WINDOWS]
            x, mask = _run([windows[place] for place in places], n_tokens, model, site)
            yield Ran(places, x, mask)


def _run(
    windows: Sequence[Window], n_tokens: int, model: TextModel, site: str
) -> tuple[Float[Tensor, "n t d"], Bool[Tensor, "n t"]]:
    """Up to a batch of windows, none longer than `n_tokens`; missing ones are filled up."""
    ids = torch.zeros(_BATCH_WINDOWS, n_tokens, dtype=torch.long)
    mask = torch.zeros_like(ids, dtype=torch.bool)
    mask[:, 0] = True
    for row, window in enumerate(windows):
        ids[row, : len(window.ids)] = torch.tensor(window.ids)
        mask[row, : len(window.ids)] = True
    x = model.activations(ids, mask, [site])[site].cpu()
    return x[: len(windows)], mask[: len(windows)]
