"""Meta-SAE (Leask et al. 2025, arXiv 2502.04878): a sparse autoencoder learnt on the directions of another's latents.

Its rows are the directions of the poles that fire, of norm 1. A meta-latent is a group: of the poles whose directions
have a code for it, which is their weight.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

import harness
from harness.plugins.grouping.firing import Firing
from harness.plugins.methods import MetaSAEConfig
from harness.plugins.methods.fit_firing import LearnerFromFit, member
from harness.plugins.methods.sae import TopKSAEConfig
from harness.plugins.methods.sae.topk import TopKSAE


class MetaSAE(LearnerFromFit):
    """Trains a TopK SAE on a dictionary when all rows have been seen."""

    def __init__(self, config: MetaSAEConfig) -> None:
        self.config = config

    def groups(self, firing: Firing) -> Sequence[Sequence[harness.Member]]:
        if self.base.dictionary is None:
            raise harness.Undefined(f"{self.config.of} has no dictionary to learn from")
        latents = torch.from_numpy(firing.latents).to(self.info.device)
        rows = self.base.dictionary.detach()[latents].float()
        rows = rows * torch.from_numpy(firing.signs).to(rows)[:, None]
        norms = rows.norm(dim=1)
        poles = (norms > 0).nonzero().flatten()
        if not len(poles):
            raise harness.Undefined(f"no latent of {self.config.of} that fires has a direction")
        config = self.config
        learner = TopKSAE(TopKSAEConfig(n_latents=config.n_latents, k=config.k, passes=config.passes))
        directions = rows[poles] / norms[poles, None]
        learnt = harness.fit(learner, directions, seed=self.info.seed)
        codes = learnt.encode(directions).to_dense(config.n_latents)
        return [
            [member(firing, int(poles[row]), float(of_latent[row])) for row in of_latent.nonzero().flatten()]
            for of_latent in codes.T
        ]
