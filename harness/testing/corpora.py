"""Checks of corpora: everybody who reads a corpus gets the same documents, and recognises them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, zip_longest
from typing import Any

from harness.contracts.corpus import Document
from harness.testing.checks import Broken, Check, seed_globally
from harness.testing.followed_files import follows_files
from harness.testing.items import N_ITEMS, first_items
from harness.testing.repeated_items import same_elsewhere, same_items
from harness.testing.source_trials import SourceUnderTest


class CorpusUnderTest(SourceUnderTest[Document]):
    """A corpus and its first documents."""

    kind, first_check = "corpus", "gives_documents"


def gives_documents(under_test: CorpusUnderTest) -> None:
    """documents() gives harness.Documents, at least one: an id and a text that are not blank, labels of texts."""
    if not under_test.items:
        raise Broken("documents() gives none; raise harness.ConfigError where there are no texts.")
    for number, document in enumerate(under_test.items):
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
        (value, n), *_ = Counter(getattr(document, name) for document in under_test.items).most_common(1)
        if n > 1:
            raise Broken(f"{n} documents have the {name} {value[:40]!r}; leave out all but the first.")


def repeats_itself(under_test: CorpusUnderTest) -> None:
    """The documents come again in the same order: a second time, from a fresh instance, whatever the random states."""
    before = under_test.items
    for seed, when, corpus in (
        (1, "the second time", under_test.source),
        (2, "from a fresh instance", under_test.make()),
    ):
        seed_globally(seed)
        advice = "read files in sorted order, and draw with random.Random(seed), the seed being a parameter."
        same_items(before, first_items("corpus", corpus), when, advice)


def can_be_walked_twice_at_once(under_test: CorpusUnderTest) -> None:
    """Two walks side by side, one of them begun later, and one broken off, do not disturb each other."""
    before, corpus = under_test.items, under_test.make()
    next(_walk(corpus))
    one, other = _walk(corpus), _walk(corpus)
    ahead = list(islice(one, 2))
    pairs = list(zip_longest(one, other))
    walks = [*ahead, *(a for a, _ in pairs if a)], [b for _, b in pairs if b]
    for walk in walks:
        same_items(
            before, walk, "beside another walk", "keep no place in the instance: documents() begins anew each time."
        )


def is_the_same_in_another_process(under_test: CorpusUnderTest) -> None:
    """Ids, texts and their order are the same in another process, where hash() of a text is another number."""
    advice = "use harness.document_id(text) for ids, not hash(), and go through no set of texts."
    same_elsewhere(under_test.declared, under_test.items, advice)


def follows_its_files_in_its_identity(under_test: CorpusUnderTest) -> None:
    """The identity changes when a letter does in a file that parameters name, even if its size and date do not."""
    follows_files(under_test.declared)


def _walk(corpus: Any) -> Iterator[Document]:
    return islice(iter(corpus.documents()), N_ITEMS)


CHECKS: list[Check] = [
    gives_documents,
    gives_each_document_once,
    repeats_itself,
    can_be_walked_twice_at_once,
    is_the_same_in_another_process,
    follows_its_files_in_its_identity,
]
