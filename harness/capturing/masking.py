"""The rows that are left out of fits and evaluations alike: attention sinks, and rows that are not finite."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from harness.errors import StoreError
from harness.storage.activation_store import StoredActivations


def masked_rows(activations: StoredActivations, fit: StoredActivations, max_norm_multiple: float) -> Bool[Tensor, " n"]:
    """True for rows that are left out: norm above a multiple of the median of the fit rows, or not finite.

    A few such rows (attention sinks) hold much of all squared error, and where they fall is chance.
    """
    return ~(activations.norms <= max_norm(fit, max_norm_multiple))


def max_norm(fit: StoredActivations, max_norm_multiple: float) -> float:
    """A multiple of the median norm of the fit rows."""
    finite = fit.norms[torch.isfinite(fit.norms)].numpy()
    if not len(finite):
        raise StoreError(f"{fit.folder}: no row is finite. In float16 large activations overflow: set dtype=bfloat16.")
    return max_norm_multiple * float(np.median(finite))
