"""The class of a saved fit: named by its plugin, and found wherever it stands, as old fits and moved modules need."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import harness
from harness.contracts.saved_class import class_name, find_class
from tests.support.parts import Offset

X = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
METHODS = {
    "pca": ({"n_components": 3}, "PCADecomposition"),
    "mean": ({}, "MeanDecomposition"),
    "itda": ({"k": 2, "max_atoms": 300, "threshold": 0.5}, "ITDADecomposition"),
    "itda_paper": ({"k": 2, "max_atoms": 300}, "ITDADecomposition"),
    "random_dictionary": ({"n_latents": 6, "k": 2}, "PursuitDecomposition"),
    "kmeans": ({"n_latents": 6, "k": 2}, "PursuitDecomposition"),
    "topk_sae": ({"n_latents": 16, "k": 2, "passes": 1}, "TopKDecomposition"),
    "untrained_sae": ({"n_latents": 16, "k": 2}, "TopKDecomposition"),
    "matryoshka_sae": ({"n_latents": 32, "k": 2, "passes": 1}, "JumpReLUDecomposition"),
}


def _fit(method: str) -> harness.Decomposition:
    return harness.fit(harness.create("method", method, **METHODS[method][0]), X)


def _renamed(folder: Path, reference: str) -> str:
    """Puts another name of the class into a saved fit; the one that was there."""
    path = folder / "decomposition.json"
    description = json.loads(path.read_text())
    path.write_text(json.dumps(description | {"class": reference}))
    return str(description["class"])


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_names_its_plugin_and_older_names_are_read(method: str, tmp_path: Path) -> None:
    fitted, name = _fit(method), METHODS[method][1]
    module = type(fitted).__module__.removeprefix("harness.")
    fitted.save(tmp_path, method)
    references = [
        f"method/{method}:{name}",
        f"harness.{module}:{name}",
        f"{module}:{name}",  # as before the package was part of harness
        f"harness.plugins.methods.moved_since:{name}",
        f"plugins.methods.package_of_old.part:{name}",
    ]
    assert _renamed(tmp_path, references[0]) == references[0]
    for reference in references:
        _renamed(tmp_path, reference)
        back = harness.load(tmp_path)
        assert type(back) is type(fitted), reference
        assert torch.equal(back.decode(back.encode(X)), fitted.decode(fitted.encode(X)))


def test_a_fit_that_was_stored_before_is_read(tmp_path: Path) -> None:
    """Byte for byte as older versions wrote it."""
    components, mean = torch.eye(3, 4), torch.tensor([1.0, 2, 3, 4], dtype=torch.float64)
    tensors = {"state.dictionary": components, "state.mean": mean, "state.variances": torch.ones(3)}
    save_file(tensors, tmp_path / "decomposition.safetensors")
    (tmp_path / "decomposition.json").write_text(
        '{"format": 1, "class": "plugins.methods.pca:PCADecomposition", "config": {"k": null}, '
        '"tokenizer_hash": "abc", "documents": {}}'
    )
    back = harness.load(tmp_path)
    assert repr(back) == "PCADecomposition(n_latents=3, width=4, signed=True)" and back.tokenizer_hash == "abc"
    x = torch.tensor([[2.0, 4, 6, 8]])
    assert back.encode(x).to_dense().tolist() == [[1, 2, 3]] and back.decode(back.encode(x)).tolist() == [[2, 4, 6, 4]]


def test_where_several_methods_share_a_class_the_maker_is_named() -> None:
    cls = type(_fit("kmeans"))
    _fit("random_dictionary")
    assert {class_name(cls, name) for name in ("kmeans", "random_dictionary")} == {
        "method/kmeans:PursuitDecomposition",
        "method/random_dictionary:PursuitDecomposition",
    }
    assert find_class(class_name(cls)) is cls  # made by neither: any of those that know it leads there
    assert class_name(cls, "pca") == class_name(cls)  # which does not know it
    assert class_name(type(_fit("pca"))) == "method/pca:PCADecomposition"


def test_a_class_of_no_plugin_is_named_by_its_module(tmp_path: Path) -> None:
    Offset(torch.ones(8)).save(tmp_path)
    assert _renamed(tmp_path, "method/pca:Offset") == "tests.support.parts:Offset"
    with pytest.raises(harness.StoreError, match=r"needs Offset of method/pca, which can't be found"):
        harness.load(tmp_path)


def test_a_class_of_a_built_in_has_a_name_of_its_own() -> None:
    """Else a fit whose module has moved could be read as another class."""
    for method in METHODS:
        _fit(method)
    modules = defaultdict(set)
    classes = [harness.Decomposition]
    while classes:
        classes += (cls := classes.pop()).__subclasses__()
        if cls.__module__.startswith("harness.plugins."):
            modules[cls.__name__].add(cls.__module__)
    assert len(modules) >= 8 and [name for name, places in modules.items() if len(places) > 1] == []
