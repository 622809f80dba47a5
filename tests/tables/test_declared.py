"""Leaderboards of declared metrics: whichever evaluation made them, whichever way is better."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from harness import Metric
from harness.planning.plan import Plan
from harness.registry.metric import metric_named
from harness.storage.records import Record, row
from harness.storage.store import Store
from harness.tables.costs import COSTS
from harness.tables.declared import Declared
from harness.tables.leaderboard import ranking
from harness.tables.results import Results
from tests.support import toy_suites
from tests.support.toy_suites import plan_of, raw_suite

SPREAD = [0.001 * (-1) ** i for i in range(20)]
LOSS = Metric("loss", "loss (nats)", "less of it is better", False, ".3f", "quality")
NORM = Metric("norm", "norm", "how much there is", format=".1f", role="sparsity")
RANKED_BY_LOSS = Declared({"quality": (LOSS, NORM)})


def _plan(folder: Path, monkeypatch: pytest.MonkeyPatch, *metrics: Metric) -> tuple[Plan, Store]:
    """Two methods of one norm at one place; the dense one loses less. Two seeds, with sums by document."""
    specs = [spec for spec in toy_suites.SPECS if spec.kind != "evaluation"]
    evaluation = next(spec for spec in toy_suites.SPECS if spec.kind == "evaluation")
    own = type(evaluation)(**{**vars(evaluation), "metrics": metrics})
    monkeypatch.setattr(toy_suites, "SPECS", (*specs, own))
    plan = plan_of(raw_suite(folder, sites=["resid_post.1"], similarities=[]))
    store = Store(folder / "results", folder / "cache")
    for cell in plan.of_kind("evaluation"):
        losses = [(1.0 if cell.columns["method"] == "dense" else 2.0) + noise for noise in SPREAD]
        sums = {"numerator": losses, "denominator": [1.0] * len(losses)}
        rows = [row("quality", "loss", sum(losses) / 20, 20, None) | {"documents": sums}]
        rows += [row("quality", "norm", 7.0, 20, None), row("quality", "extra_2", 0.5, 20, None)]
        store.write_record(cell.key, Record("done", rows=rows))
    return plan, store


def test_less_can_be_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.of(*_plan(tmp_path, monkeypatch, LOSS, NORM))
    place = results.leaderboard.query("model == 'model-a'")
    assert place["method"].tolist() == ["dense", "atomic"]
    assert place["tier"].tolist() == [1, 2] and place["pareto"].tolist() == [True, False]
    assert (place["loss_low"] < place["loss"]).all() and (place["loss"] < place["loss_high"]).all()
    assert ranking(place, results.declared).startswith("tiers among methods of equal norm")
    table = results.tables["quality"]
    assert table.query("metric == 'loss'")["higher_is_better"].eq(False).all()  # rows did not say it
    assert table.query("metric == 'norm'")["higher_is_better"].isna().all()


def test_what_nobody_declares_is_in_a_table_of_its_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.of(*_plan(tmp_path, monkeypatch, LOSS, NORM))
    assert results.declared.undeclared(results.tables) == {"quality": ["extra_2"]}
    assert "extra_2" not in results.leaderboard and results.evaluations["quality"]["extra_2"].eq(0.5).all()
    (shown,) = results.metrics_of("quality")
    assert (shown.heading, shown.meaning) == ("extra 2", "")


def test_without_declared_metrics_nobody_is_ranked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results.of(*_plan(tmp_path, monkeypatch))
    board = results.leaderboard
    assert len(board) == 0 and {"tier", "pareto", "matched_l0"}.isdisjoint(board)  # no fit reported its cost either
    assert {"loss", "norm", "extra_2"} <= set(results.evaluations["quality"])


def test_of_two_that_declare_one_name_the_first_has_the_column() -> None:
    """Their numbers must not be averaged."""
    declared = Declared({"a": (LOSS, NORM), "b": (Metric("loss", "other loss", "", role="listed"), LOSS)})
    evaluation, metric = declared.columns["loss"]
    assert (evaluation, metric) == ("a", LOSS) and list(declared.columns) == ["norm", "loss"]
    assert declared.is_on_leaderboard("a", "loss") and not declared.is_on_leaderboard("b", "loss")
    assert declared.ranked == LOSS and declared.sparsity == NORM


def test_a_metric_that_is_called_as_an_end_of_an_interval_stays_in_its_own_table() -> None:
    """The interval is another evaluation's: registration can't know."""
    end = Metric("loss_low", "lowest", "", role="listed")
    declared = Declared({"a": (end,), "b": (LOSS, NORM)})
    assert list(declared.columns) == ["norm", "loss"] and not declared.is_on_leaderboard("a", "loss_low")
    assert "loss_low" in Declared({"a": (end,), "b": (NORM,)}).columns


def test_an_undeclared_metric_may_have_any_name() -> None:
    assert Declared({}).of_name("a", "loss (nats)").heading == "loss (nats)"


def test_axes_are_of_what_is_paid_and_what_is_had() -> None:
    effect = Metric("harm", "harm", "what it does", False, role="effect")
    named = [(x.name, y.name) for x, y in Declared({"a": (effect, LOSS, NORM)}).axes]
    assert named == [("norm", "loss"), ("fit_seconds", "loss"), ("norm", "harm")]
    assert Declared({}).axes == [] and Declared({}).undeclared({"a": pd.DataFrame()}) == {}


def test_every_cost_that_the_engine_measures_is_declared() -> None:
    sources = Path(__file__).parents[2] / "harness"
    texts = [path.read_text() for folder in ("stages", "asking") for path in sorted((sources / folder).glob("*.py"))]
    calls = [found for text in texts for found in re.findall(r'cost\(\s*f?"([^"]+)"|row\("cost", "(\w+)"', text)]
    names = {re.sub(r"\{.*?\}", "x", (name or other).replace("{part}", "prompt")) for name, other in calls}
    assert {"fit_seconds", "masked_rows", "capture_tokens", "judge_usd_x", "evaluation_seconds_x"} <= names
    assert not [name for name in names if metric_named(name, COSTS) is None]
