"""The models of conf/model/, composed and planned without the hub."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

from harness.planning.config import compose
from harness.planning.plan import Plan, build_plan

PRESETS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "model").glob("*.yaml"))
FAMILIES = "pythia pythia-deduped gpt2 crfm-gpt2 gemma-2 gemma-3 llama-3 qwen2.5 qwen3 smollm2 minilm seedling"


@pytest.fixture(scope="module")
def plan() -> Plan:
    """One suite with all of them, each read at its first block and at one that only deep models have."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a plan reached for the network")

    models = ", ".join(f"{{preset: {name}, sites: [resid_post.0, resid_post.30]}}" for name in PRESETS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "socket", refuse)
        patch.setenv("HF_HUB_OFFLINE", "1")
        suite, _ = compose(["suite=smoke", "similarities=[]", f"models=[{models}]"])
        return build_plan(suite)


def test_every_preset_composes_and_plans(plan: Plan) -> None:
    models = plan.suite.models
    assert [model.label for model in models] == PRESETS
    assert {model.family for model in models} == set(FAMILIES.split())
    paths = [model.entry.params["path"] for model in models if model.entry.name == "hf"]
    assert len(set(paths)) == len(paths) > 50
    assert all(re.fullmatch(r"[\w-]+/[\w.-]+", path) for path in paths)


def test_sites_are_checked_and_disk_is_known_before_any_download(plan: Plan) -> None:
    captures = plan.of_kind("capture")
    assert len(captures) == 2 * 3 * len(PRESETS)  # sites and splits
    n_layers = {model.label: model.shape["n_layers"] for model in plan.suite.models if model.shape}
    assert len(n_layers) == len(PRESETS)
    for cell in captures:
        is_there = cell.columns["site"] == "resid_post.0" or n_layers[cell.columns["model"]] > 30
        assert (cell.skipped is None) == is_there, cell.label
    assert {cell.skipped is None for cell in captures if cell.columns["site"] == "resid_post.30"} == {True, False}


def test_shapes_fit_the_sizes_in_the_names(plan: Plan) -> None:
    """A transformer's blocks hold about 12·layers·width² weights; the rest are embeddings."""
    for model in plan.suite.models:
        size = re.search(r"-([\d.]+)([mb])\b", model.label)
        if size and model.shape:
            n_weights = 12 * model.shape["n_layers"] * model.shape["width"] ** 2
            assert 0.25 < n_weights / (float(size[1]) * {"m": 1e6, "b": 1e9}[size[2]]) < 1.1, model.label


def test_the_name_of_a_preset_tells_its_model(plan: Plan) -> None:
    """Sizes and seeds of the file's name occur in the hub id."""
    for model in plan.suite.models:
        if model.entry.name == "hf":
            path = model.entry.params["path"].lower()
            sizes = re.findall(r"\d+(?:\.\d+)?[bm]\b|x\d+|medium|large|xl", model.label)
            assert all(re.search(rf"{re.escape(size)}\b", path) for size in sizes), model.label


SUITES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "suite").glob("*.yaml"))


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_composes_and_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    suite, _ = compose([f"suite={name}"])
    if suite.tasks:  # with all that such a suite compares it has a hundred thousand cells
        fewer = ["similarities=[cka,jaccard]", "methods=[{method: itda, k: 16, max_atoms: 64}]"]
        suite, _ = compose([f"suite={name}", *fewer])
    plan = build_plan(suite)
    assert plan.of_kind("task") or plan.of_kind("evaluation") or plan.of_kind("similarity")
    assert all(cell.skipped is None or "needs atoms" in cell.skipped for cell in plan.cells.values())
