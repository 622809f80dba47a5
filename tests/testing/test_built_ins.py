"""Every built-in plugin, and the example distribution, keeps what its kind promises."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
from harness.registry.plugin_manager import load_catalog
from harness.testing import (
    Finding,
    check_behaviour,
    check_corpus,
    check_evaluation,
    check_method,
    check_model,
    check_scorer,
    check_similarity,
    check_task,
    raise_problems,
)
from tests.support.tiny_models import save_tiny_language_model

_QUICK = {"n_latents": 32, "passes": 2, "batch_rows": 100}
METHODS: dict[str, dict[str, Any]] = {
    "itda": {"k": 3, "max_atoms": 40},
    "itda_paper": {"k": 3, "max_atoms": 40, "threshold": 2e-3},
    "kmeans": {"n_latents": 12, "k": 3},
    "random_dictionary": {"n_latents": 32, "k": 3},
    "sized_baseline": {"k": 3, "max_atoms": 64},
    "pca": {"n_components": 6},
    "ica": {"n_components": 6},
    "topk_sae": {**_QUICK, "k": 4},
    "batch_topk_sae": {**_QUICK, "k": 4},
    "matryoshka_sae": {**_QUICK, "k": 4, "group_shares": [0.5, 0.5]},
    "relu_sae": {**_QUICK, "target_l0": 4.0},
    "gated_sae": {**_QUICK, "target_l0": 4.0},
    "jumprelu_sae": {**_QUICK, "target_l0": 4.0},
    "untrained_sae": {"n_latents": 32, "k": 4},
    "clusters": {"of": "topk_sae"},
    "random_groups": {"of": "clusters"},
    "meta_sae": {"of": "topk_sae", "n_latents": 8, "k": 2, "passes": 2},
}
EVALUATIONS: dict[str, dict[str, Any]] = {"drift": {"n_streams": 1}}
SIMILARITIES: dict[str, dict[str, Any]] = {"relative": {"anchors": 50}, "rsa": {"n_rows": 300}}
MUST_BE_CHECKED = {"learns", "encodes_row_by_row", "keeps_no_batch", "comes_back_from_disk", "repeats_itself"}
_EXTERNAL_PLUGIN = Path(__file__).parents[1] / "external_plugin"


def names(kind: str) -> list[str]:
    return [spec.name for spec in harness.catalog(kind)]


@pytest.mark.parametrize("name", names("method"))
def test_methods(name: str, tmp_path: Path) -> None:
    parameters = METHODS.get(name, {})
    if name == "pretrained_sae":
        x = torch.randn(200, 24, generator=torch.Generator().manual_seed(0))  # as wide as the rows of the kit
        harness.fit(harness.create("method", "topk_sae", **METHODS["topk_sae"]), x).export_saelens(tmp_path / "sae")
        parameters = {"path": str(tmp_path / "sae")}
    findings = check_method(name, **parameters)
    raise_problems(findings)
    assert {finding.check for finding in findings if finding.outcome == "holds"} >= MUST_BE_CHECKED


@pytest.mark.parametrize("variant", [{"pursuit": "orthogonal"}, {"non_negative": True}, {"centre": True}])
def test_variants_of_itda(variant: dict[str, Any]) -> None:
    raise_problems(check_method("itda", **METHODS["itda"], **variant))


def test_a_stacked_sae() -> None:
    findings = check_method("topk_sae", **METHODS["topk_sae"], stacked=True)
    raise_problems(findings)
    assert "learns_the_same_in_a_stack" in {finding.check for finding in findings if finding.outcome == "holds"}


@pytest.mark.parametrize("name", names("similarity"))
def test_similarities(name: str) -> None:
    findings = check_similarity(name, **SIMILARITIES.get(name, {}))
    raise_problems(findings)
    assert sum(finding.outcome == "holds" for finding in findings) >= 5


OTHER_FORMS: list[tuple[str, dict[str, Any]]] = [
    ("cka", {"kernel": "rbf"}),
    ("cka", {"estimator": "debiased"}),
    ("relative", {"anchors": 50, "n_seeds": 3, "centre": True}),
    ("relative", {"anchors": 50, "compare": "neighbours"}),
    ("relative", {"anchors": 50, "compare": "rank"}),
    ("latent_matching", {"by": "activation"}),
    ("mutual_knn", {"centre": True}),
    ("rsa", {"dissimilarity": "euclidean", "compare": "pearson"}),
]


@pytest.mark.parametrize("name, parameters", OTHER_FORMS)
def test_other_forms_of_a_similarity(name: str, parameters: dict[str, Any]) -> None:
    raise_problems(check_similarity(name, **parameters))


@pytest.mark.parametrize("name", names("scorer"))
def test_scorers(name: str) -> None:
    findings = check_scorer(name)
    raise_problems(findings)
    assert all(finding.outcome == "holds" for finding in findings)


def held(findings: list[Finding]) -> set[str]:
    """The checks that hold; problems are raised."""
    raise_problems(findings)
    return {finding.check for finding in findings if finding.outcome == "holds"}


OF_TEXTS = {"covers_each_text", "points_at_the_text", "does_not_see_padding", "does_not_mind_the_texts_beside"}
OF_HEADS = {"replays_to_the_bit", "puts_rows_in_their_place", "predicts_from_earlier_tokens_only"}
OF_ROWS = {"aligns_its_own_rows", "repeats_its_own_rows"}
MODELS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "hf": ({}, OF_TEXTS | OF_HEADS | {"has_the_shape_that_its_spec_states"}),
    "packaged": ({"name": "minilm-l6"}, OF_TEXTS | {"has_one_token_in_front"}),
    "stored": ({}, OF_ROWS),
    "random_weights": ({"n_layers": 3, "width": 32}, OF_TEXTS | OF_HEADS | {"unembeds_to_its_own_logits"}),
    "seedling": (
        {"n_layers": 2, "width": 32, "n_heads": 2, "vocabulary": 400, "corpus": "bible", "n_steps": 16, "step": 0},
        OF_TEXTS | OF_HEADS | {"has_the_shape_that_its_spec_states"},
    ),
    "superposition": ({"n_rows": 1000}, OF_ROWS | {"knows_what_its_rows_are_made_of"}),
}


@pytest.mark.parametrize("name", names("model"))
def test_models(name: str, tiny_texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(shutil.copytree(tiny_texts, tmp_path / "cache")))
    parameters, must_be_checked = MODELS[name]
    if name == "hf":
        parameters = {"path": str(save_tiny_language_model("llama", tmp_path / "llama"))}
    if name == "stored":
        np.save(tmp_path / "resid_post.1.npy", np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32))
        (tmp_path / "rows.csv").write_text("document\n" + "".join(f"text {row // 20}\n" for row in range(60)))
        parameters = {"path": str(tmp_path)}
    assert held(check_model(name, **parameters)) >= must_be_checked


@pytest.mark.slow
def test_a_real_decoder() -> None:
    assert held(check_model("packaged", name="smollm2-135m")) >= OF_TEXTS | OF_HEADS


CORPORA: dict[str, dict[str, Any]] = {"packaged": {"name": "bible"}}


@pytest.mark.parametrize("name", names("corpus"))
def test_corpora(name: str, tmp_path: Path) -> None:
    parameters = CORPORA.get(name, {})
    lines = [json.dumps({"text": f"text {number}", "topic": number % 3}) + "\n" for number in range(60)]
    (tmp_path / "train.jsonl").write_text("".join(lines))
    if name == "files":
        parameters = {"paths": [str(tmp_path)], "label_fields": ["topic"]}
    if name == "huggingface":
        parameters = {"path": str(tmp_path), "label_fields": ["topic"]}
    found = held(check_corpus(name, **parameters))
    assert found >= {"gives_each_document_once", "repeats_itself", "is_the_same_in_another_process"}
    assert ("follows_its_files_in_its_identity" in found) == (name in ("files", "huggingface"))


@pytest.mark.parametrize("name", names("behaviour"))
def test_behaviours(name: str, tmp_path: Path) -> None:
    lines = [{"clean": f"{n} or", "patch": f"{n} and", "right": " a", "wrong": " b", "group": str(n)} for n in range(9)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = held(check_behaviour(name, **({"path": str(tmp_path / "pairs.jsonl")} if name == "contrast_file" else {})))
    assert found >= {"keeps_groups_apart", "is_the_same_in_another_process", "exchanges_answers_in_its_control"}
    assert ("follows_its_files_in_its_identity" in found) == (name == "contrast_file")


@pytest.mark.parametrize("name", names("evaluation"))
def test_evaluations(name: str) -> None:
    found = held(check_evaluation(name, **EVALUATIONS.get(name, {})))
    assert found >= {"does_not_mind_the_size_of_blocks", "does_not_remember", "needs_what_it_says"}
    assert ("does_not_mind_the_order_of_documents" in found) == (
        name not in ("sparse_probing", "drift", "hierarchy")  # they draw documents, or new places for them
    )


TASKS: dict[str, dict[str, Any]] = {"training_convergence": {"families": ["small", "kin"]}}


@pytest.mark.parametrize("name", names("task"))
def test_tasks(name: str) -> None:
    findings = check_task(name, **TASKS.get(name, {}))
    not_checked = {finding.check for finding in findings if finding.outcome == "not checked"}
    needs = load_catalog().needs("task", name, TASKS.get(name, {}))
    assert held(findings)
    # A constant value does stay where nothing is to change it.
    assert not_checked == ({"does_not_reward_a_constant"} if needs == ("rows",) else set())


def test_tokenizers_that_cut_otherwise_have_other_hashes(tmp_path: Path) -> None:
    folder = save_tiny_language_model("llama", tmp_path)
    models = [harness.create("model", "hf", path=str(folder)), harness.create("model", "packaged", name="minilm-l6")]
    assert len({model.tokenizer_hash for model in models}) == 2


@pytest.fixture
def acme(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's module, as pytest would import it beside its tests."""
    monkeypatch.syspath_prepend(_EXTERNAL_PLUGIN)
    import acme_decompositions.axes
    import acme_decompositions.norms

    yield acme_decompositions
    for name in [name for name in sys.modules if name.startswith("acme_decompositions")]:
        del sys.modules[name]


def test_the_example_distribution(acme: Any) -> None:
    raise_problems(check_method(lambda: acme.axes.Axes(acme.AxesConfig(k=3))))
    raise_problems(check_similarity(lambda: acme.norms.Norms(None)))


def test_parameters_that_need_larger_rows_get_them() -> None:
    """64 components can't be had from rows of width 24."""
    raise_problems(check_method("pca", n_components=64))


def test_the_catalog_is_left_as_it_was() -> None:
    assert not any(entry.is_file for entry in load_catalog().entries.values())
