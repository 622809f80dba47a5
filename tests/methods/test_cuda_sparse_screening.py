"""Screened in bfloat16 on a card, the pre-activations that are chosen are those of float32, and no learner can tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="kernels need Triton, which there is for Linux only")

import harness
from harness.plugins.methods.cuda import sparse_screening, sparse_screening_kernels
from harness.plugins.methods.cuda.sparse_screening import Screen
from harness.plugins.methods.rounding import UNIT
from harness.plugins.methods.sae import fast_paths

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
B, M, D = 6, 300, 48
ROUNDING = 1e-5
"""Error of products in float32: d · 2⁻²⁴ of the norms of row and latent, in any order of summing, and d ≤ 96."""
pytestmark = pytest.mark.filterwarnings(
    "ignore::RuntimeWarning:triton"
)  # of numpy, where it interprets NaN and infinity


def drawn(seed: int = 0, b: int = B, m: int = M, d: int = D, bias: float = 0.05) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of mean norm 1, of which one is a sink and one 0, an encoder with longer and shorter rows, and its bias."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(b, d, generator=generator) / d**0.5
    y[0] *= 300
    y[1 % b] = 0
    encoder = torch.nn.functional.normalize(torch.randn(m, d, generator=generator))
    encoder *= 0.5 + torch.rand(m, 1, generator=generator)
    return y.to(DEVICE), encoder.to(DEVICE), (bias * torch.randn(m, generator=generator)).to(DEVICE)


def exact(y: Tensor, encoder: Tensor, bias: Tensor) -> Tensor:
    return y.double() @ encoder.double().T + bias.double()


def check_largest(screen: Screen, k: int) -> None:
    """Values are right to float32, each latent is there once, in order, and no other pre-activation is larger."""
    values, latents = screen.largest(k)
    wanted = exact(screen.y, screen.encoder, screen.encoder_bias)
    assert all(row == sorted(set(row)) and len(row) == k for row in latents.tolist())
    scale = 1 + screen.y.norm(dim=1, keepdim=True)
    assert ((values - wanted.gather(1, latents)).abs() <= ROUNDING * scale).all()
    best = wanted.topk(k, dim=1).values
    assert ((values.sort(dim=1, descending=True).values - best).abs() <= ROUNDING * scale).all()


@pytest.mark.parametrize(("m", "d", "k"), [(300, 32, 1), (300, 50, 40), (64, 8, 64), (1, 4, 1)])
@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_the_largest_are_those_of_float64(m: int, d: int, k: int, bias: float) -> None:
    check_largest(Screen.of(*drawn(m=m, d=d, bias=bias)), k)


def test_bfloat16_alone_would_choose_others() -> None:
    """And not many more than k candidates are computed in float32."""
    y, encoder, bias = drawn(b=12, m=1024, bias=0.01)
    screen, k = Screen.of(y, encoder, bias), 16
    chosen = screen.pre.topk(k, dim=1).indices.sort(dim=1).values
    assert (chosen != exact(y, encoder, bias).topk(k, dim=1).indices.sort(dim=1).values).any()
    given = y, encoder, bias, screen.pre, screen.bound
    _, counts, values = sparse_screening_kernels.candidates_in_float32(*given, k, 128)
    assert counts.max() < 4 * k
    n_computed = (values.isfinite() & (torch.arange(128, device=DEVICE) < counts[:, None])).sum(dim=1)
    assert n_computed.min() >= k and n_computed.max() < 2 * k and (n_computed < counts).any()
    check_largest(screen, k)


def test_latents_that_bfloat16_can_not_tell_apart() -> None:
    y, encoder, bias = drawn(bias=0.0)
    encoder[:] = encoder[0]
    encoder += 1e-5 * torch.randn(M, D, generator=torch.Generator().manual_seed(1)).to(DEVICE)
    screen = Screen.of(y, encoder, bias)
    assert (screen.pre == screen.pre[:, :1]).double().mean() > 0.5
    check_largest(screen, 16)  # done whole


def test_of_equal_pre_activations_the_first_are_chosen() -> None:
    _, encoder, bias = drawn(m=64, bias=0.0)
    encoder[40:50], encoder[20] = encoder[30], encoder[30]
    row = Screen.of(encoder[30:31], encoder, bias)
    assert row.largest(4)[1].tolist() == [[20, 30, 40, 41]]


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 10), st.floats(-6, 6))
def test_what_bfloat16_loses_is_within_the_bound(seed: int, bias: float, exponent: float) -> None:
    y, encoder, offset = drawn(seed, b=8, m=128, bias=bias)
    y *= 10**exponent
    screen = Screen.of(y, encoder, offset)
    lost = (exact(y, encoder, offset) - screen.pre).abs()
    norms, growths, constant = screen.bound
    bound = norms[:, None] * growths + constant + sparse_screening_kernels.SAFE_RELATIVE * screen.pre.abs()
    assert (lost <= bound).all()
    rows = slice(2, None)
    assert lost[rows].max() > 0.05 * bound[rows].min()  # a bound that says something


@pytest.mark.parametrize("lossy", ["row", "latent", "product"])
def test_the_bound_holds_where_all_that_is_lost_adds_up(lossy: str) -> None:
    """Rounding takes from one side what is parallel to the other, and leaves it orthogonal; or only the product is
    rounded. Beside them are latents that come out larger in bfloat16. Triton's interpreter cuts off, a card rounds.
    """
    sides, uneven = torch.ones(D), torch.full((D,), 1.5)
    sides[D // 2 :] = -1
    uneven[: D // 2] += 0.9 * UNIT
    even = torch.ones(D)
    y, latent = {
        "row": (uneven, sides),
        "latent": (sides, uneven),
        "product": (even, even.index_fill(0, torch.tensor(0), 1.125)),
    }[lossy]
    others = torch.zeros(99, D)
    others[:, 0] = 0.05
    encoder = torch.cat([latent[None], others]).to(DEVICE)
    screen = Screen.of(y[None].to(DEVICE), encoder, torch.zeros(100, device=DEVICE))
    assert screen.largest(1)[1].item() == 0
    lost = exact(screen.y, encoder, screen.encoder_bias)[0, 0] - screen.pre[0, 0]
    assert 0.99 * (0.125 if lossy == "product" else 0.9 * UNIT * D / 2) < lost
    assert lossy == "product" or screen.pre[0].argmax() != 0


def test_what_is_not_finite_is_not_hidden() -> None:
    y, encoder, bias = drawn(b=5)
    y[3, 3], y[4, 3] = torch.nan, torch.inf
    screen = Screen.of(y, encoder, bias)
    values, latents = screen.largest(16)
    assert values[3].isnan().all() and not values[4].isfinite().all()
    assert int(latents.min()) >= 0 and int(latents.max()) < M
    wanted = exact(y, encoder, bias)[:3].topk(16, dim=1).values
    assert torch.allclose(values[:3].sort(dim=1, descending=True).values.double(), wanted, rtol=1e-5, atol=1e-5)
    y, encoder, bias = drawn()
    encoder[7, 3] = torch.nan
    assert Screen.of(y, encoder, bias).largest(16)[0].isnan().any(dim=1).all()


@pytest.mark.parametrize("exponent", [-66, -76, -126, 60])
def test_rows_and_encoders_whose_squares_leave_the_range_of_float32(exponent: int) -> None:
    y, encoder = torch.zeros(1, 8, device=DEVICE), torch.zeros(40, 8, device=DEVICE)
    y[0, :3] = torch.tensor([1 + 0.9 * UNIT, 1, 1])
    encoder[0, :2], encoder[1:20, 2] = torch.tensor([256.0, -256.0]), 0.5
    for scaled in ((y * 2.0**exponent, encoder), (y, encoder * 2.0**exponent)):
        screen = Screen.of(*scaled, torch.zeros(40, device=DEVICE))
        wanted = 0.9 * 2.0**exponent
        assert screen.largest(1)[0].item() == pytest.approx(wanted, rel=1e-4, abs=0)
        found = screen.largest_of_all(1, torch.tensor(0.4 * wanted, device=DEVICE))[1].tolist()
        assert found == pytest.approx([wanted], rel=1e-4, abs=0)


@pytest.mark.parametrize("guess", [-1.0, 0.05, 0.2, 100.0])
@pytest.mark.parametrize("n", [1, 16 * B, M * B])
def test_the_largest_of_all_rows_together(n: int, guess: float) -> None:
    screen = Screen.of(*drawn())
    support, values = screen.largest_of_all(n, torch.tensor(guess, device=DEVICE))
    wanted = exact(screen.y, screen.encoder, screen.encoder_bias).relu()
    n_found = min(n, int((wanted > 0).sum()))
    places = support.rows * M + support.latents
    assert len(values) == n_found and (places.diff() > 0).all()
    tolerance = ROUNDING * (1 + screen.y.norm(dim=1, keepdim=True)).expand_as(wanted)
    assert ((values - wanted.flatten()[places]).abs() <= tolerance.flatten()[places]).all()
    others = (wanted - tolerance).flatten().index_fill(0, places, 0)
    assert n_found == B * M or others.max() <= values.min()


def test_pre_activations_between_limits() -> None:
    y, encoder, bias = drawn()
    screen, wanted = Screen.of(y, encoder, bias), exact(y, encoder, bias)
    lower = 0.1 * torch.rand(M, generator=torch.Generator().manual_seed(0)).to(DEVICE)
    for upper in (None, lower + 0.05):
        support, values = screen.between(lower, upper)
        chosen = (wanted > lower) & (wanted < (torch.inf if upper is None else upper))
        assert torch.equal(torch.stack([support.rows, support.latents], dim=1), chosen.nonzero())
        assert torch.allclose(values.double(), wanted[chosen], rtol=1e-5, atol=ROUNDING)
    assert ((screen.pre > lower) != (wanted > lower)).any()  # bfloat16 alone is wrong about some


def gradients(name: str, x: Tensor, parameters: dict[str, Any]) -> list[Tensor]:
    """The gradients and the loss of two steps, so small that the weights stay near where they were."""
    b = len(x) // 2
    rates = {"n_latents": 24, "passes": 1, "batch_rows": b, "learning_rate": 1e-6}
    sae = harness.create("method", name, **rates, **parameters)
    sae.start(harness.Info(x.shape[1], len(x), 0, x.device, x.dtype, lambda: x.double().mean(dim=0)))
    sae.see_first = lambda _: None  # else a limit is a pre-activation, on whose side of it rounding decides
    sae.dead.dead_tokens = b  # so that AuxK has its part, where latents are few a row
    found: list[Tensor] = []
    descend = sae.descend
    # As they are before the step: on a card it takes the radial part from the decoder's by itself.
    sae.descend = lambda: (found.extend(own.grad.clone() for own in sae.parameters()), descend())
    with torch.no_grad():
        for rows in x.split(b):
            sae._train(rows)
            found.append(sae._losses[-1])
    assert len(sae.dead.indices) or "k" not in parameters
    return found


KINDS: dict[str, dict[str, Any]] = {
    "topk_sae": {"k": 4},
    "batch_topk_sae": {"k": 4},
    "matryoshka_sae": {"k": 4, "group_shares": [0.25, 0.75]},
    "relu_sae": {"l1": 0.01},
    "gated_sae": {"l1": 0.01},
    "jumprelu_sae": {"l0_penalty": 0.001, "bandwidth": 0.1},
}


@pytest.mark.parametrize("name", KINDS)
def test_learners_have_the_same_gradients(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(b=14, d=16)[0][2:]  # without the sink, which would make up all of the loss
    monkeypatch.setattr(fast_paths, "form", lambda *_, **__: "torch")
    plain = gradients(name, x, KINDS[name])
    monkeypatch.setattr(fast_paths, "form", lambda *_, **__: "cuda")
    monkeypatch.setattr(sparse_screening, "pays", lambda _: name != "matryoshka_sae")
    for one, other in zip(gradients(name, x, KINDS[name]), plain, strict=True):
        assert (one - other).norm() <= 1e-4 * other.norm()  # Adam has made much of what was rounded


def test_an_sae_encodes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = drawn(b=40, bias=0.0)[0]
    sae = harness.fit(harness.create("method", "untrained_sae", n_latents=64, k=8), x.cpu())
    wanted = sae.encode(x.cpu()).to_dense()
    monkeypatch.setattr(fast_paths, "form", lambda *_, **__: "cuda")
    monkeypatch.setattr(fast_paths, "_LEAST_SCREENED_ROWS", 8)
    monkeypatch.setattr(sparse_screening, "pays", lambda _: True)
    rows = x[:9].cpu()
    assert torch.allclose(sae.encode(rows).to_dense(), wanted[:9], rtol=1e-5, atol=1e-4)


def test_where_it_does_not_pay() -> None:
    large = torch.empty(9216, 576, device="meta")
    assert sparse_screening.pays(large) and not sparse_screening.pays(large[:100])
    assert not sparse_screening.pays(torch.empty(2**16, 576, device="meta"))  # longer than what registers hold


def test_rows_longer_than_what_is_put_into_order_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse_screening_kernels, "BLOCK", 32)
    check_largest(Screen.of(*drawn(b=4)), 20)
