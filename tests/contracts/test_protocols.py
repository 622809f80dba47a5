"""Protocols of plugins: which built-ins keep which, and that the engine looks for abilities by them alone."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.contracts.judge import methods_of
from harness.contracts.scorer import also_of, range_of
from harness.contracts.similarity import Similarity
from tests.contracts import built_ins
from tests.contracts.built_ins import ABLE, BUILT_INS

ENGINE = Path(harness.__file__).parent
REFERENCE = ENGINE.parent / "docs" / "reference" / "contracts.md"
GIVEN = [
    value
    for value in (getattr(harness, name) for name in harness.__all__)
    if (dataclasses.is_dataclass(value) or hasattr(value, "_fields"))
    and value.__module__.startswith(("harness.contracts.", "harness.registry.metric"))
]
"""Data classes that plugins are given or give."""
PROTOCOLS = [
    value for value in (getattr(harness, name) for name in harness.__all__) if getattr(value, "_is_protocol", False)
]
KINDS = (harness.Learner, harness.Scorer, harness.Explainer, harness.Task, harness.Model, Similarity)
ABILITIES = [protocol for protocol in PROTOCOLS if getattr(protocol, "_is_runtime_protocol", False)]


def _members(protocol: type) -> set[str]:
    """The members of a Protocol, those that it inherits too."""
    own = [base for base in protocol.__mro__ if getattr(base, "_is_protocol", False)]
    names = {name for base in own for name in (*vars(base), *vars(base).get("__annotations__", ()))}
    return {name for name in names if not name.startswith("_") or name == "__call__"}


def _made(factory: Any) -> tuple[type, ...]:
    """The classes of what a factory makes, one or the other by its parameters."""
    made = factory if isinstance(factory, type) else typing.get_type_hints(factory)["return"]
    return (made,) if isinstance(made, type) else typing.get_args(made)


def _has(factory: Any, ability: type) -> bool:
    return any(all(hasattr(made, name) for name in _members(ability)) for made in _made(factory))


@pytest.mark.parametrize("kind", BUILT_INS)
def test_every_built_in_is_assigned_to_its_protocol(kind: str) -> None:
    assert [spec.name for spec in harness.catalog(kind)] == list(BUILT_INS[kind])
    for spec in harness.catalog(kind):
        module, attribute = str(spec.factory).split(":")
        assert getattr(importlib.import_module(module), attribute) is BUILT_INS[kind][spec.name], spec.name


@pytest.mark.parametrize(("kind", "ability"), [(kind, ability) for kind, of in ABLE.items() for ability in of])
def test_the_built_ins_have_the_abilities_that_they_are_assigned_to_and_no_others(kind: str, ability: type) -> None:
    assert set(ABLE[kind][ability]) == {name for name, factory in BUILT_INS[kind].items() if _has(factory, ability)}
    for name, factory in ABLE[kind][ability].items():
        assert set(_made(factory)) <= set(_made(BUILT_INS[kind][name]))


def test_mypy_checks_the_assignments() -> None:
    """The wrong ones at the end of the file are exempted one by one, and an exemption without need is an error."""
    settings = tomllib.loads((ENGINE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mypy"]
    assert settings["strict"] and {"harness", "tests/contracts/built_ins.py"} <= set(settings["files"])
    source = Path(built_ins.__file__).read_text(encoding="utf-8")
    exempted = [line for line in source.splitlines() if "type: ignore" in line]
    assert len(exempted) == 3 and all(line.startswith("WRONG_") for line in exempted)
    assert (ENGINE / "plugins" / "methods").is_dir()  # a link, which mypy follows


def test_the_engine_looks_for_no_ability_by_name() -> None:
    wanted = {name for protocol in ABILITIES for name in _members(protocol)}
    wanted -= {name for protocol in KINDS for name in _members(protocol)}  # of these the kit says which are missing
    assert {"stored_capture", "replay", "truth", "unembed", "resumable", "stack_key", "also", "choose"} <= wanted
    found = []
    for path in sorted(ENGINE.rglob("*.py")):
        if "plugins" in path.relative_to(ENGINE).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) > 1):
                continue
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else None
            if node.func.id in ("hasattr", "getattr") and name in wanted:
                found.append(f"{path.name}:{node.lineno} looks for {name}")
    assert not found


def test_no_ability_asks_for_more_than_its_own_members() -> None:
    """A look at an ability evaluates the properties of its Protocol, so those of a model must not be among them."""
    for ability in ABLE["model"]:
        assert all(inspect.isfunction(inspect.getattr_static(ability, name)) for name in _members(ability)), ability


class _Costly:
    """A model whose width takes long to find, and may not be there."""

    n_layers = 1
    tokenizer_hash = "none"

    @property
    def width(self) -> int:
        raise harness.Undefined("asked for its width")

    def truth(self, rows: Any) -> Any: ...

    def stored_capture(self, sites: Any) -> Any: ...


def test_a_look_for_an_ability_evaluates_no_property_of_a_model() -> None:
    model = _Costly()
    assert isinstance(model, harness.KnowsTruth) and isinstance(model, harness.HasOwnRows)
    for absent in (harness.RunsTexts, harness.HasHead, harness.HasUnembedding):
        assert not isinstance(model, absent)


class _Scorer:
    metric = "auroc"
    chance = 0.5

    def plan(self, latent: Any) -> list[harness.Embed]:
        return []

    def reduce(self, latent: Any, requests: Any, responses: Any) -> list[harness.TableRow]:
        return []


class _Unbounded(_Scorer):
    @property
    def range(self) -> tuple[float, float]:
        return -1.0, 2.0

    @property
    def also(self) -> dict[str, tuple[float, float]]:
        return {"words": (0.0, float("inf"))}


def test_a_scorer_without_a_range_gives_a_share() -> None:
    assert range_of(_Scorer()) == (0.0, 1.0) and also_of(_Scorer()) == {}
    assert range_of(_Unbounded()) == (-1.0, 2.0) and also_of(_Unbounded()) == {"words": (0.0, float("inf"))}


class _Writer:
    def generate(self, requests: Any) -> list[str]:
        return ["yes" for _ in requests]


def test_a_judge_is_asked_by_the_methods_that_it_has() -> None:
    methods = methods_of(_Writer())
    assert list(methods) == ["generate"] and list(methods["generate"]([1, 2])) == ["yes", "yes"]
    assert methods_of(object()) == {}
    assert isinstance(_Writer(), harness.Judge) and not isinstance(_Scorer(), harness.Judge)


@pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.__name__)
def test_protocols_say_what_each_member_is(protocol: type) -> None:
    assert protocol.__doc__ and not protocol.__doc__.startswith("Protocol for")
    assert f"\n### {protocol.__name__}" in REFERENCE.read_text(encoding="utf-8")
    for name in _members(protocol):
        member = inspect.getattr_static(protocol, name)
        assert inspect.getdoc(getattr(member, "__func__", member)), f"{protocol.__name__}.{name}"


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: given.__name__)
def test_the_reference_says_what_each_field_is(given: type) -> None:
    _, _, rest = REFERENCE.read_text(encoding="utf-8").partition(f"\n### {given.__name__}\n")
    section = rest.partition("\n### ")[0].partition("\n## ")[0]
    names = getattr(given, "_fields", None) or [field.name for field in dataclasses.fields(given)]
    assert names
    for name in names:
        assert re.search(rf"^- `{name}: [^\n]+`: \S", section, re.MULTILINE), f"{given.__name__}.{name}"


def test_the_reference_has_every_public_name_of_the_contracts() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    stub = ast.parse((ENGINE / "__init__.pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports for alias in node.names if str(node.module).startswith("harness.contracts")]
    assert {"Learner", "EvaluationContext", "make_rows", "Request", "SITE_KINDS"} <= set(names)
    assert not [name for name in names if not re.search(rf"^(### {name}\b|- `{name}[( ])", text, re.MULTILINE)]
