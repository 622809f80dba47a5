"""Every built-in plugin, and the example distribution, keeps what its kind promises."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.registry.plugin_manager import load_catalog
from harness.testing import check_method, check_scorer, check_similarity, raise_problems

_QUICK = {"n_latents": 32, "passes": 2, "batch_rows": 100}
METHODS: dict[str, dict[str, Any]] = {
    "itda": {"k": 3, "max_atoms": 40},
    "itda_paper": {"k": 3, "max_atoms": 40, "threshold": 2e-3},
    "kmeans": {"n_latents": 12, "k": 3},
    "random_dictionary": {"n_latents": 32, "k": 3},
    "pca": {"n_components": 6},
    "ica": {"n_components": 6},
    "topk_sae": {**_QUICK, "k": 4},
    "batch_topk_sae": {**_QUICK, "k": 4},
    "matryoshka_sae": {**_QUICK, "k": 4, "group_shares": [0.5, 0.5]},
    "relu_sae": {**_QUICK, "target_l0": 4.0},
    "gated_sae": {**_QUICK, "target_l0": 4.0},
    "jumprelu_sae": {**_QUICK, "target_l0": 4.0},
    "untrained_sae": {"n_latents": 32, "k": 4},
}
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
