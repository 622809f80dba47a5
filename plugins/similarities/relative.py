"""Relative representations: are rows placed alike with respect to the same anchor rows?

A row's relative vector holds its cosines to a anchors, which are rows of the same numbers on both sides (Moschella et
al. 2022, arXiv 2209.15430, section 3): r_x(i)_j = cos(x_i, x_anchor(j)). The similarity is the mean over all rows,
anchors among them, of cos(r_x(i), r_y(i)) (the `Relative` baseline of Leask et al. 2025, arXiv 2505.17769, section 5).

    centre=False: the cosines of the rows as they are. Rows of language models share a large mean, so all cosines are
        near 1, and so is the similarity of unrelated rows: read it beside its value on shuffled rows.
    centre=True: the mean of the anchors is taken from rows and anchors first, on each side. It is that of the anchors
        and not of all rows, so that rows can be streamed; whole and streamed values are the same.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from plugins.similarities import RelativeConfig
from plugins.similarities.inputs import check_aligned

_BLOCK_ROWS = 4096


class Relative:
    """`s(x, y)` chooses the anchors itself; to stream, give them with `s.anchors(ax, ay)` before the first update."""

    higher_is_more_similar = True
    range = (-1.0, 1.0)
    symmetric = True
    streams = True

    def __init__(self, config: RelativeConfig) -> None:
        self.config = config
        self._frames: tuple[_Frame, _Frame] | None = None
        self.reset()

    @property
    def invariant_to(self) -> frozenset[str]:
        """Cosines see where the origin is, unless it is moved to the anchors' mean."""
        translation = {"translation"} if self.config.centre else set()
        return frozenset({"orthogonal", "isotropic_scale", "permutation"} | translation)

    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        whole = Relative(self.config)
        places = self.anchor_places(len(x)).to(x.device)
        whole.anchors(x[places], y[places])
        whole.update(x, y)
        return whole.compute()

    def anchor_places(self, n_rows: int) -> Int[Tensor, " a"]:
        """Which of n rows are the anchors: those given, or as many drawn with the seed; rising."""
        given = self.config.anchors
        if isinstance(given, int):
            if given > n_rows:
                raise harness.Undefined(f"{given} anchors can't be drawn from {n_rows} rows")
            generator = torch.Generator().manual_seed(self.config.seed)
            return torch.randperm(n_rows, generator=generator)[:given].sort().values
        if max(given) >= n_rows:
            raise harness.ConfigError(f"relative: anchors names row {max(given)}, but there are {n_rows} rows, from 0.")
        return torch.tensor(sorted(given))

    @torch.no_grad()
    def anchors(self, ax: Float[Tensor, "a d1"], ay: Float[Tensor, "a d2"]) -> None:
        """Take these rows as anchors, and forget all rows that were compared by others."""
        check_aligned(ax, ay)
        if not len(ax):
            raise harness.ConfigError("relative: anchors() got no rows; give at least one.")
        self._frames = (_Frame("x", ax, self.config.centre), _Frame("y", ay, self.config.centre))
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
        if self._frames is None:
            raise harness.ConfigError("relative: give the anchors first, s.anchors(ax, ay), then the rows.")
        for blocks in zip(x.split(_BLOCK_ROWS), y.split(_BLOCK_ROWS), strict=True):
            units = [frame.relative(rows) for frame, rows in zip(self._frames, blocks, strict=True)]
            for frame, unit in zip(self._frames, units, strict=True):
                self._n_broken[frame.side] += int(unit.isnan().any(dim=1).sum())
            self._n_rows += len(blocks[0])
            self._total += float(torch.linalg.vecdot(*units).clamp(-1, 1).sum())

    def merge(self, other: Relative) -> None:
        """Add the rows that `other` has compared by the same anchors."""
        if other._frames is None:
            return
        if self._frames is None:
            self._frames = other._frames
        if not all(mine.equals(its) for mine, its in zip(self._frames, other._frames, strict=True)):
            raise harness.ConfigError("relative: merge() needs the same anchors on both; give both the same first.")
        self._n_rows += other._n_rows
        self._total += other._total
        for side, n_broken in other._n_broken.items():
            self._n_broken[side] += n_broken

    def compute(self) -> float:
        """The mean cosine over all rows seen since the last reset."""
        if not self._n_rows:
            raise harness.Undefined("no rows")
        for side, n_broken in self._n_broken.items():
            if n_broken:
                raise harness.Undefined(
                    f"{n_broken} of {self._n_rows} rows of {side} have no direction to compare: they are zero"
                    f"{' once centred' * self.config.centre}, or at right angles to all anchors"
                )
        return self._total / self._n_rows


class _Frame:
    """One side's anchors: unit vectors around an origin."""

    def __init__(self, side: str, anchors: Float[Tensor, "a d"], centre: bool) -> None:
        self.side = side
        rows = anchors.double()
        self.origin = rows.mean(dim=0) if centre else torch.zeros_like(rows[0])
        self.anchors = _unit(rows - self.origin)
        n_zero = int(self.anchors.isnan().any(dim=1).sum())
        if n_zero:
            centred = " once centred" * centre
            raise harness.Undefined(f"{n_zero} of {len(rows)} anchors of {side} are zero{centred}: they have no cosine")

    def relative(self, rows: Float[Tensor, "b d"]) -> Float[Tensor, "b a"]:
        """Relative vectors, scaled to unit norm; NaN where there is none."""
        return _unit(_unit(rows - self.origin) @ self.anchors.T)

    def equals(self, other: _Frame) -> bool:
        return torch.equal(self.origin, other.origin) and torch.equal(self.anchors, other.anchors)


def _unit(rows: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Rows over their norms; NaN for rows that are zero."""
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
