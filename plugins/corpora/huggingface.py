"""Datasets on the Hugging Face hub, streamed. Code that a dataset ships is never run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import harness
from harness.plugins.corpora import HuggingFaceConfig, folders
from harness.plugins.corpora.documents import LABELS_VERSION, Labelled, distinct_documents, read_record

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
    if config.label_fields:
        parameters["labels_version"] = LABELS_VERSION
    folder = Path(config.path)
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        parameters["path"] = [[str(path.relative_to(folder)), harness.file_digest(path)] for path in files]
        if any(path.suffix == ".csv" for path in files):
            parameters["csv"] = "texts"  # once numbers and missing values were found among them
    return parameters


def _open(config: HuggingFaceConfig) -> datasets.IterableDataset:
    try:
        import datasets  # here, so that a machine without it can do all else
    except ImportError as error:
        raise harness.ConfigError(f"corpus/huggingface: {error}. Run: pip install datasets") from error
    try:
        builder = datasets.load_dataset_builder(config.path, config.name, revision=config.revision)
        if hasattr(builder.config, "converters"):  # a CSV file, in which pandas would find numbers and missing values
            builder.config.converters = dict.fromkeys((config.text_field, *config.label_fields), _cell)
            builder.config.keep_default_na, builder.config.na_values = False, [""]
        _name_unread(config, builder.config.data_files or {})
        return builder.as_streaming_dataset(split=config.split)
    except (OSError, ValueError, RuntimeError) as error:  # no network, dataset, configuration or split; or a script
        raise harness.ConfigError(
            f"corpus/huggingface: cannot open {config.path!r}: {error}\n"
            "Check path, name, split and revision, and the network (HF_ENDPOINT names a mirror); "
            "without one, use corpus/files or corpus/packaged."
        ) from error


def _cell(text: str) -> str | None:
    """The text of a cell of a CSV file; None for an empty one, which not all versions of pandas take for missing."""
    return text or None


def _name_unread(config: HuggingFaceConfig, data_files: Mapping[Any, Sequence[str]]) -> None:
    """Warn of files in a local folder that `datasets` passes over: behind links, or of endings it does not know."""
    read = {Path(file).resolve() for files in data_files.values() for file in files}
    found = folders.below(Path(config.path)) if Path(config.path).is_dir() else ()
    unread = [str(path) for path in found if path.is_file() and path.resolve() not in read and path.suffix != ".md"]
    if unread:
        warnings.warn(f"corpus/huggingface: not read by datasets: {folders.listed(unread)}.", stacklevel=4)
