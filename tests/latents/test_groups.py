"""Groups of latents are active where their members are, each above its own threshold."""

from __future__ import annotations

import numpy as np
import torch

import harness
from harness.latents.groups import read_latents
from tests.support.texts import CPU, Fixed, numbered

N, M = 2000, 12


def codes() -> torch.Tensor:
    """Dense and signed, but for the last four latents, which fire seldom."""
    generator = torch.Generator().manual_seed(0)
    found = torch.randn(N, M, generator=generator)
    found[:, 8:] *= (torch.rand(N, 4, generator=generator) < 0.004) * found[:, 8:].sign()
    return found


GROUPS = [[(0, 1), (1, -1), (8, 1)], [(8, 1), (9, 1)], [(2, 1)], []]


def grouped() -> harness.GroupedDecomposition:
    members = [[harness.Member(latent, sign, 1.0, 1.0 + latent) for latent, sign in group] for group in GROUPS]
    return harness.GroupedDecomposition(Fixed(harness.Codes(codes()), M), members)


def test_a_group_is_active_where_a_member_is_above_its_own_threshold() -> None:
    masked = torch.zeros(N, dtype=torch.bool)
    masked[:50] = True
    found = read_latents(grouped(), numbered(N, masked), masked, CPU)
    values, n = codes()[50:].numpy(), N - 50
    for number, group in enumerate(GROUPS):
        members = np.array([sign * values[:, latent] for latent, sign in group]).reshape(len(group), n)
        ranked = -np.sort(-np.maximum(members, 0), axis=1)
        is_active = (members > ranked[:, [n // 100]]).any(axis=0)
        is_heard = (members > ranked[:, [n // 10]]).any(axis=0)
        shares = (np.maximum(members, 0) / np.array([1.0 + latent for latent, _ in group])[:, None]).max(0, initial=0)
        pole = found.pole(number, 1)
        assert (pole.rows - 50).tolist() == np.flatnonzero(is_heard).tolist()
        assert np.array_equal(pole.is_active, is_active[is_heard])
        assert np.allclose(pole.values[pole.is_active], shares[is_active], rtol=1e-6)
        assert pole.active_share == is_active.mean() and np.isclose(pole.density, (shares > 0).mean())
        assert pole.threshold == 0 or (pole.values[~pole.is_active] <= pole.threshold).all()
        assert found.density[number, 1] == 0 and not len(found.pole(number, -1).rows)
    assert found.active_share[0, 0] > 0.02  # a single latent would be cut to its strongest hundredth
    assert found.thresholds[1, 0] == 0 and found.thresholds[0, 0] > 0  # members that fire seldom count wherever they do


def test_ungrouped_latents_are_read_as_ever() -> None:
    masked = torch.zeros(N, dtype=torch.bool)
    base = grouped().base
    from harness.latents.activations import read_activations

    one, other = (read(base, numbered(N, masked), masked, CPU) for read in (read_latents, read_activations))
    assert all(torch.equal(own, vars(other)[name]) for name, own in vars(one).items())
