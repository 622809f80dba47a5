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

import harness

ONE_IN = 32


def is_held_out(rows: pd.DataFrame) -> Bool[np.ndarray, " b"]:
    """True for one row in 32, the same in every pass: a hash of their identity decides."""
    identity = pd.util.hash_pandas_object(rows[["document", "window", "position"]], index=False)
    return identity.to_numpy() % ONE_IN == 0


def set_apart(batch: harness.Batch) -> tuple[Float[Tensor, "t d"], Float[Tensor, "h d"]]:
    """The rows to train on, and the others."""
    held_out = torch.from_numpy(is_held_out(batch.rows)).to(batch.x.device)
    return batch.x[~held_out], batch.x[held_out]


def none_held_out(name: str, parameter: str, way_out: str) -> harness.ConfigError:
    """The error of a stream too short to have any."""
    return harness.ConfigError(
        f"{name}: {parameter} needs rows kept out of training, one in {ONE_IN}, and among so few rows there was none. "
        f"Give {way_out}."
    )
