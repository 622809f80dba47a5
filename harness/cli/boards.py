"""Views in the terminal, as wide as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from harness import wording
from harness.cli import display
from harness.views.view import INTERVAL, Column, Item, View

_INTERVAL = Column("95\N{NO-BREAK SPACE}%", spare=INTERVAL)
_GAP = 2
_MAX_REASONS = 5


@dataclass(frozen=True)
class _Grid:
    """A view's columns and what is printed in them."""

    columns: list[Column]
    rows: list[list[str | None]]


def draw(view: View, width: int) -> Iterator[RenderableType]:
    """Print as many columns as fit, with no number and no name broken.

    Where all on one line is too wide, headings and names take several; then columns are left out.
    """
    grid, left_out = _grid(view), list[str]()
    if _width(grid) > width:
        spare = iter(sorted(filter(lambda column: column.spare, grid.columns), key=lambda column: -column.spare))
        while _width(_narrow(grid)) > width and (column := next(spare, None)):
            left_out.append(column.heading)
            grid = _without(grid, column)
        grid = _narrow(grid)
    headings = [column.heading for column in grid.columns]
    unbroken = [column.heading for column in grid.columns if not column.is_label]
    numbers = [column.heading for column in grid.columns if column.is_number]
    yield display.table(f"\n{view.title}", headings, grid.rows, unbroken, numbers)
    for note in (*view.notes, *_reasons(view)):
        yield Text(wording.visible(note), style="dim")
    if left_out:
        names = ", ".join(map(wording.visible, left_out))
        yield Text(f"left out, for want of width: {names}; --json and the CSV files have all", style="dim")


def _grid(view: View) -> _Grid:
    """Leave out columns of words that are all empty; give the interval of the main number a column of its own."""
    columns: list[Column] = []
    found: list[list[str | None]] = []
    for i, column in enumerate(view.columns):
        items = [row[i] for row in view.rows]
        if column.is_reason or (not column.is_number and all(item.value is None for item in items)):
            continue
        columns.append(column)
        found.append([_written(item, column) for item in items])
        if column.is_main and any(item.low is not None for item in items):
            columns.append(_INTERVAL)
            found.append([_interval(item, column) for item in items])
    return _Grid(columns, [list(row) for row in zip(*found, strict=True)])


def _written(item: Item, column: Column) -> str | None:
    if item.value is None:
        return None
    return str(item.value) if column.write is None else _unbroken(column.write(float(item.value)))


def _interval(item: Item, column: Column) -> str | None:
    if item.low is None or item.high is None or column.write is None:
        return None
    return f"{_unbroken(column.write(item.low))}\N{NO-BREAK SPACE}to {_unbroken(column.write(item.high))}"


def _unbroken(number: str) -> str:
    """A number and its unit, kept on one line."""
    return number.replace(" ", "\N{NO-BREAK SPACE}")


def _reasons(view: View) -> list[str]:
    """Why values are missing, each reason once."""
    places = [i for i, column in enumerate(view.columns) if column.is_reason]
    told = dict.fromkeys(row[i].value for row in view.rows for i in places if row[i].value is not None)
    return [f"undefined: {reason}" for reason in told][:_MAX_REASONS]


def _narrow(grid: _Grid) -> _Grid:
    """A word to a line, but for what no-break spaces hold; parameters below a plugin's name may wrap at commas."""

    def broken(text: str, is_label: bool) -> str:
        return text.replace("(", "\n(", 1) if is_label else text.replace(" ", "\n")

    rows = [
        [text and broken(text, column.is_label) for text, column in zip(row, grid.columns, strict=True)]
        for row in grid.rows
    ]
    return _Grid([replace(column, heading=broken(column.heading, False)) for column in grid.columns], rows)


def _width(grid: _Grid) -> int:
    """The least that it takes: a label's words stay whole, of all else the lines."""
    widths = []
    for i, column in enumerate(grid.columns):
        texts = [column.heading, *(wording.short(row[i]) for row in grid.rows)]
        is_wrapped = column.is_label and any("\n" in text for text in texts)
        parts = [part for text in texts for part in (text.split() if is_wrapped else text.split("\n"))]
        widths.append(max(map(cell_len, parts)))
    return sum(widths) + _GAP * (len(widths) - 1)


def _without(grid: _Grid, column: Column) -> _Grid:
    place = grid.columns.index(column)
    rows = [row[:place] + row[place + 1 :] for row in grid.rows]
    return _Grid(grid.columns[:place] + grid.columns[place + 1 :], rows)
