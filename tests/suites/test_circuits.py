"""A suite with behaviours, of a model whose circuit is known: from contrasts to tables, boards and report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from harness.planning.config import compose
from harness.planning.plan import build_plan
from harness.storage.store import Store
from tests.support.induction import OUTPUT, PREVIOUS
from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]
PLUGIN = Path(__file__).parents[1] / "support" / "induction_plugin.py"
WORDS = (
    *("suite=smoke", "name=circuits", f"plugin_files=[{PLUGIN}]", "corpus={corpus: tokens}", "evaluations=[]"),
    "models=[{model: built_by_hand, label: by hand, family: f, sites: [resid_post.1, resid_post.0]}]",
    *("tokens={fit: 2000, evaluation: 300, interp: 0}", "similarities=[]", "scorers=[]"),
    "methods=[identity,{method: pca, n_components: 40},mean]",
)
BEHAVIOURS = "behaviours=[induction,{behaviour: induction, shuffled: true}]"


def test_the_planted_circuit_is_in_the_results(harness_cli: Cli, tmp_path: Path) -> None:
    code, printed, errors = harness_cli("run", *WORDS, BEHAVIOURS)
    assert code == 0, errors
    results = tmp_path / "results" / "circuits"
    table = read_tables(results)["circuits"]
    assert set(table["sites"]) == {"resid_post.0, resid_post.1"} and set(table["behaviour"]) == {"induction"}
    board = pd.read_csv(results / "circuit_scores.csv")
    is_control = board["behaviour_label"] == "induction(shuffled=True)"
    _check_claims(board[~is_control])
    of_control = board[is_control & board["method"].notna()]
    assert len(of_control) and of_control["value"].isna().all()
    assert of_control["error"].str.startswith("the model fails the behaviour: 0.50 of its answers are right").all()
    _check_circuit(results)

    assert "Circuits of induction in by hand, resid_post.0, resid_post.1" in printed
    assert "circuits of by hand" not in printed  # it is no evaluation's table
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert 'id="circuits"' in page and "Circuits of induction(shuffled=True) in by hand" in page
    code, printed, _ = harness_cli("leaderboard", *WORDS, BEHAVIOURS, "--json")
    assert code == 0 and len(json.loads(printed)["circuit_scores"]) == len(board)
    code, printed, _ = harness_cli("plan", *WORDS, BEHAVIOURS)
    assert code == 0 and "0 to do" in printed


def _check_claims(board: pd.DataFrame) -> None:
    model = board[board["method"].isna()].set_index(["metric", "site"])["value"]
    assert model["accuracy"].item() == 1 and model["m_clean"].item() == pytest.approx(1, abs=0.05)
    assert (model["attribution_gap"] < 0.05).all() and set(model["attribution_gap"].index) == {
        *("resid_post.0", "resid_post.1")
    }
    by_method = {method: own.set_index("metric") for method, own in board[board["site"].isna()].groupby("method")}
    identity, pca, mean = (by_method[name] for name in ("identity", "pca", "mean"))
    expected = {"n_minimal": 4, "carried": 1, "minimal_faithfulness": 1, "completeness": 0, "faithfulness_5": 1}
    for metric, value in expected.items():
        assert identity.loc[metric, "value"] == pytest.approx(value, abs=0.02), metric
    cpr = identity.loc["cpr"]
    assert cpr["low"] <= cpr["value"] <= cpr["high"] and cpr["n_groups"] == 6
    assert cpr["random"] < 0.5 < cpr["difference_to_random"] + cpr["random"] and cpr["difference_to_random_low"] > 0
    assert not identity.loc["nodes_for_0.8", "value"] > pca.loc["nodes_for_0.8", "value"]
    assert mean.loc["carried", "value"] == pytest.approx(0, abs=0.02)
    assert mean.loc["n_minimal", "error"].startswith("the latents carry 0.00 of the behaviour")


def _check_circuit(results: Path) -> None:
    """The nodes of the artefact, and that it is known to the store."""
    plan, store = build_plan(compose([*WORDS, BEHAVIOURS])[0]), Store.of(results)
    (cell,) = (
        cell
        for cell in plan.of_kind("circuit")
        if (cell.columns["method"], "True" in cell.label) == ("identity", False)
    )
    assert store.damage("circuit", cell.key) is None
    nodes = json.loads((store.artefact("circuit", cell.key) / "circuit.json").read_text())["nodes"]
    found = {(node["site"], node["latent"]) for node in nodes if node["is_in_circuit"]}
    assert found == {("resid_post.0", PREVIOUS.start + token) for token in (0, 1)} | {
        ("resid_post.1", OUTPUT.start + token) for token in (2, 3)
    }


def test_behaviours_change_no_other_key() -> None:
    bare, asked = (build_plan(compose(words)[0]) for words in (WORDS, [*WORDS, BEHAVIOURS]))
    new = {key: cell.kind for key, cell in asked.cells.items() if key not in bare.cells}
    assert bare.cells.keys() <= asked.cells.keys() and "behaviours" not in str(bare.cells)
    assert sorted(new.values()) == ["circuit"] * 6 + ["contrast"] * 2
    (one, other) = (cell for cell in asked.of_kind("contrast"))
    assert one.group == other.group and one.work["sites"] == ["resid_post.0", "resid_post.1"]
