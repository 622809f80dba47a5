"""The transformer built by hand as a model of suites, with texts and contrasts of its tokens: `t0` to `t19`."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

import harness

sys.path.insert(0, str(Path(__file__).parents[2]))  # workers start elsewhere

from tests.support.induction import N_TOKENS, VOCABULARY, WIDTH, InductionModel, induction_pairs


@dataclass
class BehaviourConfig:
    """Contrasts of `induction_pairs`."""

    shuffled: bool = False
    """Exchange right and wrong at random."""


class Model(InductionModel):
    """A token is a word."""

    n_layers, width, tokenizer_hash = 2, WIDTH, "words"

    def __init__(self, config: None) -> None:
        super().__init__(sharpness=20.0)

    def windows(self, texts: Sequence[str], context: int) -> list[list[harness.Window]]:
        return [
            [_window(text.split()[i : i + context]) for i in range(0, len(text.split()), context)] for text in texts
        ]

    def activations(self, ids: Tensor, mask: Tensor, sites: Sequence[str]) -> Mapping[str, Tensor]:
        return self.runs(ids, mask.sum(dim=1)).activations(sites)


def _window(words: Sequence[str]) -> harness.Window:
    starts = [4 * place for place in range(len(words))]
    ends = [start + len(word) for start, word in zip(starts, words, strict=True)]
    return harness.Window([int(word[1:]) for word in words], [False] * len(words), starts, ends)


class Texts:
    """Tokens at random; every second text has one again."""

    def __init__(self, config: None) -> None: ...

    def documents(self) -> Iterator[harness.Document]:
        draw = random.Random(0)
        for number in range(400):
            words = [f"t{token:<2}" for token in draw.sample(range(VOCABULARY), N_TOKENS)]
            text = " ".join([*words[:-1], words[3] if number % 2 else words[-1]])
            yield harness.Document(harness.document_id(text), text)


class Induction:
    """The contrasts as texts."""

    def __init__(self, config: BehaviourConfig) -> None:
        self.shuffled = config.shuffled

    def contrasts(self) -> Iterator[harness.Contrast]:
        return harness.shuffled_answers(self._all(), seed=0) if self.shuffled else self._all()

    def _all(self) -> Iterator[harness.Contrast]:
        pairs = induction_pairs()
        for clean, patch, right, wrong, group in zip(
            *(own.tolist() for own in (pairs.clean, pairs.patch, pairs.right, pairs.wrong)), pairs.groups, strict=True
        ):
            texts = (" ".join(f"t{token}" for token in side) for side in (clean, patch))
            yield harness.Contrast(*texts, f" t{right}", f" t{wrong}", group)


def _shape(config: None) -> dict[str, int]:
    return {"n_layers": 2, "width": WIDTH}


@harness.hookimpl
def harness_specs() -> list[harness.PluginSpec]:
    return [
        harness.ModelSpec("built_by_hand", 1, "Continues a repeated token", Model, shape=_shape),
        harness.CorpusSpec("tokens", 1, "Tokens at random", Texts),
        harness.BehaviourSpec("induction", 1, "Contrasts of repeated tokens", Induction, BehaviourConfig),
    ]
