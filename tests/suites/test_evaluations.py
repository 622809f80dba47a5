"""Evaluations that need more than rows, in a suite: labels come from the corpus, the truth from the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.support.result_tables import read_tables

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
        "gpt2": "ground_truth: the true features of this model are not known",
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
    assert "sparse probing of gpt2 resid_post.0" in printed and "AUC" in printed
    _, printed, _ = harness_cli("leaderboard", *words, "--json")
    shown = json.loads(printed)["evaluations"]["sparse_probing"]
    assert {line["method"]: line["seeds"] for line in shown if line["site"] == "resid_post.0"}["pca"] == 3
    assert "auc_latents_1" in shown[0] and "auc_latents_1_low" not in shown[0]  # three seeds have no one interval
    assert "dictionary health of known resid_post.0" in report and "effective rank" in report


def test_codes_are_compared_between_seeds_and_between_models_of_other_widths(harness_cli: Cli, tmp_path: Path) -> None:
    models = [
        f"{{model: random_weights, n_layers: 1, width: {width}, label: w{width}, sites: [resid_post.0]}}"
        for width in (16, 24)
    ]
    code, printed, errors = harness_cli(
        *("run", "suite=smoke", "name=codes", f"models=[{','.join(models)}]", "seeds=[0,1]"),
        *("methods=[mean,{method: pca, n_components: 4}]", "evaluations=[]", "scorers=[]"),
        *("tokens={fit: 1000, evaluation: 500, interp: 0}", "corpus={corpus: synthetic, n_documents: 50}"),
        "similarities=[{similarity: latent_matching, by: activation}]",
    )
    assert code == 0, errors
    table = read_tables(tmp_path / "results" / "codes")["similarity"]
    assert set(table.query("method == 'mean'")["error"].dropna()) == {"a has no latents", "b has no latents"}
    wide = table.query("method == 'pca'").pivot_table(
        index=["model", "model_b", "seed", "seed_b"], columns="metric", values="value"
    )
    shares = ["kept_share_a", "kept_share_b", "silent_share_a", "silent_share_b"]
    assert sorted(wide) == sorted([*shares, "null_shuffled_rows", "similarity"])
    assert (wide[shares] == [1, 1, 0, 0]).all(axis=None)
    places = sorted((*sorted(sides), *seeds) for *sides, seeds in ((a, b, (s, t)) for a, b, s, t in wide.index))
    assert places == [("w16", "w16", 0, 1), ("w16", "w24", 0, 0), ("w16", "w24", 1, 1), ("w24", "w24", 0, 1)]
    values = wide.reset_index()
    is_one_model = values["model"] == values["model_b"]
    assert values[is_one_model]["similarity"].to_numpy() == pytest.approx(1)  # a seed says nothing to pca
    assert values[~is_one_model]["similarity"].between(0.2, 0.95).all()
    assert (values["null_shuffled_rows"] < 0.2).all()
    assert "latent_matching(by=activation)" in printed and "seed 0" in printed


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


ASKS_MODEL = """
    import harness

    @harness.hookimpl
    def harness_specs():
        return [harness.EvaluationSpec("asks_model", 1, "Runs the model on", AsksModel, needs=("model",))]

    class AsksModel:
        def __init__(self, config): pass

        def evaluate(self, decomposition, context):
            changes, n = 0.0, 0
            for replayed in context.replays():
                decoded = decomposition.decode(decomposition.encode(replayed.rows))
                difference = replayed.patched(decoded) - replayed.logits()
                changes, n = max(changes, float(difference.abs().max())), n + len(replayed.next_ids)
            return [harness.TableRow("largest_change", changes, n)]
"""


def test_an_evaluation_that_needs_the_model_gets_it(harness_cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "asks_model.py").write_text(dedent(ASKS_MODEL))
    models = (
        "models=[{model: random_weights, n_layers: 2, width: 16, label: gpt2, sites: [resid_post.0]},"
        "{model: superposition, n_features: 40, width: 16, l0: 2, n_rows: 4000, label: known, sites: [resid_post.0]}]"
    )
    words = [
        *("suite=smoke", "name=asks", models, "scorers=[]", "similarities=[]", "methods=[identity,mean]"),
        *("tokens={fit: 500, evaluation: 300, interp: 0}", "evaluations=[asks_model]", "plugin_files=[asks_model.py]"),
    ]
    code, _, errors = harness_cli("run", *words)
    assert code == 0, errors
    table = read_tables(tmp_path / "results" / "asks")["asks_model"].set_index(["model", "method"])
    found = table.query("model == 'gpt2'")
    assert set(found["status"]) == {"done"} and (found["n"] > 100).all()
    assert found["value"]["gpt2", "identity"] == 0 < found["value"]["gpt2", "mean"]
    assert set(table.query("model == 'known'")["error"]) == {
        "asks_model: its rows are stored; there is no model that could go on from them"
    }
