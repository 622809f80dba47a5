"""The units of a decomposition that explainers and scorers are about: the poles of latents that were sampled."""

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
from harness.storage.store import Store, require
from harness.tables.verdicts import Places


@dataclass(frozen=True)
class Unit:
    """A pole of a latent, and the columns of its table rows."""

    latent: Latent
    columns: dict[str, Any]
    places: Places
    """Of the windows that scorers may speak of."""


class Units:
    """Those of one decomposition at a time: the cells about it follow each other in a plan."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key: tuple[str, int] | None = None
        self._units: list[Unit] = []

    def of(self, task: Mapping[str, Any]) -> list[Unit]:
        """The units that a cell is about, for its plugin to spoil."""
        if self._key != (key := (task["latents"], task["seed"])):
            folder, _ = require(self._store, "latents", task["latents"])
            cards = json.loads((folder / CARDS).read_text())["cards"]
            dictionary = load(require(self._store, "fit", task["fit"])[0]).dictionary
            self._units = [_unit(card, cards, dictionary, task["seed"]) for card in cards]
            self._key = key
        return [replace(unit, latent=_fresh(unit.latent)) for unit in self._units]


def _fresh(latent: Latent) -> Latent:
    """The same with nothing shared that code could change, not even by force."""
    return replace(
        latent,
        explain=tuple(map(replace, latent.explain)),
        test=tuple(map(replace, latent.test)),
        near_explain=tuple(map(replace, latent.near_explain)),
        near_test=tuple(map(replace, latent.near_test)),
        direction=None if latent.direction is None else latent.direction.clone(),
        other=None if latent.other is None else _fresh(latent.other),
    )


def _unit(card: Card, cards: Sequence[Card], dictionary: Tensor | None, seed: int) -> Unit:
    def latent(own: Card, other: Latent | None = None) -> Latent:
        return latent_of(own, None if dictionary is None else dictionary[own["index"]], other)

    other = _other(card, cards, seed)
    columns = {"latent": card["index"], **{name: card[name] for name in ("sign", "stratum", "weight", "density")}}
    whole = latent(card, None if other is None else latent(other))
    return Unit(whole, columns, Places([window_of(item) for item in card["test"]]))


def _other(card: Card, cards: Sequence[Card], seed: int) -> Card | None:
    """Another latent, not the same one's other pole; the seed decides, for each unit on its own."""
    others = [candidate for candidate in cards if candidate["index"] != card["index"]]
    digest = hashlib.sha256(f"{seed}/other/{card['index']}/{card['sign']}".encode()).digest()
    return others[int.from_bytes(digest[:8], "big") % len(others)] if others else None
