"""Protocols of similarities: which built-ins keep which, as mypy and the engine see it."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest

import harness
from tests.contracts.built_in_similarities import ABILITIES, SIMILARITIES

FORMS: dict[str, list[dict[str, Any]]] = {
    "cka": [{}, {"kernel": "rbf"}, {"estimator": "minibatch"}],
    "svcca": [{}, {"variance": 1.0}],
    "relative": [{}, {"compare": "rank"}],
    "latent_matching": [{}, {"by": "activation"}],
}
METRICS = [harness.create("similarity", name, **form) for name in SIMILARITIES for form in FORMS.get(name, [{}])]


def test_every_built_in_is_assigned_to_a_protocol() -> None:
    for spec in harness.catalog("similarity"):
        module, attribute = str(spec.factory).split(":")
        assert getattr(importlib.import_module(module), attribute) is SIMILARITIES[spec.name]
    assert len(SIMILARITIES) == len(harness.catalog("similarity"))


def test_mypy_checks_the_assignments() -> None:
    settings = (Path(harness.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert "tests/contracts/built_in_similarities.py" in settings.split("[tool.mypy]")[1].split("\n[")[0]


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda ability: ability.__name__)
def test_the_built_ins_have_the_abilities_that_they_are_assigned_to_and_no_others(ability: type) -> None:
    assert {type(metric) for metric in METRICS if isinstance(metric, ability)} == set(ABILITIES[ability])


def test_what_says_that_it_streams_has_what_that_takes() -> None:
    assert {metric.streams for metric in METRICS} == {True, False}
    for metric in METRICS:
        assert isinstance(metric, harness.Similarity)
        assert metric.streams == isinstance(metric, harness.Streaming), metric


def test_the_engine_looks_for_no_ability_by_name() -> None:
    engine = Path(harness.__file__).parent
    files = [*(engine / "comparing").iterdir(), engine / "stages" / "similarity.py", engine / "testing/similarities.py"]
    names = {name for ability in ABILITIES for base in ability.__mro__ for name in vars(base) if name[0] != "_"}
    assert {"update", "anchors", "statistics", "of_side", "chance", "silent_share_a"} <= names
    calls = [
        (path.name, node.lineno, {arg.value for arg in node.args if isinstance(arg, ast.Constant)})
        for path in files
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "hasattr")
    ]
    # Whether what every similarity has to say is there, the kit asks by name.
    assert {name for name, _, _ in calls} == {"similarities.py"}
    assert not [call for call in calls if call[2] & names]
