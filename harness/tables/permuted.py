"""Values of similarities under random pairings of rows, as records keep them beside the table rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from harness.planning.plan import Plan
from harness.tables.tidy import RowsWithSums


class Permuted(NamedTuple):
    """Values of a similarity of two sites under random pairings of their rows."""

    values: Sequence[float]
    best: float
    """The value that is the most alike; infinite if there is none."""


PermutedOfCell: TypeAlias = Mapping[str, Permuted]
"""Values by metric: `similarity`, and `similarity_reversed`."""


def permuted_values(plan: Plan, with_sums: RowsWithSums) -> dict[str, PermutedOfCell]:
    """Values of similarities under random pairings of rows, from the records of the cells that have any."""
    found: dict[str, PermutedOfCell] = {}
    for cell in plan.of_kind("similarity") if plan.suite.config.permutations else ():
        rows = [row for row in with_sums.get(cell.key, ()) if row.get("permuted")]
        found[cell.key] = {
            row["metric"].replace("p_value", "similarity"): Permuted(
                row["permuted"], math.inf if row["best"] is None else row["best"]
            )
            for row in rows
        }
    return found
