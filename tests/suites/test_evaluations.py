"""Evaluations that need more than rows, in a suite: labels come from the corpus, the truth from the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]


def test_labels_truth_and_dictionaries(harness_cli: Cli, tmp_path: Path) -> None:
    models = (
        "models=[{model: random_weights, n_layers: 2, width: 16, label: gpt2, sites: [resid_post.0, resid_post.1]},"
        "{model: superposition, n_features: 40, width: 16, l0: 2, n_rows: 4000, label: known, sites: [resid_post.0]}]"
    )
    words = [
        *("suite=smoke", "name=evaluations", models, "scorers=[]", "tokens={fit: 1000, evaluation: 20000, interp: 0}"),
        *("similarities=[latent_matching]", "seeds=[0,1,2]"),
        "methods=[identity,mean,{method: pca, n_components: 8},{method: random_dictionary, n_latents: 8, k: 2}]",
        *("corpus={corpus: synthetic, n_documents: 450}", "evaluation_share=0.15"),
        "evaluations=[{evaluation: sparse_probing, ks: [1, 16], min_documents: 15},dictionary_health,ground_truth]",
    ]
    code, printed, errors = harness_cli("run", *words)
    assert code == 0, errors
    tables = read_tables(tmp_path / "results" / "evaluations")

    tables |= {
        name: tables[name].query("seed == 0") for name in ("sparse_probing", "ground_truth", "dictionary_health")
    }
    skipped = {
        name: tables[name][tables[name]["status"] == "skipped"].groupby("model")["error"].first().to_dict()
        for name in ("sparse_probing", "ground_truth")
    }
    assert skipped["sparse_probing"] == {
        "known": "sparse_probing: its rows came without texts; there is no corpus that could label them"
    }
    assert skipped["ground_truth"] == {
        "gpt2": "ground_truth: nobody knows the true features of this model",
        "known": "ground_truth: no latents",
    }

    probing = tables["sparse_probing"].query("model == 'gpt2'").set_index(["site", "method", "metric"])["value"]
    for site in ("resid_post.0", "resid_post.1"):
        # The topics are told by their words: all channels know them, and the latents of the identity are channels.
        assert probing[site, "pca", "auc_all_channels_low"] > 0.8
        assert probing[site, "identity", "auc_latents_16"] == pytest.approx(probing[site, "pca", "auc_channels_16"])
    errors_of = tables["sparse_probing"].query("method == 'mean' and metric == 'auc_latents_1'")["error"]
    assert set(errors_of) == {"there are 0 latents"}

    truth = tables["ground_truth"].query("model == 'known'").set_index(["method", "metric"])["value"]
    assert 0 < truth["identity", "matched_cosine"] < truth["identity", "best_cosine"] < 1
    health = tables["dictionary_health"].set_index(["model", "site", "method", "metric"])["value"]
    assert health["known", "resid_post.0", "identity", "effective_rank"] == pytest.approx(16)
    # Directions are compared with those of another seed, which only a choice of rows depends on here.
    matching = tables["similarity"].query("metric == 'similarity' and method != 'mean'")
    assert (matching["model"] + matching["site"]).equals(matching["model_b"] + matching["site_b"])
    assert matching.groupby(["model", "site", "method"])[["seed", "seed_b"]].size().eq(3).all()
    assert (matching["seed"] < matching["seed_b"]).all()
    by_method = matching.groupby("method")["value"]
    assert by_method.min()["identity"] == 1 and by_method.min()["pca"] == pytest.approx(1)
    assert by_method.max()["random_dictionary"] < 0.99
    chance = tables["similarity"].query("metric == 'chance' and method == 'pca'")
    assert (chance["value"] < 0.6).all() and (chance["n"] == 8).all()
    assert "resid_post.0, seed 0" in printed
    report = (tmp_path / "results" / "evaluations" / "report" / "index.html").read_text(encoding="utf-8")
    assert "resid_post.0, seed 2" in report
    # And what was found is where people look.
    assert "sparse_probing of gpt2 resid_post.0" in printed and "auc" in printed
    _, printed, _ = harness_cli("leaderboard", *words, "--json")
    shown = json.loads(printed)["evaluations"]["sparse_probing"]
    assert {line["method"]: line["seeds"] for line in shown if line["site"] == "resid_post.0"}["pca"] == 3
    assert "auc_latents_1" in shown[0] and "auc_latents_1_low" not in shown[0]  # three seeds have no one interval
    assert "dictionary health of known resid_post.0" in report and "effective rank" in report


def test_directions_are_compared_between_seeds_and_there_must_be_some(harness_cli: Cli) -> None:
    code, _, errors = harness_cli("plan", "suite=smoke", "similarities=[latent_matching]", "seeds=[0,0]")
    assert code == 2
    assert (
        "latent_matching compares fits of different seeds, and seeds is [0, 0]. Give more, such as seeds=[0,1]"
        in errors
    )


def test_an_evaluation_twice_with_other_parameters_is_refused_where_its_table_could_not_tell(harness_cli: Cli) -> None:
    code, _, errors = harness_cli(
        "plan", "suite=smoke", "evaluations=[{evaluation: sparse_probing, min_documents: [10, 20]}]"
    )
    assert code == 2
    assert "evaluations: sparse_probing with several parameters, which its table could not tell apart" in errors
