"""Number agreement: a verb agrees with its subject, not with the noun before it (Linzen et al. 2016, TACL 4)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import harness
from harness.plugins.behaviours import NumberAgreementConfig

_NOUNS = (
    *("key", "dog", "car", "teacher", "tree", "book", "student", "doctor", "bird", "river", "house", "farmer"),
    *("horse", "writer", "boat", "artist", "lawyer", "flower", "computer", "letter", "soldier", "parent", "player"),
    *("worker", "king", "girl", "boy", "friend", "brother", "sister", "door", "window", "table", "road", "ship"),
    *("train", "song", "picture", "machine", "garden", "bridge", "island", "village", "driver", "singer", "guard"),
    *("author", "officer"),
)
_PLACES = ("near", "behind", "beside")
_VERBS = (" is", " are")


class NumberAgreement:
    """Contrasts of singular and plural subjects."""

    def __init__(self, config: NumberAgreementConfig) -> None:
        self.config = config

    def contrasts(self) -> Iterator[harness.Contrast]:
        """Two of each group: each of its nouns is the subject once, one in the singular and one in the plural."""
        found = self._drawn()
        return harness.shuffled_answers(found, self.config.seed) if self.config.shuffled else found

    def _drawn(self) -> Iterator[harness.Contrast]:
        draw = random.Random(self.config.seed)  # noqa: S311  # not for cryptography
        nouns = draw.sample(_NOUNS, 2 * self.config.n_groups)
        for a, b in zip(nouns[::2], nouns[1::2], strict=True):
            number = draw.randrange(2)
            for subject, other, is_plural in ((a, b, number), (b, a, 1 - number)):
                rest = f" {draw.choice(_PLACES)} the {_form(other, draw.randrange(2))}"
                clean, patch = (f"The {_form(subject, of)}{rest}" for of in (is_plural, 1 - is_plural))
                yield harness.Contrast(clean, patch, _VERBS[is_plural], _VERBS[1 - is_plural], f"{a}, {b}")


def _form(noun: str, is_plural: int) -> str:
    return noun + "s" * is_plural
