"""Latent matching on dictionaries whose best matching is known, or can be found by trying all."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import harness
from plugins import assignment


class Stub(harness.Decomposition):
    def __init__(self, dictionary: Tensor | None, signed: bool = True) -> None:
        self.dictionary, self.signed = dictionary, signed

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values


METRIC = harness.create("similarity", "latent_matching")


def random(m: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(m, d, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(0, 1000))
def test_equals_the_best_of_all_matchings(m: int, q: int, d: int, signed: bool, seed: int) -> None:
    a, b = random(m, d, seed), random(q, d, seed + 1)
    small, large = sorted((a.double().numpy(), b.double().numpy()), key=len)
    cosines = np.array([[x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in large] for x in small])
    cosines = np.abs(cosines) if signed else cosines
    best = max(
        np.mean([cosines[i, j] for i, j in enumerate(p)]) for p in itertools.permutations(range(len(large)), len(small))
    )
    found = METRIC(Stub(a, signed), Stub(b, signed))
    assert found == pytest.approx(best, abs=1e-9)
    assert found == pytest.approx(METRIC(Stub(b, signed), Stub(a, signed)), abs=1e-9)


def test_order_length_and_for_signed_codes_sign_do_not_matter() -> None:
    a = random(40, 8)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    b = a[order] * torch.linspace(0.1, 9, 40)[:, None]
    assert METRIC(Stub(a, False), Stub(b, False)) == pytest.approx(1)
    flipped = b * torch.where(torch.arange(40) % 2 == 0, 1, -1)[:, None]
    assert METRIC(Stub(a), Stub(flipped)) == pytest.approx(1)
    assert METRIC(Stub(a, False), Stub(flipped, False)) < 0.9


def test_a_latent_is_matched_once() -> None:
    """The best cosine of each would be 1 here."""
    a = torch.tensor([[1.0, 0], [1, 0], [1, 0]])
    assert METRIC(Stub(a), Stub(torch.tensor([[1.0, 0], [0, 1], [0, 1]]))) == pytest.approx(1 / 3)


def test_chance_is_what_unrelated_dictionaries_have() -> None:
    a, b = Stub(random(200, 16, 3), False), Stub(random(150, 16, 4), False)
    assert METRIC(a, b) == pytest.approx(METRIC.chance(a, b), abs=0.02) and METRIC.chance(a, b) > 0.5
    assert METRIC.chance(a, b) == METRIC.chance(a, b)


def test_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    a = Stub(random(3, 4))
    with pytest.raises(harness.Undefined, match="the widths differ: 4 and 5"):
        METRIC(a, Stub(random(3, 5)))
    with pytest.raises(harness.Undefined, match="b has no latents"):
        METRIC(a, Stub(torch.empty(0, 4)))
    with pytest.raises(harness.Undefined, match="2 of 3 latents of a have a dictionary row of norm 0"):
        METRIC(Stub(torch.eye(4)[:3] * torch.tensor([[0.0], [1], [0]])), a)
    with pytest.raises(harness.ConfigError, match=r"b \(Stub\) has no dictionary"):
        METRIC(a, Stub(None))
    monkeypatch.setattr(assignment, "MAX_SIDE", 2)
    with pytest.raises(harness.Undefined, match="3 latents; an optimal assignment takes up to 2"):
        METRIC(a, a)


def test_a_machine_without_scipy_is_told_what_to_do() -> None:
    code = """if True:
        import sys
        sys.modules["scipy"] = sys.modules["scipy.optimize"] = None
        import numpy as np, harness
        from plugins.assignment import optimal_assignment
        try:
            optimal_assignment(np.eye(2))
        except harness.ConfigError as error:
            assert "pip install scipy" in str(error)
        else:
            sys.exit(1)
    """
    subprocess.run([sys.executable, "-c", code], check=True)
