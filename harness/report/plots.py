"""Plots of leaderboards and similarities, as matplotlib figures: for the report, for W&B, for whoever reads them.

A method keeps its colour and marker in all plots that share their `styles`.
"""

from __future__ import annotations

import io
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from rich.cells import cell_len

from harness.planning.keys import content_key
from harness.registry.metric import Metric
from harness.report.axes import Axis, left_out
from harness.report.clustering import clustered
from harness.tables.stats import pareto as is_on_front

# Okabe & Ito's colours that can be told from black and from white. Six colours and seven markers: 42 different pairs.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_INK = "#010203"
"""Text and axes; `svg` turns it into the colour of the surrounding text."""
_LOOK: dict[Any, Any] = {
    **{"font.size": 9, "text.parse_math": False, "axes.spines.top": False, "axes.spines.right": False},
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    **{"axes.grid": True, "axes.axisbelow": True, "grid.color": _INK, "grid.alpha": 0.12, "grid.linewidth": 0.6},
    **{"axes.linewidth": 0.6, "legend.frameon": False, "svg.fonttype": "none"},
}
_MAX_ANNOTATED = 12
_LEGEND_COLUMNS = 3
_MAX_LABEL = 36
"""Characters of a site's name on an axis; a longer one would leave no room for the map."""
_WIDE_LETTERS = re.compile("[mwMW%@]")


@dataclass(frozen=True)
class Style:
    """The colour and marker of one method."""

    colour: str
    marker: str


def styles_of(methods: Iterable[str]) -> dict[str, Style]:
    """A style for every method name, in order of the alphabet."""
    names = sorted(set(methods))
    return {name: Style(_COLOURS[i % len(_COLOURS)], _MARKERS[i % len(_MARKERS)]) for i, name in enumerate(names)}


def pareto(board: pd.DataFrame, x: Metric, y: Metric, styles: Mapping[str, Style] | None = None) -> Figure:
    """A plot of the methods of one model and site with their Pareto front, the line that no method is beyond.

    Args:
        board: leaderboard lines of one place.
        x: the price: sparsity or a cost.
        y: the gain, drawn with its intervals. A quality of at most 1 is drawn as 1 − its value, on a log scale.
        styles: styles by method; made for the board's own methods if not given.
    """
    styles = styles or styles_of(board["method"])
    across, up = Axis.of(x, board), Axis.of(y, board)
    points = board[board[[x.name, y.name]].notna().all(axis=1)]
    shown = points[across.holds(points) & up.holds(points)]
    methods = list(dict.fromkeys(shown["method"]))
    below = [across.label, *left_out(points.drop(shown.index), across, up)]
    with matplotlib.rc_context(_LOOK):
        figure, axes = _place_above_legend(n_rows=-(-len(methods) // _LEGEND_COLUMNS), n_lines=len(below))
        across.draw(axes, "x", shown)
        up.draw(axes, "y", shown)
        axes.set_ylabel(up.label)
        axes.set_xlabel("\n".join(below))
        _draw_front(axes, shown, across, up)
        _draw_points(axes, shown, across, up, styles, points["fit_tokens"].max())
        handles = [_handle(styles[method]) for method in methods]
        figure.legend(handles, methods, loc="lower center", ncols=_LEGEND_COLUMNS, handletextpad=0.3, columnspacing=1.2)
    return figure


def _place_above_legend(n_rows: int, n_lines: int) -> tuple[Figure, Axes]:
    """A figure with room for a legend of some rows, and for lines below an axis. Sizes are inches.

    A layout engine would draw all twice to find this out, which is most of the time of a report of many places.
    """
    width, height, left, around = 4.4, 2.35, 0.8, 0.12
    bottom = 0.3 + 0.16 * n_lines + 0.19 * n_rows + around
    whole = bottom + height + around
    figure = Figure(figsize=(width, whole))
    axes = figure.add_axes((left / width, bottom / whole, 1 - (left + around) / width, height / whole))
    return figure, axes


def caption(board: pd.DataFrame, x: Metric, y: Metric) -> str:
    """The title of the plot that `pareto` draws of a board."""
    return f"{Axis.of(y, board).label} against {Axis.of(x, board).label}"


def heat_map(pairs: pd.DataFrame, metric: str) -> Figure:
    """A map of one metric between all sites and, on the same scale, of its null: shuffled rows, or the value by chance.

    Args:
        pairs: lines of `leaderboard.similarities` for one metric and, if it compares decompositions, one method.
            Several seeds are averaged.
        metric: title of the map.
    """
    is_one_model = pd.concat([pairs["model"], pairs["model_b"]]).nunique() == 1
    of_models = ["" if is_one_model else pairs[f"model{b}"] + " " for b in ("", "_b")]
    names_a, names_b = of_models[0] + pairs["side"], of_models[1] + pairs["side_b"]
    sites = list(dict.fromkeys([*names_a, *names_b]))
    cells = pairs.assign(row=[sites.index(b) - 1 for b in names_b], column=[sites.index(a) for a in names_a])
    matrices = [_matrix(cells, column, len(sites) - 1) for column in ("value", "null")]
    return _beside_null(matrices, metric, across=sites[:-1], down=sites[1:], scale=_scale_of(cells))


def model_map(lines: pd.DataFrame, title: str) -> Figure:
    """A map of one score between all models, those that are alike side by side, and of its null in the same order.

    The order is that of a clustering by average linkage of the distances, or of 1 − value: see `clustered`. A model is
    not compared with itself.

    Args:
        lines: lines of `model_similarities` for one similarity, method, budget and score.
        title: title of the map.
    """
    names = list(dict.fromkeys([*lines["model"], *lines["model_b"]]))
    places = [[names.index(name) for name in lines[side]] for side in ("model", "model_b")]
    value, null = np.full((2, len(names), len(names)), np.nan)
    for matrix, column in ((value, "value"), (null, "null")):
        matrix[places[0], places[1]] = matrix[places[1], places[0]] = lines[column].to_numpy(float)
    order = clustered(1 - value if lines["higher_is_better"].all() else value)
    shown = [names[place] for place in order]
    matrices = [matrix[np.ix_(order, order)] for matrix in (value, null)]
    return _beside_null(matrices, title, across=shown, down=shown, scale=_scale_of(lines))


def _scale_of(lines: pd.DataFrame) -> tuple[float, float]:
    measured = lines[["value", "null"]].to_numpy(float)
    return (min(0.0, np.nanmin(measured)), np.nanmax(measured)) if np.isfinite(measured).any() else (0.0, 1.0)


def _beside_null(
    matrices: Sequence[np.ndarray[Any, Any]],
    title: str,
    across: Sequence[str],
    down: Sequence[str],
    scale: tuple[float, float],
) -> Figure:
    """A figure of a matrix beside the matrix of its null."""
    labels = [_shortened(across), _shortened(down)]
    panel = min(max(0.5 * len(set(across) | set(down)), 1.2), 8.0)
    heads = [textwrap.fill(name, int(panel / 0.08), max_lines=3, placeholder="…") for name in (title, "null")]
    label = max(map(_label_inches, itertools.chain(*labels)), default=0.0)
    left, bottom = 0.15 + label, 0.15 + 0.65 * label  # names below a map lean by 40°
    size = (left + 2 * panel + 1.35, bottom + panel + 0.1 + 0.16 * (heads[0].count("\n") + 1))
    with matplotlib.rc_context({**_LOOK, "axes.grid": False}):
        figure = Figure(figsize=size)

        def place(x: float, y: float, width: float, height: float) -> Axes:
            return figure.add_axes((x / size[0], y / size[1], width / size[0], height / size[1]))

        for i, (matrix, head) in enumerate(zip(matrices, heads, strict=True)):
            axes = place(left + i * (panel + 0.2), bottom, panel, panel)
            mesh = _draw_matrix(axes, matrix, labels[0], [] if i else labels[1], scale)
            axes.set_title(head, y=1, loc="left", fontsize=9, fontweight="normal" if i else "bold")
        bar = place(left + 2 * panel + 0.45, bottom + 0.1 * panel, 0.03 * panel, 0.8 * panel)
        figure.colorbar(mesh, cax=bar).outline.set_visible(False)
    return figure


def _label_inches(label: str) -> float:
    """A guess at a label's width. The page's font decides it, so a layout engine would only be a slower guess."""
    return 0.08 * cell_len(label) + 0.05 * len(_WIDE_LETTERS.findall(label))


def _shortened(labels: Iterable[str]) -> list[str]:
    half = _MAX_LABEL // 2
    return [label if len(label) <= _MAX_LABEL else f"{label[:half]}…{label[-half:]}" for label in labels]


def svg(figure: Figure, title: str, description: str) -> str:
    """A figure as an `<svg>` element to put into a page: text stays text, in the colour of the text around it.

    The same figure gives the same bytes. Identifiers are made from the content, so that figures can share a page.
    """
    written = io.StringIO()
    unnamed = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**_LOOK, "svg.hashsalt": "harness"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the reader's fonts have what matplotlib's own lacks
        figure.savefig(written, format="svg", transparent=True, metadata=unnamed)
    drawn = written.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(_INK, "currentColor")
    drawn = re.sub(r"\s*<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    own = "f" + content_key({"svg": drawn, "title": title, "description": description})[:10]
    drawn = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{own}-", drawn)
    texts = f'<title id="{own}-title">{escape(title)}</title><desc id="{own}-desc">{escape(description)}</desc>'
    labelled = f'<svg role="img" aria-labelledby="{own}-title" aria-describedby="{own}-desc"'
    return re.sub(r"<svg([^>]*)>", lambda match: f"{labelled}{match[1]}>{texts}", drawn, count=1)


def _draw_front(axes: Axes, points: pd.DataFrame, x: Axis, y: Axis) -> None:
    worth = -y.values(points) if y.less_is_better else y.values(points)
    is_best = is_on_front(x.values(points).tolist(), worth.tolist())
    best = points[np.array(is_best, dtype=bool)]  # a list without items would choose columns
    best = best.sort_values(x.metric.name)
    dashed: Any = (0, (4, 3))
    axes.step(
        x.values(best), y.values(best), where="post", color=_INK, alpha=0.35, linewidth=1, linestyle=dashed, zorder=1
    )


def _draw_points(
    axes: Axes, points: pd.DataFrame, x: Axis, y: Axis, styles: Mapping[str, Style], most_tokens: int
) -> None:
    """Draw methods with their intervals; markers are hollow if one learnt from less than the largest budget."""
    places = zip(
        points["method"], points["fit_tokens"], x.values(points), y.values(points), y.bars(points), strict=True
    )
    for method, tokens, across, up, bar in places:
        style = styles[method]
        axes.errorbar(
            [across], [up], yerr=bar, color=style.colour, marker=style.marker, markersize=6.5,
            markerfacecolor=style.colour if tokens == most_tokens else "none", elinewidth=1, capsize=2, zorder=3,
        )  # fmt: skip


def _handle(style: Style) -> Line2D:
    return Line2D([], [], color=style.colour, marker=style.marker, markersize=6, linestyle="none")


def _matrix(cells: pd.DataFrame, column: str, n: int) -> np.ndarray[Any, Any]:
    """A matrix of means over seeds; NaN where a pair was not compared, and where one seed has no value."""
    seeds = cells.groupby(["row", "column"])[column]
    means = seeds.mean().where(seeds.count() == seeds.size()).unstack("column")
    return means.reindex(index=range(n), columns=range(n)).to_numpy(float)


def _draw_matrix(
    axes: Axes, matrix: np.ndarray[Any, Any], across: list[str], down: list[str], scale: tuple[float, float]
) -> Any:
    # One image: a thousand cells as paths would show seams in a browser, and make the page twice as large.
    mesh = axes.imshow(
        np.ma.masked_invalid(matrix), cmap="cividis", vmin=scale[0], vmax=scale[1], interpolation="none",
        extent=(0, matrix.shape[1], len(matrix), 0),
    )  # fmt: skip
    axes.tick_params(length=0)
    axes.set_xticks(np.arange(len(across)) + 0.5, across, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(np.arange(len(down)) + 0.5, down)
    axes.spines[:].set_visible(False)
    if max(matrix.shape) <= _MAX_ANNOTATED:
        middle = (scale[0] + scale[1]) / 2
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                colour = "#000000" if value > middle else "#ffffff"
                axes.text(
                    column + 0.5,
                    row + 0.5,
                    f"{round(value, 2) + 0:.2f}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=8,
                )
    return mesh
