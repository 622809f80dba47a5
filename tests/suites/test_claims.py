"""The reference results say what their committed tables say: claims, verdicts and numbers, made anew."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from scipy.stats import ttest_1samp

FOLDER = Path(__file__).parents[2] / "results" / "reference"


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"reference_{name}", FOLDER / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


claims = _script("claims")
EVERY_CLAIM = [(page, claim) for page in claims.pages() for claim in claims.claims_of(page)]


def _table(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / f"{name}.csv")


def _page(name: str) -> str:
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("page", "claim"), EVERY_CLAIM, ids=[f"{page}: {claim['says']}" for page, claim in EVERY_CLAIM]
)
def test_the_committed_table_gives_the_verdict(page: str, claim: dict) -> None:
    assert page in claims.pages()
    if claim["verdict"] == claims.NOT_RUN:
        assert claim["needs"]
        return
    verdict, groups = claims.judge(claim, pd.read_csv(FOLDER / claim["csv"]))
    assert verdict == claim["verdict"], "\n".join(map(str, groups))


@pytest.mark.parametrize("page", claims.pages())
def test_the_page_has_its_claims_as_they_are(page: str) -> None:
    """`python results/reference/claims.py` writes them."""
    assert claims.with_table(_page(page), page) == _page(page)


def test_the_other_tables_of_the_pages_are_those_of_the_csv() -> None:
    itda, similarity, models, autointerp = map(_script, ("itda_vs_sae", "similarity", "models", "autointerp"))
    families = _script("itda_families")
    scores = _table("similarity")
    matching = scores[scores["task"] == "layer_matching"].groupby(["part", "family"], sort=False)
    unions = _table("models").query("score == 'union'")
    of_scorers = _table("autointerp").groupby(["name", "metric"], sort=False)
    expected = {
        "itda_vs_sae": [itda.budgets_table(_table("itda_vs_sae"), target) for target in itda.L0_TARGETS],
        "itda_families": ["\n".join(families.tables(_table("itda_families")))],
        "similarity": [similarity.matching_table(own, family) for (_, family), own in matching],
        "models": [models.matrix(own) for _, own in unions.groupby("similarity", sort=False)],
        "autointerp": [autointerp.scorer_table(own) for _, own in of_scorers],
    }
    expected["models"].append(models.matrix(unions[unions["corrected"].notna()], "corrected"))
    expected["models"] += [models.fits_table(_table("models_fits")), models.unions_table(unions)]
    expected["similarity"].append(similarity.tasks_table(scores[scores["part"] == "similarity_benchmark"]))
    readme = (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8")
    assert itda.short_table(_table("itda_vs_sae")) in readme
    assert families.short_table(_table("itda_families")) in readme
    for page, tables in expected.items():
        lines = set(_page(page).splitlines())
        missing = [line for table in tables for line in table.splitlines() if line not in lines]
        assert not missing, f"{page}.md: {missing[:3]}"


def test_draws_give_student_s_interval_or_none() -> None:
    """None where a draw has no value, or all agree: at the end of a range they say nothing of how others vary."""
    drawn = {"varies": [0.1, 0.4, 0.3], "agrees": [1.0, 1.0, 1.0], "lacks": [0.5, math.nan, 0.7]}
    values = [[own[i] for own in drawn.values()] for i in range(3)]
    draws = [
        pd.DataFrame({"name": list(drawn), "method": [math.nan, math.nan, "itda"], "value": own}) for own in values
    ]
    found = _script("models").over_draws(draws, ["name", "method"], ["value"], []).set_index("name")
    expected = ttest_1samp(drawn["varies"], 0).confidence_interval(0.95)
    assert tuple(found.loc["varies", ["low", "high"]]) == pytest.approx((expected.low, expected.high))
    assert found["value"].tolist() == pytest.approx([0.8 / 3, 1.0, math.nan], nan_ok=True)
    assert found.loc[["agrees", "lacks"], ["low", "high"]].isna().all(axis=None) and (found["draws"] == 3).all()


def _value(value: float, low: float = math.nan, high: float = math.nan):
    return claims.Value(value, low, high)


def test_overlapping_intervals_tell_nothing() -> None:
    a, b, c = _value(3, 2.5, 3.5), _value(2, 1.5, 2.6), _value(1, 0.5, 1.5)
    assert [claims.above(*pair) for pair in ((a, c), (a, b), (c, a))] == ["holds", "can't be told", "doesn't hold"]
    assert claims.below(c, a) == claims.not_apart(a, b) == claims.not_above(c, a) == claims.not_above(a, b) == "holds"
    assert claims.not_apart(a, c) == claims.not_above(a, c) == "doesn't hold"


def test_without_an_interval_nothing_can_be_told() -> None:
    for relation in (claims.above, claims.below, claims.not_above, claims.not_apart):
        assert relation(_value(9), _value(1)) == "can't be told"
    assert claims.within(_value(9), _value(1), 20) == claims.at_least(_value(9), _value(1), 0) == "can't be told"


def test_a_margin_has_to_hold_for_all_of_both_intervals() -> None:
    a = _value(1, 0.9, 1.1)
    assert claims.within(a, _value(1, 0.95, 1.05), 0.16) == claims.at_least(a, _value(1, 0.95, 1.05), 0.16) == "holds"
    assert (
        claims.within(a, _value(1, 0.95, 1.05), 0.1)
        == claims.at_least(a, _value(1, 0.95, 1.05), 0.1)
        == "can't be told"
    )
    assert claims.within(a, _value(2, 1.9, 2.1), 0.5) == claims.at_least(a, _value(2, 1.9, 2.1), 0.5) == "doesn't hold"
    assert claims.at_least(_value(2, 1.9, 2.1), a, 0) == "holds"


def test_a_claim_holds_where_each_of_its_groups_does() -> None:
    table = pd.DataFrame(
        {
            "site": [1, 1, 2, 2],
            "name": list("abab"),
            "x": [3.0, 1, 3, 2],
            "x_low": [2.5, 0, 2.5, 1],
            "x_high": [4.0, 2, 4, 3],
        }
    )
    claim = {"says": "", "verdict": "holds", "csv": "", "by": ["site"], "column": "x", "is": "above"}
    claim |= {"a": "name == 'a'", "b": "name == 'b'"}
    assert claims.judge(claim, table[:2])[0] == "holds"
    assert claims.judge(claim, table)[0] == "can't be told"
    table.loc[2, ["x", "x_low", "x_high"]] = 0
    assert claims.judge(claim, table)[0] == "doesn't hold"
    with pytest.raises(ValueError, match="2 lines of"):
        claims.judge(claim | {"by": []}, table)
    with pytest.raises(ValueError, match="no lines of"):
        claims.judge(claim | {"a": "name == 'c'"}, table)
