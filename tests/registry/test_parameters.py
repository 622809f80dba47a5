"""Parameters against config dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import harness
from harness.registry.parameters import build, field_types, type_name


@dataclass
class Optimiser:
    name: Literal["adam", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass
class Config:
    k: int
    threshold: float = 0.2
    centre: bool = False
    source: Literal["rows", "gaussian"] = "rows"
    n_components: int | None = None
    widths: list[int] = field(default_factory=list)
    anchors: int | list[int] = 0
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Optimiser | None = None
    extra: dict[str, int] = field(default_factory=dict)
    derived: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}; give at least 1.")


@dataclass
class Sided:
    side: Literal[0, 1] = 0


def problems(**params: Any) -> list[str]:
    with pytest.raises(harness.ConfigError) as caught:
        build(Config, params, "methods[0]")
    return caught.value.problems


def test_values_that_fit_are_taken() -> None:
    config = build(
        Config,
        {
            "k": 3,
            "threshold": 1,
            "n_components": None,
            "widths": [1, 2],
            "anchors": [5],
            "optimiser": {"name": "sgd", "betas": [0, 1]},
            "schedule": {},
        },
    )
    assert config == Config(
        k=3, threshold=1.0, widths=[1, 2], anchors=[5], optimiser=Optimiser("sgd", (0.0, 1.0)), schedule=Optimiser()
    )
    assert type(config.threshold) is float
    assert type(config.optimiser.betas) is tuple


def test_every_problem_is_reported_at_once_with_its_full_key() -> None:
    assert problems(
        threshhold=0.1,
        centre="yes",
        source="row",
        widths=[1, "2"],
        optimiser={"betas": [0.9], "nam": "adam"},
        schedule={"name": "adm"},
    ) == [
        "methods[0].threshhold: unknown key. Did you mean 'threshold'? "
        "Valid: anchors, centre, extra, k, n_components, optimiser, schedule, source, threshold, widths.",
        "methods[0].centre: 'yes' is not of type bool.",
        "methods[0].source: 'row' is not a choice. Did you mean 'rows'? Valid: gaussian, rows.",
        "methods[0].widths: item 1: '2' is not of type int.",
        "methods[0].optimiser.betas: [0.9] has 1 items, not 2.",
        "methods[0].optimiser.nam: unknown key. Did you mean 'name'? Valid: betas, name.",
        "methods[0].schedule.name: 'adm' is not a choice. Did you mean 'adam'? Valid: adam, sgd.",
        "methods[0].k: missing; it has no default (int).",
    ]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"k": True}, "k: True is not of type int."),
        ({"k": 1.0}, "k: 1.0 is not of type int."),
        ({"k": None}, "k: None is not of type int."),
        ({"k": 1, "threshold": "0.1"}, "threshold: '0.1' is not of type float."),
        ({"k": 1, "threshold": False}, "threshold: False is not of type float."),
        ({"k": 1, "threshold": float("nan")}, "threshold: nan is no finite number."),
        ({"k": 1, "threshold": float("-inf")}, "threshold: -inf is no finite number."),
        ({"k": 1, "centre": 1}, "centre: 1 is not of type bool."),
        ({"k": 1, "n_components": "all"}, "n_components: 'all' is not of type int | null."),
        ({"k": 1, "anchors": "abc"}, "anchors: 'abc' is not of type int | list[int]."),
        ({"k": 1, "widths": 3}, "widths: 3 is not a list; write [3]."),
        ({"k": 1, "widths": None}, "widths: None is not a list; write []."),
        ({"k": 1, "optimiser": "sgd"}, "optimiser: 'sgd' is not a mapping with the keys name, betas."),
        ({"k": 1, "extra": 3}, "extra: 3 is not a mapping."),
        ({"k": 1, "derived": 3}, "derived: unknown key. Valid: anchors, centre"),
    ],
)
def test_a_value_of_another_type_is_refused(params: dict[str, Any], expected: str) -> None:
    (problem,) = problems(**params)
    assert problem.startswith(f"methods[0].{expected}")


def test_a_check_of_the_config_itself_is_reported_in_its_own_words() -> None:
    assert problems(k=0) == ["methods[0]: k is 0; give at least 1."]


@pytest.mark.parametrize("indices", [np.array([2, 1]), torch.tensor([2, 1]), range(2, 0, -1), (2, 1)])
def test_arrays_are_lists_and_numpy_numbers_are_numbers(indices: Any) -> None:
    config = build(Config, {"k": np.int64(4), "threshold": np.float32(0.5), "anchors": indices})
    assert (config.k, config.threshold, config.anchors) == (4, 0.5, [2, 1])
    assert type(config.k) is int and type(config.threshold) is float
    assert all(type(index) is int for index in config.anchors)  # type: ignore[union-attr]


def test_one_bad_item_of_a_long_list_is_one_problem() -> None:
    assert problems(k=1, widths=[0.5] * 1000) == ["methods[0].widths: item 0: 0.5 is not of type int."]


def test_types_are_shown_as_users_write_them() -> None:
    shown = {name: type_name(annotation) for name, annotation in field_types(Config).items()}
    assert shown["n_components"] == "int | null"
    assert shown["source"] == "'rows' | 'gaussian'"
    assert shown["anchors"] == "int | list[int]"
    assert "derived" not in shown


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text() | st.none() | st.lists(st.integers())))
def test_any_mapping_gives_a_config_or_a_config_error(params: dict[str, Any]) -> None:
    try:
        assert build(Config, params).k == params["k"]
    except harness.ConfigError as error:
        assert error.problems


@pytest.mark.parametrize("value", [True, 1.0, "1", 2])
def test_a_choice_is_one_of_its_type(value: Any) -> None:
    assert build(Sided, {"side": 1}).side == 1
    with pytest.raises(harness.ConfigError, match=f"side: {value!r} is not a choice"):
        build(Sided, {"side": value})
