"""Lookup of one latent by its decomposition, number and pole: its card, from the store or made on the spot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import ConfigError, suggest
from harness.latents.explanations import of_latents
from harness.latents.relatives import Relatives
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.registry.plugin_manager import load_catalog
from harness.storage.store import Store, read_checked, require

if TYPE_CHECKING:
    from harness.latents.cards import Card

DECOMPOSITION = ("model", "site", "fit_tokens", "method", "seed")
SELECTORS = (*DECOMPOSITION, "latent", "sign")
_SIGNS = {"1": 1, "+1": 1, "+": 1, "-1": -1, "-": -1}


@dataclass(frozen=True)
class Explained:
    """One decomposition of a plan, with what the store knows of its latents."""

    plan: Plan
    store: Store
    cell: Cell

    @classmethod
    def find(cls, plan: Plan, store: Store, selectors: Mapping[str, str]) -> Explained:
        """The one decomposition that the selectors match.

        Raises:
            ConfigError: none matches, or several; it lists the choices.
        """
        cells = plan.of_kind("latents")
        if not cells:
            raise ConfigError("explain: this suite reads no latents. Add tokens.interp=20000 and run it again.")
        return cls(plan, store, find_decomposition(plan, cells, selectors, "explain"))

    @property
    def label(self) -> str:
        return self.cell.name

    def sampled(self) -> dict[str, Any]:
        """The content of `cards.json`."""
        from harness.latents.reading import CARDS

        if self.cell.skipped or not self.store.artefact("latents", self.cell.key).exists():
            raise ConfigError(f"explain: {self.cell.label}: {self._why_not().rstrip('.')}.")
        content: dict[str, Any] = json.loads(read_checked(self.store, "latents", self.cell.key, CARDS))
        return content

    def _why_not(self) -> str:
        """The reason why there are no cards, and what to do."""
        record = self.store.record(self.cell.key)
        if record and record.status == "done":
            return "its cards are no longer in the cache. Run the suite with name=ANOTHER: that makes them again"
        return self.cell.skipped or (record.error if record else None) or "not done yet. Run the suite first"

    def card(self, latent: str, sign: str | None = None) -> Card:
        """One card, with its `explanations` and `scores`, and its `members` and `parents` if it has any.

        Without a sign it is that of the sampled pole, or of the positive one if neither was sampled.
        """
        if sign is not None and sign not in _SIGNS:
            raise ConfigError(f"explain: sign is {sign!r}; give 1 or -1.")
        wanted = None if sign is None else _SIGNS[sign]
        content = self.sampled()
        own = [card for card in content["cards"] if str(card["index"]) == latent]
        cards = [card for card in own if wanted in (None, card["sign"])]
        card = cards[0] if cards else self._make(latent, wanted or 1, content["signed"])
        pole = card["index"], card["sign"]
        explanations = of_latents(self.plan, self.store, self.cell.key).get(pole, [])  # only sampled poles have any
        relatives = Relatives(self.plan, self.store).of(self.cell).get(pole, {})
        return card | {"explanations": explanations, "scores": self._scores(*pole)} | relatives

    def _make(self, latent: str, sign: int, signed: bool) -> Card:
        from harness.contracts.decomposition import load
        from harness.latents.activations import LatentActivations
        from harness.latents.reading import ACTIVATIONS, Reading
        from harness.latents.sampling import stratify

        work = self.cell.work
        folder, _ = require(self.store, "latents", self.cell.key)
        for capture in (work["capture"], work["fit_capture"]):
            require(self.store, "capture", capture)
        activations = LatentActivations.load(folder / ACTIVATIONS)
        if not latent.isdecimal() or int(latent) >= activations.n_latents:
            raise ConfigError(f"explain: no latent {latent}: {self.label} has {activations.n_latents}, counted from 0.")
        if sign < 0 and not signed:
            raise ConfigError(f"explain: codes of {self.label} are never negative; it has the pole sign=1 only.")
        reading = Reading(work, self.store, self._create)
        decomposition = load(require(self.store, "fit", work["fit"])[0])
        strata = stratify(activations, reading.windows, signed)
        return reading.maker(decomposition, activations, strata, work["seed"]).make({(int(latent), sign): None})[0]

    def _create(self, kind: str, call: Mapping[str, Any]) -> Any:
        catalog = load_catalog(tuple(self.plan.suite.config.plugin_files))
        return catalog.create(kind, call["name"], dict(call["params"]))

    def _scores(self, index: int, sign: int) -> list[dict[str, Any]]:
        """The scores of a pole; empty if it was not sampled."""
        scores = []
        for cell in self.plan.of_latents("scoring", self.cell.key):
            record = self.store.record(cell.key)
            for row in record.rows if record else ():
                if (row.get("latent"), row.get("sign")) == (index, sign):
                    known = {name: row[name] for name in ("metric", "value", "chance", "reason")}
                    scorer = self.plan.suite.label("scorer", cell.columns)
                    by = {name: cell.columns[name] for name in ("judge", "explainer")}
                    scores.append({"scorer": scorer, **by, **known})
        return scores


def find_decomposition(plan: Plan, cells: list[Cell], selectors: Mapping[str, str], verb: str) -> Cell:
    """The one cell, of those of a kind, whose decomposition the selectors match.

    Raises:
        ConfigError: none matches, or several; it lists the choices.
    """
    for name in DECOMPOSITION:
        if name in selectors:
            found = [cell for cell in cells if selectors[name] in _names(plan, cell, name)]
            if not found:
                hint = suggest(selectors[name], {_names(plan, cell, name)[-1] for cell in cells})
                raise ConfigError(f"{verb}: no {name} {selectors[name]!r} here.{hint}")
            cells = found
    if len(cells) > 1:
        raise ConfigError(f"{verb}: {len(cells)} decompositions match. Choose one by {_choices(plan, cells)}.")
    return cells[0]


def _names(plan: Plan, cell: Cell, selector: str) -> list[str]:
    """The names that a selector may give for a cell; the last one tells it from all others."""
    name = str(cell.columns[selector])
    if selector != "method":
        return [name]
    return [name, plan.suite.label("method", cell.columns)]


def _choices(plan: Plan, cells: list[Cell]) -> str:
    texts = []
    for selector in DECOMPOSITION:
        names = list(dict.fromkeys(_names(plan, cell, selector)[-1] for cell in cells))
        if len(names) > 1:
            texts.append(f"{selector}= ({', '.join(names)})")
    return ", ".join(texts)
