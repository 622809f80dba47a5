"""Behaviours: contrasting pairs of texts that show what a model can do, for the analysis of circuits."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True)
class Contrast:
    """A text that a model continues rightly, and one alike that asks for another continuation.

    Activations of the two are compared place by place, so both have the same number of words. A model that cuts them
    into different numbers of tokens is not asked about this contrast.
    """

    clean: str
    """The text whose continuation is judged: `The keys near the car`."""
    patch: str
    """The text that asks for the wrong answer, and is alike otherwise: `The key near the car`."""
    right: str
    """The continuation of `clean`, with the space before it if it has one: ` are`. Its first token counts."""
    wrong: str
    """The answer that `patch` asks for: ` is`."""
    group: str
    """The lexical item that the contrast is about. A circuit is found on some groups and judged on others, and
    intervals come from how groups differ."""


class Behaviour(Protocol):
    """A source of contrasts."""

    def contrasts(self) -> Iterable[Contrast]:
        """Give every contrast, in the same order each time."""
        ...


def shuffled_answers(contrasts: Iterable[Contrast], seed: int) -> Iterator[Contrast]:
    """Exchange right and wrong in half of the contrasts, drawn at random: a control that no model can solve.

    Those of a group are dealt out evenly as far as they go.
    """
    draw = random.Random(f"answers/{seed}")  # noqa: S311  # not for cryptography
    is_next: dict[str, bool] = {}
    for contrast in contrasts:
        group = contrast.group
        is_exchanged = is_next[group] if group in is_next else draw.random() < 0.5  # a fair coin
        if group in is_next:
            del is_next[group]
        else:
            is_next[group] = not is_exchanged
        yield replace(contrast, right=contrast.wrong, wrong=contrast.right) if is_exchanged else contrast
