"""The shared moments against numpy, and what they cost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.plugins.similarities.moments import JointMoments, Moments


def moments(x: torch.Tensor, y: torch.Tensor) -> Moments:
    result = Moments()
    result.update(x, y)
    return result


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    d1=st.integers(1, 6),
    d2=st.integers(1, 6),
    offset=st.sampled_from([0.0, 3.0, 1e4]),
    cut=st.integers(0, 40),
    seed=st.integers(0, 10_000),
)
def test_equal_numpy(n, d1, d2, offset, cut, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d1, generator=generator, dtype=torch.float64) + offset
    y = torch.randn(n, d2, generator=generator, dtype=torch.float64) * 3 - offset
    whole = moments(x[:cut], y[:cut])
    whole.merge(moments(x[cut:], y[cut:]))
    centred = whole.centred()

    xc, yc = (side.numpy() - side.numpy().mean(axis=0) for side in (x, y))
    norms = np.stack([(xc**2).sum(axis=1), (yc**2).sum(axis=1)])
    expected = {
        "mean x": (centred.x.mean, x.numpy().mean(axis=0)),
        "mean y": (centred.y.mean, y.numpy().mean(axis=0)),
        "xx": (centred.x.products, xc.T @ xc),
        "yy": (centred.y.products, yc.T @ yc),
        "xy": (centred.xy, xc.T @ yc),
        "x norms": (np.array(centred.x.norms4), norms[0] @ norms[0]),
        "y norms": (np.array(centred.y.norms4), norms[1] @ norms[1]),
        "norms": (np.array(centred.norm_products), norms[0] @ norms[1]),
    }
    assert centred.n_rows == n
    for name, (found, value) in expected.items():
        np.testing.assert_allclose(np.asarray(found), value, rtol=1e-9, atol=1e-8, err_msg=name)


def test_covariances():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 3, generator=generator) + 3000, torch.randn(100, 2, generator=generator)
    centred = moments(x, y).centred()
    both = np.cov(np.concatenate([x.double(), y.double()], axis=1), rowvar=False) * 99
    np.testing.assert_allclose(centred.x.products, both[:3, :3], rtol=1e-10)
    np.testing.assert_allclose(centred.xy, both[:3, 3:], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(centred.y.products, both[3:, 3:], rtol=1e-10)


def test_centring_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    parts = torch.randn(3, 20, 4, generator=generator)
    whole = moments(parts[0], parts[1])
    first = whole.centred().xy.clone()
    assert torch.equal(whole.centred().xy, first)
    whole.update(parts[2], parts[0])
    again = moments(torch.cat([parts[0], parts[2]]), torch.cat([parts[1], parts[0]]))
    torch.testing.assert_close(whole.centred().xy, again.centred().xy)


def test_blocks_are_cut_anywhere():
    """More rows in one update than a block holds."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9001, 3, generator=generator), torch.randn(9001, 2, generator=generator)
    xc, yc = x.double() - x.double().mean(0), y.double() - y.double().mean(0)
    torch.testing.assert_close(moments(x, y).centred().xy, xc.T @ yc)


def test_refusals():
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with pytest.raises(harness.Undefined, match="no rows"):
        Moments().centred()
    with pytest.raises(harness.ConfigError, match=r"\(3, 2\) so far, now \(2, 3\)"):
        moments(x, x[:, :2]).merge(moments(x[:, :2], x))


def joint(pairs, x: dict[str, torch.Tensor], masked: dict[str, torch.Tensor], blocks: list[slice]) -> JointMoments:
    result = JointMoments(pairs)
    for part in blocks:
        result.update(
            {name: rows[part] for name, rows in x.items()}, {name: rows[part] for name, rows in masked.items()}
        )
    return result


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(0, 60), share=st.sampled_from([0.0, 0.1, 0.6]))
def test_a_pair_among_many_is_that_pair_alone(seed, cut, share):
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(60, d, generator=generator) + 50 for name, d in (("p", 4), ("q", 3), ("r", 5))}
    masked = {name: torch.rand(60, generator=generator) < share for name in x}
    for name, rows in x.items():
        rows[masked[name]] = float("nan")
    pairs = [("p", "q"), ("q", "r"), ("p", "r"), ("r", "p")]
    blocks = [slice(0, cut), slice(cut, 60)]
    halves = [joint(pairs, x, masked, [part]) for part in blocks]
    halves[1].merge(halves[0])
    for one, other in pairs:
        kept = ~(masked[one] | masked[other])
        if not kept.any():
            continue
        alone = moments(x[one][kept], x[other][kept]).centred()
        without = x[one][masked[other] & ~masked[one]], x[other][masked[one] & ~masked[other]]
        for many in (joint(pairs, x, masked, blocks), halves[1]):
            found = many.pair(one, other, *without)
            assert found.n_rows == kept.sum()
            for side, wanted in ((found.x, alone.x), (found.y, alone.y)):
                torch.testing.assert_close(side.mean, wanted.mean)
                torch.testing.assert_close(side.products, wanted.products, rtol=1e-9, atol=1e-8)
                assert side.norms4 == pytest.approx(wanted.norms4, rel=1e-9, abs=1e-8)
            torch.testing.assert_close(found.xy, alone.xy, rtol=1e-9, atol=1e-8)
            assert found.norm_products == pytest.approx(alone.norm_products, rel=1e-9, abs=1e-8)


def test_a_shuffled_place_needs_no_sums_of_its_own():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 3, generator=generator), torch.randn(50, 4, generator=generator) + 9
    order = torch.randperm(50, generator=generator)
    none = torch.zeros(50, dtype=torch.bool)
    many = JointMoments([("x", "y"), ("x", "y shuffled")], {"y shuffled": "y"})
    for part in (slice(0, 20), slice(20, 50)):
        rows = {"x": x[part], "y": y[part], "y shuffled": y[order][part]}
        many.update(rows, dict.fromkeys(rows, none[part]))
    found, wanted = many.pair("x", "y shuffled"), moments(x, y[order]).centred()
    torch.testing.assert_close(found.xy, wanted.xy)
    assert found.norm_products == pytest.approx(wanted.norm_products)
    assert found.y is many.pair("x", "y").y


def test_rows_masked_opposite_must_be_named():
    """Else a side would hold rows that the other does not: a wrong number without a sign of it."""
    x = {name: torch.randn(30, 3, generator=torch.Generator().manual_seed(0)) for name in "pq"}
    masked = {"p": torch.arange(30) == 4, "q": torch.zeros(30, dtype=torch.bool)}
    many = joint([("p", "q")], x, masked, [slice(0, 30)])
    with pytest.raises(harness.HarnessError, match="masked opposite"):
        many.pair("p", "q")
    assert many.pair("q", "p", x["q"][4:5]).n_rows == 29
