"""The control: a TopK SAE as it is before the first step."""

from __future__ import annotations

import harness
from harness.plugins.methods.sae import UntrainedSAEConfig
from harness.plugins.methods.sae.topk import TopKDecomposition


class UntrainedSAE:
    """The exact start of `topk_sae`: random unit decoder rows, the encoder their transpose, the bias the mean."""

    passes = 1
    batch_rows = 2048

    def __init__(self, config: UntrainedSAEConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        weights = harness.SAEWeights.initial(self.config.n_latents, info)
        units = harness.SAEUnits(info.mean(), weights.encoder.new_ones(()))  # without biases the scale cancels
        self._weights = weights.folded(units)

    def partial_fit(self, batch: harness.Batch) -> None:
        pass

    def finish(self) -> harness.Decomposition:
        return TopKDecomposition(self._weights, {}, self.config.k)
