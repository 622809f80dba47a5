"""Sentences from a small grammar: texts of any number without a download, the same everywhere."""

from __future__ import annotations

import random
from collections.abc import Iterator

import harness
from harness.plugins.corpora import SyntheticConfig
from harness.plugins.corpora.documents import Labelled, distinct_documents

_SUBJECTS = {
    "astronomy": ["the comet", "a red dwarf", "the telescope", "its moon", "the probe"],
    "cookery": ["the baker", "a copper pan", "the broth", "her oven", "the dough"],
    "law": ["the judge", "a witness", "the statute", "his appeal", "the jury"],
}
_VERBS = ["follows", "changes", "outlasts", "reveals", "needs", "ignores", "resembles"]
_OBJECTS = ["the old rule", "every second attempt", "what was promised", "a colder night", "its own shadow"]
_ENDINGS = [" in the end.", " without delay.", ", or so they say.", ".", " again and again."]


class SyntheticCorpus:
    """Documents of a few sentences about one topic each."""

    def __init__(self, config: SyntheticConfig) -> None:
        self.config = config

    def documents(self) -> Iterator[harness.Document]:
        """All documents, in the order drawn."""
        return distinct_documents(self._texts())

    def _texts(self) -> Iterator[Labelled]:
        draw = random.Random(self.config.seed)  # noqa: S311  # not for cryptography
        topics = sorted(_SUBJECTS)
        for _ in range(self.config.n_documents):
            topic = draw.choice(topics)
            yield Labelled(" ".join(self._sentence(draw, topic) for _ in range(draw.randint(3, 8))), {"topic": topic})

    def _sentence(self, draw: random.Random, topic: str) -> str:
        words = [draw.choice(part) for part in (_SUBJECTS[topic], _VERBS, _OBJECTS)]
        return " ".join(words).capitalize() + draw.choice(_ENDINGS)
