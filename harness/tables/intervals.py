"""Intervals of values that rest on few units: documents, models or latents, and seeds.

The error of a value is Σ_u parts_u over its units, so Σ parts² estimates its variance, with `freedom` degrees of
freedom; seeds, where there are several, add σ²/s, of which the units' own luck explains a part. The 95 % interval is

    value − √v · b(±t),   v = Σ parts² + v_seeds,   b(t) = 3/g · ((1 + g (t − g/6))^⅓ − 1)

b bends Student's t by the skewness g of the value's error (Hall 1992, "On the removal of skewness by transformation",
JRSS B 54); without skewness the interval is value ± t √v. t has the degrees of freedom of both parts (Satterthwaite
1946), and the interval is never narrower than seeds alone would make it. v_seeds is what the values of the seeds vary
by, beyond what units explain; two seeds can't tell one from the other, so all of it counts.

Where units of more weight have other values than those of less (`depends_on`), the error rests on the few that weigh
most, and comes from their weights as much as from their values. Its skewness is then that of the parts themselves, and
units of weights w have as many degrees of freedom as have Σ w² u² of normal u, (Σ w²)² / Σ w⁴ − 1 (Satterthwaite 1946).
Ratios that depend on the length of documents then hold the truth .90 to .94 of the time with 10 documents, .94 to .96
with more; by the rule for others .84 to .89. What the heaviest units of all give, nobody knows who has not drawn them:
for density-weighted scores that fall by .15 in tenfold density, where densities vary by e^1.5 or more, it is .83 to .88
for 12 to 20 latents (.79 to .87) and .91 to .95 for 60 to 100 (.82 to .85), as results/reference/statistics.md shows.

Where all units agree on the lowest or the highest value that there can be, as shares of 0 and 1 do, nothing is seen of
how they vary. The interval then ends where n units would still agree one time in 40: at 1 − .025^(1/n) of the range
from the value (Clopper & Pearson 1934), with n the number of units that weigh the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

LEVEL = 0.95
_TAIL = (1 - LEVEL) / 2
ROUNDING = 1e-12
"""Differences below this share of a value are those of sums in another order."""
_LOG_DEVIATION = np.pi / np.sqrt(8)
"""Standard deviation of log|z| for normal z."""
_LEAST_DEVIATION = 0.01
"""Share of the standard deviation of ratios below which it does not matter how near one is to their mean."""
_SURE_ERRORS = 2
"""Standard errors beyond which a slope is more than luck."""


@dataclass(frozen=True)
class Replicates:
    """A value, and by how much it would differ on other units and with other seeds."""

    value: float
    parts: Float[np.ndarray, " units"]
    """Part of each unit in the error of the value, widened so that Σ parts² is its variance."""
    n_units: float
    """Number of units that weigh the same and tell as much: 1/Σw² of those with shares w (Kish 1965)."""
    freedom: float
    """Degrees of freedom of Σ parts²."""
    skewness: float
    """Skewness of the error that units bring."""
    n_seeds: int = 1
    seed_variance: float = 0.0
    """Variance of a mean over as many seeds, by how their values vary."""
    residual_variance: float = 0.0
    """Part of `seed_variance` that comes from units which differ from seed to seed."""
    bounds: tuple[float, float] = (-np.inf, np.inf)
    """The lowest and the highest value that there can be."""

    @property
    def is_constant(self) -> bool:
        """True if no unit and no seed differs from the others."""
        spread = np.sqrt((self.parts**2).sum() + self.seed_variance)
        return bool(spread <= ROUNDING * max(1.0, abs(self.value)))


def interval(values: Replicates) -> tuple[float, float]:
    """The ends of the 95 % interval, within the bounds of what there can be."""
    if values.is_constant:
        return _around_a_bound(values)
    of_units, of_seeds, last_seed = float((values.parts**2).sum()), 0.0, max(1, values.n_seeds - 1)
    if values.n_seeds > 1:
        explained = values.residual_variance if values.n_seeds > 2 else 0.0
        of_seeds = max(0.0, values.seed_variance - explained)
    variance = of_units + of_seeds
    uncertain = of_units**2 / values.freedom + (values.seed_variance**2 / last_seed if of_seeds else 0.0)
    deviation = np.sqrt(variance)
    t = max(_student(variance**2 / uncertain), _student(last_seed) * np.sqrt(of_seeds) / deviation)
    skewness = values.skewness * (of_units / variance) ** 1.5
    ends = [values.value - deviation * _bent(end, skewness) for end in (t, -t)]
    low, high = np.clip(ends, *values.bounds)
    return float(low), float(high)


def contrast(a: Replicates, b: Replicates, is_paired: bool = True) -> Replicates:
    """The value of a less that of b, on the same units or on others; of values without seeds."""
    span = max(a.bounds[1] - b.bounds[0], b.bounds[1] - a.bounds[0])
    value, bounds = a.value - b.value, (-span, span)
    if is_paired:
        parts, freedom = a.parts - b.parts, min(a.freedom, b.freedom)
    else:
        variances = (a.parts**2).sum(), (b.parts**2).sum()
        parts = np.concatenate([a.parts, -b.parts])
        uncertain = variances[0] ** 2 / a.freedom + variances[1] ** 2 / b.freedom
        freedom = float(sum(variances) ** 2 / uncertain) if uncertain else min(a.freedom, b.freedom)
    return Replicates(value, parts, min(a.n_units, b.n_units), freedom, skewness_of(parts), bounds=bounds)


def skewness_of(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"] | None = None) -> float:
    """Skewness of Σ w v, with v as skewed as the given values: theirs times Σ w³ / (Σ w²)^1.5.

    The values count alike, whatever their weights: by few heavy ones it would be no better than a guess.
    """
    if weights is None:
        weights = np.ones(len(values))
    from_mean = values - values.mean()
    spread = np.sqrt(np.mean(from_mean**2))
    if not spread > ROUNDING * np.abs(values).max(initial=0.0):
        return 0.0
    own = np.mean((from_mean / spread) ** 3)
    return float(own * (weights**3).sum() / (weights**2).sum() ** 1.5)


def skewness_of_ratios(ratios: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> float:
    """Skewness of R = Σ w r, the mean of ratios that may vary the more the less they weigh, as means of few tokens do.

    Of r − R = u / w^α the u are taken to be alike, with α from 0 to 1 minus the slope of log|r − R| over log w. From it
    its standard error is taken, that of normal u: where nothing shows that ratios vary otherwise, they count alike.
    """
    weights = np.abs(weights) / np.abs(weights).sum()
    from_mean = ratios - weights @ ratios
    deviation = np.sqrt(np.mean(from_mean**2))
    if not deviation > ROUNDING * np.abs(ratios).max(initial=0.0):
        return 0.0
    logs, log_weights = np.log(np.maximum(np.abs(from_mean), _LEAST_DEVIATION * deviation)), np.log(weights)
    away = log_weights - log_weights.mean()
    spread = float((away**2).sum())
    steepness = -(away @ logs + _LOG_DEVIATION * np.sqrt(spread)) / spread if spread > ROUNDING else 0.0
    alpha = float(np.clip(steepness, 0, 1))
    return skewness_of(from_mean * weights**alpha, weights ** (1 - alpha))


def depends_on(values: Float[np.ndarray, " n"], weights: Float[np.ndarray, " n"]) -> bool:
    """True if values rise or fall with the logarithm of their weights, by over two standard errors of that slope."""
    logs, from_mean = np.log(np.abs(weights)), values - values.mean()
    away = logs - logs.mean()
    spread, of_values = float(away @ away), float(from_mean @ from_mean)
    if spread < ROUNDING or of_values <= (ROUNDING * np.abs(values).max()) ** 2:
        return False
    explained = float(away @ from_mean) ** 2 / (spread * of_values)
    return explained * (len(values) - 2) > _SURE_ERRORS**2 * (1 - explained)


def kish(weights: Float[np.ndarray, " n"]) -> float:
    """The number of units of equal weight that tell as much as these: (Σ w)² / Σ w² (Kish 1965)."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def _student(freedom: float) -> float:
    return float(stdtrit(freedom, 1 - _TAIL))


def _bent(t: float, skewness: float) -> float:
    """Hall's transformation, inverted."""
    if abs(skewness) < 1e-6:
        return t
    return float(3 / skewness * (np.cbrt(1 + skewness * (t - skewness / 6)) - 1))


def _around_a_bound(values: Replicates) -> tuple[float, float]:
    (lowest, highest), value = values.bounds, values.value
    reach = (highest - lowest) * (1 - _TAIL ** (1 / values.n_units))
    if np.isfinite(reach) and np.isclose(value, highest, rtol=0, atol=ROUNDING):
        return highest - reach, highest
    if np.isfinite(reach) and np.isclose(value, lowest, rtol=0, atol=ROUNDING):
        return lowest, lowest + reach
    return value, value
