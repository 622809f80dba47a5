"""Areas under faithfulness, and agreement of effects, against formulas of their own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.circuits import minimal
from harness.circuits.attribution import Effects
from harness.circuits.faithfulness import Share, cmd, cpr, nodes_for_level
from harness.circuits.limits import SIZES


def curve(values: list[float]) -> dict[int, Share]:
    ones = np.array([1.0, 3.0])
    return {size: Share(value * ones, ones) for size, value in zip(SIZES, values, strict=True)}


def test_areas_are_over_log_sizes() -> None:
    values = list(np.random.default_rng(0).normal(0.8, 0.5, len(SIZES)))
    logs = np.log10(SIZES)
    assert cpr(curve(values)).value == pytest.approx(np.trapezoid(values, logs) / logs[-1])
    assert cmd(curve(values)) == pytest.approx(np.trapezoid(np.abs(1 - np.array(values)), logs) / logs[-1])
    assert cpr(curve(values)).value != pytest.approx(np.trapezoid(values, SIZES) / 499, abs=1e-3)


def test_what_overshoots_is_better_by_cpr_and_worse_by_cmd() -> None:
    right, over = ([0.0] * 3 + [value] * 6 for value in (1.0, 1.4))
    assert (cpr(curve(over)).value or 0) > (cpr(curve(right)).value or 0)
    assert (cmd(curve(over)) or 0) > (cmd(curve(right)) or 1)
    assert nodes_for_level(curve(right)) == 10 and nodes_for_level(curve([0.5] * 9)) is None


def test_the_order_is_that_of_exact_effects_among_the_strongest() -> None:
    attributed = torch.tensor([-3.0, -2.0, 1.0, -0.5, 0.2])
    found = Effects(attributed, torch.tensor([0, 1, 2]), torch.tensor([4]), {0: -1.0, 1: -4.0, 2: 0.5, 4: 0.1})
    assert found.order.tolist() == [1, 0, 3, 4, 2] and found.supporting == [1, 0]
    assert found.missed == pytest.approx(0.1)


def test_concordance_sees_what_a_correlation_does_not() -> None:
    """Lin's (1989) coefficient by his own formula, 1 − E(x − y)² / (s_x² + s_y² + (x̄ − ȳ)²)."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=40)
    for y in (x, 3 * x, x + 2, draw.normal(size=40)):
        found = Effects(torch.from_numpy(x), torch.arange(40), torch.arange(0), dict(enumerate(y)))
        expected = 1 - np.mean((x - y) ** 2) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
        assert found.concordance == pytest.approx(expected)
    assert Effects(torch.zeros(3), torch.arange(3), torch.arange(0), dict.fromkeys(range(3), 0.0)).concordance is None


def test_a_node_like_any_other_is_necessary_in_one_of_twenty_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    monkeypatch.setattr(minimal, "_value", lambda *_: draw.random())
    active = torch.ones(60, dtype=torch.bool)
    found = [minimal.necessity(None, [0], active, seed)[0] for seed in range(2000)]  # type: ignore[arg-type]
    # All are compared with one value, which they lie on either side of: effects are exchangeable.
    assert 0.035 < np.mean(found) < 0.065
