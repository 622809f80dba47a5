"""Tables for people, derived once: the terminal, the page and W&B each print a view in their own way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import pandas as pd

from harness.registry.metric import Metric, ends

Line: TypeAlias = Mapping[Any, Any]
"""A row of a board, by its columns."""
KEPT, TIER, EFFECT, COST, INTERVAL, FRONT, COMPARED, LISTED, REST = range(9)
"""Ranks of columns that a narrow printer can spare: `KEPT` is never left out, `REST` first."""


@dataclass(frozen=True)
class Column:
    """A column's heading, what it means, and how its numbers are written."""

    heading: str
    meaning: str = ""
    write: Callable[[float], str] | None = None
    """Writes a number as text; None for a column of words."""
    spare: int = KEPT
    """Rank by which a narrow printer leaves the column out, the highest first."""
    is_label: bool = False
    """True for names of plugins with their parameters in brackets."""
    is_main: bool = False
    """True if its intervals are shown even where there is room for one column of intervals only."""
    is_reason: bool = False
    """True if it says why values of the row are missing."""

    @property
    def is_number(self) -> bool:
        return self.write is not None


@dataclass(frozen=True)
class Item:
    """An entry of a table: a number or words, or a value of None if it is missing."""

    value: float | str | None
    low: float | None = None
    high: float | None = None
    """Upper end of the number's interval, of which `low` is the lower one."""
    note: str = ""
    more: tuple[str, ...] = ()
    """The whole list of which `value` shows the first names."""


@dataclass(frozen=True)
class View:
    """A table with the notes below it."""

    title: str
    columns: list[Column]
    rows: list[list[Item]]
    notes: tuple[str, ...] = ()

    @property
    def headings(self) -> list[str]:
        return [column.heading for column in self.columns]

    @property
    def values(self) -> list[list[float | str | None]]:
        """The numbers and words of the rows, without intervals."""
        return [[item.value for item in row] for row in self.rows]


@dataclass(frozen=True)
class Field:
    """A column, and the function that makes its item from a line of a board."""

    column: Column
    item: Callable[[Line], Item]


def view(title: str, fields: Sequence[Field], lines: Iterable[Line], notes: Sequence[str] = ()) -> View:
    """A view with a row for each line."""
    rows = [[field.item(line) for field in fields] for line in lines]
    return View(title, [field.column for field in fields], rows, tuple(notes))


def known(value: Any) -> Any:
    """The value itself, or None if it is missing: NaN, NA or an empty text."""
    return None if pd.isna(value) or value == "" else value


def words(name: str, heading: str, meaning: str = "", **more: Any) -> Field:
    """A column of words."""
    return Field(Column(heading, meaning, **more), lambda line: Item(known(line[name])))


def label(kind: str, heading: str = "", meaning: str = "") -> Field:
    """A column of plugins of one kind, with the parameters that differ from their defaults."""
    return words(f"{kind}_label", heading or kind, meaning, is_label=True)


def number(name: str, heading: str, meaning: str, write: Callable[[float], str], **more: Any) -> Field:
    """A column of numbers, with their intervals where the board has their ends."""
    bounds = ("low", "high") if name == "value" else ends(name)
    return Field(Column(heading, meaning, write, **more), _between(name, *bounds))


def measured(metric: Metric, **more: Any) -> Field:
    """A column of a declared metric, with its intervals where the board has their ends."""
    column = Column(metric.heading, metric.meaning, metric.write, **more)
    return Field(column, _between(metric.name, *ends(metric.name)))


def _between(name: str, low: str, high: str) -> Callable[[Line], Item]:
    """The number of a line; with its interval where both ends are known."""

    def item(line: Line) -> Item:
        found = known(line.get(name)), known(line.get(low)), known(line.get(high))
        return Item(*found) if None not in found else Item(found[0])

    return item


def methods(lines: pd.DataFrame) -> list[Field]:
    """The columns that say which decomposition a line is about; its budget where there are several."""
    return [label("method"), *budgets(lines)]


def budgets(lines: pd.DataFrame) -> list[Field]:
    """A column of fit budgets where there are several."""
    several = pd.to_numeric(lines["fit_tokens"], errors="coerce").nunique() > 1
    return [Field(Column("fit tokens", write="{:,.0f}".format), _tokens)] if several else []


def _tokens(line: Line) -> Item:
    found = known(line["fit_tokens"])
    return Item(None if found is None else int(found))


def contender_fields(lines: pd.DataFrame) -> list[Field]:
    """The columns that say which similarity a line is about, and of which method where it compares decompositions."""
    return [label("similarity"), *compared(lines)]


def compared(lines: pd.DataFrame) -> list[Field]:
    """The columns that say whose decompositions a line compares; none if all lines compare representations."""
    if not lines["method_label"].map(known).notna().any():
        return []
    return [label("method", meaning="the method whose decompositions it compares"), *budgets(lines)]
