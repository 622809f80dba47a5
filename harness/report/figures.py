"""The plots of a suite, each with its title: the page and W&B show the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from harness.report import plots
from harness.tables.declared import Declared
from harness.tables.task_board import CONTENDER
from harness.views.methods import Place
from harness.views.similarities import MODEL_SCORES, subject_of
from harness.views.view import known
from harness.wording import visible


@dataclass(frozen=True)
class Plot:
    """A figure that is drawn when it is asked for."""

    key: tuple[str, ...]
    """Name in parts that tells the plot from the others of a suite."""
    title: str
    draw: partial[Figure]


@dataclass(frozen=True)
class Compared:
    """One similarity, of one method and budget if it compares decompositions, with its maps."""

    title: str
    lines: pd.DataFrame
    maps: list[Plot]


def place_plots(place: Place, declared: Declared, styles: Mapping[str, plots.Style]) -> Iterator[Plot]:
    """Plots of quality and effect against sparsity and cost, at one model and site."""
    for x, y in declared.axes:
        if place.lines[[x.name, y.name]].notna().all(axis=1).any():
            draw = partial(plots.pareto, place.lines, x, y, styles)
            yield Plot((f"{y.name} by {x.name}", place.model, place.site), plots.caption(place.lines, x, y), draw)


def compared_sites(pairs: pd.DataFrame) -> Iterator[Compared]:
    """A map of all sites by each similarity."""
    for label, key, title, lines in _subjects(pairs):
        yield Compared(title, lines, [Plot(key, title, partial(plots.heat_map, _readable(lines), label))])


def compared_models(board: pd.DataFrame) -> Iterator[Compared]:
    """A map of all models by each similarity and score."""
    for label, key, title, lines in _subjects(board):
        if not lines["higher_is_better"].all():
            title += " (a distance)"
        maps = []
        for score, own in lines.groupby("score", sort=False):
            name = str(score).replace("_", " ")
            draw = partial(plots.model_map, _readable(own), f"{label}, {name}")
            maps.append(Plot(("models", *key, str(score)), f"{name}: {MODEL_SCORES[str(score)]}", draw))
        yield Compared(title, lines, maps)


def _subjects(board: pd.DataFrame) -> Iterator[tuple[str, tuple[str, ...], str, pd.DataFrame]]:
    """The label of each similarity, its key among the plots, its title, and its lines."""
    of_methods = board[board["method_label"].map(known).notna()]
    several = of_methods["fit_tokens"].nunique() > 1
    for _, lines in board.groupby(CONTENDER, sort=False, dropna=False):
        line: dict[Any, Any] = lines.iloc[0].to_dict()
        label, method = str(line["similarity_label"]), known(line["method_label"])
        key = (label, f"{method} {line['fit_tokens']} tokens") if method else (label,)
        yield label, key, subject_of(line, several), lines


def _readable(lines: pd.DataFrame) -> pd.DataFrame:
    """The lines with control characters in model names made visible, as they could reorder a label."""
    return lines.assign(**{side: [visible(name) for name in lines[side]] for side in ("model", "model_b")})
