"""Repeated tokens: induction (Olsson et al. 2022, arXiv 2209.11895) on words whose order says nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator

import harness
from harness.plugins.behaviours import RepeatedTokensConfig

_WORDS = (
    *("apple", "stone", "music", "green", "water", "paper", "light", "house", "river", "money", "table", "chair"),
    *("heart", "night", "world", "glass", "metal", "storm", "field", "grass", "bread", "sugar", "tiger", "horse"),
    *("eagle", "snake", "mouse", "sheep", "cloud", "beach", "ocean", "train", "radio", "queen", "sword", "tower"),
)


class RepeatedTokens:
    """`c x A B y D e ... x A`, which B should follow; in the patch x A and y D have changed places, so e should."""

    def __init__(self, config: RepeatedTokensConfig) -> None:
        self.config = config

    def contrasts(self) -> Iterator[harness.Contrast]:
        """Each of words drawn for it alone."""
        found = self._drawn()
        return harness.shuffled_answers(found, self.config.seed) if self.config.shuffled else found

    def _drawn(self) -> Iterator[harness.Contrast]:
        draw = random.Random(self.config.seed)  # noqa: S311  # not for cryptography
        for number in range(self.config.n_groups):
            first, x, a, b, y, d, e, *rest = draw.sample(_WORDS, self.config.n_words)
            clean, patch = ([first, *middle, e, *rest, x, a] for middle in ((x, a, b, y, d), (y, d, b, x, a)))
            yield harness.Contrast(" ".join(clean), " ".join(patch), f" {b}", f" {e}", str(number))
