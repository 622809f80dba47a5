"""Cards: all that is shown of one pole of a latent, as JSON, and the `Latent` that scorers get from it.

`index, sign, stratum, weight, threshold, density, active_share, max, n_active, n_documents` are numbers about the pole
(see `activations` and `sampling`); `weight` is null for a pole that was not drawn. `histogram` counts its activations
above the ceiling; `top_tokens` are the tokens it is active on most often (`n_active` of `n` occurrences, `mean`
activation on those). `lens` holds the tokens that the direction promotes and suppresses, or the reason why there are
none; `nearest` other rows of the dictionary; `source` where a stored activation was taken from; `explain` and `test`
the windows.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.contracts.decomposition import Decomposition
from harness.contracts.latent import NEAR, Latent, LatentWindow
from harness.latents.activations import LatentActivations, Pole, PoleId
from harness.latents.negatives import Near
from harness.latents.neighbours import nearest
from harness.latents.sampling import Strata, sample
from harness.latents.windows import Windows

N_BINS = 20
N_TOKENS = 10
SOURCE_CHARACTERS = 100

Card: TypeAlias = dict[str, Any]
Directions: TypeAlias = Float[Tensor, "u d"]


@dataclass(frozen=True)
class CardMaker:
    """Makes the cards of one decomposition."""

    decomposition: Decomposition
    activations: LatentActivations
    windows: Windows
    masked: Bool[np.ndarray, " n"]
    strata: Strata
    lens: Callable[[Directions], list[dict[str, Any]]]
    """The logit lens: tokens that a direction promotes and suppresses; see `lens.py`."""
    find_texts: Callable[[set[str]], Mapping[str, str]]
    """Documents of the fit rows by id, for the sources of stored activations."""
    seed: int

    def make(self, weights: Mapping[PoleId, float | None]) -> list[Card]:
        """The cards of poles, which are given with their weights in the sample, in order."""
        poles = [self.activations.pole(*pole) for pole in weights]
        lenses, sources = self._lenses(poles), self._sources(poles)
        return [
            self._card(pole, weight) | {"lens": lens, "source": source} | self._examples(pole)
            for pole, weight, lens, source in zip(poles, weights.values(), lenses, sources, strict=True)
        ]

    def _card(self, pole: Pole, weight: float | None) -> Card:
        active = pole.rows[pole.is_active]
        return {
            "index": pole.index,
            "sign": pole.sign,
            "stratum": self.strata.of(pole.index, pole.sign),
            "weight": weight,
            "threshold": pole.threshold,
            "density": pole.density,
            "active_share": pole.active_share,
            "max": float(pole.values.max(initial=0)),
            "n_active": len(active),
            "n_documents": len({self.windows.document_of_row[row] for row in active}),
            "histogram": histogram(pole),
            "top_tokens": self._top_tokens(pole),
            "nearest": nearest(self.decomposition, pole.index, pole.sign),
        }

    @cached_property
    def _near(self) -> Near:
        return Near(self.decomposition, self.activations, self.windows)

    @cached_property
    def _occurrences(self) -> Counter[str]:
        """The number of unmasked rows of each token."""
        return Counter(token for token, masked in zip(self.windows.tokens, self.masked, strict=True) if not masked)

    def _top_tokens(self, pole: Pole) -> list[dict[str, Any]]:
        activations: dict[str, list[float]] = defaultdict(list)
        for row, value in zip(pole.rows[pole.is_active], pole.values[pole.is_active].tolist(), strict=True):
            activations[self.windows.tokens[row]].append(value)
        ranked = sorted(activations.items(), key=lambda item: (-len(item[1]), -sum(item[1]), item[0]))
        return [
            {"token": token, "n_active": len(own), "n": self._occurrences[token], "mean": sum(own) / len(own)}
            for token, own in ranked[:N_TOKENS]
        ]

    def _lenses(self, poles: list[Pole]) -> list[dict[str, Any]]:
        if self.decomposition.dictionary is None:
            return [{"reason": "the decomposition has no dictionary"} for _ in poles]
        directions = [pole.sign * self.decomposition.dictionary[pole.index] for pole in poles]
        return self.lens(torch.stack(directions)) if directions else []

    def _sources(self, poles: list[Pole]) -> list[dict[str, Any] | None]:
        atoms = self.decomposition.atoms
        if atoms is None or atoms["end"].isna().any():  # atoms of bare tensors come from no text
            return [None for _ in poles]
        chosen = [atoms.iloc[pole.index] for pole in poles]
        texts = self.find_texts({str(atom["document"]) for atom in chosen})
        return [
            source(str(atom["document"]), texts[str(atom["document"])], int(atom["start"]), int(atom["end"]))
            for atom in chosen
        ]

    def _examples(self, pole: Pole) -> dict[str, list[dict[str, Any]]]:
        examples = sample(self.windows, pole, self.seed, self._near)
        return {name: [_item(window) for window in windows] for name, windows in vars(examples).items()}


def histogram(pole: Pole) -> dict[str, list[Any]]:
    """A histogram of the pole's activations above its ceiling; empty where there are none."""
    if not len(pole.values):
        return {"edges": [], "counts": []}
    span = (pole.ceiling, float(pole.values.max()))
    counts, edges = np.histogram(pole.values.astype(np.float64), bins=N_BINS, range=span)
    return {"edges": edges.tolist(), "counts": counts.tolist()}


def source(document: str, text: str, start: int, end: int) -> dict[str, Any]:
    """The text around a stored activation's token, cut where a word ends."""
    # One character more than is wanted: a word that begins just there is whole.
    before, after = text[max(0, start - SOURCE_CHARACTERS - 1) : start], text[end : end + SOURCE_CHARACTERS + 1]
    if start > SOURCE_CHARACTERS:
        before = _after_space(before)
    if len(text) > end + SOURCE_CHARACTERS:
        after = _after_space(after[::-1])[::-1]
    return {"document": document, "before": before, "token": text[start:end], "after": after}


def _after_space(text: str) -> str:
    """The text after the first white space; all of it where there is none."""
    place = next((i for i, character in enumerate(text) if character.isspace()), -1)
    return text[place + 1 :]


def latent_of(card: Card, direction: Float[Tensor, " d"] | None = None, other: Latent | None = None) -> Latent:
    """The `Latent` of a card, for scorers; `direction` is its row of the dictionary, multiplied here by the sign."""
    origin = card["source"]
    (explain, near_explain), (test, near_test) = (_windows(card[half]) for half in ("explain", "test"))
    return Latent(
        index=card["index"],
        sign=card["sign"],
        threshold=card["threshold"],
        explain=explain,
        test=test,
        direction=None if direction is None else card["sign"] * direction,
        source=origin and origin["before"] + origin["token"] + origin["after"],
        other=other,
        near_explain=near_explain,
        near_test=near_test,
    )


def _windows(items: Sequence[Mapping[str, Any]]) -> tuple[tuple[LatentWindow, ...], tuple[LatentWindow, ...]]:
    """The windows that every scorer sees, and the hard ones."""
    windows = [window_of(item) for item in items]
    return tuple(w for w in windows if w.sample not in NEAR), tuple(w for w in windows if w.sample in NEAR)


def _item(window: LatentWindow) -> dict[str, Any]:
    return {**asdict(window), "tokens": list(window.tokens), "activations": list(window.activations)}


def window_of(item: Mapping[str, Any]) -> LatentWindow:
    """The `LatentWindow` of an item of a card."""
    return LatentWindow(**{**item, "tokens": tuple(item["tokens"]), "activations": tuple(item["activations"])})
