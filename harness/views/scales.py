"""Slopes over the sizes of models, for people."""

from __future__ import annotations

from collections.abc import Iterator

from harness.tables.results import Results
from harness.tables.scales import UNTOLD
from harness.views.view import Column, Item, Line, View, known

_SLOPE = "{:.3g}".format
_NOTE = (
    "Slopes over ln(parameters), 95 % intervals over models and seeds. A trend needs 4 sizes with 2 models or seeds "
    "each, and more than untrained models of these sizes have, with dictionaries of equal m and of equal m/d."
)


def scales_views(results: Results) -> Iterator[View]:
    """A table for each family: a line per method, metric and rule."""
    for family, lines in results.scales.groupby("family", sort=False):
        columns = [
            *map(Column, ("method", "metric", "dictionaries")),
            Column("slope", write=_SLOPE, is_main=True),
            Column("untrained", write=_SLOPE),
            Column("slope − untrained", write=_SLOPE),
            Column("sizes", write="{:.0f}".format),
            Column("verdict"),
            Column("why", is_reason=True),
        ]
        rows = [_row(line) for line in lines.to_dict("records")]
        yield View(f"{family} across sizes", columns, rows, (_NOTE,))


def _row(line: Line) -> list[Item]:
    numbers = {name: known(line[name]) for name in ("slope", "untrained_slope", "difference", "n_sizes")}
    ends = {name: known(line[name]) for name in ("slope_low", "slope_high", "difference_low", "difference_high")}
    rule = line["rule"] if known(line["size"]) is None else f"{line['rule']} {line['size']:g}"
    return [
        *(Item(str(line[name])) for name in ("method", "metric")),
        Item(rule),
        Item(numbers["slope"], ends["slope_low"], ends["slope_high"]),
        Item(numbers["untrained_slope"]),
        Item(numbers["difference"], ends["difference_low"], ends["difference_high"]),
        Item(numbers["n_sizes"]),
        Item(str(line["verdict"])),
        Item(known(line["reason"]) if line["verdict"] == UNTOLD else None),
    ]
