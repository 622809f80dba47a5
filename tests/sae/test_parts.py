"""Parts that the kinds of SAE share: sparse gradients, schedule, dead latents, units."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness import DeadLatents, SAEConfig, SAEDecomposition, SAESchedule, SAEUnits, SAEWeights, Support
from harness.sae.dead_latents import auxk_loss


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(b=st.integers(1, 20), k=st.integers(1, 6), m=st.sampled_from([6, 50, 70_000]), seed=st.integers(0, 99))
def test_sparse_products_are_those_of_dense_autograd(b: int, k: int, m: int, seed: int) -> None:
    chosen = torch.zeros(b, m, dtype=torch.bool).scatter(1, random(b, m, seed=seed).topk(k, dim=1).indices, True)
    chosen[0] = seed % 2 == 0  # rows may have none, or all
    dense = (random(b, m, seed=seed + 1) * chosen).requires_grad_()
    support = Support.where(chosen)
    values = support.of(dense.detach())
    table, output_grad = random(m, 3, seed=seed + 2), random(b, 3, seed=seed + 3)
    table.requires_grad_()
    product = dense @ table
    product.backward(output_grad)
    assert torch.allclose(support.decode(values, table.detach()), product)
    assert torch.allclose(support.products(output_grad, table.detach()), dense.grad[chosen])
    assert torch.allclose(support.sums_by_latent(values, output_grad), table.grad)
    assert torch.allclose(support.totals_by_latent(values), dense.detach().sum(dim=0))


def test_the_support_of_k_latents_in_each_row() -> None:
    latents = torch.tensor([[2, 0], [1, 3]])
    support = Support.of_each_row(latents, 4)
    dense = random(2, 4)
    assert torch.equal(support.of(dense), dense.gather(1, latents).flatten())
    assert torch.allclose(
        support.decode(support.of(dense), torch.eye(4, dtype=torch.float64)).sum(), support.of(dense).sum()
    )


@given(n_rows=st.integers(1, 10**6), batch_rows=st.integers(1, 4096), passes=st.integers(1, 50))
def test_the_schedule_reaches_its_ends(n_rows: int, batch_rows: int, passes: int) -> None:
    config = SAEConfig(n_latents=1, batch_rows=batch_rows, passes=passes, learning_rate=3.0)
    schedule = SAESchedule.of(config, n_rows, short_run_peak=1.0)
    n_steps = schedule.n_steps
    assert n_steps == passes * len(range(0, n_rows, batch_rows))
    assert 0 < schedule.learning_rate(0) <= 3 and 0 < schedule.learning_rate(n_steps - 1) <= 3
    if n_steps >= 20:
        assert schedule.learning_rate(n_steps // 2) == 3
    if n_steps >= 2000:
        assert schedule.learning_rate(0) < 0.1 and schedule.learning_rate(n_steps - 1) < 0.03


def test_defaults_follow_from_the_rows() -> None:
    runs = [SAESchedule.of(SAEConfig(n_latents=1), n, 4e-3) for n in (1, 30_000, 50_000, 500_000, 500_000_000)]
    assert [run.passes for run in runs] == [20, 20, 20, 4, 1]
    assert [run.n_steps for run in runs] == [20, 20 * 118, 20 * 196, 4 * 977, 244_141]
    peaks = [run.peak for run in runs]
    assert peaks[0] == 4e-3 and peaks[1] == pytest.approx(4e-3 * (2000 / 2360) ** 0.5)
    assert peaks[-1] == pytest.approx(3.6e-4, rel=0.02)


@pytest.mark.parametrize("batch_rows", [10, 250, 500])
def test_dead_latents_are_counted_in_tokens(batch_rows: int) -> None:
    """Firings cut into batches of any size leave the same latents dead."""
    fires = torch.zeros(2000, 4, dtype=torch.bool)
    fires[::10, 0] = True  # always
    fires[:500, 1] = True  # stopped 1,500 tokens ago
    fires[-500:, 2] = True  # late
    dead = DeadLatents(4, 1000, torch.device("cpu"))
    for batch in fires.split(batch_rows):
        dead.update(batch.any(dim=0), len(batch))
    assert dead.now().tolist() == [1, 3]
    assert dead.tokens_since_fired.tolist() == [0, 1500, 0, 2000]


def literal_auxk(pre: torch.Tensor, decoder: torch.Tensor, residual: torch.Tensor, k_aux: int) -> torch.Tensor:
    """Row by row: what OpenAI's normalised form says."""
    numerator = denominator = torch.zeros((), dtype=torch.float64)
    mean = residual.mean(dim=0)
    for row, e in zip(pre, residual, strict=True):
        chosen = sorted(range(len(row)), key=lambda j: -row[j].item())[:k_aux]
        decoded = sum((row[j] * decoder[j] for j in chosen), torch.zeros_like(e))
        numerator = numerator + (e - decoded) @ (e - decoded)
        denominator = denominator + (e - mean) @ (e - mean)
    return numerator / denominator


@pytest.mark.parametrize("n_dead", [2, 30])
def test_auxk_is_its_literal_form(n_dead: int) -> None:
    pre, decoder = random(7, n_dead).requires_grad_(), random(n_dead, 8, seed=1).requires_grad_()
    residual = random(7, 8, seed=2) + 3  # a common part, which only the mean-free norm leaves out
    ours, theirs = auxk_loss(pre, decoder, residual), literal_auxk(pre, decoder, residual, k_aux=4)
    assert torch.allclose(ours, theirs, rtol=1e-12)
    for mine, other in zip(
        torch.autograd.grad(ours, (pre, decoder)), torch.autograd.grad(theirs, (pre, decoder)), strict=True
    ):
        assert torch.allclose(mine, other, rtol=1e-10, atol=1e-12)
    uncentred = ours * (residual - residual.mean(dim=0)).square().sum() / residual.square().sum()
    assert not torch.allclose(uncentred, theirs, rtol=0.1)


def test_auxk_of_a_single_row_is_zero() -> None:
    pre = random(1, 3).requires_grad_()
    loss = auxk_loss(pre, random(3, 8), random(1, 8))
    assert loss == 0 and not torch.autograd.grad(loss, pre)[0].any()


class Linear(SAEDecomposition):
    """All pre-activations as codes."""

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(self.pre_activations(x))


def test_folded_weights_take_raw_rows() -> None:
    x = 40 * random(50, 6) + 1000
    weights = SAEWeights(random(9, 6), random(9, seed=1), random(9, 6, seed=2), random(6, seed=3))
    units = SAEUnits(x.mean(dim=0))
    units.measure(x[:20])
    y = units.enter(x)
    codes = y @ weights.encoder.T + weights.encoder_bias
    expected = units.mean + units.scale * (codes @ weights.decoder + weights.decoder_bias)
    saved = Linear(weights.folded(units), {})
    assert torch.allclose(saved.decode(saved.encode(x)), expected, rtol=1e-9)
    assert torch.allclose(saved.dictionary.norm(dim=1), torch.ones(9, dtype=torch.float64))
    norms = weights.decoder.norm(dim=1)
    assert torch.allclose(saved.encode(x).values, codes * units.scale * norms, rtol=1e-6, atol=1e-6)
    not_folded = Linear(weights, {})
    assert not torch.allclose(not_folded.decode(not_folded.encode(x)), expected, rtol=0.1)


def test_units_of_rows_that_do_not_vary() -> None:
    x = torch.ones(5, 3)
    units = SAEUnits(x[0].double())
    units.measure(x)
    assert torch.equal(units.enter(x), torch.zeros(5, 3))
