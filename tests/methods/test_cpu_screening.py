"""Screened in bfloat16, the largest pre-activations are those of float32, and no learner can tell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import harness
from harness.plugins.methods.cpu.screening import Screen, pays
from harness.plugins.methods.rounding import RELATIVE, UNIT
from harness.plugins.methods.sae import fast_paths

B, M, D = 64, 2048, 96
ROUNDING = 1e-5
"""Error of products in float32: d · 2⁻²⁴ of the norms of row and latent, in any order of summing, and d ≤ 96."""


def drawn(seed: int = 0, b: int = B, m: int = M, d: int = D, bias: float = 0.05) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of mean norm 1, of which one is a sink and one 0, an encoder with longer and shorter rows, and its bias."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randn(b, d, generator=generator) / d**0.5
    y[0] *= 300
    y[1 % b] = 0
    encoder = torch.nn.functional.normalize(torch.randn(m, d, generator=generator))
    return y, encoder * (0.5 + torch.rand(m, 1, generator=generator)), bias * torch.randn(m, generator=generator)


def exact(y: Tensor, encoder: Tensor, bias: Tensor) -> Tensor:
    return y.double() @ encoder.double().T + bias.double()


def check_largest(screen: Screen, k: int) -> None:
    """Values are right to float32, each latent is there once, and no other pre-activation is larger."""
    values, latents = screen.largest(k)
    wanted = exact(screen.y, screen.encoder, screen.encoder_bias)
    assert all(len(set(row)) == k for row in latents.tolist())
    scale = 1 + screen.y.norm(dim=1, keepdim=True)
    assert ((values.relu() - wanted.gather(1, latents).relu()).abs() <= ROUNDING * scale).all()
    best = wanted.topk(k, dim=1).values.relu()
    assert ((values.relu().sort(dim=1, descending=True).values - best).abs() <= ROUNDING * scale).all()


@pytest.mark.parametrize(
    ("m", "d", "k"), [(2048, 96, 16), (9216, 64, 32), (300, 32, 1), (300, 32, 40), (64, 8, 64), (1, 4, 1)]
)
@pytest.mark.parametrize("bias", [0.0, 0.05, 3.0])
def test_the_largest_are_those_of_float64(m: int, d: int, k: int, bias: float) -> None:
    check_largest(Screen.of(*drawn(m=m, d=d, bias=bias)), k)


def test_bfloat16_alone_would_choose_others() -> None:
    screen = Screen.of(*drawn(m=9216))
    chosen = screen.pre.topk(32, dim=1).indices.sort(dim=1).values
    wanted = exact(screen.y, screen.encoder, screen.encoder_bias).topk(32, dim=1).indices.sort(dim=1).values
    assert (chosen != wanted).any(dim=1).sum() > B / 8


def test_latents_that_bfloat16_can_not_tell_apart() -> None:
    y, encoder, bias = drawn(bias=0.0)
    encoder[:] = encoder[0]
    encoder += 1e-5 * torch.randn(M, D, generator=torch.Generator().manual_seed(1))
    screen = Screen.of(y, encoder, bias)
    assert (screen.pre == screen.pre[:, :1]).double().mean() > 0.5
    check_largest(screen, 16)


def test_rows_with_fewer_positive_pre_activations_than_codes() -> None:
    y, encoder, bias = drawn(bias=0.0)
    screen = Screen.of(y, encoder, bias - 0.2)
    n_positive = (exact(screen.y, screen.encoder, screen.encoder_bias) > 0).sum(dim=1)
    assert (n_positive == 0).any() and ((n_positive > 0) & (n_positive < 40)).any() and (n_positive > 40).any()
    check_largest(screen, 40)


@given(st.integers(0, 2**31), st.floats(0, 10), st.floats(-6, 6))
def test_what_bfloat16_loses_is_within_the_bound(seed: int, bias: float, exponent: float) -> None:
    y, encoder, offset = drawn(seed, b=8, m=128, d=48, bias=bias)
    y *= 10**exponent
    screen = Screen.of(y, encoder, offset)
    lost = (exact(y, encoder, offset) - screen.pre).abs()
    bound = screen.slack[:, None] + RELATIVE * screen.pre.abs()
    assert (lost <= bound + torch.finfo(torch.float32).tiny).all()
    rows = slice(2, None)
    assert lost[rows].max() > 0.05 * bound[rows].min()  # a bound that says something


@pytest.mark.parametrize("lossy", ["row", "latent", "product"])
def test_the_bound_holds_where_all_that_is_lost_adds_up(lossy: str) -> None:
    """Rounding takes from one side what is parallel to the other, and leaves it orthogonal; or only the product is
    rounded.
    """
    even, alternating = torch.ones(D), 1.5 * torch.ones(D)
    alternating[::2] *= -1
    y, latent = {
        "row": (alternating + 0.9 * UNIT, even),
        "latent": (even, alternating + 0.9 * UNIT),
        "product": (even, even.index_fill(0, torch.tensor(0), 1.25)),
    }[lossy]
    encoder = torch.cat([latent[None], torch.zeros(99, D)])
    screen = Screen.of(y[None], encoder, torch.zeros(100))
    lost = exact(y[None], encoder, torch.zeros(100))[0, 0] - screen.pre[0, 0]
    assert 0.99 * (0.25 if lossy == "product" else 0.9 * UNIT * D) < lost
    assert lost <= screen.slack[0] + RELATIVE * screen.pre[0, 0]
    assert screen.largest(1)[1].item() == 0


def test_a_row_that_is_not_finite_is_not_hidden() -> None:
    y, encoder, bias = drawn()
    y[5, 3], y[6, 3] = torch.nan, torch.inf
    screen = Screen.of(y, encoder, bias)
    values, latents = screen.largest(16)
    assert not values[5].isfinite().any() and not values[6].isfinite().all()
    assert int(latents.min()) >= 0 and int(latents.max()) < M
    rest = [0, 1, 2, 3, 4, *range(7, B)]
    check_largest(Screen(y[rest], encoder, bias, screen.pre[rest], screen.slack[rest]), 16)


def test_a_latent_that_is_not_finite_is_not_hidden() -> None:
    y, encoder, bias = drawn()
    encoder[7, 3] = torch.nan
    values, _ = Screen.of(y, encoder, bias).largest(16)
    assert values.isnan().any(dim=1).all()


@pytest.mark.parametrize("guess", [-100.0, -1.0, 0.0, 0.05, 0.2, 100.0])
@pytest.mark.parametrize("n", [1, 16 * B, M * B])
@pytest.mark.parametrize("bias", [0.0, 0.05])
def test_the_largest_of_all_rows_together(bias: float, n: int, guess: float) -> None:
    screen = Screen.of(*drawn(bias=bias))
    support, values = screen.largest_of_all(n, torch.tensor(guess))
    wanted = exact(screen.y, screen.encoder, screen.encoder_bias).relu()
    n_found = min(n, int((wanted > 0).sum()))
    assert len(values) == n_found and (support.rows.diff() >= 0).all()
    places = support.rows * M + support.latents
    assert len(places.unique()) == n_found
    tolerance = ROUNDING * (1 + screen.y.norm(dim=1, keepdim=True)).expand_as(wanted)
    assert ((values - wanted.flatten()[places]).abs() <= tolerance.flatten()[places]).all()
    others = (wanted - tolerance).flatten().index_fill(0, places, 0)
    assert n_found == B * M or others.max() <= values.min()


@pytest.mark.parametrize("n", [1, 16, 1024])
def test_the_smallest_of_them_may_be_in_a_row_computed_whole(n: int) -> None:
    """There it may come out a bit lower than as a product by itself."""
    for seed in range(30):
        y, encoder, bias = drawn(seed)
        y[::4] *= 5
        screen = Screen.of(y, encoder, bias)
        best = exact(y, encoder, bias).flatten().topk(n).values
        _, values = screen.largest_of_all(n, (0.98 * best[-1]).float())
        assert len(values) == n and values.min() == pytest.approx(float(best[-1]), rel=1e-4)


@pytest.mark.parametrize("exponent", [-66, -70, -76, -126, 60])
def test_rows_and_encoders_whose_squares_leave_the_range_of_float32(exponent: int) -> None:
    y, encoder = torch.zeros(1, 8), torch.zeros(320, 8)
    y[0, :3] = torch.tensor([1 + 0.9 * UNIT, 1, 1])
    encoder[0, :2], encoder[1:40, 2] = torch.tensor([256.0, -256.0]), 0.5
    for scaled in ((y * 2.0**exponent, encoder), (y, encoder * 2.0**exponent)):
        screen = Screen.of(*scaled, torch.zeros(320))
        wanted = 0.9 * 2.0**exponent
        assert screen.largest(1)[0].item() == pytest.approx(wanted, rel=1e-4, abs=0)
        assert screen.largest_of_all(1, torch.tensor(0.4 * wanted))[1].tolist() == pytest.approx(
            [wanted], rel=1e-4, abs=0
        )


@pytest.mark.parametrize("name", ["topk_sae", "batch_topk_sae", "matryoshka_sae"])
def test_learners_take_the_same_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, _ = drawn(b=24 * B)
    x[0], x[1] = x[2], -x[3]  # one sink would make up all of the loss

    def learn(screened: bool) -> list[Tensor]:
        monkeypatch.setattr(fast_paths, "screens", lambda _: screened)
        sae = harness.create("method", name, n_latents=512, k=8, passes=1, batch_rows=B)
        sae.start(harness.Info(D, len(x), 0, x.device, x.dtype, lambda: x.double().mean(dim=0)))
        assert (sae._selection._room.dtype == torch.bfloat16) == screened
        sae.dead.dead_tokens = 3 * B  # so that AuxK has its part
        for rows in x.split(B):
            sae._train(rows)
        assert len(sae.dead.indices) and (name == "topk_sae" or sae._selection._smallest > 0)
        return [*sae.weights, sae._losses[-1]]

    with torch.no_grad():
        for one, other in zip(learn(screened=True), learn(screened=False), strict=True):
            assert (one - other).norm() < 1e-3 * other.norm()  # Adam makes much of how small gradients are rounded


def test_an_sae_encodes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, _ = drawn(b=1000, bias=0.0)
    sae = harness.fit(harness.create("method", "untrained_sae", n_latents=M, k=16), x)
    encoded = []
    for screened in (True, False):
        monkeypatch.setattr(fast_paths, "screens", lambda _, screened=screened: screened)
        encoded.append(sae.encode(x.T.contiguous().T).to_dense())
    assert torch.allclose(*encoded, rtol=1e-5, atol=1e-4)  # of a sink whose codes are above 100
    assert ((encoded[0] > 0).sum(dim=1) == 16).double().mean() > 0.99


def test_codes_have_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _, _ = drawn(b=200)
    sae = harness.fit(harness.create("method", "untrained_sae", n_latents=M, k=16), x)
    monkeypatch.setattr(fast_paths, "screens", lambda _: True)
    sae.encode(x.requires_grad_()).values.sum().backward()
    assert x.grad is not None and x.grad.any(dim=1).double().mean() > 0.99


def test_where_it_does_not_pay() -> None:
    large = torch.zeros(4096, 576)
    has = torch.cpu.get_capabilities()
    assert pays(large) == bool(has.get("avx512_bf16") or has.get("amx_bf16"))
    assert not pays(large.double()) and not pays(large.T) and not pays(large[:100]) and not pays(large.to("meta"))
