"""Products in float32 against those in float64, and the pairs that are multiplied again."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pytest
import torch

import harness
from harness.plugins.similarities.centred_moments import CentredMoments
from harness.plugins.similarities.float_moments import FloatMoments
from harness.plugins.similarities.moments import JointMoments, Moments


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_float32_products_of_large_blocks_are_exact_to_seven_digits(scale):
    """Around a pilot; where squares would leave float32's range, and for few rows, all is in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 80, generator=generator) * torch.logspace(0, -2, 80) + 3000
    x = x * scale
    y = x @ torch.randn(80, 70, generator=generator)
    found, exact = Moments(FloatMoments), Moments()
    few, few_exact = Moments(FloatMoments), Moments()
    for one, other in zip(x.split(1024), y.split(1024), strict=True):
        for moments_of in (found, exact):
            moments_of.update(one, other)
    for moments_of in (few, few_exact):
        moments_of.update(x[:500], y[:500])
    a, b = found.centred(), exact.centred()
    for name in ("products", "norms4"):
        for side, wanted in ((a.x, b.x), (a.y, b.y)):
            error = torch.as_tensor(getattr(side, name) - getattr(wanted, name)).norm()
            assert error <= 1e-6 * torch.as_tensor(getattr(wanted, name)).norm()
    assert (a.xy - b.xy).norm() <= 1e-6 * b.xy.norm()
    assert torch.equal(few.centred().xy, few_exact.centred().xy)
    is_rounded = (a.xy - b.xy).norm() > 1e-12 * b.xy.norm()
    assert is_rounded == (scale == 1.0)


def test_float64_rows_stay_so():
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, exact = Moments(FloatMoments), Moments()
    for moments_of in (found, exact):
        moments_of.update(x, 2 * x)
    assert torch.equal(found.centred().xy, exact.centred().xy)


def wide(n: int, d: int = 80, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def float_moments(x: torch.Tensor, y: torch.Tensor, masked: torch.Tensor) -> CentredMoments:
    joint = FloatMoments([("x", "y")])
    for part in (slice(0, 1024), slice(1024, len(x))):
        joint.update({"x": x[part], "y": y[part]}, {"x": masked[part], "y": masked[part]})
    return joint.pair("x", "y")


def test_float32_is_not_for_rows_that_may_be_far_from_their_pilot():
    """The first row alone, far from all others, would be the pilot: rounding is small against that distance."""
    x, y = wide(4096), wide(4096, seed=1)
    x[0] += 1e4
    only_first, none = torch.zeros(4096, dtype=torch.bool), torch.zeros(4096, dtype=torch.bool)
    only_first[1:1024] = True
    assert float_moments(x, y, only_first).is_exact
    assert not float_moments(x, y, none).is_exact
    assert not float_moments(x[1:], y[1:], none[1:]).is_exact


@pytest.mark.parametrize(("d1", "d2", "is_exact"), [(80, 80, False), (80, 20, False), (20, 80, False), (20, 20, True)])
def test_few_columns_are_multiplied_in_float64(d1, d2, is_exact):
    """Rounding averages out over many entries only; a side that is rounded by itself is so in every pair."""
    x, y = wide(2048, d1), wide(2048, d2, seed=1)
    found = float_moments(x, y, torch.zeros(2048, dtype=torch.bool))
    wanted = (x.double() - x.double().mean(dim=0)).T @ (y.double() - y.double().mean(dim=0))
    assert found.is_exact == is_exact
    assert torch.allclose(found.xy, wanted, rtol=0, atol=1e-9) == is_exact


def test_equal_narrow_sides_are_equal_to_the_last_digits():
    """Coherent rounding of few products would make it 5e-7 more than 1."""
    x = wide(2048, 4)
    found = float_moments(x, x.clone(), torch.zeros(2048, dtype=torch.bool))
    assert harness.create("similarity", "cka").value(found) == pytest.approx(1, abs=1e-12)


def test_merged_sums_know_that_they_were_rounded():
    x, y, none = wide(2048), wide(2048, seed=1), torch.zeros(1024, dtype=torch.bool)
    parts = [FloatMoments([("x", "y")]), FloatMoments([("x", "y")])]
    parts[1].update({"x": x[:1024], "y": y[:1024]}, {"x": none, "y": none})
    parts[0].merge(parts[1])
    assert not parts[0].pair("x", "y").is_exact


def test_merged_sums_know_that_their_pilot_is_of_few_rows():
    x, y, none = wide(2048), wide(2048, seed=1), torch.zeros(1024, dtype=torch.bool)
    parts = [FloatMoments([("x", "y")]), FloatMoments([("x", "y")])]
    parts[1].update({"x": x[:9], "y": y[:9]}, {"x": none[:9], "y": none[:9]})
    parts[0].merge(parts[1])
    parts[0].update({"x": x[1024:], "y": y[1024:]}, {"x": none, "y": none})
    assert parts[0].pair("x", "y").is_exact


def test_rounding_is_measured_around_the_pilot():
    """The first block, of which the pilot is the mean, lies elsewhere than the others."""
    x, y, none = wide(20 * 1024), wide(20 * 1024, seed=1), torch.zeros(20 * 1024, dtype=torch.bool)
    x[:1024] += 30
    found = float_moments(x, y, none)
    n, z = len(x), x.double() - x[:1024].double().mean(dim=0)
    assert torch.allclose(found.x.pilot_squares, z.square().sum(dim=0), rtol=1e-6)
    assert (found.x.pilot_squares > 5 * n).all() and (found.y.pilot_squares < 2 * n).all()


class Reading:
    """Three places of 2,048 rows, two of them masked here and there, and how often they were read."""

    def __init__(self) -> None:
        self.rows = {"p": wide(2048), "q": wide(2048, 70, seed=1), "r": wide(2048, 90, seed=2)}
        self.rows["q"] += self.rows["p"][:, :70]
        self.masked = {place: torch.zeros(2048, dtype=torch.bool) for place in self.rows}
        self.masked["p"][3] = self.masked["q"][1500] = True
        self.rows["p"][3] = float("nan")
        self.read: list[set[str]] = []
        self.breaks_off = False

    def blocks(self, places: Collection[str]) -> Iterator[harness.AlignedBlock]:
        self.read.append(set(places))
        for part in (slice(0, 1024), slice(1024, 2048)):
            yield tuple({place: each[place][part] for place in places} for each in (self.rows, self.masked))
            if self.breaks_off:
                raise OSError("the disk is gone")

    def moments(self, kind: type[JointMoments]) -> JointMoments:
        joint = kind([("p", "q"), ("q", "r"), ("p", "r")], {}, self.blocks)
        for rows, masked in self.blocks(self.rows):
            joint.update(rows, masked)
        self.read.clear()
        return joint

    def of(self, joint: JointMoments, x: str, y: str) -> CentredMoments:
        masked_x, masked_y = self.masked[x], self.masked[y]
        return joint.pair(x, y, self.rows[x][masked_y & ~masked_x], self.rows[y][masked_x & ~masked_y])


def test_all_pairs_in_doubt_are_multiplied_again_in_one_reading():
    reading = Reading()
    joint, exact = reading.moments(FloatMoments), reading.moments(JointMoments)
    pairs = [("p", "q"), ("q", "p"), ("r", "p")]
    before = {pair: reading.of(joint, *pair) for pair in [*pairs, ("q", "r")]}
    later = {pair: before[pair].doubt() for pair in pairs}
    assert not reading.read
    for pair in pairs:
        found, wanted = later[pair](), reading.of(exact, *pair)
        assert not before[pair].is_exact and found.is_exact
        assert found.n_rows == wanted.n_rows == (2046 if "q" in pair else 2047)
        assert not torch.allclose(before[pair].xy, wanted.xy, rtol=1e-11, atol=1e-9)
        torch.testing.assert_close(found.xy, wanted.xy, rtol=1e-11, atol=1e-9)
        assert found.norm_products == pytest.approx(wanted.norm_products, rel=1e-12)
    assert reading.read == [{"p", "q", "r"}]
    assert not reading.of(joint, "q", "r").is_exact
    assert torch.equal(reading.of(joint, "q", "r").xy, before["q", "r"].xy)


def test_only_the_places_in_doubt_are_read_again():
    reading = Reading()
    reading.of(reading.moments(FloatMoments), "q", "p").doubt()()
    assert reading.read == [{"p", "q"}]


def test_a_reading_that_broke_off_leaves_no_wrong_number():
    reading = Reading()
    joint = reading.moments(FloatMoments)
    exactly = reading.of(joint, "p", "q").doubt()
    reading.breaks_off = True
    for _ in range(2):
        with pytest.raises(OSError, match="disk"):
            exactly()
    reading.breaks_off = False
    wanted = reading.of(reading.moments(JointMoments), "p", "q")
    torch.testing.assert_close(exactly().xy, wanted.xy, rtol=1e-11, atol=1e-9)


def test_without_rows_to_read_again_there_is_no_number():
    joint, none = FloatMoments([("x", "y")]), torch.zeros(2048, dtype=torch.bool)
    joint.update({"x": wide(2048), "y": wide(2048, seed=1)}, {"x": none, "y": none})
    exactly = joint.pair("x", "y").doubt()
    with pytest.raises(harness.HarnessError, match="can't be read again"):
        exactly()


def test_a_metric_in_doubt_says_so_first_and_gives_its_value_later():
    reading = Reading()
    reading.rows["q"], reading.masked["q"] = reading.rows["p"].clone(), reading.masked["p"].clone()
    joint = reading.moments(FloatMoments)
    later = harness.create("similarity", "procrustes").compute_from(reading.of(joint, "p", "q"))
    at_once = harness.create("similarity", "procrustes").compute_from(reading.of(joint, "p", "r"))
    assert isinstance(at_once, float) and callable(later) and not reading.read
    assert later() < 2e-7
