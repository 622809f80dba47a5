"""Hard negatives: silent windows that are hard to tell from active ones, beside those drawn at random.

near_latent: a neighbour is active in them (see `neighbours`), drawn at random from the windows of each of the nearest
    `N_NEIGHBOURS` in turn. They test whether an explanation says more than what a whole group of latents has in common.
near_text: every shown active window picks the silent window of its half that is most like it in its words. Likeness is
    the cosine of tf-idf vectors, tf · (1 + ln((1 + W) / (1 + df))) of a word over all W windows (Salton & Buckley
    1988; scikit-learn's weights): an embedding would need a model here, and would pick the windows that a scorer with
    the same encoder must mistake. Each half picks for itself: were test windows picked by the explain windows, they
    would be more like any explanation than the active ones are, and latents without a meaning would score below
    chance (an AUROC of .42 ± .02 by retrieval, planted on Wikipedia).

In both the pole is silent on every token. How many there are depends on the latent: one that fires wherever its
neighbours do has none of the first kind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from harness.contracts.decomposition import Decomposition
from harness.latents.activations import LatentActivations, Pole
from harness.latents.neighbours import Neighbours
from harness.latents.windows import Windows, pole_windows

N_NEIGHBOURS = 10


@dataclass(frozen=True)
class Near:
    """Picks the hard windows of the poles of one decomposition."""

    decomposition: Decomposition
    activations: LatentActivations
    windows: Windows

    def pick(
        self, pole: Pole, explain: bool, shown: Int[np.ndarray, " a"], n: int, generator: np.random.Generator
    ) -> dict[str, Int[np.ndarray, " s"]]:
        """Up to n windows of each kind from one half, each once; `shown` are its active windows that scorers see."""
        silent = pole_windows(self.windows, pole, explain).silent
        return {
            "near_latent": in_turn(self._of_neighbours(pole, silent, explain, generator), n),
            "near_text": in_turn(self._texts.nearest(shown, silent, n), n),
        }

    @cached_property
    def _neighbours(self) -> Neighbours:
        return Neighbours(self.decomposition, self.activations)

    @cached_property
    def _texts(self) -> Texts:
        return Texts(self.windows)

    def _of_neighbours(
        self, pole: Pole, silent: Int[np.ndarray, " s"], explain: bool, generator: np.random.Generator
    ) -> list[Int[np.ndarray, " w"]]:
        """The windows where a neighbour is active and the pole silent, shuffled; for each of the nearest with any."""
        found: list[Int[np.ndarray, " w"]] = []
        for neighbour in self._neighbours.of(pole):
            active = pole_windows(self.windows, self.activations.pole(*neighbour), explain).active
            own = np.intersect1d(active, silent)
            if len(own):
                found.append(generator.permutation(own))
            if len(found) == N_NEIGHBOURS:
                break
        return found


def in_turn(rankings: Sequence[Iterable[int]], n: int) -> Int[np.ndarray, " s"]:
    """Take the first of each ranking that is not taken yet, round after round, until there are n or no more."""
    taken: dict[int, None] = {}
    queues = [iter(ranking) for ranking in rankings]
    while queues and len(taken) < n:
        for queue in list(queues):
            best = next((number for number in queue if number not in taken), None)
            if best is None:
                queues.remove(queue)
            elif len(taken) < n:
                taken[best] = None
    return np.array(list(taken), dtype=np.int64)


class Texts:
    """The words of all windows, for likeness in text; a word is a token in lower case, without spaces around it."""

    def __init__(self, windows: Windows) -> None:
        inside = np.flatnonzero(windows.window_of_row >= 0)
        names = [windows.tokens[row].strip().casefold() for row in inside.tolist()]
        words, vocabulary = pd.factorize(np.array(names, dtype=object))
        n_windows, n_words = len(windows), max(len(vocabulary), 1)
        cells, counts = np.unique(windows.window_of_row[inside] * n_words + words, return_counts=True)
        self._of_entry, self._words = np.divmod(cells, n_words)
        n_windows_with = np.bincount(self._words, minlength=n_words)
        weights = counts * (1 + np.log((1 + n_windows) / (1 + n_windows_with)))[self._words]
        norms = np.sqrt(np.bincount(self._of_entry, weights**2, minlength=n_windows))
        self._weights = weights / norms[self._of_entry]
        self._first = np.searchsorted(self._of_entry, np.arange(n_windows + 1))
        by_word = np.argsort(self._words, kind="stable")
        self._windows_of = np.split(self._of_entry[by_word], n_windows_with.cumsum()[:-1])
        self._weights_of = np.split(self._weights[by_word], n_windows_with.cumsum()[:-1])

    def likeness(self, number: int) -> Float[np.ndarray, " w"]:
        """The cosine of a window with every window."""
        own = slice(self._first[number], self._first[number + 1])
        words = self._words[own]
        others = np.concatenate([self._windows_of[word] for word in words])
        products = [weight * self._weights_of[word] for word, weight in zip(words, self._weights[own], strict=True)]
        return np.bincount(others, np.concatenate(products), minlength=len(self._first) - 1)

    def nearest(
        self, numbers: Int[np.ndarray, " a"], among: Int[np.ndarray, " s"], n: int
    ) -> list[Int[np.ndarray, " n"]]:
        """The n windows of `among` that are most like each window; of equally like ones, the first in the corpus."""
        return [among[np.argsort(-self.likeness(int(number))[among], kind="stable")[:n]] for number in numbers]
