"""Relative representations: are rows placed alike with respect to the same anchor rows?

A row's relative vector holds its cosines to a anchors, which are rows of the same numbers on both sides (Moschella et
al. 2022, arXiv 2209.15430, section 3): r_x(i)_j = cos(x_i, x_anchor(j)). Sides are compared, over all rows, anchors
among them, by

    cosine: the mean of cos(r_x(i), r_y(i)) (the `Relative` baseline of Leask et al. 2025, arXiv 2505.17769, section 5).
    neighbours: the mean share of the k nearest rows, by cosine of relative vectors, that row i has on both sides
        (`neighbours.overlap`). In [0, 1], by chance k/(n−1).
    rank: the mean of 1/rank of r_y(i), when all r_y are sorted by their cosine to r_x(i), and of the same with the
        sides exchanged (`neighbours.mean_reciprocal_rank`). In (0, 1], by chance (1 + 1/2 + … + 1/n)/n.

Neighbours and rank are in the authors' evaluation too (section 4.1, there the neighbours by Jaccard); they do not
saturate as cosines do, but their values depend on n. Which anchors are drawn matters: `n_seeds` takes the mean over
several drawings, as the authors do over ten.

    centre=False: the cosines of the rows as they are. Rows of language models share a large mean, so all cosines are
        near 1, and so is the similarity of unrelated rows: read it beside its value on shuffled rows.
    centre=True: the mean of the anchors is taken from rows and anchors first, on each side. It is that of the anchors
        and not of all rows, so that rows can be streamed; whole and streamed values are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.similarities import RelativeConfig
from harness.plugins.similarities.inputs import check_aligned, check_n_rows
from harness.plugins.similarities.neighbours import mean_reciprocal_rank, neighbours, overlap, unit_rows

_BLOCK_ROWS = 4096


def make(config: RelativeConfig) -> Relative | RelativeAllPairs:
    """Make the comparison: cosines of a row's two vectors can be streamed; neighbours and ranks need all pairs."""
    return Relative(config) if config.compare == "cosine" else RelativeAllPairs(config)


class _Anchored:
    higher_is_more_similar = True
    symmetric = True

    def __init__(self, config: RelativeConfig) -> None:
        self.config = config

    @property
    def invariant_to(self) -> frozenset[str]:
        """The maps that change no value: cosines depend on the origin, unless it is moved to the anchors' mean."""
        translation = {"translation"} if self.config.centre else set()
        return frozenset({"orthogonal", "isotropic_scale", "permutation"} | translation)

    def anchor_places(self, n_rows: int) -> Int[Tensor, " a"]:
        """Places of the anchors among n rows: those given, or as many drawn with each seed; rising for each seed."""
        given = self.config.anchors
        if isinstance(given, int):
            if given > n_rows:
                raise harness.Undefined(f"{given} anchors can't be drawn from {n_rows} rows")
            seeds = range(self.config.seed, self.config.seed + self.config.n_seeds)
            orders = [torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
            return torch.cat([order[:given].sort().values for order in orders])
        if max(given) >= n_rows:
            raise harness.ConfigError(f"relative: anchors names row {max(given)}, but there are {n_rows} rows, from 0.")
        return torch.tensor(sorted(given))

    def _frames_of(self, ax: Float[Tensor, "a d1"], ay: Float[Tensor, "a d2"]) -> list[tuple[_Frame, _Frame]]:
        """Anchors of both sides for each seed."""
        check_aligned(ax, ay)
        n_seeds, centre = self.config.n_seeds, self.config.centre
        if not len(ax):
            raise harness.ConfigError("relative: anchors() got no rows; give at least one.")
        if len(ax) % n_seeds:
            raise harness.ConfigError(
                f"relative: anchors() got {len(ax)} rows for {n_seeds} seeds; give equally many for each, one seed's "
                "after another's, as anchor_places() names them."
            )
        sides = zip(ax.chunk(n_seeds), ay.chunk(n_seeds), strict=True)
        return [(_Frame("x", own_x, centre), _Frame("y", own_y, centre)) for own_x, own_y in sides]

    def _check_directions(self, n_rows: int, n_broken: dict[str, int]) -> None:
        for side, n in n_broken.items():
            if n:
                raise harness.Undefined(
                    f"{n} of {n_rows} rows of {side} have no direction to compare: they are zero"
                    f"{' once centred' * self.config.centre}, or at right angles to all anchors"
                )


class Relative(_Anchored):
    """`s(x, y)` chooses the anchors itself; to stream, give them with `s.anchors(ax, ay)` before the first update."""

    range = (-1.0, 1.0)
    streams = True

    def __init__(self, config: RelativeConfig) -> None:
        super().__init__(config)
        self._frames: list[tuple[_Frame, _Frame]] = []
        self.reset()

    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        whole = Relative(self.config)
        places = self.anchor_places(len(x)).to(x.device)
        whole.anchors(x[places], y[places])
        whole.update(x, y)
        return whole.compute()

    @torch.no_grad()
    def anchors(self, ax: Float[Tensor, "a d1"], ay: Float[Tensor, "a d2"]) -> None:
        """Take these rows as anchors, and forget all rows that were compared by others."""
        self._frames = self._frames_of(ax, ay)
        self.reset()

    def reset(self) -> None:
        """Forget all rows but the anchors."""
        self._n_rows = 0
        self._n_broken = {"x": 0, "y": 0}
        self._total = 0.0

    @torch.no_grad()
    def update(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> None:
        """Add rows; n may differ from call to call."""
        check_aligned(x, y)
        if not self._frames:
            raise harness.ConfigError("relative: give the anchors first, s.anchors(ax, ay), then the rows.")
        for of_x, of_y in zip(x.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
            self.update_sides(self.of_side("x", of_x), self.of_side("y", of_y))

    @torch.no_grad()
    def of_side(self, side: str, rows: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n a"], ...]:
        """The rows' relative vectors for each seed, at unit norm; NaN for rows that have none."""
        return tuple(frames[side == "y"].relative(rows) for frames in self._frames)

    @torch.no_grad()
    def update_sides(self, of_x: Sequence[Float[Tensor, "n a"]], of_y: Sequence[Float[Tensor, "n a"]]) -> None:
        """Add rows by the results of `of_side` for either side."""
        self._n_rows += len(of_x[0])
        self._total += sum(
            float(torch.linalg.vecdot(*units).clamp(-1, 1).sum()) for units in zip(of_x, of_y, strict=True)
        )
        for side, units in (("x", of_x), ("y", of_y)):
            self._n_broken[side] += int(torch.stack([unit[:, 0].isnan() for unit in units]).any(dim=0).sum())

    def merge(self, other: Relative) -> None:
        """Add the rows that `other` has compared by the same anchors."""
        if not other._frames:
            return
        if not self._frames:
            self._frames = other._frames
        if not _are_equal(self._frames, other._frames):
            raise harness.ConfigError("relative: merge() needs the same anchors on both; give both the same first.")
        self._n_rows += other._n_rows
        self._total += other._total
        for side, n_broken in other._n_broken.items():
            self._n_broken[side] += n_broken

    def compute(self) -> float:
        """The mean cosine over all rows seen since the last reset, and over the seeds."""
        if not self._n_rows:
            raise harness.Undefined("no rows")
        self._check_directions(self._n_rows, self._n_broken)
        return self._total / (self._n_rows * self.config.n_seeds)


class RelativeAllPairs(_Anchored):
    """Comparison of relative vectors by neighbours or by rank; time grows with n², hence `max_rows`."""

    range = (0.0, 1.0)
    streams = False
    max_rows = 50_000

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        name = f"relative with compare={self.config.compare!r}"
        check_n_rows(name, len(x), self.max_rows, "Give it fewer rows, or use compare='cosine'.")
        places = self.anchor_places(len(x)).to(x.device)
        frames = self._frames_of(x[places], y[places])
        return sum(self._compared(of_x.relative(x), of_y.relative(y)) for of_x, of_y in frames) / len(frames)

    def _compared(self, x: Float[Tensor, "n a"], y: Float[Tensor, "n a"]) -> float:
        self._check_directions(len(x), {side: int(r.isnan().any(dim=1).sum()) for side, r in (("x", x), ("y", y))})
        if self.config.compare == "neighbours":
            return overlap(neighbours("x", x, self.config.k), neighbours("y", y, self.config.k))
        return (mean_reciprocal_rank(x, y) + mean_reciprocal_rank(y, x)) / 2


class _Frame:
    """One side's anchors: unit vectors around an origin."""

    def __init__(self, side: str, anchors: Float[Tensor, "a d"], centre: bool) -> None:
        self.side = side
        rows = anchors.double()
        self.origin = rows.mean(dim=0) if centre else torch.zeros_like(rows[0])
        self.anchors = unit_rows(rows - self.origin)
        n_zero = int(self.anchors.isnan().any(dim=1).sum())
        if n_zero:
            centred = " once centred" * centre
            raise harness.Undefined(f"{n_zero} of {len(rows)} anchors of {side} are zero{centred}: they have no cosine")

    def relative(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b a"]:
        """The rows' relative vectors, scaled to unit norm; NaN for rows that have none."""
        return unit_rows(unit_rows(rows - self.origin) @ self.anchors.T)

    def equals(self, other: _Frame) -> bool:
        return torch.equal(self.origin, other.origin) and torch.equal(self.anchors, other.anchors)


def _are_equal(a: list[tuple[_Frame, _Frame]], b: list[tuple[_Frame, _Frame]]) -> bool:
    return len(a) == len(b) and all(
        mine.equals(its) for own, others in zip(a, b, strict=True) for mine, its in zip(own, others, strict=True)
    )
