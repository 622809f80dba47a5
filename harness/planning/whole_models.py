"""Comparisons of whole models: all sites of a model together are one side."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.contracts.sites import Site
from harness.planning.entries import Entry, ModelEntry

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = "all "  # no site starts so


@dataclass(frozen=True)
class Part:
    """One site of a whole model: its rows, or a fit there."""

    rank: tuple[str, Site]
    model: ModelEntry
    side: Mapping[str, Any]
    """The keys that a similarity cell needs: of its captures, or of its fit."""
    columns: Mapping[str, Any]

    @property
    def upstream(self) -> list[str]:
        return [self.side[name] for name in ("capture", "fit_capture", "fit") if name in self.side]


def read_together(a: ModelEntry, b: ModelEntry) -> dict[str, Any]:
    """The group of comparisons of two models' rows: models of the same two families are read together, once."""
    return {"rows of": sorted((a.family, b.family))}


def is_whole(sites: pd.Series[str]) -> pd.Series[bool]:
    """True where a column of sites stands for all sites of a model."""
    return sites.str.startswith(_WHOLE)


def whole_pairs(
    similarities: Iterable[Entry], rows: Sequence[Part], fits: Mapping[str, Sequence[Part]]
) -> Iterator[dict[str, Any]]:
    """The fields of a similarity cell for every pair of models.

    Args:
        similarities: one of representations compares rows, one that needs only atoms the union of a model's atoms.
        rows: all sites of all models.
        fits: fits that provide atoms, by the method, budget and seed that they share, in words.
    """
    for metric in similarities:
        if not metric.needs:
            yield from _pairs(metric, "", rows)
        elif set(metric.needs) == {"atoms"}:
            for words, alike in fits.items():
                yield from _pairs(metric, f": {words}", alike)


def _pairs(metric: Entry, words: str, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    models: dict[str, list[Part]] = {}
    for part in sorted(parts, key=lambda part: part.rank):
        models.setdefault(part.model.label, []).append(part)
    for a, b in itertools.combinations(models.values(), 2):
        of_two = a[0].model, b[0].model
        group = {"fits of": [model.entry.inputs for model in of_two]} if metric.needs else read_together(*of_two)
        yield {
            "metric": metric,
            "sides": {name: {"sites": [part.side for part in side]} for name, side in {"a": a, "b": b}.items()},
            "columns_a": _columns(a),
            "columns_b": _columns(b),
            "upstream": [key for part in (*a, *b) for key in part.upstream],
            "label": " and ".join(f"{side[0].model.label} {_columns(side)['site']}" for side in (a, b)) + words,
            "group": group,
        }


def _columns(parts: Sequence[Part]) -> dict[str, Any]:
    return {**parts[0].columns, "site": f"{_WHOLE}{len(parts)} site{'s' if len(parts) > 1 else ''}"}
