"""Rows of texts whose tokens are words with the space before them, as captures make them, and codes for them."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import torch
from torch import Tensor

import harness
from harness.capturing.activations import TensorActivations
from harness.latents.activations import LatentActivations, read_activations

CPU = torch.device("cpu")


def rows_of(texts: dict[str, str], context: int = 128) -> pd.DataFrame:
    """The first token of each capture window is no row; offsets leave out the space before a word, as GPT-2's do."""
    columns: dict[str, list[Any]] = {name: [] for name in ("document", "window", "position", "start", "end")}
    for document, text in texts.items():
        for number, word in enumerate(re.finditer(r"\S+", text)):
            if number % context:
                place = document, number // context, number % context, word.start(), word.end()
                for name, value in zip(columns, place, strict=True):
                    columns[name].append(value)
    return harness.make_rows(columns)


class Fixed(harness.Decomposition):
    """Row i, whose first coordinate is i, has the i-th of the given codes."""

    def __init__(self, codes: harness.Codes, n_latents: int, signed: bool = True) -> None:
        self.codes, self.n_latents, self.signed = codes, n_latents, signed

    def encode(self, x: Tensor) -> harness.Codes:
        places = x[:, 0].long()
        assert (places >= 0).all(), "a masked row was encoded"
        indices = self.codes.indices
        return harness.Codes(self.codes.values[places], None if indices is None else indices[places], self.n_latents)

    def decode(self, codes: harness.Codes) -> Tensor:
        raise NotImplementedError


def numbered(n: int, masked: Tensor) -> TensorActivations:
    """Rows that hold their own number; masked ones hold NaN."""
    x = torch.arange(n, dtype=torch.float32)[:, None].repeat(1, 2)
    x[masked] = float("nan")
    return TensorActivations(x, pd.DataFrame())


def read_dense(codes: Tensor, masked: Tensor | None = None, signed: bool = True) -> LatentActivations:
    """The latent activations of dense codes `[n, m]`."""
    masked = torch.zeros(len(codes), dtype=torch.bool) if masked is None else masked
    decomposition = Fixed(harness.Codes(codes), codes.shape[1], signed)
    return read_activations(decomposition, numbered(len(codes), masked), masked, CPU)
