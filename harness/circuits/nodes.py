"""Nodes: the latents of a decomposition, and what it leaves over of each row, as parts of a model's computation.

A decoder that is affine in its codes makes each row a sum, x = Σ_i f_i d_i + b + ε: of latents with their directions,
an offset, and the error ε, which is a node of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.linear import working_precision
from harness.errors import Undefined

_BLOCK = 1024
_TOLERANCE = 1e-3
"""Share of a row's norm by which decoding may differ from the sum of latents, in float32."""


class Nodes:
    """The latents of one decomposition at one site."""

    def __init__(self, decomposition: Decomposition, rows: Float[Tensor, "n d"]) -> None:
        """Read the directions off the decoder.

        Args:
            decomposition: what is looked at.
            rows: some rows of the site, on which it is tried whether decoding is affine.

        Raises:
            Undefined: it is not.
        """
        self._decomposition = decomposition
        codes = decomposition.encode(working_precision(rows))
        self.n_latents = decomposition.n_latents
        self.is_sparse = codes.indices is not None
        # Bound to the type of the rows: what decodes them is what the edits of a model do.
        self.offset = self._decoded(torch.zeros(1, self.n_latents, dtype=codes.values.dtype, device=rows.device))[0]
        self.directions = torch.cat(list(self._directions(codes.values)))
        self._check(codes, working_precision(rows))

    def codes(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t m"]:
        """The activation of every latent in each row."""
        rows = working_precision(x).reshape(-1, x.shape[-1])
        return self._decomposition.encode(rows).to_dense(self.n_latents).reshape(*x.shape[:-1], self.n_latents)

    def decoded(self, codes: Float[Tensor, "... m"]) -> Float[Tensor, "... d"]:
        """The rows that codes stand for."""
        return codes @ self.directions + self.offset

    def errors(self, x: Float[Tensor, "b t d"], codes: Float[Tensor, "b t m"]) -> Float[Tensor, "b t d"]:
        """The rest of each row: ε."""
        return working_precision(x) - self.decoded(codes)

    def _directions(self, like: Tensor) -> Iterator[Float[Tensor, "b d"]]:
        for index in torch.arange(self.n_latents, device=like.device).split(_BLOCK):
            one = torch.zeros(len(index), self.n_latents, dtype=like.dtype, device=like.device)
            one[torch.arange(len(index)), index] = 1
            yield self._decoded(one) - self.offset

    def _decoded(self, dense: Float[Tensor, "n m"]) -> Float[Tensor, "n d"]:
        """Decode codes of a few latents in the form in which they are encoded."""
        if not self.is_sparse:
            return self._decomposition.decode(Codes(dense))
        values, indices = dense.abs().max(dim=1, keepdim=True)
        return self._decomposition.decode(Codes(values, indices, self.n_latents))

    def _check(self, codes: Codes, rows: Float[Tensor, "n d"]) -> None:
        decoded = self._decomposition.decode(codes)
        difference = (self.decoded(codes.to_dense(self.n_latents)) - decoded).norm(dim=1)
        if not bool((difference <= _TOLERANCE * (rows.norm(dim=1) + decoded.norm(dim=1))).all()):
            raise Undefined(
                f"decoding is not affine in the codes of {type(self._decomposition).__name__}: rows are no sum of "
                "latents, so none has an effect of its own"
            )
