"""Runs of a model with edits: what circuits, steering and patching are made of.

A model that `HasRuns` takes a batch of windows and gives `Runs` of it: each runs the windows once, with other
activations at the sites that are edited. An edit is a function of what arrives, so at a later site it decodes and
changes what the earlier edits have led to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


class Edit(Protocol):
    """A function from what arrives at a site to what goes on.

    It is given all tokens of the batch, padding too, of the site's width, in the model's dtype and on its device, and
    gives the same shape. It writes into nothing that it is given, and is differentiable where gradients are to go
    through it.
    """

    def __call__(self, x: Float[Tensor, "b t w"], /) -> Float[Tensor, "b t w"]:
        """Give what goes on in place of `x`."""
        ...


class Runs(Protocol):
    """A batch of windows of one causal model, filled up on the right, that can be run again and again with edits.

    Edits are applied in the order in which the model comes to their sites; no run leaves anything for the next. Where
    an edit gives what it was given, all stays as it is without the edit, bit for bit. Tensors are on the model's device
    and in its dtype. Rows of padding hold anything, and nothing depends on them.
    """

    def activations(
        self, sites: Sequence[str], edits: Mapping[str, Edit] | None = None
    ) -> dict[str, Float[Tensor, "b t w"]]:
        """Give what goes on from each site, behind its own edit if it has one; the pass goes no deeper than needed."""
        ...

    def logits(self, edits: Mapping[str, Edit] | None = None) -> Float[Tensor, "b v"]:
        """Give the logits of what follows each window: those at its last token."""
        ...

    def gradients(
        self,
        sites: Sequence[str],
        of: Callable[[Float[Tensor, "b v"]], Float[Tensor, ""]],
        edits: Mapping[str, Edit] | None = None,
    ) -> dict[str, Float[Tensor, "b t w"]]:
        """Give the gradient of `of(logits)` with respect to what goes on from each site, at the values that are there.

        It is the whole one: what a site does through later sites and their edits counts. Where nothing leads from a
        row to the logits, as from padding, it is 0.
        """
        ...


@runtime_checkable
class HasRuns(Protocol):
    """The ability to be run with edits."""

    def runs(self, ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Runs:
        """Take windows of so many tokens each, all of which begin in the first column.

        What `ids` hold behind a window's end is without effect.

        Raises:
            Undefined: next tokens can't be predicted after all, or padding would change the windows; the reason says
                which.
        """
        ...
