"""Matryoshka SAE (Bussmann et al. 2025, arXiv 2503.17547): the first latents must reconstruct alone, size by size."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods.sae import MatryoshkaSAEConfig, fast_paths
from harness.plugins.methods.sae.batch_topk import BatchTopKSAE
from harness.plugins.methods.sae.fast_paths import Chosen


class MatryoshkaSAE(BatchTopKSAE):
    """BatchTopK codes, one selection for all sizes. Loss: the mean over the sizes g of mean ‖y − ŷ_g‖², where ŷ_g
    decodes the codes of the first m_g latents; plus AuxK on what all latents leave.

    A latent of group i is in ŷ_g for g ≥ i, so its gradient comes from the errors of those sizes.
    """

    name = "matryoshka_sae"
    config: MatryoshkaSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        shares = torch.tensor(self.config.group_shares, dtype=torch.float64).cumsum(0)
        self._ends = (shares * self.config.n_latents).round().long().to(info.device)

    def loss(self, y: Float[Tensor, "b d"], codes: Float[Tensor, "b m"], error: Float[Tensor, "b d"]) -> Tensor:
        decoder, target = self.weights.decoder, y - self.weights.decoder_bias
        sizes = [(codes[:, :end] @ decoder[:end] - target).square().sum(dim=1) for end in self._ends]
        return torch.stack(sizes).mean()

    def reconstruct(self, y: Float[Tensor, "b d"], chosen: Chosen, codes: Float[Tensor, " e"]) -> harness.SAEForward:
        support, n_groups, b = chosen.support, len(self._ends), len(y)
        # Each row once for every group of latents, so that a group decodes by itself.
        groups = torch.bucketize(support.latents, self._ends, right=True)
        rows, order = (groups * b + support.rows).sort(stable=True)
        split = fast_paths.Support(rows, support.latents[order], n_groups * b, support.n_latents)
        codes = codes[order]
        decoded = split.decode(codes, self.weights.decoder).view(n_groups, b, -1)
        errors = decoded.cumsum(dim=0) + (self.weights.decoder_bias - y)
        output_grads = errors * (2 / (n_groups * self.batch_rows))
        by_group = output_grads.flip(0).cumsum(dim=0).flip(0).flatten(0, 1)
        pre_grad = fast_paths.products(split, by_group, self.weights.decoder)
        self.weights.set_gradients(split, codes, pre_grad, y.repeat(n_groups, 1), by_group)
        self.weights.decoder_bias.grad = output_grads.sum(dim=(0, 1))  # each size adds the bias once
        fired, loss = split.totals_by_latent(codes) > 0, errors.square().sum() / (n_groups * b)
        return harness.SAEForward(errors[-1], fired, loss, chosen.pre)
