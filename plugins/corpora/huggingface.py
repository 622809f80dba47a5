"""Datasets on the Hugging Face hub, streamed. Code that a dataset ships is never run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.plugins.corpora import HuggingFaceConfig
from harness.plugins.corpora.documents import Labelled, distinct_documents, read_record

if TYPE_CHECKING:
    import datasets


class HuggingFaceCorpus:
    """One split of a dataset, shuffled by a buffer from the seed."""

    def __init__(self, config: HuggingFaceConfig) -> None:
        self._config = config

    def documents(self) -> Iterator[harness.Document]:
        yield from distinct_documents(self._texts())

    def _texts(self) -> Iterator[Labelled]:
        config = self._config
        dataset = _open(config)
        if config.shuffle_buffer:
            dataset = dataset.shuffle(seed=config.seed, buffer_size=config.shuffle_buffer)
        where = f"corpus/huggingface: {config.path!r} split {config.split!r}"
        for record in dataset:
            yield read_record(record, config.text_field, config.label_fields, where)


def identity(config: HuggingFaceConfig) -> dict[str, Any]:
    """The parameters; for a local folder the checksums of its files in the place of its path."""
    parameters = asdict(config)
    folder = Path(config.path)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        parameters["path"] = [[str(path.relative_to(folder)), harness.file_digest(path)] for path in files]
    return parameters


def _open(config: HuggingFaceConfig) -> datasets.IterableDataset:
    try:
        import datasets  # here, so that a machine without it can do all else
    except ImportError as error:
        raise harness.ConfigError(f"corpus/huggingface: {error}. Run: pip install datasets") from error
    try:
        return datasets.load_dataset(
            config.path, config.name, split=config.split, revision=config.revision, streaming=True
        )
    except (OSError, ValueError) as error:  # no network, or no such dataset; no such configuration or split
        raise harness.ConfigError(
            f"corpus/huggingface: cannot open {config.path!r}: {error}\n"
            "Check path, name, split and revision, and the network (HF_ENDPOINT names a mirror); "
            "without one, use corpus/files or corpus/packaged."
        ) from error
