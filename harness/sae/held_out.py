"""Rows that no pass trains on. Replayed rows come to need fewer latents than new ones, so the sparsity that a kind is
asked for is measured on rows set apart: on 30k rows of SmolLM2, a ReLU SAE steered by the L0 of trained rows to 40
gave 45 on other documents.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.contracts.method import Batch

ONE_IN = 32


def is_held_out(rows: pd.DataFrame) -> Bool[np.ndarray, " b"]:
    """True for one row in 32, the same in every pass: a hash of their identity decides."""
    identity = pd.util.hash_pandas_object(rows[["document", "window", "position"]], index=False)
    return np.asarray(identity.to_numpy() % ONE_IN == 0)


def set_apart(batch: Batch) -> tuple[Float[Tensor, "t d"], Float[Tensor, "h d"]]:
    """The rows to train on, and the others."""
    held_out = torch.from_numpy(is_held_out(batch.rows)).to(batch.x.device)
    return batch.x[~held_out], batch.x[held_out]
