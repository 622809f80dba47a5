"""Lines that compare like with like: methods that learnt from equally many rows and came to nearly equal sparsity.

Two lines match if they are of one budget and the denser has at most a tenth more than the sparser, whichever of the two
is looked at. To match is no equivalence: 40 matches 37 and 43.9, which don't match each other. Whatever cuts lines into
groups therefore tears some apart that match, so each line is compared with all that match it, and stands in the middle.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

TOLERANCE = 0.1


def rivals(costs: Sequence[float], budgets: Sequence[Hashable]) -> list[list[int]]:
    """The numbers of the lines that match each line, its own among them; what one matches matches it.

    Args:
        costs: of each line, such as L0; not negative.
        budgets: of each line, the number of rows that its method learnt from.
    """
    lines = range(len(costs))
    return [[j for j in lines if budgets[i] == budgets[j] and _are_near(costs[i], costs[j])] for i in lines]


def boards(costs: Sequence[float], budgets: Sequence[int]) -> list[int]:
    """The number of the board of each line: lines that match share one, and so do all that are linked by matches.

    Boards are numbered from the smallest budget up, and from the sparsest up within a budget.
    """
    found, number = [0] * len(costs), -1
    before: tuple[int, float] | None = None
    for budget, cost, line in sorted(zip(budgets, costs, range(len(costs)), strict=True)):
        number += not (before and budget == before[0] and _are_near(cost, before[1]))
        found[line], before = number, (budget, cost)
    return found


def _are_near(a: float, b: float) -> bool:
    return max(a, b) <= min(a, b) * (1 + TOLERANCE)
