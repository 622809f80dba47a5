"""Tasks in a suite: what is compared follows from what they ask, and their scores from what was compared."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]
MODELS = (
    "models=[{model: random_weights, n_layers: 3, width: 16, seed: [0, 1, 2], family: narrow},"
    "{model: random_weights, n_layers: 3, width: 32, seed: [0, 1], family: wide, control_of: narrow}]"
)
WORDS = (
    *("suite=smoke", "name=judged", MODELS, "sites=[resid_post.0,resid_post.1,resid_post.2]", "scorers=[]"),
    *("tokens={fit: 300, evaluation: 300, interp: 0}", "evaluations=[]"),
    *("methods=[{method: itda, k: 4, max_atoms: 32}]", "similarities=[cka,linear_regression,procrustes,jaccard]"),
    "tasks=[layer_matching,layer_monotonicity,{task: sample_size, n_rows: 128, families: [narrow]}]",
)


def test_scores_follow_from_the_similarities(harness_cli: Cli, tmp_path: Path) -> None:
    code, printed, errors = harness_cli("run", *WORDS)
    assert code == 0, errors
    tables = read_tables(tmp_path / "results" / "judged")
    similarity, tasks = tables["similarity"], tables["tasks"]
    # Layers of a family are matched, also with themselves; nobody asked how alike the families are.
    assert (similarity["family"] == similarity["family_b"]).all()
    of_cka = similarity.query("similarity == 'cka' and metric == 'similarity'")
    assert len(of_cka) == 9 * 10 // 2 + 6 * 7 // 2

    for metric, sign in (("cka", 1), ("linear_regression", 1), ("procrustes", -1), ("jaccard", 1)):
        values = similarity[(similarity["similarity"] == metric) & (similarity["family"] == "narrow")]
        found = {}
        for line in values.to_dict("records"):
            a, b = (line["model"], line["site"]), (line["model_b"], line["site_b"])
            if line["metric"] == "similarity":
                found[a, b] = sign * line["value"]
                found.setdefault((b, a), sign * line["value"])
        for line in values.query("metric == 'similarity_reversed'").to_dict("records"):
            found[(line["model_b"], line["site_b"]), (line["model"], line["site"])] = sign * line["value"]
        models, sites = (sorted({place[i] for place, _ in found}) for i in (0, 1))
        ranks = [
            1 + sum(found[(a, site), (b, other)] >= found[(a, site), (b, site)] for other in sites if other != site)
            for a in models
            for b in models
            if a != b
            for site in sites
        ]
        scores = tasks.query(f"task == 'layer_matching' and similarity == '{metric}' and family == 'narrow'")
        scores = scores.set_index("metric")
        assert scores.loc["accuracy", "n"] == len(ranks) == 18
        assert scores.loc["accuracy", "value"] == pytest.approx(ranks.count(1) / 18)
        assert scores.loc["reciprocal_rank", "value"] == pytest.approx(sum(1 / rank for rank in ranks) / 18)

    costs = tasks.query("metric == 'compare_seconds'")
    assert set(costs["similarity"]) == {"cka", "linear_regression", "procrustes", "jaccard"}
    assert (costs["value"] > 0).all()
    assert (tasks.query("metric == 'compare_memory_bytes'")["value"] >= 0).all()

    code, printed, errors = harness_cli("leaderboard", "name=judged")
    assert code == 0, errors
    assert "layer_matching: narrow" in printed
    assert "Similarities by their mean rank over all tasks" in printed
    assert "budgets: 300 rows of each site compared; dictionaries learnt from 300" in printed
    code, printed, errors = harness_cli("leaderboard", "name=judged", "--json")
    boards = json.loads(printed)
    scores = [line for line in boards["task_scores"] if line["metric"] == "accuracy" and line["family"] == "narrow"]
    control = [line for line in boards["task_scores"] if line["metric"] == "accuracy" and line["family"] == "wide"]
    for line, other in zip(scores, control, strict=True):
        assert line["similarity"] == other["similarity"]
        assert line["difference_to_control"] == pytest.approx(line["value"] - other["value"])
        assert line["low"] <= line["value"] <= line["high"]
        assert other["low"] is other["difference_to_control"] is None  # two models give no interval
    # Three tasks and one family that is no control: the four places are shared out in each.
    assert sum(line["mean_rank"] for line in boards["similarity_ranks"]) == pytest.approx(10)

    code, _, errors = harness_cli("run", *WORDS)
    assert code == 0
    assert "] done " not in errors  # what is done is not done again


def test_tasks_that_nothing_can_answer_are_refused(harness_cli: Cli) -> None:
    code, _, errors = harness_cli("plan", *WORDS, "similarities=[]")
    assert code == 2
    assert "there are no similarities to rank" in errors
    code, _, errors = harness_cli("plan", *WORDS, "tasks=[depth_matching]")
    assert code == 2
    assert "depth_matching asks for no pair of this suite's sites" in errors
    code, _, errors = harness_cli("plan", *WORDS, "tasks=[training_convergence]")
    assert code == 2
    assert "name those that are training runs" in errors
    code, _, errors = harness_cli("plan", *WORDS, "similarities=[jaccard]", "methods=[mean]")
    assert code == 2
    assert "none of the similarities compares sites here" in errors
    code, _, errors = harness_cli("plan", *WORDS, f"{MODELS.replace('control_of: narrow', 'control_of: tiny')}")
    assert code == 2
    assert "control_of names 'tiny'; there are narrow, wide" in errors


def test_the_published_experiment_on_small_models_of_our_own(
    harness_cli: Cli, shared_cache: Path, tiny_texts: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_texts, shared_cache, dirs_exist_ok=True)
    seeds = ", ".join(
        f"{{model: seedling, label: seed-{seed}, seed: {seed}, family: gpt2-small, n_layers: 3, width: 32, "
        "vocabulary: 400, corpus: bible, n_steps: 16, context: 32}"
        for seed in (1, 2)
    )
    code, _, errors = harness_cli(
        *("run", "suite=layer_matching_paper", f"models=[{seeds}]", "sites=[resid_post.1,resid_post.2]"),
        *("corpus=wikipedia", "tokens={fit: 500, evaluation: 500}", "context=32"),
        "methods=[{method: itda_paper, k: 8, max_atoms: 128, threshold: 0.01}]",
        "similarities=[jaccard,cka_itda_paper,{similarity: linear_regression, estimate: in_sample}]",
    )
    assert code == 0, errors
    script = Path(__file__).parents[2] / "results" / "reference" / "layer_matching_paper.py"
    command = [sys.executable, script, tmp_path / "results" / "layer_matching_paper"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(printed) == 2 + 3
    for name, published in (("jaccard of itda_paper", "0.88"), ("linear_regression in_sample", "0.16")):
        line = next(line for line in printed if f"| {name} |" in line)
        assert f"| {published} |" in line
        family, _, all_pairs, _, cross = (cell.strip() for cell in line.strip("| ").split("|"))
        # Of two models half of all ordered pairs are a model with itself.
        assert family == "gpt2-small" and float(all_pairs) == pytest.approx((1 + float(cross)) / 2, abs=0.006)


def test_tasks_may_read_calibrated_scores(harness_cli: Cli, tmp_path: Path) -> None:
    """Similarities of rows are calibrated; those of decompositions keep their values."""
    words = (
        *("suite=smoke", "name=calibrated", "sites=[resid_post.0,resid_post.1]", "scorers=[]", "evaluations=[]"),
        "models=[{model: random_weights, n_layers: 2, width: 16, seed: [0, 1], family: narrow}]",
        *("tokens={fit: 200, evaluation: 200, interp: 0}", "methods=[{method: itda, k: 2, max_atoms: 12}]"),
        *("similarities=[procrustes,jaccard]", "tasks=[null_calibration]", "permutations=39", "calibrated=true"),
    )
    code, printed, errors = harness_cli("run", *words)
    assert code == 0, errors
    assert "calibrated" in printed
    tables = read_tables(tmp_path / "results" / "calibrated")
    pairs = tables["similarity"].query("model != model_b")
    values = {
        name: own.pivot(index=["site", "site_b"], columns="metric", values="value")
        for name, own in pairs.groupby("similarity")
    }
    of_rows = values["procrustes"]
    assert of_rows["p_value"].between(1 / 40, 1).all()
    assert (pairs.query("metric == 'p_value'")["n"] == 39).all()
    scaled = (of_rows["null_quantile"] - of_rows["null_shuffled_rows"]) / of_rows["null_quantile"]
    bias = tables["tasks"].query("metric == 'bias'").set_index("similarity")["value"]
    assert bias["procrustes"] == pytest.approx(scaled.clip(lower=0).mean())
    assert bias["jaccard"] == pytest.approx(values["jaccard"]["chance"].mean())
    models = pd.read_csv(tmp_path / "results" / "calibrated" / "model_similarities.csv")
    rows = models[models["similarity"] == "procrustes"]
    assert rows[["p_value", "calibrated"]].notna().all(axis=None) and set(rows["score"]) == {"best_layer", "same_depth"}
