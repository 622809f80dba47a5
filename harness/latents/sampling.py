"""A sample of a decomposition's latents, pole by pole, and of the windows that show each of them.

Poles are drawn from strata of density and carry a weight, so that means over all poles that can be shown may be
estimated (Horvitz & Thompson 1952). All draws depend on (seed, index, sign) alone: neither a pole's chance nor its
examples change with what else is drawn, and a larger sample contains the smaller one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from harness.contracts.latent import NEAR, LatentWindow
from harness.latents.activations import POLES, LatentActivations, Pole, PoleId
from harness.latents.negatives import Near
from harness.latents.windows import PoleWindows, Windows, count_windows, pole_windows

N_STRATA = 4
UNSHOWN = DEAD, RARE, NO_CONTRAST = "dead", "rare", "no_contrast"
"""Strata of poles that can't be shown, and are only counted."""
MIN_WINDOWS = 5
"""Active and silent windows that a pole needs in both halves to be shown."""
N_TOP, N_QUANTILE, N_RANDOM = 5, 10, 5
N_TEST = N_SILENT = 20


@dataclass(frozen=True)
class DrawnPole:
    """A pole in the sample; it stands for `weight` poles of its stratum."""

    index: int
    sign: int
    stratum: str
    weight: float


@dataclass(frozen=True)
class Strata:
    """The stratum of every pole.

    Those that can be shown are in density_1 (the quarter of the lowest density) to density_4. The others are

    - dead: its activation is above 0 on no row;
    - rare: above 0 in fewer than `MIN_WINDOWS` windows of a half;
    - no_contrast: above 0 in enough windows, but too few where it is active, or too few where it is silent.
    """

    names: tuple[str, ...]
    numbers: Int[np.ndarray, "m p"]
    """The number of each pole's stratum in `names`; a column for each sign."""

    def of(self, index: int, sign: int) -> str:
        return self.names[int(self.numbers[index, POLES.index(sign)])]

    @property
    def counts(self) -> dict[str, int]:
        """Numbers of poles in each stratum, and in total."""
        return self._counted(self.numbers.ravel())

    @property
    def latent_counts(self) -> dict[str, int]:
        """Numbers of latents, each in the highest stratum of its poles: it is dead if both are, and rare if none is
        more.
        """
        return self._counted(self.numbers.max(axis=1, initial=0))

    def _counted(self, numbers: Int[np.ndarray, " u"]) -> dict[str, int]:
        counts = np.bincount(numbers, minlength=len(self.names)).tolist()
        return {"total": len(numbers), **dict(zip(self.names, counts, strict=True))}

    def draw(self, n_poles: int, seed: int) -> list[DrawnPole]:
        """Draw evenly from the strata of density; every pole of a stratum that has no more than its part."""
        poles = []
        for i, name in enumerate(self.names[len(UNSHOWN) :]):
            members = [(int(m), POLES[p]) for m, p in np.argwhere(self.numbers == i + len(UNSHOWN))]
            members.sort(key=lambda pole: _digest(seed, pole, "drawn"))
            drawn = members[: n_poles // N_STRATA + (i < n_poles % N_STRATA)]
            poles += [DrawnPole(index, sign, name, len(members) / len(drawn)) for index, sign in drawn]
        return poles


def stratify(activations: LatentActivations, windows: Windows, signed: bool) -> Strata:
    """Sort the poles into strata; those of equal density go in an order that has nothing to do with their index."""
    n_poles = len(POLES) if signed else 1
    density, ceilings = activations.density.numpy()[:, :n_poles], activations.ceilings.numpy()[:, :n_poles]
    fewest, fewest_heard = np.full(density.shape, MIN_WINDOWS), np.full(density.shape, MIN_WINDOWS)
    for explain in (True, False):
        counts = count_windows(windows, activations, explain)
        fewest = np.minimum(fewest, np.minimum(counts.active, counts.silent)[:, :n_poles])
        fewest_heard = np.minimum(fewest_heard, counts.heard[:, :n_poles])
    # Above a ceiling of 0 all activations are known; with another, a pole is above 0 on a tenth of all rows.
    is_rare = (ceilings == 0) & (fewest_heard < MIN_WINDOWS)
    numbers = np.select([density == 0, is_rare], [UNSHOWN.index(DEAD), UNSHOWN.index(RARE)], UNSHOWN.index(NO_CONTRAST))
    usable = np.flatnonzero((density > 0) & (fewest >= MIN_WINDOWS))
    order = np.random.default_rng(0).permutation(density.size)
    ranked = usable[np.lexsort((order[usable], density.ravel()[usable]))]
    for i, members in enumerate(np.array_split(ranked, N_STRATA)):
        numbers.ravel()[members] = i + len(UNSHOWN)
    return Strata((*UNSHOWN, *(f"density_{i + 1}" for i in range(N_STRATA))), numbers)


@dataclass(frozen=True)
class Examples:
    """The windows that explain a pole and those that test the explanation; no document is in both."""

    explain: tuple[LatentWindow, ...]
    test: tuple[LatentWindow, ...]


def sample(windows: Windows, pole: Pole, seed: int, near: Near) -> Examples:
    """Sample windows of a pole, each once.

    Active ones are the top, some by quantile of their peak, and some at random; silent ones are at random or hard.
    """
    generator = _generator(seed, pole, "examples")
    explain, test = (pole_windows(windows, pole, half) for half in (True, False))
    top, rest = explain.active[:N_TOP], explain.active[N_TOP:]
    chosen = _quantiles(len(rest), N_QUANTILE)
    random = generator.permutation(rest[~chosen])[:N_RANDOM]
    shown = {"top": top, "quantile": rest[chosen], "random": random, "silent": _silent(explain, generator)}
    tested = {"quantile": test.active[_quantiles(len(test.active), N_TEST)], "silent": _silent(test, generator)}
    generator = _generator(seed, pole, "negatives")
    for numbers_of, half in ((shown, True), (tested, False)):
        active = np.concatenate([numbers for name, numbers in numbers_of.items() if name != "silent"])
        numbers_of |= near.pick(pole, half, active, N_SILENT, generator)
    return Examples(*(_show(windows, pole, numbers_of) for numbers_of in (shown, tested)))


def _quantiles(n: int, n_wanted: int) -> Bool[np.ndarray, " n"]:
    """True for those of n ranked things that are the middles of `n_wanted` equal parts; for all if they are fewer."""
    n_parts = min(n, n_wanted)
    chosen = np.zeros(n, dtype=bool)
    chosen[((np.arange(n_parts) + 0.5) * n / max(n_parts, 1)).astype(int)] = True
    return chosen


def _silent(of_half: PoleWindows, generator: np.random.Generator) -> Int[np.ndarray, " s"]:
    return generator.permutation(of_half.silent)[:N_SILENT]


def _show(windows: Windows, pole: Pole, numbers_of: dict[str, Int[np.ndarray, " w"]]) -> tuple[LatentWindow, ...]:
    return tuple(
        windows.show(int(number), pole, is_active=name not in ("silent", *NEAR), sample=name)
        for name, numbers in numbers_of.items()
        for number in numbers
    )


def _generator(seed: int, pole: Pole, purpose: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(_digest(seed, (pole.index, pole.sign), purpose), "big"))


def _digest(seed: int, pole: PoleId, purpose: str) -> bytes:
    return hashlib.sha256(f"{seed}/latents/{pole[0]}/{pole[1]}/{purpose}".encode()).digest()[:16]
