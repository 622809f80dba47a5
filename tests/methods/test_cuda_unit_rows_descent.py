"""The step of decoder rows in Triton against torch.optim.Adam, and SAEs that can't tell which took it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")

import harness
from harness.plugins.methods.cuda import unit_rows_descent
from harness.plugins.methods.sae import fast_paths

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BETAS, EPS = (0.9, 0.999), 1e-8


def drawn(m: int, d: int, n_steps: int) -> tuple[Tensor, list[Tensor]]:
    """Unit rows and gradients: of one row always 0, of another once, of others tiny, large or along the row."""
    generator = torch.Generator().manual_seed(d)
    rows = torch.nn.functional.normalize(torch.randn(m, d, generator=generator))
    gradients = [torch.randn(m, d, generator=generator) for _ in range(n_steps)]
    for number, gradient in enumerate(gradients):
        gradient[0] = 0
        gradient[1] *= number == 1
        gradient[2] *= 1e-6
        gradient[3] = 1e4 * gradient[3]
        gradient[4] = 3 * rows[4]
    return rows, gradients


def by_torch(rows: Tensor, gradients: list[Tensor], rates: list[float]) -> Tensor:
    """Rows after these steps by torch's own Adam, in float64."""
    found = rows.double().requires_grad_()
    optimiser = torch.optim.Adam([found], betas=BETAS, eps=EPS)
    for gradient, rate in zip(gradients, rates, strict=True):
        with torch.no_grad():
            found.grad = gradient.double() - (gradient.double() * found).sum(1, keepdim=True) * found
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()
            found /= found.norm(dim=1, keepdim=True)
    return found.detach()


@pytest.mark.parametrize("d", [2, 33, 64])
def test_steps_are_those_of_adam(d: int) -> None:
    rates = [1e-3, 4e-3, 4e-3, 2e-3, 1e-4]
    rows, gradients = drawn(7, d, len(rates))
    found = rows.clone().to(DEVICE)
    means, squares = torch.zeros_like(found), torch.zeros_like(found)
    for number, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
        given = gradient.to(DEVICE)
        unit_rows_descent.descend(found, given, means, squares, number + 1, rate, BETAS, EPS)
        assert torch.equal(given.cpu(), gradient)
    found, wanted = found.cpu().double(), by_torch(rows, gradients, rates)
    is_plain = torch.arange(7) != 4  # of a gradient along the row only rounding is left, which Adam makes steps of
    assert (found - wanted)[is_plain].abs().max() < 1e-6
    assert (found.norm(dim=1) - 1).abs().max() < 1e-6
    assert (found[0] - rows[0]).abs().max() < 1e-6  # a latent without any gradient stays
    assert (found[1] - rows[1]).abs().max() > 1e-3  # and one that had one once goes on by its moments


def test_a_gradient_that_is_no_number_stays_in_its_row() -> None:
    rows, (gradient, *_) = drawn(7, 33, 1)
    whole, broken = rows.clone().to(DEVICE), rows.clone().to(DEVICE)
    for found, own in ((whole, gradient), (broken, gradient.clone())):
        own[5, 7] = own[5, 7] if found is whole else torch.nan
        moments = torch.zeros_like(found), torch.zeros_like(found)
        unit_rows_descent.descend(found, own.to(DEVICE), *moments, 1, 1e-3, BETAS, EPS)
    assert broken[5].isnan().all() and torch.equal(broken[torch.arange(7) != 5], whole[torch.arange(7) != 5])


def learner(name: str, x: Tensor, **parameters: Any) -> Any:
    sae = harness.create("method", name, n_latents=40, passes=1, batch_rows=32, **parameters)
    mean = x.double().mean(dim=0)
    sae.start(harness.Info(x.shape[1], 320, 0, x.device, x.dtype, lambda: mean))
    sae.see_first = lambda _: None
    return sae


def trained(sae: Any, x: Tensor, at_once: list[bool], monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    for batch, is_at_once in zip(x.split(32), at_once, strict=True):
        with monkeypatch.context() as patch, torch.no_grad():
            patch.setattr(fast_paths, "descends_at_once", lambda *_, is_at_once=is_at_once: is_at_once)
            sae._train(batch)
    moments = [sae._optimiser.state[sae.weights.decoder][name] for name in ("step", "exp_avg", "exp_avg_sq")]
    return [*sae.parameters(), *moments]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("topk_sae", {"k": 4}), ("matryoshka_sae", {"k": 4}), ("gated_sae", {"l1": 0.01}), ("relu_sae", {"l1": 0.01})],
)
def test_an_sae_learns_the_same_by_either_form_and_from_one_to_the_other(
    name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(128, 24, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    plain = trained(learner(name, x, **parameters), x, [False] * 4, monkeypatch)
    for at_once in ([True] * 4, [True, False, False, True]):
        found = trained(learner(name, x, **parameters), x, at_once, monkeypatch)
        for one, other in zip(found, plain, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=3e-6)
    assert float(plain[-3]) == 4


def test_one_place_says_which_rows_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.eye(3)
    assert not fast_paths.descends_at_once(rows, rows)
    monkeypatch.setattr(fast_paths, "form", lambda *_, **__: "cuda")
    assert fast_paths.descends_at_once(rows, rows)
    wide = torch.empty(1, unit_rows_descent.WIDEST + 1)
    assert not fast_paths.descends_at_once(wide, wide)
