"""BatchTopK SAE (Bussmann et al. 2024, arXiv 2412.06410): k codes a row on average over a batch, as rows need them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.methods.sae.fast_paths import Chosen
from harness.plugins.methods.sae.jumprelu import JumpReLUDecomposition
from harness.plugins.methods.sae.topk import TopKSAE

CALIBRATION_ROWS = 4096
_ENCODE_ROWS = 512


class BatchTopKSAE(TopKSAE):
    """BatchTopK SAE: in training the k·b largest positive pre-activations of a batch of b rows are its codes.

    The learnt SAE encodes rows one by one: a code is a pre-activation above one threshold for all. The public
    libraries average the smallest code of the batches, which replayed rows bias; here it is the threshold at which
    rows kept out of training, under the final weights, have a mean L0 of k.
    """

    name = "batch_topk_sae"
    holds_out = True

    def start(self, info: harness.Info) -> None:
        super().start(info)
        self._calibration = torch.empty(0, info.width, dtype=info.dtype, device=info.device)

    def see_held_out(self, x: Float[Tensor, "h d"]) -> None:
        missing = CALIBRATION_ROWS - len(self._calibration)
        if missing > 0:
            self._calibration = torch.cat([self._calibration, x[:missing]])

    def encode(self, y: Float[Tensor, "b d"]) -> Float[Tensor, "b m"]:
        pre = self.weights.pre_activations(y).relu()
        return pre * (pre >= pre.flatten().topk(self.config.k * len(y)).values[-1])

    def choose(self, y: Float[Tensor, "b d"]) -> Chosen:
        return self._selection.of_all(y, self.weights, self.config.k * len(y))

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> harness.SAEDecomposition:
        if not len(self._calibration):
            raise self.none_held_out("its threshold", "more text, or use topk_sae")
        sae = JumpReLUDecomposition(weights, training, weights.encoder_bias.new_zeros(()))
        sae.threshold = threshold_of_l0(sae, self._calibration, self.config.k)
        return sae


def threshold_of_l0(sae: JumpReLUDecomposition, x: Float[Tensor, "n d"], l0: float) -> Float[Tensor, ""]:
    """The threshold that leaves these rows `l0` codes on average; 0 if they have fewer positive pre-activations."""
    n_kept = round(l0 * len(x))
    top = x.new_empty(0)
    for rows in x.split(_ENCODE_ROWS):
        pre = sae.pre_activations(rows)
        top = torch.cat([top, pre[pre > 0]])
        if len(top) > n_kept:
            top = top.topk(n_kept + 1).values
    return top[n_kept].clone() if len(top) > n_kept else top.new_zeros(())
