"""The logit lens: which next tokens a direction of the residual stream promotes, and which it suppresses.

For a direction d the lens is unembed(d) − unembed(0), with unembed(x) = head(norm(x)) the model's own last norm and
head (nostalgebraist 2020, "interpreting GPT: the logit lens"; the norm as in Belrose et al. 2023, arXiv 2303.08112).
d is scaled to norm 1: the length of a row of the dictionary is a matter of the unit of its code, and the epsilon in the
model's norm would see it. What norm and head give on nothing, their biases, is taken off: it would put the same
frequent tokens at the top for every direction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.model import HasUnembedding, Model, RunsTexts
from harness.contracts.sites import parse_site
from harness.errors import Undefined

N_TOKENS = 10
# Their logits over a vocabulary of 260,000 tokens take 64 MB.
_DIRECTIONS_AT_ONCE = 64


@dataclass
class Lens:
    """Asks the model, which is loaded when first needed."""

    load_model: Callable[[], Model]
    site: str
    """Place of the directions."""
    _zero: Float[Tensor, "1 v"] | None = field(default=None, init=False)

    @cached_property
    def _loaded(self) -> Model:
        return self.load_model()

    @property
    def model(self) -> HasUnembedding:
        """The model, which has an unembedding.

        Raises:
            Undefined: there is no model, or none that can be asked of these directions; the reason says why.
        """
        if parse_site(self.site).is_inner:
            raise Undefined(f"a direction at {self.site} is none of the residual stream, which the lens looks at")
        if isinstance(self._loaded, HasUnembedding):
            return self._loaded
        if isinstance(self._loaded, RunsTexts):
            name = type(self._loaded).__name__
            raise Undefined(f"its model, {name}, has no unembed() and token_texts(): see harness.HasUnembedding")
        raise Undefined("its rows are stored; there is no model to ask")

    def __call__(self, directions: Float[Tensor, "u d"]) -> list[dict[str, Any]]:
        """The tokens `promoted` and `suppressed` by each direction, with their logits; or a `reason`, one for all."""
        try:
            return [read for part in self.logits(directions) for read in map(self._read, part)]
        except Undefined as undefined:
            return [{"reason": undefined.reason} for _ in directions]

    def logits(self, directions: Float[Tensor, "u d"]) -> Iterator[Float[Tensor, "b v"]]:
        """The lens of the directions, some at a time.

        Raises:
            Undefined: there is no model or it has no head; the reason says why.
        """
        if self._zero is None:
            self._zero = self._unembed(torch.zeros_like(directions[:1]))
        for part in torch.nn.functional.normalize(directions, dim=1).split(_DIRECTIONS_AT_ONCE):
            yield self._unembed(part) - self._zero

    def _unembed(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        return self.model.unembed(x).float().cpu()

    def _read(self, logits: Float[Tensor, " v"]) -> dict[str, Any]:
        n = min(N_TOKENS, len(logits))
        ends = {"promoted": logits.topk(n), "suppressed": logits.topk(n, largest=False)}
        return {name: self._tokens(end.values, end.indices) for name, end in ends.items()}

    def _tokens(self, logits: Float[Tensor, " t"], ids: Tensor) -> list[dict[str, Any]]:
        texts = self.model.token_texts(ids.tolist())
        return [{"token": text, "logit": logit} for text, logit in zip(texts, logits.tolist(), strict=True)]
