"""The published baselines: their quirks are there, and they are not the textbook metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import harness
from tests.support.representations import moved, related

NAMES = ("cka_itda_paper", "svcca_itda_paper", "relative_itda_paper")


def create(name):
    return harness.create("similarity", name)


def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Columns of unequal size in 20 directions that stand out, so that any good SVD in float32 finds just these."""
    generator = torch.Generator().manual_seed(9)

    def gaussian(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sources = gaussian(500, 20) * torch.linspace(1, 3, 20)
    sides = []
    for d in (30, 40):
        seen = torch.cat([(sources + gaussian(500, 20)), torch.zeros(500, d - 20)], dim=1)
        mixed = seen @ torch.linalg.qr(gaussian(d, d))[0] * torch.linspace(1, 4, d)
        sides.append(mixed + 1e-4 * gaussian(500, d) + 1)
    return tuple(sides)


def published_cka(x: np.ndarray, y: np.ndarray) -> float:
    x, y = ((side - side.mean(0)) / np.linalg.norm(side - side.mean(0), axis=0) for side in (x, y))
    return np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def published_svcca(x: np.ndarray, y: np.ndarray) -> float:
    sides = []
    for side in (x, y):
        u, s, _ = np.linalg.svd(side - side.mean(0), full_matrices=False)
        sides.append(u[:, :20] * s[:20])
    x, y = sides
    c = np.cov(np.concatenate(sides, axis=1), rowvar=False)
    xx, yy, xy = c[:20, :20], c[20:, 20:], c[:20, 20:]
    m = np.linalg.pinv(xx + 1e-12 * np.eye(20)) @ xy @ np.linalg.pinv(yy + 1e-12 * np.eye(20)) @ xy.T
    return np.sqrt(np.clip(np.linalg.eigvalsh(m, UPLO="L"), 0, None)).mean()


def published_relative(x: np.ndarray, y: np.ndarray) -> float:
    torch.manual_seed(42)
    anchors = torch.randperm(len(x))[:300].numpy()
    x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    a, b = x @ x[anchors].T, y @ y[anchors].T
    return np.mean((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))


@pytest.mark.parametrize("name", NAMES)
class TestEach:
    def test_equals_the_published_formula(self, name):
        x, y = pair()
        formula = {"cka": published_cka, "svcca": published_svcca, "relative": published_relative}[name.split("_")[0]]
        # float32, and for SVCCA eigenvalues of a matrix that is not symmetric, and a randomised SVD
        tolerance = 1e-3 if name.startswith("svcca") else 1e-5
        assert create(name)(x, y) == pytest.approx(formula(x.numpy(), y.numpy()), abs=tolerance)

    def test_is_float32_and_the_same_each_time(self, name):
        x, y = pair()
        state = torch.get_rng_state()
        value = create(name)(x, y)
        assert value == create(name)(x.float(), y.float())
        torch.manual_seed(5)
        assert value == create(name)(x, y)
        torch.set_rng_state(state)
        create(name)(x, y)
        assert torch.equal(torch.get_rng_state(), state)

    def test_invariant_to_what_it_claims(self, name):
        x, y = pair()
        s = create(name)
        for kind in s.invariant_to:
            changed = moved(x)[kind]
            assert s(changed, y) == pytest.approx(s(x, y), abs=2e-3), kind
            assert s(y, changed) == pytest.approx(s(y, x), abs=2e-3), kind

    def test_symmetric_only_where_it_says_so(self, name):
        x, y = pair()
        s = create(name)
        difference = abs(s(x, y) - s(y, x))
        assert difference < 1e-6 if s.symmetric else difference > 1e-3

    def test_only_the_first_rows_count(self, name):
        x = torch.randn(100_010, 21, generator=torch.Generator().manual_seed(0))
        y = torch.randn(100_010, 21, generator=torch.Generator().manual_seed(1))
        value = create(name)(x[:100_000], y[:100_000])
        assert create(name)(x, y) == value
        assert create(name)(x[10:], y[10:]) != value

    def test_what_has_no_value(self, name):
        x, y = pair()
        x = x.clone()
        x[3] = 0
        x[:, 5] = 0
        if name != "svcca_itda_paper":
            with pytest.raises(harness.Undefined, match="1 of"):
                create(name)(x, y)
        if name != "cka_itda_paper":
            with pytest.raises(harness.Undefined):
                create(name)(x[:19], y[:19])
        with pytest.raises(harness.Undefined, match="NaN"):
            create(name)(x * math.nan, y)


def test_cka_changes_with_a_rotation():
    """The textbook metric gives 1."""
    x = torch.randn(500, 30, generator=torch.Generator().manual_seed(0)) * torch.logspace(-1, 1, 30)
    rotated = moved(x)["orthogonal"]
    s = create("cka_itda_paper")
    assert s(x, x) == pytest.approx(1, abs=1e-5)
    assert "orthogonal" not in s.invariant_to and s(x, rotated) < 0.8
    assert harness.create("similarity", "cka")(x, rotated) == pytest.approx(1, abs=1e-5)


def test_svcca_exceeds_what_a_correlation_could_be():
    x, y = related(3000, 25, 25)
    m_is_symmetric = harness.create("similarity", "svcca", variance=1.0)(x, y)
    assert create("svcca_itda_paper")(x, y) > m_is_symmetric + 0.05


def test_cka_is_not_the_textbook_metric():
    x, y = pair()
    assert abs(create("cka_itda_paper")(x, y) - harness.create("similarity", "cka")(x, y)) > 0.01
