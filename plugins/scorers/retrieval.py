"""Retrieval: a text is scored by its likeness to an explanation.

The embedding scorer of Paulo et al. 2024 (arXiv 2410.13928, section 3.3.4) for any explanation: the score of a window
x is cos(e(z), e(x)), where e is a sentence encoder and z the explanation; what it is worth is told by `detection`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import harness
from harness.plugins.scorers import DetectionConfig
from harness.plugins.scorers.detection import CHANCE, METRIC, chosen_windows, detection_rows


@dataclass
class Retrieval(ABC):
    """A scorer that asks a sentence encoder. Subclasses choose the explanation of a latent."""

    config: DetectionConfig

    metric = METRIC
    chance = CHANCE

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Requests for embeddings of the explanation, of the other latent's if it has one, and of all windows."""
        latent = chosen_windows(latent, self.config.negatives)
        explanations = [self.explanation(latent)]
        if latent.other is not None and (random := self.random_explanation(latent.other)) is not None:
            explanations.append(random)
        texts = ([window.text for window in windows] for windows in (latent.explain, latent.test))
        return [harness.Embed(tuple(asked)) for asked in (explanations, *texts)]

    @abstractmethod
    def explanation(self, latent: harness.Latent) -> str:
        """The explanation's text; raises Undefined if the latent has none."""

    @abstractmethod
    def random_explanation(self, other: harness.Latent) -> str | None:
        """The text of another latent's explanation; None if it has none."""

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Embed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The metrics of `detection`, with cosines as scores."""
        (own, *random), explain, test = responses  # all of unit norm: products are cosines
        by_other = (test @ random[0]).tolist() if random else None
        latent = chosen_windows(latent, self.config.negatives)
        return detection_rows(latent, (explain @ own).tolist(), (test @ own).tolist(), by_other)
