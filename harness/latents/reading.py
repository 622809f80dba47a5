"""The rows that latents are read on, and what else their cards need: masks, texts, the model, the fit's documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.capturing.masking import masked_rows
from harness.capturing.splits import documents_in_split
from harness.contracts.corpus import Corpus
from harness.contracts.decomposition import Decomposition
from harness.errors import StoreError, Undefined
from harness.latents.activations import LatentActivations
from harness.latents.cards import CardMaker
from harness.latents.lens import Lens
from harness.latents.sampling import Strata
from harness.latents.windows import cut
from harness.storage.activation_store import StoredActivations
from harness.storage.store import Store, require

ACTIVATIONS, CARDS = "activations.safetensors", "cards.json"
"""The files of a `latents` artefact."""

Create = Callable[[str, Mapping[str, Any]], Any]
"""Makes the plugin that a cell names, from (kind, call)."""


class Reading:
    """The rows, windows and lens that all decompositions of one group of `latents` cells share."""

    def __init__(self, work: Mapping[str, Any], store: Store, create: Create) -> None:
        """Open the rows that a `latents` cell names; any cell of the group will do.

        Raises:
            Undefined: the rows came without texts, or without offsets in them.
        """
        source = work["source"]
        if source["corpus"] is None:
            raise Undefined("its rows are stored and came without texts, so its latents can't be shown in any")
        self.rows = StoredActivations(*require(store, "capture", work["capture"]))
        fit = StoredActivations(*require(store, "capture", work["fit_capture"]))
        self.masked = masked_rows(self.rows, fit, work["max_norm_multiple"])
        names = self.rows.rows["document"].astype(str)
        self.windows = cut(self.rows.rows, find_texts(create, source, set(names)))
        self._lens = Lens(partial(create, "model", source["model"]), work["fit_source"]["site"])
        self._find_fit_texts = partial(find_texts, create, work["fit_source"])

    def maker(
        self, decomposition: Decomposition, activations: LatentActivations, strata: Strata, seed: int
    ) -> CardMaker:
        """The maker of the cards of one decomposition."""
        return CardMaker(
            decomposition=decomposition,
            activations=activations,
            windows=self.windows,
            masked=self.masked.numpy(),
            strata=strata,
            lens=self._lens,
            find_texts=self._find_fit_texts,
            seed=seed,
        )


def find_texts(create: Create, source: Mapping[str, Any], wanted: set[str]) -> dict[str, str]:
    """Find documents by their ids; `source` is the work of the capture whose rows name them."""
    corpus: Corpus = create("corpus", source["corpus"])
    texts: dict[str, str] = {}
    documents = documents_in_split(corpus.documents(), source["documents"])
    while len(texts) < len(wanted) and (document := next(documents, None)) is not None:
        if document.id in wanted:
            texts[document.id] = document.text
    if len(texts) < len(wanted):
        raise StoreError(
            f"the corpus no longer has {_some(sorted(wanted - texts.keys()))}, which rows were captured from. If its "
            "files have changed meanwhile, run the suite again: the rows are captured anew."
        )
    return texts


def _some(documents: Sequence[str]) -> str:
    return f"document {documents[0]}" + (f" and {len(documents) - 1} more" if len(documents) > 1 else "")
