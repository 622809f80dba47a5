"""Sentence embeddings for scorers that ask `Embed`: from any model of the harness, or as a judge gives them.

From a model, a text's embedding is the mean of the model's last residual stream over the tokens of its first window,
the tokens that the tokenizer adds among them and padding not, scaled to unit norm: for all-MiniLM-L6-v2 what its
authors' sentence-transformers pipeline gives (mean pooling after Reimers & Gurevych 2019, arXiv 1908.10084).

The texts beside it change no bit of a text's embedding (see `run_alike`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.capturing.batches import run_alike
from harness.contracts.model import TextModel, Window
from harness.errors import Undefined

MAX_TOKENS = 256


class Embedder:
    """Embeds each distinct text once; what it has embedded stays in memory."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._site = f"resid_post.{model.n_layers - 1}"
        self._known: dict[str, Float[Tensor, " d"] | None] = {}

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """One row for each text, in float64.

        Raises:
            Undefined: a text has no tokens.
        """
        self.read(texts)
        found = [self._known[text] for text in texts]
        embeddings = [embedding for embedding in found if embedding is not None]
        if len(embeddings) < len(texts):
            raise Undefined(f"the text {texts[found.index(None)]!r} has no tokens to embed")
        return torch.stack(embeddings)

    def read(self, texts: Iterable[str]) -> None:
        """Embed what is new among the texts. Many at once are quicker than one by one."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        first_windows: list[tuple[str, Window]] = []
        for text, windows in zip(new, self._model.windows(new, MAX_TOKENS), strict=True):
            if windows:
                first_windows.append((text, windows[0]))
            else:
                self._known[text] = None
        for part in run_alike(self._model, [window for _, window in first_windows], self._site):
            pooled = _pooled(part.x.double(), part.mask)
            self._known |= {first_windows[place][0]: own for place, own in zip(part.places, pooled, strict=True)}


def unit_rows(texts: Sequence[str], embeddings: Sequence[Sequence[float]]) -> Float[Tensor, "n d"]:
    """Embeddings of texts that something else has made, scaled to unit norm in float64.

    Raises:
        Undefined: one is zero, which points nowhere.
    """
    rows = torch.tensor(embeddings, dtype=torch.float64)
    largest = rows.abs().amax(dim=1, keepdim=True)
    if not largest.all():
        raise Undefined(f"the embedding of {texts[int(largest[:, 0].argmin())]!r:.80} is zero")
    # Divided first: the squares of very large or small numbers would be infinite or zero.
    return torch.nn.functional.normalize(rows / largest, dim=1)


def _pooled(x: Float[Tensor, "n t d"], mask: Bool[Tensor, "n t"]) -> Float[Tensor, "n d"]:
    mean = x.masked_fill(~mask[..., None], 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return torch.nn.functional.normalize(mean, dim=1)
