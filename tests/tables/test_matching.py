"""Lines that may be compared: of one budget, and of sparsity within a tenth of each other."""

from __future__ import annotations

import itertools
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.tables.matching import boards, rivals

REFERENCE = Path(__file__).parents[2] / "results" / "reference" / "itda_vs_sae.csv"
LINES = st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([500, 5000])), max_size=12)


def _match(a: tuple[float, int], b: tuple[float, int]) -> bool:
    return a[1] == b[1] and max(a[0], b[0]) <= min(a[0], b[0]) * 1.1


@given(LINES)
def test_a_line_is_compared_with_all_that_match_it_and_no_other(lines: list[tuple[float, int]]) -> None:
    found = rivals([cost for cost, _ in lines], [budget for _, budget in lines])
    assert found == [[j for j, other in enumerate(lines) if _match(line, other)] for line in lines]


@given(LINES)
def test_boards_tear_no_match_apart_and_mix_no_budgets(lines: list[tuple[float, int]]) -> None:
    found = boards([cost for cost, _ in lines], [budget for _, budget in lines])
    for i, j in itertools.combinations(range(len(lines)), 2):
        if _match(lines[i], lines[j]):
            assert found[i] == found[j]
        if found[i] == found[j]:
            assert lines[i][1] == lines[j][1]
    assert sorted(set(found)) == list(range(len(set(found))))
    for number in set(found):  # each is linked to the next by a match
        own = sorted(line for line, board in zip(lines, found, strict=True) if board == number)
        assert all(itertools.starmap(_match, itertools.pairwise(own)))


def test_no_third_line_tears_two_that_match_apart() -> None:
    """Groups from the sparsest line up had 37 and 40 in one, and 43.9 in the next."""
    assert rivals([37.0, 40.0, 43.9], [1, 1, 1]) == [[0, 1], [0, 1, 2], [1, 2]]
    assert boards([37.0, 40.0, 43.9], [1, 1, 1]) == [0, 0, 0]
    assert rivals([40.0, 40.0], [500, 5000]) == [[0], [1]]
    assert boards([40.0, 20.0, 40.0], [5000, 5000, 500]) == [2, 1, 0]


@pytest.mark.parametrize("site", ["resid_post.9", "resid_post.19"])
@pytest.mark.parametrize("budget", [500, 5_000, 50_000])
def test_the_lines_of_the_headline_are_compared_with_each_other(site: str, budget: int) -> None:
    """The best line near L0 40 of ITDA, which removes the mean, and of the TopK SAE, among all others there."""
    board = pd.read_csv(REFERENCE)
    place = board[board["site"] == site].reset_index(drop=True)
    near = place[(place["l0_target"] == 40) & (place["fit_tokens"] == budget)]
    names = ("ITDA, mean removed", "TopK SAE")
    itda, sae = (near[near["name"] == name]["explained_variance"].idxmax() for name in names)
    costs, budgets = place["l0"].tolist(), place["fit_tokens"].tolist()
    assert sae in rivals(costs, budgets)[itda] and itda in rivals(costs, budgets)[sae]
    assert place["matched_l0"].tolist() == boards(costs, budgets)
