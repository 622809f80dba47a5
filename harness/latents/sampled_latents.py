"""The latents of a decomposition that explainers and scorers are asked about: a sample of its latents' poles."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from harness.contracts.decomposition import load
from harness.contracts.latent import Latent
from harness.latents.cards import Card, latent_of, window_of
from harness.latents.reading import CARDS
from harness.storage.store import Store, read_checked, require
from harness.tables.verdicts import WindowPlaces

COLUMNS = ("sign", "stratum", "weight", "density", "active_share")
"""Numbers of cards that are columns of tables under the same names."""


@dataclass(frozen=True)
class SampledLatent:
    """One pole of a latent as explainers and scorers see it, with the columns of its table rows."""

    latent: Latent
    columns: dict[str, Any]
    places: WindowPlaces
    """The places of the windows that a scorer's verdicts may be about."""


class SampledLatents:
    """Reads the sampled latents of decompositions, and keeps the last ones: cells about them follow each other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key: tuple[str, int] | None = None
        self._sampled: list[SampledLatent] = []

    def of(self, work: Mapping[str, Any]) -> list[SampledLatent]:
        """The latents that a cell is about, as copies that its plugin may change."""
        if self._key != (key := (work["latents"], work["seed"])):
            cards = json.loads(read_checked(self._store, "latents", work["latents"], CARDS))["cards"]
            dictionary = load(require(self._store, "fit", work["fit"])[0]).dictionary
            self._sampled = [_sampled(card, cards, dictionary, work["seed"]) for card in cards]
            self._key = key
        return [replace(sampled, latent=_fresh(sampled.latent)) for sampled in self._sampled]


def _fresh(latent: Latent) -> Latent:
    """A deep copy, so that one plugin cannot change the latent for the next, not even by force."""
    return replace(
        latent,
        explain=tuple(map(replace, latent.explain)),
        test=tuple(map(replace, latent.test)),
        near_explain=tuple(map(replace, latent.near_explain)),
        near_test=tuple(map(replace, latent.near_test)),
        direction=None if latent.direction is None else latent.direction.clone(),
        other=None if latent.other is None else _fresh(latent.other),
    )


def _sampled(card: Card, cards: Sequence[Card], dictionary: Tensor | None, seed: int) -> SampledLatent:
    def latent(own: Card, other: Latent | None = None) -> Latent:
        return latent_of(own, None if dictionary is None else dictionary[own["index"]], other)

    other = _other(card, cards, seed)
    columns = {"latent": card["index"], **{name: card[name] for name in COLUMNS}}
    whole = latent(card, None if other is None else latent(other))
    return SampledLatent(whole, columns, WindowPlaces([window_of(item) for item in card["test"]]))


def _other(card: Card, cards: Sequence[Card], seed: int) -> Card | None:
    """The card of another latent, never of the same one's other pole; the seed decides, for each card on its own."""
    others = [candidate for candidate in cards if candidate["index"] != card["index"]]
    digest = hashlib.sha256(f"{seed}/other/{card['index']}/{card['sign']}".encode()).digest()
    return others[int.from_bytes(digest[:8], "big") % len(others)] if others else None
