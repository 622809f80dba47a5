"""TopK SAE (Gao et al. 2024, arXiv 2406.04093): the k largest pre-activations of each row are its codes."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods import TopKSAEConfig
from plugins.methods.sae.learner import Forward, SAELearner
from plugins.methods.sae.sparse import Grouped, sampled_products, weighted_rows
from plugins.methods.sae.weights import TopKDecomposition, Weights


class TopKSAE(SAELearner):
    """Loss: the mean over rows of ‖y − ŷ‖², plus AuxK for dead latents.

    The gradient is exact and takes one product of size b·m·d, the encoding: only the k codes of a row have any.

    The recipe is for streams so small that they are replayed, where SAEs overfit. 50k rows of SmolLM2 layer 15, 2,304
    latents, k 40, 20 passes: explained variance .816 on held-out documents (.861 on trained rows), and .821 after 40.
    Without weight decay .800 after 30 passes, .793 with half the rate besides. Starting from data rows, weights drawn
    to k from above and decay over the whole run gave no more; noise on the rows less than weight decay.
    """

    name = "topk_sae"
    short_run_peak = 4e-3
    config: TopKSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        # A fresh buffer each step would cost as much in page faults as the top-k that reads it.
        self._pre = torch.empty(self.batch_rows, self.config.n_latents, dtype=info.dtype, device=info.device)

    def forward(self, y: Float[Tensor, "b d"]) -> Forward:
        weights = self.weights
        pre = torch.addmm(weights.encoder_bias, y, weights.encoder.T, out=self._pre[: len(y)])
        top, indices = pre.topk(self.config.k, dim=1, sorted=False)
        codes = top.relu()
        error = weighted_rows(codes, indices, weights.decoder) + weights.decoder_bias - y
        output_grad = error * (2 / self.batch_rows)  # a smaller last batch weighs less: rows weigh the same
        codes_grad = sampled_products(output_grad, indices, weights.decoder) * (top > 0)
        grouped = Grouped.by_latent(indices, self.config.n_latents)
        weights.encoder.grad = grouped.sums(codes_grad, y)
        weights.encoder_bias.grad = grouped.totals(codes_grad)
        weights.decoder.grad = grouped.sums(codes, output_grad)
        weights.decoder_bias.grad = output_grad.sum(dim=0)
        return Forward(pre, error, grouped.totals(codes) > 0, error.square().sum() / len(y))

    def decomposition(self, weights: Weights, training: dict[str, float]) -> harness.Decomposition:
        return TopKDecomposition(weights, training, self.config.k)
