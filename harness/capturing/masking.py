"""The rows that are left out of fits and evaluations alike: attention sinks, and rows that are not finite."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.errors import StoreError
from harness.storage.activation_store import StoredActivations


def masked_rows(activations: StoredActivations, fit: StoredActivations, max_norm_multiple: float) -> Bool[Tensor, " n"]:
    """True for rows that are left out: norm above a multiple of the typical one of the fit rows, or not finite.

    A few such rows (attention sinks) hold much of all squared error, and where they fall is chance.
    """
    return ~kept(activations.norms, max_norm(fit, max_norm_multiple))


def kept(norms: Float[Tensor, " n"], max_norm: float) -> Bool[Tensor, " n"]:
    """True for the norms of rows that are not left out."""
    return (norms <= max_norm) & torch.isfinite(norms)


def max_norm(fit: StoredActivations, max_norm_multiple: float) -> float:
    """A multiple of the typical norm of the fit rows."""
    if not torch.isfinite(fit.norms).any():
        raise StoreError(f"{fit.folder}: no row is finite. In float16 large activations overflow: set dtype=bfloat16.")
    return max_norm_multiple * typical_norm(fit.norms)


def typical_norm(norms: Float[Tensor, " n"]) -> float:
    """The median of the norms that are finite and not zero; infinite where there are none.

    Of sparse rows more than half may be zero: a median of all would be zero too, and mask every other row.
    """
    found = norms[torch.isfinite(norms) & (norms > 0)].cpu().numpy()
    return float(np.median(found)) if len(found) else float("inf")
