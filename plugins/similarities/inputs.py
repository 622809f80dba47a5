"""Checks of the two inputs of a similarity over representations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness


def check_aligned(x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> None:
    """Refuse sides that are not two finite, row-aligned matrices.

    Raises:
        ConfigError: a side is no tensor of real numbers, or the shapes can't belong to one set of rows.
        Undefined: a side holds NaN or infinite values.
    """
    for side, rows in (("x", x), ("y", y)):
        if not isinstance(rows, Tensor) or rows.is_complex() or rows.dtype == torch.bool:
            what = f"a tensor of {rows.dtype}" if isinstance(rows, Tensor) else f"a {type(rows).__name__}"
            raise harness.ConfigError(
                f"{side} is {what}; give a tensor of real numbers, such as torch.from_numpy(x) or x.float()."
            )
        if rows.ndim != 2 or rows.shape[1] == 0:
            raise harness.ConfigError(f"{side} has shape {tuple(rows.shape)}; give [n rows, d] with d >= 1.")
    if len(x) != len(y):
        raise harness.ConfigError(f"x has {len(x)} rows, y has {len(y)}; row i of both must stand for the same token.")
    for side, rows in (("x", x), ("y", y)):
        check_finite(side, rows)


def check_finite(side: str, rows: Float[Tensor, "n d"]) -> None:
    """Refuse rows that hold NaN or infinite values, as Undefined."""
    broken = ~torch.isfinite(rows).all(dim=1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise harness.Undefined(
            f"{int(broken.sum())} of {len(rows)} rows of {side} hold NaN or infinite values, first row {first}"
        )


def check_n_rows(name: str, n_rows: int, max_rows: int, advice: str) -> None:
    """Refuse more rows than a metric over all pairs of rows has memory or time for."""
    if n_rows > max_rows:
        raise harness.ConfigError(
            f"{name} compares all pairs of rows and takes at most {max_rows:,}, got {n_rows:,}. {advice}"
        )
