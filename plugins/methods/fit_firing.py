"""A learner that watches the latents of another fit on the rows of the stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch

import harness
from harness.plugins.grouping.firing import Firing, FiringReader


class LearnerFromFit(ABC):
    """Reads the rows once and encodes them; what it makes are groups of the base's poles."""

    passes = 1
    batch_rows = 4096

    def start(self, info: harness.Info) -> None:
        self.info = info
        self.base = self.base_of(info)
        self._reader = FiringReader(self.base.n_latents, info.n_rows)

    def base_of(self, info: harness.Info) -> harness.Decomposition:
        """The decomposition whose latents are grouped."""
        if info.base is None:
            raise harness.ConfigError("this method learns from a fit: give harness.fit(learner, x, base=...).")
        return info.base

    @torch.no_grad()
    def partial_fit(self, batch: harness.Batch) -> None:
        places = [batch.rows[name].to_numpy() for name in ("document", "window", "position")]
        self._reader.add(self.base.encode(batch.x), *places)

    def finish(self) -> harness.Decomposition:
        groups = self.groups(self._reader.finish())
        return harness.GroupedDecomposition(self.base, groups).to(self.info.device)

    @abstractmethod
    def groups(self, firing: Firing) -> Sequence[Sequence[harness.Member]]:
        """The groups of the base's poles.

        Args:
            firing: of all poles that fire on these rows, in the order of the corpus.
        """

    def numpy_generator(self) -> np.random.Generator:
        """A generator of the fit's own."""
        return np.random.default_rng(self.info.seed)


def member(firing: Firing, pole: int, weight: float) -> harness.Member:
    """A pole as a member of a group."""
    return harness.Member(int(firing.latents[pole]), int(firing.signs[pole]), weight, float(firing.peaks[pole]))
