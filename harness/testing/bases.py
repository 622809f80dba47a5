"""Made-up fits for methods that learn from one."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.grouped import GroupedDecomposition, Member

_N_FAMILIES = 8
_OF_FAMILY = 4
_SPREAD = 0.2
_K = 6


class ExampleBase(Decomposition):
    """Latents in families that point much the same way, so that those of a family fire together; 6 codes a row."""

    signed = False
    dictionary: Float[Tensor, "m d"]

    def __init__(self, width: int) -> None:
        generator = np.random.default_rng(0)  # numbers of torch's would be taken for the method's own
        families = generator.normal(size=(_N_FAMILIES, 1, width))
        rows = (families + _SPREAD * generator.normal(size=(_N_FAMILIES, _OF_FAMILY, width))).reshape(-1, width)
        self.dictionary = torch.from_numpy(rows / np.linalg.norm(rows, axis=1, keepdims=True)).float()

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        values, indices = (x @ self.dictionary.T.to(x)).topk(_K, dim=1)
        return Codes(values.relu(), indices, self.n_latents)

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        return codes.to_dense(self.n_latents) @ self.dictionary.to(codes.values)


def example_groups(width: int) -> GroupedDecomposition:
    """The families of `ExampleBase` as groups."""
    numbers = range(_N_FAMILIES)
    members = [[Member(_OF_FAMILY * i + j, 1, 1.0, 1.0) for j in range(_OF_FAMILY)] for i in numbers]
    return GroupedDecomposition(ExampleBase(width), members)


BASES = (ExampleBase, example_groups)
"""Functions that give a base for rows of a width; a method is tried with the first that it can learn from."""
