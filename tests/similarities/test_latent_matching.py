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
from scipy.optimize import linear_sum_assignment
from torch import Tensor

import harness
from harness.plugins import assignment


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
        from harness.plugins.assignment import optimal_assignment
        try:
            optimal_assignment(np.eye(2))
        except harness.ConfigError as error:
            assert "pip install scipy" in str(error)
        else:
            sys.exit(1)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


class Encoder(harness.Decomposition):
    """Codes are the rows, or their largest entries as a sparse method would give them."""

    def __init__(self, m: int, k: int | None = None, signed: bool = True) -> None:
        self.dictionary, self.k, self.signed = torch.eye(m), k, signed

    def encode(self, x: Tensor) -> harness.Codes:
        if self.k is None:
            return harness.Codes(x)
        values, indices = x.relu().topk(self.k, dim=1)
        halves = torch.cat([values / 2, values / 2], dim=1)  # a latent may come twice
        return harness.Codes(halves, torch.cat([indices, indices], dim=1), x.shape[1])

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.to_dense()


ACTIVATION = harness.create("similarity", "latent_matching", by="activation")


def correlated(n: int = 1300, m_a: int = 12, m_b: int = 9) -> tuple[Tensor, Tensor]:
    """Rows of two sites that say some of the same; one of them far from the origin."""
    x = random(n, m_a)
    return x, x @ random(m_a, m_b, 1) + 2 * random(n, m_b, 2) + 300


def by_hand(codes_a: Tensor, codes_b: Tensor, signed: bool) -> float:
    a, b = (codes.double().numpy() for codes in (codes_a, codes_b))
    matrix = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    matrix = np.abs(matrix) if signed else matrix
    return float(matrix[linear_sum_assignment(-matrix)].mean())


@pytest.mark.parametrize("k", [None, 4])
@pytest.mark.parametrize("signed", [True, False])
def test_activations_equal_numpy_and_scipy(k: int | None, signed: bool) -> None:
    x, y = correlated()
    a, b = Encoder(12, k, signed), Encoder(9, k, False)
    codes = [side.encode(rows).to_dense(m) for side, rows, m in ((a, x, 12), (b, y, 9))]
    found = ACTIVATION(a, b, x, y)
    assert found == pytest.approx(by_hand(*codes, signed), abs=1e-9)
    assert found == pytest.approx(ACTIVATION(b, a, y, x), abs=1e-9)
    assert ACTIVATION(a, b, x, y[random(len(y), 1).flatten().argsort()]) < found - 0.05


def test_the_order_and_scale_of_latents_do_not_matter() -> None:
    x, y = correlated()
    order = torch.tensor([3, 1, 8, 0, 2, 7, 5, 4, 6])
    moved = y[:, order] * torch.linspace(0.1, 7, 9) + 5
    a, b = Encoder(12), Encoder(9)
    assert ACTIVATION(a, b, x, moved) == pytest.approx(ACTIVATION(a, b, x, y), abs=1e-5)
    assert ACTIVATION(a, a, x, -x.flip(1)) == pytest.approx(1)
    unsigned = Encoder(12, signed=False)
    assert ACTIVATION(unsigned, unsigned, x, -x) < 0.2


class InPlace(Encoder):
    """Writes into the rows that it is given."""

    def encode(self, x: Tensor) -> harness.Codes:
        x -= 3
        return harness.Codes((2 * x - 2).relu())


def test_rows_are_lent_to_an_encoder_that_writes_into_them() -> None:
    x = 3 * random(1300, 12)
    kept = x.clone()
    writes, reads = InPlace(12), Encoder(12, signed=False)
    assert ACTIVATION(writes, writes, x, x) == pytest.approx(1)
    as_if_cloned = ACTIVATION(reads, reads, (2 * (x - 3) - 2).relu(), x)
    assert ACTIVATION(writes, reads, x, x) == pytest.approx(as_if_cloned)
    assert ACTIVATION.silent_share_a(writes, reads, x, x) < 1
    assert torch.equal(x, kept)


def test_latents_that_do_not_vary_are_left_out_and_counted() -> None:
    x, y = correlated()
    silent = torch.zeros(len(x), 4)
    constant = torch.full((len(x), 2), 0.1)
    a, b = Encoder(18), Encoder(9)
    wide = torch.cat([silent, x, constant], dim=1)
    assert ACTIVATION(a, b, wide, y) == ACTIVATION(Encoder(12), b, x, y)
    assert ACTIVATION.silent_share_a(a, b, wide, y) == pytest.approx(6 / 18)
    assert ACTIVATION.silent_share_b(a, b, wide, y) == 0
    with pytest.raises(harness.Undefined, match="none of the 4 latents of b varies over the 1300 rows"):
        ACTIVATION(a, Encoder(4), wide, silent)
    assert ACTIVATION.silent_share_b(a, Encoder(4), wide, silent) == 1


def test_activations_without_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    a, x = Encoder(12), random(30, 12)
    with pytest.raises(harness.Undefined, match="b has no latents"):
        ACTIVATION(a, Stub(torch.empty(0, 12)), x, x)
    with pytest.raises(harness.Undefined, match="no rows"):
        ACTIVATION(a, a, x[:0], x[:0])
    with pytest.raises(harness.ConfigError, match="x has 30 rows, y has 29"):
        ACTIVATION(a, a, x, x[1:])
    with pytest.raises(harness.PluginError, match=r"Encoder\.encode returned NaN"):
        ACTIVATION(a, a, x, torch.where(x > 2, torch.nan, x))
    monkeypatch.setattr(assignment, "MAX_SIDE", 2)
    with pytest.raises(harness.Undefined, match="12 latents; an optimal assignment takes up to 2"):
        ACTIVATION(a, a, x, x)
