"""Boards in the terminal: whole numbers at any width, texts as they are, a dash and a reason for what has no value."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from harness import wording
from harness.cli import boards, display
from harness.planning.cells import Cell
from harness.registry.metric import Metric
from harness.report.sheets import sheet
from harness.storage.records import Record, cost, row
from harness.storage.store import Store
from harness.tables.interpretability import SHARES
from harness.tables.results import Results
from harness.views.suite import views_of
from harness.views.view import View, measured, view
from tests.support.toy_suites import plan_of, raw_suite

HOSTILE = "x[/y] [bold]b[/] :x: \x1b[31m"
PARAMETERS = 16384.0
EXPLAINED, INTERVAL = 0.912345, 30


def _print(console: Console, shown: View) -> None:
    for part in boards.draw(shown, console.width):
        console.print(part)


def _printed(results: Results, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for shown in views_of(results):
        _print(console, shown)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _finished(folder: Path, unscored: Any = lambda cell: False, **changes: Any) -> Results:
    changes = {"tokens": {"fit": [1000, 50_000], "evaluation": 200, "interp": 300}, "scorers": ["lookup"]} | changes
    raw = raw_suite(folder, sites=["resid_post.1"], **changes)
    raw["models"][0]["label"] = HOSTILE
    plan, store = plan_of(raw), Store(folder / "results", folder / "cache")
    for cell in plan.cells.values():
        store.write_record(cell.key, Record("done", rows=_rows(cell, unscored(cell))))
    return Results.of(plan, store)


def _rows(cell: Cell, is_unscored: bool) -> list[dict[str, Any]]:
    if cell.kind == "capture":
        return [cost("capture_seconds", 1234.5, 100)]
    if cell.kind == "fit":
        return [cost("fit_seconds", 2144.2, 100), cost("parameters", PARAMETERS, 100)]
    if cell.kind == "latents":
        return [row("interp", name, 0.25, 9, None) for name in SHARES]
    if cell.kind == "similarity":
        return [row("similarity", "similarity", 0.6, 200, True)]
    if cell.kind == "scoring":
        value, reason = (None, "nothing here") if is_unscored else (0.75, None)
        unit = {"latent": 1, "sign": 1, "stratum": "density_1", "weight": 1.0, "chance": 0.5}
        return [row("interp", "auroc", value, 4, True, reason) | unit]
    sums = {"numerator": [EXPLAINED - 0.01 * cell.columns["seed"]] * INTERVAL, "denominator": [1.0] * INTERVAL}
    explained = row("quality", "explained_variance", EXPLAINED, 200, True) | {"documents": sums}
    others = {"l0": 7.644, "cosine_error": 0.03653, "ce_increase": -0.00295, "alive_fraction": 0.9648}
    return [explained, *(row("quality", name, value, 200, None) for name, value in others.items())]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_no_number_and_no_name_is_broken(tmp_path: Path, width: int) -> None:
    methods = [{"method": "atomic", "k": 123456789, "threshold": 0.123456}, "dense"]
    text = _printed(_finished(tmp_path, methods=methods), width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.split())
    assert {"0.9123", "7.6", "1,000", "50,000", "atomic", "dense"} <= words | {w.partition("(")[0] for w in words}
    assert {"k=123456789,", "(k=123456789,", "atomic(k=123456789,"} & words
    numbers = {word for word in words if re.fullmatch(r"[\d,.-]+%?", word)}
    known = {"0.9123", "7.6", "2,144.2", "3,378.7", "16,384", "0.0365", "-0.003", "0.965", "25.0%", "0.750", "0.6000"}
    whole = {"0", "1", "2", "95", "1,000", "50,000", "10", "30"}
    assert all(re.fullmatch(r"-?\d\.\d{4}", number) or number in known | whole for number in numbers), numbers
    if width < 120:
        assert re.search(r"left out, for want of width: parameters, seeds.*--json", " ".join(text.split()))
    else:
        assert width == 120 or ("16,384" in words and "left out" not in text)


@pytest.mark.parametrize("width", [120, 34])
def test_numbers_and_their_intervals_are_written_as_declared_and_as_on_the_page(width: int) -> None:
    """Also in narrow terminals, where texts are broken at spaces and numbers from their units are not."""
    share = Metric("share", "share", "of all", format=".1%", role="quality")
    fields = [
        measured(share, is_main=True),
        measured(Metric("memory", "memory", "held", format="bytes")),
        measured(Metric("plain", "plain", "declares no format")),
    ]
    line = {"share": 0.4853, "share_low": 0.3694, "share_high": 0.5821, "memory": 12_345_678.0, "plain": 12_345.6}
    shown = view("made", fields, [line, {}])
    console = Console(file=io.StringIO(), width=width, color_system=None)
    _print(console, shown)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    written, ends = ["48.5%", "36.9% to", "12.3 MB", "12,346"], "58.2%"
    if width == 120:
        written[1] += f" {ends}"
    (place,) = (i for i, text in enumerate(lines) if "48.5%" in text)
    assert re.split(r"\s{2,}", lines[place].strip()) == written
    assert width == 120 or lines[place + 1].strip() == ends
    assert lines[-1].split() == ["–"] * 4
    values, _ = sheet(shown).rows
    assert [value.text for value in values] == ["48.5%", "12.3 MB", "12,346"]
    assert values[0].note == "36.9% to 58.2%"


def test_markup_in_a_label_is_text(tmp_path: Path) -> None:
    text = _printed(_finished(tmp_path), 200)
    assert "x[/y] [bold]b[/] :x: ␛[31m resid_post.1" in text and "\x1b" not in text


def test_what_has_no_score_has_a_dash_and_a_reason(tmp_path: Path) -> None:
    """One method, then all of them: neither the line nor the column goes."""
    for unscored in (lambda cell: cell.columns.get("method") == "dense", lambda cell: True):
        text = _printed(_finished(tmp_path, unscored, methods=["atomic", "dense"]), 200).partition("Latents of")[2]
        place = text.partition("Latents of")[0]
        lines = {line.split()[0]: line.split() for line in place.splitlines() if line.startswith(("atomic", "dense"))}
        assert "lookup auroc (chance 0.5)" in place and lines["dense"][2:] == ["–", *["25.0%"] * 6]
        assert place.count("undefined: lookup auroc: nothing here") == 1
    assert lines["atomic"][2] == "–"


def test_without_scorers_dead_and_rare_latents_are_shown(tmp_path: Path) -> None:
    text = _printed(_finished(tmp_path, scorers=[]), 200).partition("Latents of")[2]
    assert "dead" in text and "rare" in text and "25.0%" in text


def test_one_scorer_twice_has_two_columns(tmp_path: Path) -> None:
    results = _finished(tmp_path)
    own = results.interpretability
    again = own.assign(scorer_config='{"k":2}', scorer_label="lookup(k=2)", value=0.5)
    both = pd.concat([own, again, own.assign(judge="encoder", value=0.25)], ignore_index=True)
    values = _latents(replace(results, interpretability=both))
    chance = "auroc (chance\N{NO-BREAK SPACE}0.5)"
    assert (values[f"lookup {chance}"], values[f"lookup(k=2) {chance}"]) == (0.75, 0.5)
    assert values[f"lookup {chance}".replace("auroc", "auroc by encoder")] == 0.25


def _latents(results: Results) -> dict[str, Any]:
    """The first method's latents at the first place, by heading."""
    view = next(view for view in views_of(results) if "Latents of" in view.title)
    return dict(zip(view.headings, view.values[0], strict=True))


def test_what_has_no_chance_is_shown_without(tmp_path: Path) -> None:
    results = _finished(tmp_path)
    own = results.interpretability
    both = pd.concat([own, own.assign(metric="kinds", value=1.5, chance=float("nan"))], ignore_index=True)
    values = _latents(replace(results, interpretability=both))
    assert values["lookup kinds"] == 1.5 and values["lookup auroc (chance\N{NO-BREAK SPACE}0.5)"] == 0.75


def test_only_comparisons_of_decompositions_name_a_method(tmp_path: Path) -> None:
    headings = {view.title: view.headings for view in views_of(_finished(tmp_path))}
    assert "method" in headings["overlap"] and "method" not in headings["angle"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(2144.0, "2,144"), (10_752, "10,752"), (999.96, "1,000"), (0.00012345, "0.0001234"), (None, "–")],
)
def test_numbers_are_short_and_alike(value: Any, text: str) -> None:
    assert wording.short(value) == text


def test_a_log_says_every_minute_who_does_what() -> None:
    """Not a terminal, where bars show it."""
    cells = [Cell("fit", name, f"fit {name}", "g", {}, {}) for name in "abc"]
    for is_terminal, text in ((False, "[0/9] at work: fit a and 2 beside it (process 7)\n"), (True, "")):
        console = Console(file=io.StringIO(), width=200, force_terminal=is_terminal)
        shown = display.TerminalDisplay(console)
        shown.n_cells = 9
        shown.at_work([("process 7", cells), ("process 8", [])])
        assert console.file.getvalue() == text  # type: ignore[attr-defined]


def test_what_plugins_say_is_one_line_without_control_characters() -> None:
    console = Console(file=io.StringIO(), width=200)
    cell = Cell("fit", "k", "fit x[/y]", "g", {}, {})
    with display.TerminalDisplay(console) as shown:
        shown.begin(1)
        for _ in range(2):
            shown.event({"event": "warning", "text": "so so"}, None)
        shown.event({"event": "cell", "status": "failed", "error": "\x1b[31mred\nand more [/z]"}, cell)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text == "warning: so so\n[1/1] failed fit x[/y]: ␛[31mred↵and more [/z]\n"
