"""Views as the page prints them: short numbers with their intervals, and keys to sort columns by."""

from __future__ import annotations

from dataclasses import dataclass

from harness.views.view import Column, Item, View


@dataclass(frozen=True)
class Entry:
    """One entry of a table: its text, and what belongs to it."""

    text: str
    order: float | str | None
    """Key that the column is sorted by; None comes last in either direction."""
    note: str = ""
    """Smaller text beside it: an interval, or the parameters of a plugin."""
    more: tuple[str, ...] = ()
    """Lines that are shown when the entry is opened: the whole list that `text` begins."""


@dataclass(frozen=True)
class Sheet:
    """A table on the page."""

    caption: str
    columns: list[Column]
    rows: list[list[Entry]]
    notes: tuple[str, ...] = ()


def sheet(view: View) -> Sheet:
    """A view as a table of the page, with its numbers written out."""
    rows = [[_entry(item, column) for item, column in zip(row, view.columns, strict=True)] for row in view.rows]
    return Sheet(view.title, view.columns, rows, view.notes)


def _entry(item: Item, column: Column) -> Entry:
    if item.value is None:
        return Entry("–", None, item.note)
    if column.write is None:
        return _words(str(item.value), item, column)
    ends = [end for end in (item.low, item.high) if end is not None]
    interval = " to ".join(map(column.write, ends))
    return Entry(_minus(column.write(float(item.value))), float(item.value), _minus(interval))


def _words(text: str, item: Item, column: Column) -> Entry:
    """An entry of words; a plugin's parameters are a note, smaller than its name."""
    if not column.is_label:
        return Entry(text, item.more[0] if item.more else text, item.note, item.more)
    name, _, parameters = text.partition("(")
    return Entry(name, text, parameters.removesuffix(")"))


def _minus(written: str) -> str:
    """Replace hyphens by minus signs, which are as wide as plus signs."""
    return written.replace("-", "−")
