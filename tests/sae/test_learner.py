"""Training by autograd is training by hand: only where gradients come from is another thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import harness
from harness.contracts.rows import bare_rows
from harness.sae.held_out import is_held_out
from tests.support import literal

EPS = torch.finfo(torch.float64).eps
KINDS: dict[str, dict[str, Any]] = {
    "topk_sae": {"k": 6},
    "batch_topk_sae": {"k": 6},
    "matryoshka_sae": {"k": 6, "group_shares": [0.25, 0.25, 0.5]},
    "relu_sae": {"l1": 0.05},
    "gated_sae": {"l1": 0.05},
    "jumprelu_sae": {"l0_penalty": 0.003},
}


def fitted(name: str, x: Tensor, *, by_autograd: bool = False, off: float = 0.0) -> dict[str, Tensor]:
    """The tensors of a fit with AuxK at work, whose first decoder is off by some rounding errors."""
    sae = harness.create("method", name, n_latents=64, batch_rows=90, passes=3, **KINDS[name])
    if by_autograd:
        sae = type("ByAutograd", (type(sae),), {"forward": harness.SAELearner.forward})(sae.config)
    start = sae.start

    def start_off(info: harness.Info) -> None:
        start(info)
        sae.dead.dead_tokens = 200
        sae.weights.decoder *= 1 + off * torch.randn(sae.weights.decoder.shape, generator=info.generator("off"))
        sae.weights.encoder_bias[:8] -= 0.5  # latents for AuxK to revive

    sae.start = start_off
    tensors, _ = harness.fit(sae, x).state()
    assert sae.step == 21 and len(sae.dead.indices)
    return dict(tensors)


@pytest.mark.parametrize("name", KINDS)
def test_a_fit_by_autograd_has_the_weights_of_one_by_hand(name: str) -> None:
    """A pass ends with a batch of 60 rows, which weighs two thirds.

    Both round sums of at most 90 terms, in different orders. What training makes of rounding is seen by starting a few
    rounding errors away: a tenfold of that is allowed. Without the weight of the last batch it is ten million times.
    """
    x = literal.mixture(600)
    by_hand, by_autograd = fitted(name, x), fitted(name, x, by_autograd=True)
    nearby = fitted(name, x, off=8 * EPS)
    assert by_hand.keys() == by_autograd.keys()
    for key, tensor in by_hand.items():
        allowed = 10 * float((nearby[key] - tensor).abs().max()) + 100 * EPS * float(tensor.abs().max())
        assert float((by_autograd[key] - tensor).abs().max()) <= allowed, key
        assert allowed < 1e-6 * float(tensor.abs().max()), key


class ReLU(harness.SAEDecomposition):
    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())


class Plain(harness.SAELearner):
    """No more than must be given."""

    name = "plain"

    def encode(self, y: Tensor) -> Tensor:
        return self.weights.pre_activations(y).relu()

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> ReLU:
        return ReLU(weights, training)


def test_a_plain_one_learns_and_keeps_its_decoder_at_unit_norm() -> None:
    x = literal.mixture(2000).float()
    sae = Plain(harness.SAEConfig(n_latents=64, passes=10))
    decomposition = harness.fit(sae, x)
    error = x - decomposition.decode(decomposition.encode(x))
    assert error.square().sum() < 0.05 * (x - x.mean(dim=0)).square().sum()
    assert torch.allclose(sae.weights.decoder.norm(dim=1), torch.ones(64), atol=1e-5)
    assert decomposition.report() == {"steps": sae.schedule.n_steps, "dead_latent_share": 0}
    assert not any(parameter.requires_grad for parameter in sae.parameters())
    assert not any(tensor.requires_grad for tensor in decomposition.state()[0].values())


def test_what_the_loss_leaves_out_gets_no_gradient() -> None:
    class WithMore(Plain):
        def start(self, info: harness.Info) -> None:
            self.unused, self.gain = torch.ones(3), torch.zeros(self.config.n_latents)
            super().start(info)

        def own_parameters(self) -> list[Tensor]:
            return [self.unused, self.gain]

        def encode(self, y: Tensor) -> Tensor:
            return super().encode(y) * self.gain.exp()

    sae = WithMore(harness.SAEConfig(n_latents=16, passes=2))
    harness.fit(sae, literal.mixture(500).float())
    assert torch.equal(sae.unused, torch.ones(3)) and sae.gain.all()


class Forgetful(harness.SAELearner):
    """Gives no name, and a loss that breaks at once."""

    encode, decomposition = Plain.encode, Plain.decomposition  # type: ignore[assignment]

    def loss(self, y: Tensor, codes: Tensor, error: Tensor) -> Tensor:
        return super().loss(y, codes, error) * torch.nan


def test_one_that_gives_no_name_is_called_as_its_class() -> None:
    sae = Forgetful(harness.SAEConfig(n_latents=16))
    with pytest.raises(harness.HarnessError, match=r"^Forgetful: the loss is NaN or infinite at step 1 of "):
        harness.fit(sae, literal.mixture(500).float())
    assert sae.name == "Forgetful" and Plain(sae.config).name == "plain"
    assert harness.create("method", "topk_sae", n_latents=8, k=2).name == "topk_sae"


class Holding(Plain):
    """Keeps some rows out of training, and does not need any."""

    holds_out = True


@pytest.mark.parametrize("name", ["batch_topk_sae", "relu_sae", "holding"])
def test_where_all_rows_are_held_out_that_is_said(name: str) -> None:
    own = {"batch_topk_sae": {"k": 2}, "relu_sae": {"target_l0": 2}}
    if name == "holding":
        sae: Any = Holding(harness.SAEConfig(n_latents=16))
    else:
        sae = harness.create("method", name, n_latents=16, **own[name])
    x, rows = literal.mixture(500).float(), bare_rows(500)
    held_out = is_held_out(rows)
    info = harness.Info(x.shape[1], int(held_out.sum()), 0, x.device, x.dtype, lambda: x.mean(dim=0))
    sae.start(info)
    sae.partial_fit(harness.Batch(x[torch.from_numpy(held_out)], lambda: rows[held_out]))
    with pytest.raises(
        harness.ConfigError, match=r"there was no row to train on: one in 32 .* that was all. Give more"
    ):
        sae.finish()


def test_without_any_row_nothing_is_said_of_held_out_ones() -> None:
    x = literal.mixture(10).float()
    sae = Plain(harness.SAEConfig(n_latents=16))
    sae.start(harness.Info(x.shape[1], 10, 0, x.device, x.dtype, lambda: x.mean(dim=0)))
    with pytest.raises(harness.ConfigError, match=r"^plain: there was no row to train on\. Give more text\.$"):
        sae.finish()
