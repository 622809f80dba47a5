"""The meaning of a parameter stands below it in the source, and is there for whoever asks."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Literal

import pytest

import harness
from harness.registry.meanings import meanings
from harness.registry.parameters import describe

SENTENCE = re.compile(r"[A-Z`0-9].*\w.*[.]", re.DOTALL)


def lacking(config: type) -> list[str]:
    """The parameters whose meaning is not one sentence at least."""
    described = describe(config)
    return [
        parameter["name"]
        for parameter in described
        if not SENTENCE.fullmatch(parameter["meaning"]) or len(parameter["meaning"].split()) < 3
    ]


@pytest.mark.parametrize("spec", harness.catalog(), ids=lambda spec: f"{spec.kind}/{spec.name}")
def test_every_parameter_of_a_built_in_has_a_meaning(spec: harness.PluginSpec) -> None:
    if spec.config is not None:
        assert lacking(spec.config) == []
        assert "Args:" not in str(spec.config.__doc__)


@dataclass
class Base:
    """Parameters."""

    n_latents: int
    """How many latents
    there are."""
    bare: int = 3
    said: str = "x"  # not here
    fragment: bool = False
    """how many"""


@dataclass
class Derived(Base):
    """More parameters.

    Args:
        bare: is not explained here.
    """

    n_latents: int = 8
    k: int | None = None
    """Codes of a row; null keeps all."""
    said: Literal["x", "y"] = "y"
    """Which side is taken."""
    sides: tuple[float | None, ...] = (0.5, None)
    """The sides, in order."""
    made: dict[str, bool] = field(default_factory=lambda: {"on": True})
    """Rows are made of it."""
    hidden: int = field(default=0, init=False)


def test_one_without_a_meaning_is_noticed() -> None:
    assert lacking(Base) == ["bare", "said", "fragment"]
    assert lacking(Derived) == ["bare", "fragment"]


def test_a_parameter_is_described_as_it_is_written_in_a_suite() -> None:
    described = {parameter.pop("name"): parameter for parameter in describe(Derived)}
    assert list(described) == ["n_latents", "bare", "said", "fragment", "k", "sides", "made"]
    assert described["n_latents"] == {"type": "int", "default": "8", "meaning": "How many latents there are."}
    assert described["bare"] == {"type": "int", "default": "3", "meaning": ""}
    assert described["k"] == {"type": "int | null", "default": "null", "meaning": "Codes of a row; null keeps all."}
    assert described["said"] == {"type": "'x' | 'y'", "default": "'y'", "meaning": "Which side is taken."}
    assert described["sides"]["default"] == "[0.5, null]" and described["made"]["default"] == "{on: true}"
    assert describe(Base)[0]["default"] == "required"


def test_without_a_source_there_is_no_meaning_and_no_failure() -> None:
    made = make_dataclass("Made", [("k", int, dataclasses.field(default=1))])
    assert meanings(made) == {}
    assert describe(made) == [{"name": "k", "type": "int", "default": "1", "meaning": ""}]
    typed: dict[str, Any] = {"__name__": "__main__"}  # as in a console
    exec("import dataclasses\n@dataclasses.dataclass\nclass Config:\n    k: int = 1\n    'Which.'\n", typed)
    assert describe(typed["Config"])[0]["meaning"] == ""
