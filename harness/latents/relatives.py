"""Members and parents: the latents that a group holds, and the groups that a latent is in, each in its own fit."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeAlias

from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.store import Store, read_checked

Relative: TypeAlias = dict[str, Any]
"""`method`, the label of the fit that it is in; `index, sign, weight`; `latents`, the key of the cell that has read it,
and `place`, that of its card among the sampled ones there, or None."""
_CARDS = "cards.json"


@dataclass
class Relatives:
    """Finds the relatives of the latents of a plan's decompositions, as far as these are in the store."""

    plan: Plan
    store: Store
    _contents: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The contents of `cards.json` read so far, the place of each pole's card in the place of the cards themselves."""

    def of(self, cell: Cell) -> Mapping[tuple[int, int], dict[str, list[Relative]]]:
        """The `members` and `parents` of the poles of a `latents` cell that have any.

        A pole's members are those of the largest weight first; its parents come in the order of the suite.
        """
        found: dict[tuple[int, int], dict[str, list[Relative]]] = defaultdict(dict)
        below = self._below(cell)
        if below is not None:
            for index, members in enumerate(self._content(cell)["groups"]):
                found[index, 1]["members"] = [self._relative(below, **member) for member in members]
        for above in self.above(cell):
            for index, members in enumerate(self._content(above)["groups"]):
                for member in members:
                    of_pole = found[member["index"], member["sign"]].setdefault("parents", [])
                    of_pole.append(self._relative(above, index, 1, member["weight"]))
        return found

    def above(self, cell: Cell) -> Iterator[Cell]:
        """The `latents` cells of groups of a cell's latents."""
        return (other for other in self.plan.of_kind("latents") if self._below(other) is cell)

    def below(self, cell: Cell) -> list[Cell]:
        """The `latents` cell of a group's members, in a list; an empty one for a cell whose latents are no groups."""
        found = self._below(cell)
        return [] if found is None else [found]

    def _below(self, cell: Cell) -> Cell | None:
        depth, fit = self._depth(cell), self._fit(cell)
        while depth and "base" in fit.work:
            fit = self.plan.cells[fit.work["base"]]
            read = self._read_of.get(fit.key)
            if read is not None and self._is_there(read) and self._depth(read) == depth - 1:
                return read
        return None

    def _depth(self, cell: Cell) -> int:
        """The number of times that latents were grouped. Cards are read only of what has learnt from a fit."""
        if "base" not in self._fit(cell).work or not self._is_there(cell):
            return 0
        return int(self._content(cell)["depth"])

    def _fit(self, cell: Cell) -> Cell:
        return self.plan.cells[cell.work["fit"]]

    @cached_property
    def _read_of(self) -> Mapping[str, Cell]:
        """The `latents` cell of each fit."""
        return {cell.work["fit"]: cell for cell in self.plan.of_kind("latents")}

    def _relative(self, of: Cell, index: int, sign: int, weight: float) -> Relative:
        place = self._content(of)["places"].get((index, sign))
        known = {"method": self.plan.suite.label("method", of.columns), "latents": of.key, "place": place}
        return {**known, "index": index, "sign": sign, "weight": weight}

    def _is_there(self, cell: Cell) -> bool:
        record = self.store.end(cell.key)
        is_done = record is not None and record.status == "done"
        return is_done and self.store.artefact("latents", cell.key).exists()

    def _content(self, cell: Cell) -> Mapping[str, Any]:
        if cell.key not in self._contents:
            content = json.loads(read_checked(self.store, "latents", cell.key, _CARDS))
            places = {(card["index"], card["sign"]): place for place, card in enumerate(content["cards"])}
            # A method may learn from a fit and make no groups of it.
            self._contents[cell.key] = {"depth": 0, "groups": []} | content | {"cards": None, "places": places}
        return self._contents[cell.key]
