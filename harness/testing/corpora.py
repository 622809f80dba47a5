"""Checks of corpora: everybody who reads a corpus gets the same documents, and recognises them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from harness.contracts.corpus import Document
from harness.errors import ConfigError
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.documents import N_DOCUMENTS, digest, digests_elsewhere, first_documents
from harness.testing.registration import Registration

_FROM_A_NAME = "it is tried where the corpus is given by its name, as `harness check` does"

_MAX_BYTES = 50_000_000
"""Size up to which files are copied to be changed."""


class CorpusUnderTest:
    """A corpus, by what makes a fresh one, and its Spec if it is registered."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Any], declared: Registration | None = None) -> None:
        self.make = make
        self._declared = declared
        self._has_failed = False

    @cached_property
    def corpus(self) -> Any:
        """One for most checks."""
        return self.make()

    @cached_property
    def documents(self) -> list[Document]:
        """The first documents, as they came the first time; that there are none is the first check's to tell."""
        if self._has_failed:
            raise NotChecked("nothing to check before `gives_documents` holds")
        self._has_failed = True
        documents = first_documents(self.corpus)
        self._has_failed = False
        return documents

    @property
    def declared(self) -> Registration:
        """The registration with its Spec; NotChecked where there is none."""
        if self._declared is None:
            raise NotChecked(_FROM_A_NAME)
        return self._declared


def gives_documents(under_test: CorpusUnderTest) -> None:
    """documents() gives harness.Documents, at least one: an id and a text that are not blank, labels of texts."""
    if not under_test.documents:
        raise Broken("documents() gives none; raise harness.ConfigError where there are no texts.")
    for number, document in enumerate(under_test.documents):
        where = f"document {number}"
        if not isinstance(document, Document):
            raise Broken(f"{where} is a {type(document).__name__}; give harness.Document(id, text, labels).")
        for name in ("id", "text"):
            value = getattr(document, name)
            if not isinstance(value, str) or not value.strip():
                raise Broken(f"the {name} of {where} is {value!r:.40}; give a text that is not blank, or no document.")
        labels = document.labels
        if not isinstance(labels, Mapping) or not all(
            isinstance(part, str) for pair in labels.items() for part in pair
        ):
            raise Broken(f"the labels of {where} are {labels!r:.60}; give texts by name, str(value) of a number.")


def gives_each_document_once(under_test: CorpusUnderTest) -> None:
    """No two documents have the same id, or the same text: one would be fitted on, and the other evaluated."""
    for name in ("id", "text"):
        (value, n), *_ = Counter(getattr(document, name) for document in under_test.documents).most_common(1)
        if n > 1:
            raise Broken(f"{n} documents have the {name} {value[:40]!r}; leave out all but the first.")


def repeats_itself(under_test: CorpusUnderTest) -> None:
    """The documents come again in the same order: a second time, from a fresh instance, whatever the random states."""
    before = under_test.documents
    for seed, when, corpus in (
        (1, "the second time", under_test.corpus),
        (2, "from a fresh instance", under_test.make()),
    ):
        seed_globally(seed)
        advice = "read files in sorted order, and draw with random.Random(seed), the seed being a parameter."
        _same(before, first_documents(corpus), when, advice)


def can_be_walked_twice_at_once(under_test: CorpusUnderTest) -> None:
    """Two walks side by side, one of them begun later, and one broken off, do not disturb each other."""
    before, corpus = under_test.documents, under_test.make()
    next(_walk(corpus))
    one, other = _walk(corpus), _walk(corpus)
    ahead = list(islice(one, 2))
    pairs = list(zip_longest(one, other))
    walks = [*ahead, *(a for a, _ in pairs if a)], [b for _, b in pairs if b]
    for walk in walks:
        _same(before, walk, "beside another walk", "keep no place in the instance: documents() begins anew each time.")


def is_the_same_in_another_process(under_test: CorpusUnderTest) -> None:
    """Ids, texts and their order are the same in another process, where hash() of a text is another number."""
    declared, before = under_test.declared, [digest(document) for document in under_test.documents]
    for hash_seed in (1, 2):
        after = digests_elsewhere(declared, hash_seed)
        if after != before:
            what = "order" if Counter(after) == Counter(before) else "documents or ids"
            raise Broken(
                f"another process has other {what}: use harness.document_id(text) for ids, not hash(), and go through "
                "no set of texts."
            )


def follows_its_files_in_its_identity(under_test: CorpusUnderTest) -> None:
    """The identity changes when a letter does in a file that parameters name, even if its size and date do not."""
    declared = under_test.declared
    with tempfile.TemporaryDirectory() as folder:
        if _n_bytes(declared.params) > _MAX_BYTES:
            raise NotChecked(f"its files have over {_MAX_BYTES:,} bytes; give it smaller ones")
        params = _with_copies(declared.params, Path(folder))
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file() and path.stat().st_size)
        if not files:
            raise NotChecked("no parameter names a file that is there")
        before = declared.identity(params)
        if declared.identity(params) != before:
            raise Broken("the identity of the same files is another one the second time.")
        if not any(_is_noticed(file, declared, params, before) for file in files):
            raise Broken(
                "a letter in its files was changed, and its identity stays: stored results would be taken for those of "
                "the new texts. Give the Spec an identity that has harness.file_digest(path) of each file."
            )


def _is_noticed(file: Path, declared: Registration, params: dict[str, Any], before: Any) -> bool:
    """True if the identity is another one after a change in a file, which is then undone."""
    content, times = file.read_bytes(), file.stat()
    place = len(content) // 2
    file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        return bool(declared.identity(params) != before)
    except ConfigError:  # it is read, and refused
        return True
    finally:
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def _with_copies(value: Any, folder: Path) -> Any:
    """Parameters, each file or folder that one names copied under `folder` and named there."""
    if isinstance(value, dict):
        return {key: _with_copies(part, folder / f"{key}") for key, part in value.items()}
    if isinstance(value, list):
        return [_with_copies(part, folder / f"{number}") for number, part in enumerate(value)]
    if not isinstance(value, str) or not value or not Path(value).expanduser().exists():
        return value
    source, copy = Path(value).expanduser(), folder / Path(value).name
    folder.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy)
    return str(copy)


def _n_bytes(value: Any) -> int:
    """The size of all files that parameters name."""
    if isinstance(value, (dict, list)):
        return sum(map(_n_bytes, value.values() if isinstance(value, dict) else value))
    path = Path(value).expanduser() if isinstance(value, str) and value else None
    if path is None or not path.exists():
        return 0
    return sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else [path]) if file.is_file())


def _walk(corpus: Any) -> Iterator[Document]:
    return islice(iter(corpus.documents()), N_DOCUMENTS)


def _same(before: Sequence[Document], after: Sequence[Document], when: str, advice: str) -> None:
    for number, (one, other) in enumerate(zip_longest(before, after)):
        if one is None or other is None:
            raise Broken(f"there are {len(after)} documents {when}, and {len(before)} the first time: {advice}")
        if digest(one) != digest(other):
            found = f"id {other.id!r:.40}, {other.text[:30]!r}"
            raise Broken(f"document {number} is another one {when} ({found}; not {one.id!r:.40}): {advice}")


CHECKS: list[Check] = [
    gives_documents,
    gives_each_document_once,
    repeats_itself,
    can_be_walked_twice_at_once,
    is_the_same_in_another_process,
    follows_its_files_in_its_identity,
]
