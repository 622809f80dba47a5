"""Results of single sides are computed once, and dropped where there is no room."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import harness
from harness.comparing.sides import SideKey, Sides


def _key(view: str) -> SideKey:
    return SideKey("of_side", "metric", view, None, b"")


def test_the_longest_unused_makes_room() -> None:
    sides, asked = Sides(max_bytes=3 * 8), Counter[str]()

    def of(name: str) -> Any:
        def find() -> torch.Tensor:
            asked[name] += 1
            return torch.full((1,), float(ord(name)), dtype=torch.float64)

        return sides.of(_key(name), find).item()

    for name in "abcabcabdabd":
        assert of(name) == ord(name)
    assert asked == {"a": 1, "b": 1, "c": 1, "d": 1}
    of("c")
    assert asked["c"] == 2


def test_what_is_too_large_to_keep_is_still_given() -> None:
    assert len(Sides(max_bytes=1).of(_key("a"), lambda: (torch.zeros(9), torch.zeros(9)))) == 2


@pytest.mark.parametrize(("name", "params"), [("mutual_knn", {}), ("mutual_knn", {"centre": True}), ("rsa", {})])
def test_a_value_from_its_sides_is_the_value(name: str, params: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 5, generator=generator)
    x[40:60] = x[:20]  # ties
    y = x[:, :3] + torch.randn(100, 3, generator=generator)
    metric = harness.create("similarity", name, **params)
    assert metric.of_sides(metric.of_side("x", x), metric.of_side("y", y)) == metric(x, y)
    with pytest.raises(harness.Undefined, match="rows of y"):
        metric.of_side("y", torch.full_like(y, float("nan")))
