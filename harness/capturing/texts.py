"""The texts of a capture, cut into chunks: in these it is stored, resumed, and read again where rows are not stored.

Invariant: which windows share a chunk, and so the numbers of its rows, depends on the work of the capture alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from harness.capturing.capture import Chunk, ChunkPlace, read_wanted
from harness.capturing.chunks import chunk_windows
from harness.capturing.draws import Draw
from harness.capturing.splits import documents_in_split
from harness.contracts.corpus import Corpus, Document
from harness.contracts.model import TextModel

Create = Callable[[str, Mapping[str, Any]], Any]
"""Makes the plugin that a cell names, from (kind, call)."""


class Texts:
    """The texts that a model reads for a capture; each call of `chunks` reads them from their beginning.

    Args:
        create: makes the corpus.
        model: reads the texts.
        work: what the capture is of.
    """

    def __init__(self, create: Create, model: TextModel, work: Mapping[str, Any]) -> None:
        self._create, self._model, self._work = create, model, work
        self._draw: Draw | None = None

    @property
    def n_drawn_from(self) -> int:
        """The number of documents that a seed drew from; 0 if none did, and before they have been read."""
        return self._draw.n_documents if self._draw else 0

    def chunks(
        self, sites: Sequence[str], is_wanted: Callable[[ChunkPlace], bool], n_rows: int
    ) -> Iterator[tuple[ChunkPlace, Chunk]]:
        """The chunks that are wanted, with their places; the model does not run the others.

        Args:
            sites: where activations are read.
            is_wanted: asked for each chunk when its turn comes.
            n_rows: the number of rows after which no more is read.
        """
        tokens, context = int(self._work["tokens"]), int(self._work["context"])
        corpus: Corpus = self._create("corpus", self._work["corpus"])
        documents: Iterable[Document] = documents_in_split(corpus.documents(), self._work["documents"])
        if self._work.get("draw") is not None:
            documents = self._draw = Draw(documents, self._work["draw"], tokens)
        return read_wanted(
            self._model,
            documents,
            sites,
            is_wanted,
            context=context,
            chunk_windows=chunk_windows(tokens, context),
            n_rows=n_rows,
        )
