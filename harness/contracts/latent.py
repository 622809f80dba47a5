"""Latents and their windows, as scorers and explainers see them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from jaxtyping import Float
    from torch import Tensor


NEAR = ("near_latent", "near_text")
"""Samples of silent windows that are hard to tell from active ones; see `harness/latents/negatives.py`."""


@dataclass(frozen=True)
class LatentWindow:
    """A few consecutive tokens of a document and what one pole of a latent does on each of them."""

    document: str
    """The id of the document."""
    tokens: tuple[str, ...]
    """Tokens that together spell the text: the space before a word belongs to its token."""
    activations: tuple[float, ...]
    """The activation on each token, 0 or more; 0 also for masked rows."""
    is_active: bool
    """True where a token's activation is above the latent's threshold; False where every token is silent. Windows that
    are neither are not shown to scorers."""
    sample: str
    """The way it was chosen: `top`, `quantile`, `random` (all active), `silent` (at random), `near_latent` (silent
    while a near latent is active) or `near_text` (silent, with much the same words as an active one)."""

    @property
    def text(self) -> str:
        """The text of all tokens."""
        return "".join(self.tokens)

    @property
    def peak_token(self) -> str:
        """The token with the largest activation; the first one if several have it."""
        return self.tokens[self.activations.index(max(self.activations))]


@dataclass(frozen=True)
class Latent:
    """One pole of one latent. `explain` and `test` windows come from different documents."""

    index: int
    """Number of the latent: its row in the dictionary."""
    sign: int
    """1, or -1 for the negative pole of a signed code; activations and `direction` are multiplied by it."""
    threshold: float
    """A token is active where its activation exceeds it."""
    explain: tuple[LatentWindow, ...]
    """Windows to learn from what it stands for."""
    test: tuple[LatentWindow, ...]
    """Windows to be tested on; an explainer sees none."""
    direction: Float[Tensor, " d"] | None = None
    """The latent's row of the dictionary."""
    source: str | None = None
    """The text around the token that the latent was taken from, where it is a stored activation; None elsewhere."""
    other: Latent | None = None
    """Another latent of the decomposition: its explanation is the random one that controls this one's."""
    near_explain: tuple[LatentWindow, ...] = ()
    """Silent windows that are hard to tell from active ones, of the documents of `explain`; see `against`."""
    near_test: tuple[LatentWindow, ...] = ()
    """Such windows of the documents of `test`."""
    explanation: str | None = None
    """An explainer's text about the explain windows; given to scorers whose Spec says needs=("explanation",)."""

    @property
    def random_explanation(self) -> str | None:
        """The other latent's explanation, which controls this one's; None where there is none."""
        return None if self.other is None else self.other.explanation

    def against(self, negatives: str) -> Latent:
        """Return this latent with other silent windows in `explain` and `test`, and `other` changed likewise.

        Args:
            negatives: `random` for the silent windows as given, `near_latent` or `near_text`.
        """
        if negatives == "random":
            return self

        def chosen(windows: tuple[LatentWindow, ...], near: tuple[LatentWindow, ...]) -> tuple[LatentWindow, ...]:
            active = (window for window in windows if window.is_active)
            return (*active, *(window for window in near if window.sample == negatives))

        return replace(
            self,
            explain=chosen(self.explain, self.near_explain),
            test=chosen(self.test, self.near_test),
            other=self.other and self.other.against(negatives),
        )
