"""Documents read for a monitor: their sums, and where in their texts each pole is strongest."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.capturing.capture import read
from harness.capturing.masking import kept
from harness.contracts.corpus import Document, document_id
from harness.contracts.decomposition import Decomposition
from harness.contracts.model import TextModel
from harness.errors import ConfigError
from harness.latents.cards import source
from harness.monitoring.documents import NO_ROW, DocumentCounter, StrongestRows, WatchedDocuments
from harness.monitoring.settings import MonitorSettings
from harness.storage.activation_store import row_norms

N_EXAMPLES = 3
N_TOKENS = 5


@dataclass(frozen=True)
class ReadDocuments:
    """Documents with their sums."""

    documents: WatchedDocuments
    """The ones that have rows."""
    texts: Sequence[str]
    """The texts of all that were given."""
    ids: Sequence[str]
    strongest: StrongestRows
    spans: Int[np.ndarray, "n 2"]
    """The characters at which the token of each row starts and ends; −1 where the tokenizer does not say."""

    @property
    def n_without_rows(self) -> int:
        return len(self.texts) - len(self.documents)

    def examples(self, pole: int) -> list[dict[str, Any]]:
        """The places where a pole is strongest, one a document, each with the text around it."""
        found = []
        for document, row in self.strongest.of(pole, N_EXAMPLES):
            start, end = self.spans[row].tolist()
            if start != NO_ROW:
                found.append(source(self.ids[document], self.texts[document], start, end))
        return found

    def tokens(self) -> dict[int, list[str]]:
        """The different tokens on which each pole is strongest, from the documents in which it is strongest."""
        found: dict[int, list[str]] = {}
        for entry in np.argsort(-self.strongest.values, kind="stable").tolist():
            own = found.setdefault(int(self.strongest.poles[entry]), [])
            start, end = self.spans[self.strongest.rows[entry]].tolist()
            token = self.texts[self.strongest.documents[entry]][start:end].strip()
            if start != NO_ROW and token and token not in own and len(own) < N_TOKENS:
                own.append(token)
        return found


def read_texts(
    decomposition: Decomposition, model: TextModel, site: str, texts: Sequence[str], settings: MonitorSettings
) -> ReadDocuments:
    """Run texts through a model and the decomposition, a piece at a time."""
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise ConfigError("monitor: documents must be a list of strings; for a single text write [text].")
    # Numbered: a text may come twice in a stream.
    documents = (Document(str(number), text) for number, text in enumerate(texts))
    chunks = read(model, documents, [site], context=settings.context)
    pieces = ((chunk.x[site].float(), chunk.rows) for chunk in chunks)
    return read_rows(decomposition, pieces, texts, [document_id(text) for text in texts], settings.max_norm)


def read_rows(
    decomposition: Decomposition,
    pieces: Iterable[tuple[Float[Tensor, "b d"], pd.DataFrame]],
    texts: Sequence[str],
    ids: Sequence[str],
    max_norm: float | None,
) -> ReadDocuments:
    """Add up rows that come with their identities, whose `document` is the place of their text.

    Rows with a norm above the largest one are left out, and those that are not finite.
    """
    counter, spans, device = (
        DocumentCounter(decomposition, len(texts)),
        [np.zeros((0, 2), np.int64)],
        _device(decomposition),
    )
    for x, rows in pieces:
        chosen = kept(row_norms(x), math.inf if max_norm is None else max_norm).cpu()
        own = rows[chosen.numpy()]
        counter.add(x[chosen].to(device), own["document"].to_numpy().astype(np.int64))
        places = [own[name].fillna(NO_ROW).to_numpy().astype(np.int64) for name in ("start", "end")]
        spans.append(np.stack(places, axis=1))
    documents, strongest = counter.counted(ids)
    return ReadDocuments(documents, texts, ids, strongest, np.concatenate(spans))


def _device(decomposition: Decomposition) -> torch.device:
    tensors = (value for value in vars(decomposition).values() if isinstance(value, Tensor))
    return next((tensor.device for tensor in tensors), torch.device("cpu"))
