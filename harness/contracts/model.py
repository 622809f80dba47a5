"""Models: what activations are read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """Up to `context` consecutive tokens of a document, as the model will see them."""

    ids: Sequence[int]
    special: Sequence[bool]
    """True for tokens that the tokenizer added or that are control tokens."""
    start: Sequence[int | None]
    """Character offsets in the document; None without a fast tokenizer and for tokens that stand for no text."""
    end: Sequence[int | None]


class Model(Protocol):
    """Something whose activations can be read."""

    n_layers: int
    width: int
    tokenizer_hash: str

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """For each text, its consecutive windows."""
        ...

    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        """The activations at every site; the forward pass goes no deeper than needed. False in `mask` is padding."""
        ...


class Replay(Protocol):
    """A batch of windows that a model has run, and can run again from one site on.

    A model that has a language-model head offers `replay(ids, site) -> Replay`, which raises `Undefined` with the
    reason where next tokens can't be predicted. What `ids` hold after a window's end is without effect on it.
    """

    x: Float[Tensor, "b t d"]
    """The activations at the site, on the CPU."""
    n_bytes: int

    def logits(self) -> Float[Tensor, "b t v"]:
        """The logits of the unhooked model."""
        ...

    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """The logits with `x` at the site; those of the unhooked model, bit for bit, where nothing is changed."""
        ...
