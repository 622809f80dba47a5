"""The gradient that each kind sets is that of autograd on its loss, written out densely."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import harness
from tests.support import literal

K, M, B = 6, 64, 64
PENALTY, BANDWIDTH = 0.01, 0.1


def started(name: str, **parameters: Any) -> tuple[Any, Tensor]:
    """A learner with weights that are not those of the start, and rows in its units."""
    x = literal.mixture(B)
    sae = harness.create("method", name, n_latents=M, batch_rows=B, **parameters)
    sae.start(harness.Info(x.shape[1], len(x), 0, x.device, x.dtype, lambda: x.mean(dim=0)))
    sae.see_first(x - x.mean(dim=0))
    generator = torch.Generator().manual_seed(0)
    for parameter in [*sae.weights, *sae.own_parameters()]:
        parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return sae, x - x.mean(dim=0)


def squares(error: Tensor) -> Tensor:
    return error.square().sum(dim=1).mean()


def topk(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    pre = y @ w[0].T + w[1]
    assert (pre.topk(K, dim=1).values < 0).any()
    codes = topk_codes(pre)
    return squares(codes @ w[2] + w[3] - y), codes


def topk_codes(pre: Tensor) -> Tensor:
    top = pre.topk(K, dim=1)
    return torch.zeros_like(pre).scatter(1, top.indices, top.values.relu())


def batch_codes(y: Tensor, w: list[Tensor]) -> Tensor:
    pre = (y @ w[0].T + w[1]).relu()
    return pre * (pre >= pre.flatten().topk(K * len(y)).values[-1])


def batch_topk(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    codes = batch_codes(y, w)
    return squares(codes @ w[2] + w[3] - y), codes


def matryoshka(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    codes = batch_codes(y, w)
    sizes = [squares(codes[:, :m] @ w[2][:m] + w[3] - y) for m in (16, 32, 64)]
    return sum(sizes, torch.zeros(())) / 3, codes


def relu(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    codes = (y @ w[0].T + w[1]).relu()
    penalty = (codes * w[2].norm(dim=1)).sum(dim=1).mean()
    return squares(codes @ w[2] + w[3] - y) + PENALTY * penalty, codes


def gated(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    gate = y @ w[0].T + w[1]
    codes = (gate > 0) * (w[4].exp() * (y @ w[0].T) + w[5]).relu()
    assert ((gate > 0) & (codes == 0)).any()
    of_gate = gate.relu() @ w[2].detach() + w[3].detach() - y
    return squares(codes @ w[2] + w[3] - y) + squares(of_gate) + PENALTY * gate.relu().sum(dim=1).mean(), codes


def jumprelu(y: Tensor, w: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Straight-through: a term of value 0 whose derivative by θ is the estimator."""
    pre, threshold = y @ w[0].T + w[1], w[4]
    active, near = pre > threshold, (pre - threshold).abs() < BANDWIDTH / 2
    assert (near & ~active).any() and (near & active).any()
    moved = near.detach() * (threshold - threshold.detach()) / BANDWIDTH
    codes = pre * active - threshold.detach() * moved
    l0 = (active.double() - moved).sum(dim=1).mean()
    return squares(codes @ w[2] + w[3] - y) + PENALTY * l0, codes


@pytest.mark.parametrize(
    ("name", "parameters", "loss_of"),
    [
        ("topk_sae", {"k": K}, topk),
        ("batch_topk_sae", {"k": K}, batch_topk),
        ("matryoshka_sae", {"k": K, "group_shares": [0.25, 0.25, 0.5]}, matryoshka),
        ("relu_sae", {"l1": PENALTY}, relu),
        ("gated_sae", {"l1": PENALTY}, gated),
        ("jumprelu_sae", {"l0_penalty": PENALTY, "bandwidth": BANDWIDTH}, jumprelu),
    ],
    ids=["topk", "batch_topk", "matryoshka", "relu", "gated", "jumprelu"],
)
def test_the_gradient_is_that_of_dense_autograd(
    name: str, parameters: dict[str, Any], loss_of: Callable[[Tensor, list[Tensor]], tuple[Tensor, Tensor]]
) -> None:
    sae, y = started(name, **parameters)
    if name == "topk_sae":
        sae.weights.encoder_bias -= 0.8  # so that some of the k largest are negative
    if name == "jumprelu_sae":
        sae.threshold.clamp_(min=0)
    learnt = [*sae.weights, *sae.own_parameters()]
    leaves = [parameter.clone().requires_grad_() for parameter in learnt]
    loss, codes = loss_of(y, leaves)
    loss.backward()
    forward = sae.forward(y)
    assert torch.allclose(forward.loss, loss, rtol=1e-12)
    assert torch.equal(forward.fired, (codes > 0).any(dim=0))
    for parameter, leaf in zip(learnt, leaves, strict=True):
        assert leaf.grad.any()
        assert torch.allclose(parameter.grad, leaf.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["topk_sae", "batch_topk_sae"])
def test_of_codes_chosen_in_bfloat16_the_gradient_is_exact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sae, y = started(name, k=K, bfloat16_selection=True)
    leaves = [parameter.clone().requires_grad_() for parameter in sae.weights]
    seen, choose = [], sae.choose
    monkeypatch.setattr(sae, "choose", lambda y: seen.append(choose(y)) or seen[-1])
    forward = sae.forward(y)
    pre = y @ leaves[0].T + leaves[1]
    chosen = torch.zeros(B, M, dtype=torch.bool).index_put_(
        (seen[0].support.rows, seen[0].support.latents), torch.tensor(True)
    )
    exact = batch_codes(y, leaves) if name == "batch_topk_sae" else topk_codes(pre)
    assert 0 < ((exact > 0) & ~chosen).sum() < 0.05 * B * K  # other codes are chosen, but few
    codes = (pre * chosen).relu()
    loss = squares(codes @ leaves[2] + leaves[3] - y)
    loss.backward()
    assert torch.allclose(forward.loss, loss, rtol=1e-12)
    for parameter, leaf in zip(sae.weights, leaves, strict=True):
        assert leaf.grad.any()
        assert torch.allclose(parameter.grad, leaf.grad, rtol=1e-9, atol=1e-12)


def test_the_gradient_of_auxk_joins_it() -> None:
    sae, y = started("topk_sae", k=K)
    dead = torch.tensor([3, 10, 11])
    sae.weights.encoder_bias[dead] -= 20.0  # none of them among the k largest
    leaves = [weight.clone().requires_grad_() for weight in sae.weights]
    forward = sae.forward(y)
    assert not forward.fired[dead].any()
    without = [weight.grad.clone() for weight in sae.weights]
    sae.revive(dead, y, forward)
    residual = y - (y + forward.error)  # of the reconstruction, what is still missing
    decoded = (y @ leaves[0][dead].T + leaves[1][dead]) @ leaves[2][dead]
    scatter = (residual - residual.mean(dim=0)).square().sum()
    (1 / 32 * (residual - decoded).square().sum() / scatter).backward()
    for weight, leaf, before in zip(sae.weights, leaves, without, strict=True):
        added = torch.zeros_like(before) if leaf.grad is None else leaf.grad
        assert torch.allclose(weight.grad - before, added, rtol=1e-8, atol=1e-12)
