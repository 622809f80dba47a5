"""Invariance: does the value stay what it is under changes that change no representation?

Of neighbouring sites x and y, y is rotated, made ten times as large, moved by a constant as long as its rows are on
average, given its columns in another order, given sixteen more columns of zeros; and the rows of both are given in
another order. An answer is right where the value moves by at most 0.01 on the scale of tasks, or, of x with itself, is
1 to within 0.01:

    respected = share of right answers;  deviation_<change> = mean |S(x, changed y) − S(x, y)|

An undefined value is wrong and deviates by 1. Which of these a metric should respect is for its user to say (a
translation matters to cosines); that the list is the same for all makes them comparable.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.tasks import RowsConfig
from harness.plugins.tasks.answers import Sums
from harness.plugins.tasks.changed_rows import alike_or_nothing, neighbouring_sites

_TOLERANCE = 0.01
_FACTOR = 10.0
_N_COLUMNS = 16


class Invariance:
    """Scores whether a value is the same after changes that change no representation, one set for each family."""

    metric = "respected"

    def __init__(self, config: RowsConfig) -> None:
        self.config = config

    def score(self, comparisons: harness.Comparisons) -> list[harness.TaskScore]:
        sums: dict[tuple[str, str], Sums] = {}

        def add(family: str, model: str, change: str, after: float | None, before: float | None) -> None:
            deviation = 1.0 if after is None or before is None else abs(after - before)
            for metric, value in (("respected", float(deviation <= _TOLERANCE)), (f"deviation_{change}", deviation)):
                sums.setdefault((metric, family), Sums(comparisons.models)).add(model, model, value)

        for family, model, x, y in neighbouring_sites(comparisons, self.config):
            add(family, model, "equality", alike_or_nothing(comparisons, x, x), 1.0)
            before = alike_or_nothing(comparisons, x, y)
            for change, changed_x, changed_y in _changes(x, y, torch.Generator().manual_seed(self.config.seed)):
                add(family, model, change, alike_or_nothing(comparisons, changed_x, changed_y), before)
        return [
            found.score(metric, family, metric == "respected", (0.0, 1.0 if metric == "respected" else float("inf")))
            for (metric, family), found in sums.items()
        ]


def _changes(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n e"], generator: torch.Generator
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Names of the changes, with both sides after each, made in float64 so that a change itself loses nothing."""
    n, width = y.shape
    exact = y.double().cpu()
    gaussian = torch.randn((width, width), generator=generator, dtype=torch.float64)
    step = torch.randn(width, generator=generator, dtype=torch.float64)
    columns, rows = (torch.randperm(size, generator=generator) for size in (width, n))
    changed = {
        "rotation": exact @ torch.linalg.qr(gaussian).Q,
        "scale": _FACTOR * exact,
        "translation": exact + step / step.norm() * exact.norm(dim=1).mean(),
        "column_order": exact[:, columns],
        "empty_columns": torch.cat([exact, exact.new_zeros(n, _N_COLUMNS)], dim=1),
    }
    for change, after in changed.items():
        yield change, x, after.to(y)
    yield "row_order", x[rows.to(x.device)], y[rows.to(y.device)]
