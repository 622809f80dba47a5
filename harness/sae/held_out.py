"""Rows that no pass trains on. Replayed rows come to need fewer latents than new ones, so the sparsity that a kind is
asked for is measured on rows set apart: on 30k rows of SmolLM2, a ReLU SAE steered by the L0 of trained rows to 40
gave 45 on other documents.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.contracts.method import Batch
from harness.contracts.rows import hash_rows

ONE_IN = 32


def is_held_out(rows: pd.DataFrame) -> Bool[np.ndarray, " b"]:
    """True for one row in 32, the same in every pass: a hash of their identity decides."""
    return _are_chosen(hash_rows(rows))


def set_apart(batch: Batch) -> tuple[Float[Tensor, "t d"], Float[Tensor, "h d"]]:
    """The rows to train on, and the others."""
    held_out = _are_chosen(batch.hashes)
    # Places, not truth values: a card would have to be waited for to count these.
    places = (torch.from_numpy(np.flatnonzero(chosen)).to(batch.x.device) for chosen in (~held_out, held_out))
    kept, apart = (batch.x[own] for own in places)
    return kept, apart


def _are_chosen(hashes: npt.NDArray[np.uint64]) -> Bool[np.ndarray, " b"]:
    return np.asarray(hashes % np.uint64(ONE_IN) == 0)
