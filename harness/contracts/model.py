"""Models: what activations are read from.

All models are a `Model`. Besides, a model runs texts, and is then a `TextModel`, or it has rows of its own
(`HasOwnRows`). A `TextModel` may be able to go on from changed activations (`HasHead`), to be run with edits at several
sites (`HasRuns`), to be read within sublayers (`HasInnerSites`), to say which tokens a direction promotes
(`HasUnembedding`) and where it computes (`HasDevice`); of made-up rows the features may be known (`KnowsTruth`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.decomposition import Codes


@dataclass(frozen=True)
class Window:
    """Up to `context` consecutive tokens of a document, as the model will see them."""

    ids: Sequence[int]
    """Ids of the tokens."""
    special: Sequence[bool]
    """True for tokens that the tokenizer added or that are control tokens."""
    start: Sequence[int | None]
    """The character of the document at which each token begins; None without a fast tokenizer and for tokens that
    stand for no text."""
    end: Sequence[int | None]
    """The character after each token, or None."""


@dataclass(frozen=True, repr=False)
class Capture:
    """Activations by site, in the model's dtype and on the CPU, and the identity of each row."""

    x: dict[str, Float[Tensor, "n d"]]
    """The rows at each site, which all have the same order."""
    rows: pd.DataFrame
    """The identity of each row, as `make_rows` makes it."""

    def __repr__(self) -> str:
        widths = ", ".join(map(str, dict.fromkeys(x.shape[1] for x in self.x.values())))
        return f"Capture({', '.join(self.x)}: {len(self.rows)} rows of width {widths})"


@dataclass(frozen=True)
class Truth:
    """The known composition of rows: x = codes · dictionary + noise."""

    dictionary: Float[Tensor, "f d"]
    """The direction of every feature."""
    codes: Codes
    """The activation of every feature in each row."""
    parents: Int[Tensor, " f"] | None = None
    """The feature without which each is never active, or -1 where there is none; None where that is not known."""


class Model(Protocol):
    """Something that has activations."""

    @property
    def n_layers(self) -> int:
        """Blocks of the model; sites are named by their number, from 0 on."""
        ...

    @property
    def width(self) -> int:
        """Dimensions of the residual stream."""
        ...

    @property
    def tokenizer_hash(self) -> str:
        """A hash that two models share only if they cut texts into the same tokens."""
        ...


@runtime_checkable
class RunsTexts(Protocol):
    """The ability to cut texts into tokens and to read activations while running them."""

    def windows(self, texts: Sequence[str], context: int) -> Sequence[Sequence[Window]]:
        """Cut each text into consecutive windows."""
        ...

    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> Mapping[str, Float[Tensor, "b t d"]]:
        """Run windows and give the activations at every site; the forward pass goes no deeper than needed.

        False in `mask` is padding.
        """
        ...


class TextModel(Model, RunsTexts, Protocol):
    """A model that runs texts: what captures, encoders and questions to the subject model need."""


@runtime_checkable
class HasDevice(Protocol):
    """The ability to say where it computes: on a card it gets more windows at a time."""

    @property
    def device(self) -> torch.device:
        """The device of the model, or the first of several."""
        ...


@runtime_checkable
class HasInnerSites(Protocol):
    """The ability to give sites within sublayers, `mlp_act` and `attn_z`: neurons and heads."""

    def site_width(self, site: str) -> int:
        """Give the dimensions of a row at a site, which may be another number than `width`."""
        ...

    def site_groups(self, site: str) -> int:
        """Give the number of groups of columns, equally wide and side by side, that are units: heads at `attn_z`.

        It is 1 where columns form no groups. No decomposition has heads for latents, as a code is one number and what
        a head adds is a row: who takes heads for units puts groups of columns in and out of their place.
        """
        ...


def site_width(model: Model, site: str) -> int:
    """The dimensions of a row at a site of a model."""
    return model.site_width(site) if isinstance(model, HasInnerSites) else model.width


@runtime_checkable
class HasOwnRows(Protocol):
    """The ability to give rows that were made elsewhere or are made up; such a model runs no texts."""

    def stored_capture(self, sites: Sequence[str]) -> Capture:
        """Give all rows at these sites, aligned with one table of their identities."""
        ...


@runtime_checkable
class HasHead(Protocol):
    """The ability to predict next tokens, also after something else was put in the place of activations."""

    def replay(self, ids: Int[Tensor, "b t"], site: str) -> Replay:
        """Run windows so that they can be run again from `site` on.

        What `ids` hold after a window's end is without effect on it.

        Raises:
            Undefined: next tokens can't be predicted after all; the reason says why.
        """
        ...


class Replay(Protocol):
    """A batch of windows that a model has run, and can run again from one site on."""

    @property
    def x(self) -> Float[Tensor, "b t d"]:
        """The activations at the site, on the CPU."""
        ...

    @property
    def n_bytes(self) -> int:
        """Memory that keeping it takes."""
        ...

    def logits(self) -> Float[Tensor, "b t v"]:
        """The logits of the unhooked model."""
        ...

    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """The logits with `x` at the site; those of the unhooked model, bit for bit, where nothing is changed."""
        ...


@runtime_checkable
class HasUnembedding(Protocol):
    """The ability to say which tokens a direction of the residual stream promotes: the logit lens.

    Each method may raise `Undefined` with the reason where the model has no such head after all.
    """

    def unembed(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """The logits of rows of the residual stream after the last block, by the model's own last norm and head."""
        ...

    def unembedding(self, ids: Int[Tensor, " t"]) -> Float[Tensor, "t e"]:
        """The rows of the head's matrix that make the logits of these tokens."""
        ...

    def token_texts(self, ids: Sequence[int]) -> Sequence[str]:
        """The text of each token, with the space before it if it has one."""
        ...


@runtime_checkable
class KnowsTruth(Protocol):
    """The ability to say of which features rows were made."""

    def truth(self, rows: pd.DataFrame) -> Truth:
        """The features, and how active they are in these rows of its own."""
        ...
