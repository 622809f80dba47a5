"""Metrics of moments where rounding counts: right to 1e-6, streamed, in a run and at once, or without a value."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pytest
import torch

import harness
from harness.plugins.similarities.moments import MomentSimilarity

N = 1200


def related(d1: int = 72, d2: int = 66, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    z, to_x, to_y, of_x, of_y = (
        torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((N, 9), (9, d1), (9, d2), (N, d1), (N, d2))
    )
    return z @ to_x + of_x, z @ to_y + of_y


def in_a_run(metric: MomentSimilarity, x: torch.Tensor, y: torch.Tensor) -> float:
    """The value as a run gets it: shared moments, and rows that are read again where it asks for that."""
    rows = {"x": x, "y": y}

    def blocks(places: Collection[str]) -> Iterator[harness.AlignedBlock]:
        for part in torch.arange(N).split(600):
            yield (
                {place: rows[place][part] for place in places},
                dict.fromkeys(places, torch.zeros(600, dtype=torch.bool)),
            )

    joint = metric.statistics([("x", "y")], {}, blocks)
    for block in blocks(rows):
        joint.update(*block)
    found = metric.compute_from(joint.pair("x", "y"))
    return found() if callable(found) else found


def values(x: torch.Tensor, y: torch.Tensor, name: str, **params: object) -> list[float]:
    metric = harness.create("similarity", name, **params)
    for one, other in zip(x.split(500), y.split(500), strict=True):
        metric.update(one, other)
    return [metric(x, y), metric.compute(), in_a_run(metric, x, y)]


def u_centred(rows: torch.Tensor) -> np.ndarray:
    """U-centred products around the median, which U-centring leaves as they are and a far row does not move."""
    around = rows.double().numpy() - np.median(rows.double().numpy(), axis=0)
    k = around @ around.T
    np.fill_diagonal(k, 0)
    n, sums = len(k), k.sum(axis=0)
    k = k - sums / (n - 2) - sums[:, None] / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(k, 0)
    return k


@pytest.mark.parametrize("factor", [1, 100, 1e4])
def test_debiased_cka_of_float32_rows_one_of_which_is_far(factor: float) -> None:
    x, y = related()
    x[7] *= factor
    y[7] *= factor
    x, y = x.float(), y.float()
    a, b = u_centred(x), u_centred(y)
    wanted = (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum())
    assert values(x, y, "cka", estimator="debiased") == pytest.approx([wanted] * 3, abs=1e-6)


def test_debiased_cka_that_is_rounding_has_no_value() -> None:
    x, y = related()
    x[7] *= 1e7
    y[7] *= 1e7
    for rows in ((x, y), (x.float(), y.float())):
        with pytest.raises(harness.Undefined, match="rounding leaves an error"):
            harness.create("similarity", "cka", estimator="debiased")(*rows)


def test_minibatch_cka_with_a_far_row_or_any_scale() -> None:
    x, y = related()
    metric = harness.create("similarity", "cka", estimator="minibatch")
    as_they_are = metric(x, y)
    for scale in (1e-30, 1e20):
        assert metric((scale * x).float(), y.float()) == pytest.approx(as_they_are, abs=1e-6)
    x[7] *= 1e6
    y[7] *= 1e6
    x, y = x.float(), y.float()
    parts = [(u_centred(one), u_centred(other)) for one, other in zip(x.split(256), y.split(256), strict=True)]
    xy, xx, yy = (sum((each[i] * each[j]).sum() for each in parts) for i, j in ((0, 1), (0, 0), (1, 1)))
    assert metric(x, y) == pytest.approx(xy / np.sqrt(xx * yy), abs=1e-6)


SCALED = [("linear_regression", {}), ("linear_regression", {"estimate": "in_sample"}), ("svcca", {"variance": 1.0})]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e8])
@pytest.mark.parametrize(("name", "params"), SCALED)
def test_the_scale_of_a_column_of_x_does_not_matter(
    name: str, params: dict[str, object], scale: float, dtype: torch.dtype
) -> None:
    """The columns that say most of y have it."""
    x, noise = related()
    y = x[:, :30] @ noise[:30, :60] + noise[:, :60]
    scaled = x.clone()
    scaled[:, :30] *= scale
    wanted = harness.create("similarity", name, **params)(x, y)
    found = values(scaled.to(dtype), y.to(dtype), name, **params)
    assert found == pytest.approx([wanted] * 3, abs=1e-6) and wanted > 0.5


def pwcca_by_hand(x: torch.Tensor, y: torch.Tensor) -> float:
    """Columns are taken at norm 1, so that no scale makes directions vanish; but weighed as they are."""
    x, y = (side.numpy() - side.numpy().mean(axis=0) for side in (x, y))
    bases = [np.linalg.svd(side / np.linalg.norm(side, axis=0), full_matrices=False)[0] for side in (x, y)]
    _, correlations, b = np.linalg.svd(bases[0].T @ bases[1], full_matrices=False)
    weights = np.abs((bases[1] @ b.T).T @ y).sum(axis=1)
    return float(weights @ correlations / weights.sum())


def test_badly_scaled_columns_keep_their_directions_in_pwcca() -> None:
    x, y = related()
    y[:, ::2] *= 1e-9
    assert values(x, y, "pwcca") == pytest.approx([pwcca_by_hand(x, y)] * 3, abs=1e-6)


@pytest.mark.parametrize(("name", "params"), SCALED)
def test_constant_and_repeated_columns_are_no_directions(name: str, params: dict[str, object]) -> None:
    x, y = related()
    wanted = harness.create("similarity", name, **params)(x, y)
    more = torch.cat([x, x[:, :5], torch.full((N, 2), 3000.1, dtype=torch.float64), -2 * x[:, 3:4]], dim=1)
    assert values(more, y, name, **params) == pytest.approx([wanted] * 3, abs=1e-6)


@pytest.mark.parametrize("name", ["linear_regression", "pwcca"])
def test_nearly_collinear_columns_that_rounding_decides_have_no_value(name: str) -> None:
    """y is the difference of two columns, which moments have to few digits."""
    x, y = related()
    x[:, 1] = x[:, 0] + 1e-5 * y[:, 0]
    y = torch.stack([y[:, 0], y[:, 1]], dim=1)
    with pytest.raises(harness.Undefined, match="next to no variance"):
        harness.create("similarity", name)(x, y)


def test_products_around_a_far_pilot_are_made_again_for_procrustes() -> None:
    """The first block, of which the pilot is the mean, lies elsewhere."""
    x, y = related()
    x[:600] += 300
    y[:600] -= 300
    metric = harness.create("similarity", "procrustes")
    assert in_a_run(metric, x.float(), y.float()) == pytest.approx(metric(x.float(), y.float()), abs=1e-6)


@pytest.mark.parametrize("scale", [1e-60, 1e-20, 1e20, 1e60])
@pytest.mark.parametrize(
    ("name", "params"), [("cka", {}), ("cka", {"estimator": "debiased"}), ("svcca", {}), ("procrustes", {}), *SCALED]
)
def test_the_scale_of_a_side_does_not_matter(name: str, params: dict[str, object], scale: float) -> None:
    x, y = related(30, 20)
    metric = harness.create("similarity", name, **params)
    for one, other in ((scale * x, y), (scale * x, scale * y), (scale * x, y / scale)):
        assert metric(one, other) == pytest.approx(metric(x, y), abs=1e-9)
