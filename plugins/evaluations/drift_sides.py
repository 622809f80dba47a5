"""The documents before a change and after it: with one label and with others, or of another corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch

import harness
from harness.plugins.evaluations import DriftConfig
from harness.plugins.evaluations.other_corpus import corpus_of

Array: TypeAlias = np.ndarray
_CHARACTERS_PER_ROW = 6
"""Characters of another corpus's document that are read for each of its rows: enough for all."""


@dataclass(frozen=True)
class Documents:
    """The rows of some documents, which are numbered from 0 on."""

    x: torch.Tensor
    numbers: Array
    tokens: Sequence[str]

    @property
    def n(self) -> int:
        return int(self.numbers.max()) + 1 if len(self.numbers) else 0

    def of(self, chosen: Array, max_rows: int) -> Documents:
        """The first rows of the documents with these numbers, numbered anew in their order."""
        place = np.full(self.n, -1)
        place[chosen] = np.arange(len(chosen))
        seen, kept = Counter[int](), []
        for row, number in enumerate(self.numbers.tolist()):
            if place[number] >= 0 and seen[number] < max_rows:
                seen[number] += 1
                kept.append(row)
        index = np.array(kept, dtype=np.int64)
        tokens = [self.tokens[row] for row in kept]
        return Documents(self.x[torch.from_numpy(index).to(self.x.device)], place[self.numbers[index]], tokens)


class Sides:
    """Finds both kinds of documents in a context."""

    def __init__(self, config: DriftConfig) -> None:
        self._config = config

    def of(self, context: harness.EvaluationContext) -> tuple[Documents, Documents]:
        """The documents before and after the change; the same for the next decomposition."""
        key = f"drift {self._config}"
        if key not in context.shared:
            before, new = self._of_corpus(context) if self._config.change else self._of_label(context)
            for side, what in ((before, "before"), (new, "after")):
                if side.n < self._config.min_documents:
                    raise harness.Undefined(
                        f"{side.n} documents {what} the change, and min_documents is {self._config.min_documents}; "
                        "give more evaluation tokens, or another change"
                    )
            context.shared[key] = before, new
        found: tuple[Documents, Documents] = context.shared[key]
        return found

    def _of_label(self, context: harness.EvaluationContext) -> tuple[Documents, Documents]:
        assert context.labels is not None  # which this evaluation needs, as its Spec says
        name = self._config.label
        values = [document.get(name) for document in context.labels()]
        known = Counter(value for value in values if value is not None)
        if len(known) < 2:
            raise harness.Undefined(f"documents have {len(known)} values of the label {name!r}; a change needs two")
        # Of equally frequent ones the first by name.
        chosen = self._config.value or min(known, key=lambda value: (-known[value], value))
        if chosen not in known:
            raise harness.Undefined(f"no document has the {name} {chosen!r}; there are {', '.join(sorted(known))}")
        rows, limit = _rows(context), self._config.max_rows
        has_rows = np.isin(np.arange(len(values)), rows.numbers)
        is_new = np.array([value == chosen for value in values])
        is_old = np.array([value not in (None, chosen) for value in values])
        old, new = (np.flatnonzero(has_rows & side) for side in (is_old, is_new))
        return rows.of(old, limit), rows.of(new, limit)

    def _of_corpus(self, context: harness.EvaluationContext) -> tuple[Documents, Documents]:
        assert context.elsewhere is not None  # which this evaluation needs, as its Spec says
        assert self._config.change is not None
        corpus = corpus_of(self._config.change)
        limit, texts = self._config.max_rows, list[str]()
        for document in corpus.documents():
            texts.append(document.text[: _CHARACTERS_PER_ROW * limit])
            if len(texts) == self._config.n_documents:
                break
        found = context.elsewhere(texts)
        other = Documents(found.x, found.documents.numpy(), found.tokens)
        rows = _rows(context)
        old, new = (np.unique(side.numbers) for side in (rows, other))
        return rows.of(old, limit), other.of(new, limit)


def _rows(context: harness.EvaluationContext) -> Documents:
    """The unmasked rows of a context."""
    assert context.tokens is not None  # which this evaluation needs, as its Spec says
    blocks = list(context.blocks())
    masked = torch.cat([mask for _, mask in blocks]).cpu()
    x = torch.cat([rows[~mask] for rows, mask in blocks])
    tokens = context.tokens()
    kept = (~masked).nonzero()[:, 0].tolist()
    return Documents(x, context.documents.cpu().numpy()[kept], [tokens[row] for row in kept])
