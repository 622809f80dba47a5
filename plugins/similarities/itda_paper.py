"""The baselines that ITDA was published against (Leask et al. 2025, arXiv 2505.17769), in the form of its public code.

They are not the textbook metrics, and exist so that the published table can be reproduced. To compare representations
take `cka`, `svcca` and `relative`. Common to all three: float32 throughout, and only the first 100,000 rows count.
What the published code answers with NaN, and what is too small for its fixed numbers, is undefined here.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.similarities.inputs import check_aligned

_FIRST_ROWS = 100_000
_N_DIRECTIONS = 20
_EPSILON = 1e-12
_N_ANCHORS = 300
_ANCHOR_SEED = 42
_SKETCH_SEED = 42


class _ItdaPaper:
    higher_is_more_similar = True
    symmetric = True
    streams = False

    def __init__(self, config: object) -> None:
        """Take no parameters: the published numbers are fixed."""

    @torch.no_grad()
    def __call__(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        check_aligned(x, y)
        value = self._compare(x[:_FIRST_ROWS].float(), y[:_FIRST_ROWS].float())
        if not math.isfinite(value):
            raise harness.Undefined(f"the published formula gives {value}")
        return value

    def _compare(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        raise NotImplementedError


class CkaItdaPaper(_ItdaPaper):
    """Linear CKA of standardised columns: ‖XᵀY‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F), X and Y centred, each column over its norm.

    Deviates from Kornblith et al. 2019 in the column norms: a rotation changes the value, a scale of each column does
    not. Undefined where a column is constant, whose norm is 0.
    """

    range = (0.0, 1.0)
    invariant_to = frozenset({"isotropic_scale", "translation", "permutation"})

    def _compare(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        x, y = _standardised("x", x), _standardised("y", y)
        norm = torch.linalg.matrix_norm
        return float(norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y)))


class SvccaItdaPaper(_ItdaPaper):
    """Mean of the square roots of 20 numbers that would be squared canonical correlations, were M symmetric.

    Of the centred rows, a randomised SVD keeps 20 directions U·S of each side. With covariances C of these,
        M = pinv(Cxx + εI) Cxy pinv(Cyy + εI) Cxyᵀ,   ε = 1e-12.
    Deviates from Raghu et al. 2017: always 20 directions, whatever their variance; M is not symmetric, but its
    eigenvalues are taken by a solver for symmetric matrices, which looks at the lower triangle only. Negative ones are
    set to 0. The value of (x, y) is not that of (y, x), and may exceed 1.

    The SVD's random sketch (torch.svd_lowrank, 2 iterations) is drawn with seed 42, anew for each side; the published
    code does not seed it.
    """

    symmetric = False
    range = (0.0, math.inf)
    invariant_to = frozenset({"translation"})

    def _compare(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        x, y = _reduced("x", x), _reduced("y", y)
        n_rows = len(x)
        ridge = _EPSILON * torch.eye(_N_DIRECTIONS, device=x.device)
        xx, yy, xy = (a.T @ b / (n_rows - 1) for a, b in ((x, x), (y, y), (x, y)))
        m = torch.linalg.pinv(xx + ridge) @ xy @ torch.linalg.pinv(yy + ridge) @ xy.T
        return float(torch.linalg.eigvalsh(m).clamp(min=0).sqrt().mean())


class RelativeItdaPaper(_ItdaPaper):
    """Mean over rows of the cosine between the rows' vectors of cosines to 300 anchors.

    The anchors are the first 300 of a random permutation of the rows with seed 42. Deviates from `relative` in float32
    and in always taking these. The published code asks for equal widths; nothing in the formula does, nor does this.
    """

    range = (-1.0, 1.0)
    invariant_to = frozenset({"orthogonal", "isotropic_scale", "permutation"})

    def _compare(self, x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
        if len(x) < _N_ANCHORS:
            raise harness.Undefined(f"{_N_ANCHORS} anchors can't be drawn from {len(x)} rows")
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(_ANCHOR_SEED))
        anchors = order[:_N_ANCHORS].to(x.device)
        x, y = _unit("x", x), _unit("y", y)
        return float(torch.cosine_similarity(x @ x[anchors].T, y @ y[anchors].T, dim=1).mean())


def _standardised(side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    centred = rows - rows.mean(dim=0)
    norms: Tensor = torch.linalg.vector_norm(centred, dim=0)
    n_constant = int((norms == 0).sum())
    if n_constant:
        raise harness.Undefined(f"{n_constant} of {rows.shape[1]} columns of {side} are constant: 0 can't be normed")
    return centred / norms


def _reduced(side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n 20"]:
    if min(rows.shape) < _N_DIRECTIONS:
        raise harness.Undefined(f"{side} has shape {tuple(rows.shape)}, too small for {_N_DIRECTIONS} directions")
    devices = [rows.device] if rows.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(_SKETCH_SEED)
        u, s, _ = torch.svd_lowrank(rows - rows.mean(dim=0), q=_N_DIRECTIONS)
    return u * s


def _unit(side: str, rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    n_zero = int((norms == 0).sum())
    if n_zero:
        raise harness.Undefined(f"{n_zero} of {len(rows)} rows of {side} are zero, which has no cosine")
    return rows / norms
