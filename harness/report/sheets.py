"""Views as the page prints them: short numbers with their intervals, and by what each column is sorted."""

from __future__ import annotations

from dataclasses import dataclass

from harness.views.view import Column, Item, View


@dataclass(frozen=True)
class Value:
    """What stands in a cell."""

    text: str
    order: float | str | None
    """What the column is sorted by; None comes last whichever way it is sorted."""
    note: str = ""
    """Stands beside it, smaller: an interval, the parameters of a plugin."""
    more: tuple[str, ...] = ()
    """Lines that are shown when it is opened: the list that `text` begins."""


@dataclass(frozen=True)
class Sheet:
    """A table on the page."""

    caption: str
    columns: list[Column]
    rows: list[list[Value]]
    notes: tuple[str, ...] = ()


def sheet(view: View) -> Sheet:
    """A view as text."""
    rows = [[_value(item, column) for item, column in zip(row, view.columns, strict=True)] for row in view.rows]
    return Sheet(view.title, view.columns, rows, view.notes)


def _value(item: Item, column: Column) -> Value:
    if item.value is None:
        return Value("–", None, item.note)
    if column.write is None:
        return _words(str(item.value), item, column)
    ends = [end for end in (item.low, item.high) if end is not None]
    interval = " to ".join(map(column.write, ends))
    return Value(_minus(column.write(float(item.value))), float(item.value), _minus(interval))


def _words(text: str, item: Item, column: Column) -> Value:
    """A plugin's parameters are smaller than its name."""
    if not column.is_label:
        return Value(text, item.more[0] if item.more else text, item.note, item.more)
    name, _, parameters = text.partition("(")
    return Value(name, text, parameters.removesuffix(")"))


def _minus(written: str) -> str:
    """A minus sign is as wide as a plus."""
    return written.replace("-", "−")
