"""Plots: what is drawn where, what a log scale leaves out, and text that stays text."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from harness import Metric
from harness.report.plots import heat_map, model_map, pareto, styles_of, svg
from harness.tables.costs import FIT_SECONDS
from tests.support.report_examples import HOSTILE

SVG = "{http://www.w3.org/2000/svg}"
L0 = Metric("l0", "L0", "how many", role="sparsity")
EXPLAINED = Metric("explained_variance", "explained variance", "how much", True, role="quality")
LOSS = Metric("ce_increase", "CE increase (nats)", "how bad", False, role="effect")


def _board(**columns: list[Any]) -> pd.DataFrame:
    """Four lines: two on the front, one behind, and one that no log scale can show."""
    board = {
        "method": ["alpha", "beta", "gamma", "delta"],
        "l0": [10.0, 40.0, 20.0, 0.0],
        "fit_seconds": [1.0, 2.0, 30.0, 0.1],
        "explained_variance": [0.5, 0.9, 0.4, 0.0],
        "explained_variance_low": [0.4, np.nan, 0.3, np.nan],
        "explained_variance_high": [0.55, np.nan, 0.5, np.nan],
        "ce_increase": [0.3, -0.01, 0.5, 6.0],
        "fit_tokens": [1000, 1000, 500, 1000],
    }
    return pd.DataFrame(board | columns)


def _points(figure: Figure) -> dict[tuple[float, float], Any]:
    """Markers that were drawn, by place."""
    (axes,) = figure.axes
    lines = [line for line in axes.lines if line.get_marker() not in ("None", "_", None, "none", "")]
    return {(line.get_xdata()[0], round(line.get_ydata()[0], 6)): line for line in lines if len(line.get_xdata()) == 1}


def test_a_plot_shows_methods_their_intervals_and_the_front() -> None:
    figure = pareto(_board(), L0, EXPLAINED)
    points = _points(figure)
    assert {(10.0, 0.5), (40.0, 0.1), (20.0, 0.6)} <= set(points) and not any(x == 0 for x, _ in points)
    (axes,) = figure.axes
    (front,) = (line for line in axes.lines if line.get_drawstyle() == "steps-post")
    assert list(front.get_xdata()) == [10, 40]  # 20 costs more than 10 and explains less
    assert axes.get_xlabel().endswith("not on a log scale: delta (L0 0)")
    assert axes.get_yscale() == "log"
    (bar,) = (bars for bars in axes.collections if np.isclose(bars.get_segments()[0][:, 0], 10).all())
    assert bar.get_segments()[0][:, 1] == pytest.approx([0.45, 0.6])  # 1 − high and 1 − low
    assert points[20.0, 0.6].get_markerfacecolor() == "none"  # learnt from less
    assert points[10.0, 0.5].get_markerfacecolor() != "none"


def test_losses_are_on_a_linear_scale_and_below_zero_too() -> None:
    figure = pareto(_board(), FIT_SECONDS, LOSS)
    assert figure.axes[0].get_yscale() == "linear"
    assert set(_points(figure)) >= {(1.0, 0.3), (2.0, -0.01), (30.0, 0.5), (0.1, 6.0)}


def test_methods_at_about_the_same_l0_look_so() -> None:
    low, high = pareto(_board(l0=[40.0, 41.0, 39.0, 40.5]), L0, LOSS).axes[0].get_xlim()
    assert high / low >= 4


@pytest.mark.parametrize("values", [[], [np.nan] * 4, [0.0] * 4])
def test_nothing_to_draw_is_an_empty_plot(values: list[float]) -> None:
    board = _board(l0=values) if values else _board().iloc[:0]
    assert "<svg" in svg(pareto(board, L0, EXPLAINED), "empty", "nothing")


def test_a_method_looks_the_same_in_every_plot() -> None:
    board = _board()
    styles = styles_of(board["method"])
    for lines in (board, board.iloc[1:2]):
        line = _points(pareto(lines, L0, EXPLAINED, styles))[40.0, 0.1]
        assert (line.get_color(), line.get_marker()) == (styles["beta"].colour, styles["beta"].marker)
    many = styles_of(f"method_{i}" for i in range(42))
    assert len({(style.colour, style.marker) for style in many.values()}) == 42


def _pairs(**columns: list[Any]) -> pd.DataFrame:
    pairs = {
        "model": ["m", "m", "m"],
        "side": ["s1", "s1", "s2"],
        "model_b": ["m", "m", "m"],
        "side_b": ["s2", "s3", "s3"],
        "value": [0.9, 0.4, 0.7],
        "null": [0.1, -0.001, np.nan],
    }
    return pd.DataFrame(pairs | columns)


def _texts(figure: Figure, panel: int) -> dict[tuple[float, float], str]:
    """Texts in the cells of a panel, by column and row."""
    return {text.get_position(): text.get_text() for text in figure.axes[panel].texts}


def test_a_map_has_its_null_beside_it_on_one_scale() -> None:
    figure = heat_map(_pairs(), "angle")
    assert _texts(figure, 0) == {(0.5, 0.5): "0.90", (0.5, 1.5): "0.40", (1.5, 1.5): "0.70"}
    assert _texts(figure, 1) == {(0.5, 0.5): "0.10", (0.5, 1.5): "0.00"}  # no null for s2 and s3
    value, null = (figure.axes[panel].images[0].get_clim() for panel in (0, 1))
    assert value == null == (-0.001, 0.9)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["s2", "s3"]  # one model goes without saying


def test_a_map_averages_seeds_and_has_none_where_one_has_none() -> None:
    other = _pairs(value=[0.7, np.nan, 0.7])
    assert _texts(heat_map(pd.concat([_pairs(), other]), "angle"), 0) == {(0.5, 0.5): "0.80", (1.5, 1.5): "0.70"}


def test_a_map_of_nothing_measured_is_empty() -> None:
    assert _texts(heat_map(_pairs(value=[np.nan] * 3, null=[np.nan] * 3), "angle"), 0) == {}


def test_models_that_are_alike_stand_side_by_side() -> None:
    """Two twins among four; b and d are a distance apart that nobody knows."""
    names = ["a", "b", "c", "d"]
    lines = pd.DataFrame(
        [(one, other, 0.1) for i, one in enumerate(names) for other in names[i + 1 :]],
        columns=["model", "model_b", "value"],
    ).assign(null=0.0, higher_is_better=True)
    lines.loc[(lines["model"] == "a") & (lines["model_b"] == "d"), "value"] = 1.0
    lines.loc[(lines["model"] == "b") & (lines["model_b"] == "d"), "value"] = np.nan
    figure = model_map(lines, "union")
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert sorted(shown) == names and abs(shown.index("a") - shown.index("d")) == 1
    a, d = shown.index("a") + 0.5, shown.index("d") + 0.5
    texts = _texts(figure, 0)
    assert texts[a, d] == texts[d, a] == "1.00" and len(texts) == 4 * 3 - 2 and len(_texts(figure, 1)) == 4 * 3
    far = [label.get_text() for label in model_map(lines.assign(higher_is_better=False), "x").axes[0].get_xticklabels()]
    assert abs(far.index("a") - far.index("d")) > 1  # of distances the largest is the least alike
    assert "<b>" not in svg(model_map(lines.replace({"model": {"a": HOSTILE + "<b>"}}), HOSTILE), HOSTILE, "")


def test_svg_is_text_in_the_colour_around_it_and_the_same_each_time() -> None:
    drawn = svg(pareto(_board(), L0, EXPLAINED), "A title", "What is shown")
    assert drawn == svg(pareto(_board(), L0, EXPLAINED), "A title", "What is shown")
    root = ET.fromstring(drawn)
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "1 − explained variance" in texts and "beta" in texts
    assert root.find(f"{SVG}title").text == "A title" and root.find(f"{SVG}desc").text == "What is shown"
    assert "currentColor" in drawn and "#010203" not in drawn and "<metadata" not in drawn
    assert 'fill: #ffffff"' not in drawn  # transparent
    references = {part.split('"')[0].rstrip(")") for part in drawn.replace("url(#", 'href="#').split('href="#')[1:]}
    assert references and references <= {element.get("id") for element in root.iter()}


def test_texts_of_others_can_do_nothing_in_a_plot() -> None:
    figure = pareto(_board(method=[HOSTILE, "$x^2", "_hidden", "日本"]), FIT_SECONDS, LOSS)
    root = ET.fromstring(svg(figure, HOSTILE, HOSTILE))
    assert {element.tag for element in root.iter()}.isdisjoint({f"{SVG}script", f"{SVG}img", "script", "img"})
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert "$x^2" in texts and "日本" in texts
    long = _pairs(side=["s" * 300, "s" * 300, "t"], side_b=["t", "u", "u"])
    assert "…" in svg(heat_map(long, HOSTILE), "map", "")


@pytest.mark.parametrize("n_methods", [1, 4, 12])
def test_a_plot_has_room_for_its_texts(n_methods: int) -> None:
    board = pd.concat([_board()] * 3, ignore_index=True).iloc[:n_methods]
    board["method"] = [f"method_{i}" for i in range(n_methods)]
    figure = pareto(board, L0, EXPLAINED)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,), (legend,) = figure.axes, figure.legends
    box, below = axes.get_tightbbox(canvas.get_renderer()), legend.get_tightbbox(canvas.get_renderer())
    assert box is not None and box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
    assert 0 <= below.y0 < below.y1 <= box.y0 + 1


@pytest.mark.parametrize("name", ["W" * 30, "mmmmmmmm", "resid_post.15", "MLP_OUT_LAYER_10"])
def test_names_beside_a_map_are_not_cut_off(name: str) -> None:
    sides = {"side": [f"{name}1", f"{name}1", f"{name}2"], "side_b": [f"{name}2", f"{name}3", f"{name}3"]}
    figure = heat_map(_pairs(**sides), "angle")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes in figure.axes:
        box = axes.get_tightbbox(canvas.get_renderer())
        assert box is not None and min(box.x0, box.y0) >= 0
        assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
