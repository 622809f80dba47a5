"""Specs of the built-in corpora. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import harness


@dataclass
class PackagedConfig:
    """Texts of installed packages.

    `wikipedia`: 10,033 English lead sections labelled by `topic`; `bible`: the 1,189 chapters of the King James
    Version labelled by `book`. For probing, each installed when wanted: `bbc`, news articles labelled by `topic`
    (Greene & Cunningham 2006; five topics), and `movie_reviews`, sentences labelled by `sentiment`, positive or
    negative as twenty people rated them on average (Hutto & Gilbert 2014). In random order, so that the first n
    documents are a fair sample.
    """

    name: Literal["wikipedia", "bible", "bbc", "movie_reviews"] = "wikipedia"


@dataclass
class FilesConfig:
    """Texts in files: `.txt` (one document a file), `.jsonl` (one a line), `.parquet` (one a row).

    `paths` are files, folders (searched through) and globs. Files are streamed, for they may not fit into memory:
    documents come in the order of the paths, which are sorted within each entry. Shuffle them beforehand if the first
    n should be a fair sample.
    """

    paths: list[str]
    text_field: str = "text"
    label_fields: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("paths is empty; name at least one file, folder or glob.")


@dataclass
class HuggingFaceConfig:
    """A dataset on the Hugging Face hub, or a local folder of one, streamed.

    `path`, `name`, `split` and `revision` are those of `datasets.load_dataset`. Give a commit as `revision`: without
    it the hub may change the texts, and stored results can't notice. Shuffled by a buffer of `shuffle_buffer`
    documents (0: not at all).
    """

    path: str
    name: str | None = None
    split: str = "train"
    text_field: str = "text"
    revision: str | None = None
    label_fields: list[str] = field(default_factory=list)
    shuffle_buffer: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.shuffle_buffer < 0:
            raise ValueError(f"shuffle_buffer is {self.shuffle_buffer}; give 0 (no shuffling) or more.")


@dataclass
class SyntheticConfig:
    """Sentences from a small grammar, on one of three topics per document, labelled by `topic`."""

    n_documents: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if self.n_documents < 1:
            raise ValueError(f"n_documents is {self.n_documents}; give at least 1.")


SPECS: list[harness.CorpusSpec] = [
    harness.CorpusSpec(
        name="packaged",
        version=1,
        summary="Wikipedia lead sections, the King James Bible, BBC news or movie reviews, from installed packages",
        config=PackagedConfig,
        factory="harness.plugins.corpora.packaged:PackagedCorpus",
        identity="harness.plugins.corpora.packaged:identity",
    ),
    harness.CorpusSpec(
        name="files",
        version=1,
        summary="Your own texts: txt, jsonl or parquet files",
        config=FilesConfig,
        factory="harness.plugins.corpora.files:FilesCorpus",
        identity="harness.plugins.corpora.files:identity",
    ),
    harness.CorpusSpec(
        name="huggingface",
        version=1,
        summary="A dataset on the Hugging Face hub, streamed",
        config=HuggingFaceConfig,
        factory="harness.plugins.corpora.huggingface:HuggingFaceCorpus",
        identity="harness.plugins.corpora.huggingface:identity",
    ),
    harness.CorpusSpec(
        name="synthetic",
        version=1,
        summary="Sentences from a small grammar: nothing to download",
        config=SyntheticConfig,
        factory="harness.plugins.corpora.synthetic:SyntheticCorpus",
    ),
]
