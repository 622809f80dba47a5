"""Tests of what similarities compute otherwise on a card: here on a CPU that is taken for one, and on a card itself."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import harness
from harness.plugins.similarities import float_moments, moments, pairings, spectra
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import JointMoments
from harness.plugins.similarities.spectra import Spectra

METRICS = ("cka", "svcca", "procrustes")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU computes as a card does."""
    for module in (float_moments, moments, pairings):
        monkeypatch.setattr(module, "multiplies_float64_quickly", lambda device: True)


def sites(device: str = "cpu", widths: tuple[int, ...] = (70, 80, 130)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3000, 130, generator=generator) * torch.arange(1, 131) ** -0.5
    made = {}
    for width in widths:
        x = x + 0.3 * torch.tanh(x @ torch.randn(130, 130, generator=generator))
        made[f"of width {width}"] = (x[:, :width] + 3).to(device)
    return made


def summed(rows: dict[str, torch.Tensor], kind: type[JointMoments], block_rows: int = 1024) -> JointMoments:
    joint = kind(list(itertools.combinations(rows, 2)))
    for start in range(0, 3000, block_rows):
        block = {name: x[start : start + block_rows] for name, x in rows.items()}
        joint.update(block, {name: torch.zeros(len(x), dtype=torch.bool, device=x.device) for name, x in block.items()})
    return joint


def values(rows: dict[str, torch.Tensor], kind: type[JointMoments], block_rows: int = 1024) -> list[float]:
    joint = summed(rows, kind, block_rows)
    metrics = [harness.create("similarity", name) for name in METRICS]
    found = [metric.compute_from(joint.pair(*pair)) for metric in metrics for pair in itertools.combinations(rows, 2)]
    return [value() if callable(value) else value for value in found]


def test_values_of_a_card_are_those_of_float64(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    rows = sites()
    exact = values(rows, JointMoments)
    request.getfixturevalue("card")
    monkeypatch.setattr(torch.linalg, "svd", None)  # nothing is done one by one
    for block_rows in (1024, 3000):
        assert values(rows, FloatMoments, block_rows) == pytest.approx(exact, abs=1e-9)


@pytest.mark.usefixtures("card")
def test_nothing_is_rounded_to_float32() -> None:
    rows = sites()
    joint = summed(rows, FloatMoments)
    assert all(joint.pair(*pair).is_exact for pair in itertools.combinations(rows, 2))


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("name", ["svcca", "procrustes"])
def test_pairs_wait_for_each_other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows, calls = sites(widths=(128, 129, 130)), []
    joint, metric = summed(rows, FloatMoments), harness.create("similarity", name)
    of_batch = torch.linalg.eigvalsh
    monkeypatch.setattr(torch.linalg, "eigvalsh", lambda grams: calls.append(len(grams)) or of_batch(grams))
    found = [metric.compute_from(joint.pair(*pair)) for pair in itertools.combinations(rows, 2)]
    assert not calls
    assert all(0 < value() < 1.6 for value in found)
    assert sum(calls) == 3 and len(calls) < 3


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize("apart", [0.0, 1e-5, 1e-3])
def test_near_shapes_are_told_apart_one_by_one(apart: float) -> None:
    """Eigenvalues alone would give shapes whose spectra fall over many orders no distance at all."""
    generator = torch.Generator().manual_seed(0)
    x, noise = (
        torch.randn(3000, 80, generator=generator, dtype=torch.float64) * torch.logspace(0, -9, 80) for _ in range(2)
    )
    y = (x + apart * noise) @ torch.linalg.qr(torch.randn(80, 80, generator=generator, dtype=torch.float64))[0]
    joint, metric = summed({"x": x, "y": y}, FloatMoments), harness.create("similarity", "procrustes")
    found = metric.compute_from(joint.pair("x", "y"))
    assert found() == pytest.approx(metric(x, y), abs=2e-7)


@pytest.mark.usefixtures("card")
def test_spectra_that_fall_over_many_orders_keep_their_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (
        torch.randn(3000, 60, generator=generator, dtype=torch.float64) * torch.logspace(0, -14, 60) for _ in range(2)
    )
    for name in ("svcca", "procrustes"):
        joint, metric = summed({"x": x, "y": x + 3 * y}, FloatMoments), harness.create("similarity", name)
        found = metric.compute_from(joint.pair("x", "y"))
        assert (found() if callable(found) else found) == pytest.approx(metric(x, x + 3 * y), abs=1e-6)


@pytest.mark.parametrize("kind", ["flat", "falling", "steep", "short", "zero"])
def test_singular_values_are_within_their_errors(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = {
        "flat": torch.ones(70, dtype=torch.float64),
        "falling": 1 / torch.arange(1, 71, dtype=torch.float64),
        "steep": torch.logspace(3, -12, 70, dtype=torch.float64),
        "short": (torch.arange(70) < 20).double(),
        "zero": torch.zeros(70, dtype=torch.float64),
    }[kind]
    bases = [torch.linalg.qr(torch.randn(d, 70, generator=generator, dtype=torch.float64))[0] for d in (90, 75)]
    matrix = bases[0] * wanted @ bases[1].T
    waiting = Spectra()
    tall, wide = waiting.of(matrix), waiting.of(matrix.T)
    for spectrum in (tall(), wide()):
        assert len(spectrum.values) == 75
        left = (spectrum.values[:70] - wanted).abs()
        assert (left <= spectrum.errors[:70]).all()
        assert (spectrum.errors <= math.sqrt(3e-14) * max(float(wanted[0]), 0.0) * 1.001).all()


def test_values_hardly_depend_on_what_else_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    matrices = [torch.randn(n, n, generator=generator, dtype=torch.float64) for n in (3, 60, 65, 64, 129, 60)]
    alone = [Spectra().of(matrix)().values for matrix in matrices]
    for most_bytes in (2**30, 2 * 8 * 65**2):
        monkeypatch.setattr(spectra, "_MOST_BYTES", most_bytes)
        waiting = Spectra()
        together = [take().values for take in [waiting.of(matrix) for matrix in matrices]]
        assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(alone, together, strict=True))


@pytest.mark.gpu
def test_values_of_the_card_here() -> None:
    exact = values(sites(), JointMoments)
    assert values(sites("cuda"), FloatMoments) == pytest.approx(exact, abs=1e-6)
