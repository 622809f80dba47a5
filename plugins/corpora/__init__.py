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
    """Name of the texts: `wikipedia` or `bible`, or for probing `bbc` or `movie_reviews`; the last two are installed
    when wanted."""


@dataclass
class FilesConfig:
    """Texts in files: `.txt` (one document a file), `.jsonl` (one a line), `.parquet` (one a row).

    Files are streamed, for they may not fit into memory. Shuffle them beforehand if the first n documents should be a
    fair sample.
    """

    paths: list[str]
    """Files, folders and globs. Documents come in their order, and sorted within each of them. Folders are searched
    through, those behind links too; hidden files are no texts, packed ones are refused, and what else is not read is
    named."""
    text_field: str = "text"
    """The field of `.jsonl`, or the column of `.parquet`, that holds the text."""
    label_fields: list[str] = field(default_factory=list)
    """Fields or columns that label a document, for probing."""

    def __post_init__(self) -> None:
        if not self.paths:
            raise ValueError("paths is empty; name at least one file, folder or glob.")
        if not all(
            path.strip() for path in self.paths
        ):  # else the working folder, as where a shell's variable is unset
            raise ValueError(f"paths {self.paths} has an entry without a name; the working folder is '.'.")


@dataclass
class HuggingFaceConfig:
    """A dataset on the Hugging Face hub, or a local folder of one, streamed as `datasets.load_dataset` does."""

    path: str
    """A dataset on the hub, such as owner/name, or a local folder of one."""
    name: str | None = None
    """The dataset's configuration, where it has several."""
    split: str = "train"
    """Split of the dataset that is read."""
    text_field: str = "text"
    """The column that holds the text."""
    revision: str | None = None
    """Branch, tag or commit. Give a commit: without it the hub may change the texts, and stored results can't
    notice."""
    label_fields: list[str] = field(default_factory=list)
    """Columns that label a document, for probing."""
    shuffle_buffer: int = 10_000
    """Documents in the buffer that shuffles the stream; 0 leaves it as it is."""
    seed: int = 0
    """Seed of the shuffling."""

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise ValueError("path is empty; name a dataset on the hub, or a folder.")
        if self.shuffle_buffer < 0:
            raise ValueError(f"shuffle_buffer is {self.shuffle_buffer}; give 0 (no shuffling) or more.")


@dataclass
class SyntheticConfig:
    """Sentences from a small grammar, on one of three topics per document, labelled by `topic`."""

    n_documents: int = 400
    """Number of documents."""
    seed: int = 0
    """Seed of all texts."""

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
