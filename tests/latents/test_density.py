"""Dense, signed and sparse codes beside each other: equal density, both poles, and windows to show them by."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.latents.activations import MAX_ACTIVE, LatentActivations, read_activations
from harness.latents.sampling import stratify
from harness.latents.windows import Windows, cut, pole_windows
from tests.support.texts import CPU, Fixed, numbered, read_dense, rows_of

N_DOCUMENTS = 300
M = 12


@functools.cache
def _windows() -> Windows:
    texts = {f"d{i}": " ".join(f"w{j}" for j in range(129)) for i in range(N_DOCUMENTS)}
    return cut(rows_of(texts, context=1000), texts)


@functools.cache
def _rotation() -> Tensor:
    """Dense codes of both signs, alike within a document as those of texts are."""
    generator = torch.Generator().manual_seed(0)
    n = len(_windows().tokens)
    of_document = torch.randn(N_DOCUMENTS, M, generator=generator).repeat_interleave(n // N_DOCUMENTS, dim=0)
    return torch.randn(n, M, generator=generator) + of_document


def _pursued() -> harness.Codes:
    """Signed sparse codes with repeats: each row has a latent once, or twice with coefficients that add up."""
    generator = torch.Generator().manual_seed(1)
    n = len(_windows().tokens)
    indices = torch.randint(M, (n, 1), generator=generator).repeat(1, 2)
    return harness.Codes(torch.randn(n, 2, generator=generator), indices, M)


def _read(codes: harness.Codes) -> LatentActivations:
    n = len(_windows().tokens)
    masked = torch.zeros(n, dtype=torch.bool)
    return read_activations(Fixed(codes, M), numbered(n, masked), masked, CPU)


def test_dense_signed_and_sparse_codes_are_shown_by_equally_many_rows() -> None:
    """All fire on more than 1 % of the rows, on every row, on one in twelve or in forty: all are active on 1 %."""
    n = len(_windows().tokens)
    relu = torch.relu(_rotation() - 2.0)
    for activations, columns in (
        (_read(harness.Codes(_rotation())), [0, 1]),
        (_read(_pursued()), [0, 1]),
        (read_dense(relu, signed=False), [0]),
    ):
        assert (activations.active_share[:, columns] - MAX_ACTIVE).abs().max() < 2 / n


def test_density_is_the_share_of_rows_with_a_code() -> None:
    rotation, pursued = _read(harness.Codes(_rotation())), _read(_pursued())
    assert (rotation.density - 0.5).abs().max() < 0.1 and torch.allclose(
        rotation.density.sum(1), torch.ones(M).double()
    )
    assert (pursued.density - 1 / 24).abs().max() < 0.01
    codes = _pursued().to_dense(M)
    assert torch.equal(pursued.density, torch.stack([codes > 0, codes < 0], dim=2).double().mean(dim=0))


def test_strata_are_of_density_also_where_all_fire_often() -> None:
    """All twelve are active on 1 % of the rows, and fire on a share of rows that falls with the index."""
    generator = torch.Generator().manual_seed(2)
    n = len(_windows().tokens)
    fires = torch.rand(n, M, generator=generator) < torch.linspace(0.6, 0.02, M)
    strata = stratify(read_dense(torch.rand(n, M, generator=generator) * fires, signed=False), _windows(), signed=False)
    assert [strata.of(index, 1) for index in range(M)] == [f"density_{4 - index // 3}" for index in range(M)]


def test_ties_are_not_broken_by_index() -> None:
    codes = torch.rand(len(_windows().tokens), M, generator=torch.Generator().manual_seed(3)) + 0.1
    numbers = stratify(read_dense(codes, signed=False), _windows(), signed=False).numbers[:, 0]
    assert len(set(numbers)) == 4 and not (np.diff(numbers) >= 0).all()


def test_a_latent_is_what_the_better_of_its_poles_is() -> None:
    """Latents that are never negative have as many dead poles, and none of them is dead."""
    codes = torch.rand(len(_windows().tokens), M, generator=torch.Generator().manual_seed(3))
    codes[:, 0] = 1.0  # never stands out
    codes[:, 1] = 0.0
    codes[3:, 2] = 0.0
    strata = stratify(read_dense(codes), _windows(), signed=True)
    names = ("total", "dead", "rare", "no_contrast")
    assert [strata.latent_counts[name] for name in names] == [M, 1, 1, 1]
    assert [strata.counts[name] for name in names] == [2 * M, M + 1, 1, 1]
    assert strata.of(0, 1) == "no_contrast"


def test_repeats_of_an_atom_count_together() -> None:
    activations = _read(_pursued())
    codes = _pursued().to_dense(M)
    for index in range(M):
        for sign in (1, -1):
            pole = activations.pole(index, sign)
            own = (sign * codes[:, index]).clamp(min=0).numpy()
            np.testing.assert_allclose(pole.values, own[pole.rows], rtol=1e-6)
            assert pole.is_active.sum() == (own > pole.threshold).sum()


@pytest.mark.parametrize("codes", [_rotation, lambda: _pursued().to_dense(M)])
def test_swapped_signs_swap_the_poles(codes: Callable[[], Tensor]) -> None:
    ours, swapped = read_dense(codes()), read_dense(-codes())
    for name in ("thresholds", "ceilings", "density", "active_share"):
        assert torch.equal(getattr(ours, name), getattr(swapped, name).flip(1))
    strata = [stratify(each, _windows(), signed=True) for each in (ours, swapped)]
    assert strata[0].counts == strata[1].counts
    for index in range(M):
        for sign in (1, -1):
            one, other = ours.pole(index, sign), swapped.pole(index, -sign)
            assert one.rows.tolist() == other.rows.tolist() and one.values.tolist() == other.values.tolist()


def test_dense_codes_have_silent_windows() -> None:
    """Every coefficient of a rotation is something; those within the ceiling count as nothing."""
    activations = _read(harness.Codes(_rotation()))
    for index in range(M):
        for sign in (1, -1):
            for explain in (True, False):
                found = pole_windows(_windows(), activations.pole(index, sign), explain)
                assert min(len(found.active), len(found.silent)) >= 20
    counts = stratify(activations, _windows(), signed=True).counts
    assert counts["dead"] == counts["rare"] == counts["no_contrast"] == 0 and counts["total"] == 2 * M
