"""BatchTopK SAE (Bussmann et al. 2024, arXiv 2412.06410): k codes a row on average over a batch, as rows need them."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.methods.sae import BatchTopKSAEConfig
from harness.plugins.methods.sae.held_out import none_held_out
from harness.plugins.methods.sae.jumprelu import JumpReLUDecomposition
from harness.plugins.methods.sae.screening import Screen
from harness.plugins.methods.sae.sparse import Support
from harness.plugins.methods.sae.topk import TopKSAE
from harness.plugins.methods.sae.weights import Weights

CALIBRATION_ROWS = 4096
_ENCODE_ROWS = 512
_GUESS = 0.8


class BatchTopKSAE(TopKSAE):
    """In training the k·b largest positive pre-activations of a batch of b rows are its codes.

    What is learnt encodes rows one by one: a code is a pre-activation above one threshold for all. The public
    libraries average the smallest code of the batches, which replayed rows bias; here it is the threshold at which
    rows kept out of training, under the final weights, have a mean L0 of k.
    """

    name = "batch_topk_sae"
    holds_out = True
    config: BatchTopKSAEConfig

    def start(self, info: harness.Info) -> None:
        super().start(info)
        self._calibration = torch.empty(0, info.width, dtype=info.dtype, device=info.device)
        self._smallest = torch.zeros((), dtype=info.dtype, device=info.device)

    def see_held_out(self, x: Float[Tensor, "h d"]) -> None:
        missing = CALIBRATION_ROWS - len(self._calibration)
        if missing > 0:
            self._calibration = torch.cat([self._calibration, x[:missing]])

    def support(self, pre: Float[Tensor, "b m"]) -> Support:
        flat = pre.flatten()
        places = largest_positive(flat, self.config.k * len(pre), _GUESS * self._smallest)
        if len(places):
            self._smallest = flat[places].min()
        return Support.at(places, *pre.shape)

    def screened(self, screen: Screen) -> tuple[Support, Float[Tensor, " e"]]:
        support, values = screen.largest_of_all(self.config.k * len(screen.pre), _GUESS * self._smallest)
        if len(values):
            self._smallest = values.min()
        return support, values

    def decomposition(self, weights: Weights, training: dict[str, float]) -> harness.Decomposition:
        if not len(self._calibration):
            raise none_held_out(self.name, "its threshold", "more text, or use topk_sae")
        sae = JumpReLUDecomposition(weights, training, weights.encoder_bias.new_zeros(()))
        sae.threshold = threshold_of_l0(sae, self._calibration, self.config.k)
        return sae


def largest_positive(flat: Float[Tensor, " e"], n: int, guess: Float[Tensor, ""]) -> Int[Tensor, " n"]:
    """Places of the n largest values in order of place; of all positive ones where there are fewer.

    Sorting everything is avoided by looking first at what is above `guess` (from 0 on); any guess gives the same.
    """
    found = (flat > guess).nonzero().squeeze(1)
    if len(found) < n:
        found = (flat > 0).nonzero().squeeze(1)
    if len(found) <= n:
        return found
    chosen = torch.zeros_like(found, dtype=torch.bool)
    chosen[flat[found].topk(n, sorted=False).indices] = True
    return found[chosen]


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
