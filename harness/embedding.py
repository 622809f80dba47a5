"""Sentence embeddings from any model of the harness, for scorers that ask `Embed`.

A text's embedding is the mean of the model's last residual stream over the tokens of its first window, the tokens that
the tokenizer adds among them and padding not, scaled to unit norm: for all-MiniLM-L6-v2 what its authors'
sentence-transformers pipeline gives (mean pooling after Reimers & Gurevych 2019, arXiv 1908.10084).

Invariant: batches have fixed shapes, so the texts beside it change no bit of a text's embedding, and a run that was
cut off and goes on gives the numbers of one that was not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts import Model, Window
from harness.errors import Undefined

MAX_TOKENS = 256
_BATCH_TEXTS = 8
_LENGTH_STEP = 16


class Embedder:
    """Embeds each distinct text once; what it has embedded stays in memory."""

    def __init__(self, model: Model) -> None:
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
        by_length: dict[int, list[tuple[str, Window]]] = defaultdict(list)
        for text, windows in zip(new, self._model.windows(new, MAX_TOKENS), strict=True):
            if windows:
                by_length[-(-len(windows[0].ids) // _LENGTH_STEP) * _LENGTH_STEP].append((text, windows[0]))
            else:
                self._known[text] = None
        for n_tokens, group in by_length.items():
            for first in range(0, len(group), _BATCH_TEXTS):
                part = group[first : first + _BATCH_TEXTS]
                pooled = self._pooled([window for _, window in part], n_tokens)
                self._known.update(zip((text for text, _ in part), pooled, strict=True))

    def _pooled(self, windows: Sequence[Window], n_tokens: int) -> Float[Tensor, "n d"]:
        """The embeddings of up to a batch of windows, none longer than `n_tokens`; missing ones are filled up."""
        ids = torch.zeros(_BATCH_TEXTS, n_tokens, dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[:, 0] = True
        for row, window in enumerate(windows):
            ids[row, : len(window.ids)] = torch.tensor(window.ids)
            mask[row, : len(window.ids)] = True
        x = self._model.activations(ids, mask, [self._site])[self._site].cpu().double()
        mean = x.masked_fill(~mask[..., None], 0).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return torch.nn.functional.normalize(mean, dim=1)[: len(windows)]
