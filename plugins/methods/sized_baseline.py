"""Random rows or k-means centroids, as many as ITDA takes atoms from the same stream: what its choice has to beat.

ITDA's threshold decides its size, so a baseline of equal size can't be asked for beforehand. Here ITDA learns beside
the baseline, and only its number of atoms is kept. Time and state are those of both.
"""

from __future__ import annotations

from dataclasses import replace

import harness
from harness.plugins.methods import KMeansConfig, RandomDictionaryConfig, SizedBaselineConfig
from harness.plugins.methods.itda import ITDA
from harness.plugins.methods.kmeans import KMeans
from harness.plugins.methods.random_dictionary import RandomDictionary


class SizedBaseline:
    """The baseline and ITDA, fed alike; with `centre` each takes the mean for itself."""

    passes = 1

    def __init__(self, config: SizedBaselineConfig) -> None:
        self.config = config
        self.batch_rows = config.batch_rows

    def start(self, info: harness.Info) -> None:
        k, centre = self.config.k, self.config.centre
        # Rows drawn by the smallest of random keys: the first of more rows are a draw of fewer.
        most = min(self.config.max_atoms, info.n_rows)
        self._itda = ITDA(self.config.itda)
        self._baseline: KMeans | RandomDictionary
        if self.config.source == "kmeans":
            self._baseline = KMeans(KMeansConfig(most, k, centre))
        else:
            self._baseline = RandomDictionary(RandomDictionaryConfig(most, k, "rows", centre))
        self._itda.start(info)
        self._baseline.start(info)

    def partial_fit(self, batch: harness.Batch) -> None:
        self._itda.partial_fit(batch)
        self._baseline.partial_fit(batch)

    def finish(self) -> harness.Decomposition:
        n_latents = self._itda.finish().n_latents
        self._baseline.config = replace(self._baseline.config, n_latents=n_latents)
        return self._baseline.finish()
