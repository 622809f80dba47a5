"""TopK SAEs that learn in one computation learn what each would alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.rows import bare_rows
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.together import Fitted, fit_together
from harness.plugins.methods.sae import fast_paths
from harness.plugins.methods.sae.stacked import TopKStack
from harness.registry.plugin_manager import load_catalog
from tests.support import literal

CPU = torch.device("cpu")
X = literal.mixture(600).float()
VARIANTS: list[dict[str, Any]] = [{"k": 2}, {"k": 9, "learning_rate": 1e-2}, {"k": 5}, {"k": 5, "learning_rate": 1e-3}]


def sae(stacked: bool = True, **parameters: Any) -> Any:
    shared = {"n_latents": 96, "batch_rows": 100, "passes": 10}
    return harness.create("method", "topk_sae", **{**shared, "stacked": stacked, **parameters})


def fit(
    learners: Sequence[Any],
    x: torch.Tensor = X,
    checkpoints: Checkpoints | None = None,
    seeds: Sequence[int] = (0, 0, 0, 0, 0, 0, 0),
) -> list[Fitted]:
    activations, keep = TensorActivations(x, bare_rows(len(x))), torch.arange(len(x))
    streams = {seed: Stream(activations, keep, seed) for seed in seeds}
    named = {str(place): learner for place, learner in enumerate(learners)}
    stream_of = {name: streams[seed] for name, seed in zip(named, seeds, strict=False)}
    return list(fit_together(named, stream_of, CPU, dtype=x.dtype, checkpoints=checkpoints).values())


def assert_close(fitted: Fitted, expected: Fitted) -> None:
    assert fitted.decomposition is not None and expected.decomposition is not None, fitted.traceback
    (tensors, _), (wanted, _) = fitted.decomposition.state(), expected.decomposition.state()
    assert tensors.keys() == wanted.keys()
    for name, tensor in tensors.items():
        scale = float(wanted[name].abs().max())
        assert torch.allclose(tensor, wanted[name], rtol=0, atol=1e-4 * scale), name
    assert fitted.decomposition.report() == pytest.approx(expected.decomposition.report())
    assert fitted.rows_seen == expected.rows_seen


def info_of(x: torch.Tensor) -> harness.Info:
    return harness.Info(x.shape[1], len(x), 0, CPU, x.dtype, lambda: x.double().mean(dim=0))


def test_losses_after_a_hundred_steps_are_those_of_each_alone() -> None:
    """With another k and another learning rate, and with latents that AuxK revives."""
    alone = [sae(**variant, passes=20) for variant in VARIANTS]
    stack = TopKStack([sae(**variant, passes=20) for variant in VARIANTS])
    learners = [*alone, stack]
    for learner in learners:
        learner.start([info_of(X)] * len(VARIANTS) if learner is stack else info_of(X))
        learner.weights.encoder_bias.view(-1, 96)[:, :20] = -1.0  # on no row active
        learner._check_losses = lambda: None
    n_revived = [0] * len(alone)
    for step in range(100):
        rows = X[torch.randperm(len(X), generator=torch.Generator().manual_seed(step))[:100]]
        for learner in learners:
            batch = harness.Batch(rows.clone(), lambda: bare_rows(100))
            learner.partial_fit([batch] * len(VARIANTS) if learner is stack else batch)
        n_revived = [n + len(one.dead.indices) for n, one in zip(n_revived, alone, strict=True)]
    assert min(n_revived) > 0
    wanted = torch.stack([torch.stack(one._losses) for one in alone], dim=1)
    assert torch.allclose(torch.stack(stack._losses), wanted, rtol=1e-4, atol=0)
    assert float(wanted[-1].min()) < 0.7 * float(wanted[0].min())  # they have learnt something
    assert len(set(wanted[-1].tolist())) == len(VARIANTS)
    stack._check_losses = lambda: None
    stack.unstack()
    for member, one in zip(stack.members, alone, strict=True):
        for weight, expected in zip(member.weights, one.weights, strict=True):
            assert torch.allclose(weight, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(member.dead.tokens_since_fired, one.dead.tokens_since_fired)


@pytest.mark.parametrize(
    ("x", "parameters"),
    [(X, {}), (X, {"bfloat16_selection": True}), (X.double(), {}), (X[:571], {"batch_rows": 64})],
    ids=["float32", "chosen in bfloat16", "float64", "a smaller last batch"],
)
def test_a_fit_is_that_of_each_alone_whichever_the_others_are(x: torch.Tensor, parameters: dict[str, Any]) -> None:
    alone = fit([sae(False, **variant, **parameters) for variant in VARIANTS], x)
    together = fit([sae(**variant, **parameters) for variant in VARIANTS], x)
    assert [one.n_stacked for one in together] == [4] * 4 and [one.n_stacked for one in alone] == [1] * 4
    fewer = fit([sae(**variant, **parameters) for variant in VARIANTS[1:3]], x)
    for fitted, expected in zip([*together, *fewer], [*alone, *alone[1:3]], strict=True):
        assert_close(fitted, expected)
    for fitted, expected in zip(together, alone, strict=True):
        assert fitted.state_bytes == pytest.approx(expected.state_bytes, rel=0.1)


def test_losses_of_several_seeds_after_a_hundred_steps_are_those_of_each_alone() -> None:
    """Members of one seed apart from each other, so that seeds are told by what is given and not by their place."""
    seeds = [3, 0, 3, 7]
    infos = {seed: replace(info_of(X), seed=seed) for seed in seeds}
    alone, stack = (
        [sae(**variant, passes=20) for variant in VARIANTS],
        TopKStack([sae(**variant, passes=20) for variant in VARIANTS]),
    )
    for one, seed in zip(alone, seeds, strict=True):
        one.start(infos[seed])
    stack.start([infos[seed] for seed in seeds])
    for learner in [*alone, stack]:
        learner.weights.encoder_bias.view(-1, 96)[:, :20] = -1.0  # on no row active
        learner._check_losses = lambda: None
    n_revived = [0] * len(alone)
    for step in range(100):
        batches = {}
        for seed in set(seeds):
            order = torch.randperm(len(X), generator=torch.Generator().manual_seed(1000 * seed + step))
            batches[seed] = harness.Batch(X[order[:100]] * (1 + seed), lambda: bare_rows(100))
        for one, seed in zip(alone, seeds, strict=True):
            one.partial_fit(batches[seed])
        stack.partial_fit([batches[seed] for seed in seeds])
        n_revived = [n + len(one.dead.indices) for n, one in zip(n_revived, alone, strict=True)]
    assert min(n_revived) > 0
    wanted = torch.stack([torch.stack(one._losses) for one in alone], dim=1)
    assert torch.allclose(torch.stack(stack._losses), wanted, rtol=1e-4, atol=0)
    stack._check_losses = lambda: None
    stack.unstack()
    for member, one in zip(stack.members, alone, strict=True):
        assert torch.allclose(member.units.scale, one.units.scale, rtol=1e-6)
        for weight, expected in zip(member.weights, one.weights, strict=True):
            assert torch.allclose(weight, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "is_screened"),
    [(X, False), (X, True), (X[:571].double(), False)],  # only float32 is ever screened
    ids=["float32", "float32, screened", "float64, a smaller last batch"],
)
def test_a_fit_of_several_seeds_is_that_of_each_alone(
    x: torch.Tensor, is_screened: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_paths, "screens", lambda _: is_screened)
    seeds = [0, 1, 0, 2]
    alone = [fit([sae(False, **variant)], x, seeds=[seed])[0] for variant, seed in zip(VARIANTS, seeds, strict=True)]
    together = fit([sae(**variant) for variant in VARIANTS], x, seeds=seeds)
    assert [one.n_stacked for one in together] == [4] * 4
    fewer = fit([sae(**variant) for variant in VARIANTS[1:3]], x, seeds=seeds[1:3])
    for fitted, expected in zip([*together, *fewer], [*alone, *alone[1:3]], strict=True):
        assert_close(fitted, expected)
    assert not torch.allclose(*(one.decomposition.encoder for one in fit([sae(k=2), sae(k=2)], x, seeds=[0, 1])))


def test_a_screened_fit_is_that_of_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(fast_paths, "screens", lambda encoder: asked.append(len(encoder)) is None)
    alone = fit([sae(False, **variant) for variant in VARIANTS], X)
    together = fit([sae(**variant) for variant in VARIANTS], X)
    assert len(set(asked)) == 1  # of one SAE, stacked or not
    for fitted, expected in zip(together, alone, strict=True):
        assert_close(fitted, expected)


def test_saes_that_differ_in_more_learn_apart() -> None:
    others = [sae(k=2, n_latents=64), sae(k=2, passes=3), sae(k=2, batch_rows=50), sae(k=2, bfloat16_selection=True)]
    fitted = fit([sae(k=2), sae(False, k=3), sae(k=4), *others])
    assert [one.n_stacked for one in fitted] == [2, 1, 2, 1, 1, 1, 1]


def test_one_that_diverges_fails_alone_and_says_what_it_would_alone() -> None:
    wild = [{"k": 3, "learning_rate": 1e30}, {"k": 4, "learning_rate": 1e25}]
    alone = fit([sae(False, **variant) for variant in [*wild, *VARIANTS]])
    together = fit([sae(**variant) for variant in [*wild, *VARIANTS]])
    for fitted, expected in zip(together[:2], alone[:2], strict=True):
        assert isinstance(fitted.error, harness.HarnessError)
        assert "the loss is NaN or infinite at step" in str(fitted.error) and str(fitted.error) == str(expected.error)
    for fitted, expected in zip(together[2:], alone[2:], strict=True):
        assert_close(fitted, expected)
    assert [str(one.error) for one in fit([sae(**variant) for variant in wild])] == [
        str(one.error) for one in alone[:2]
    ]


@pytest.mark.parametrize("seeds", [(0, 0, 0, 0), (0, 1, 0, 1)])
def test_a_stack_broken_off_ends_as_unbroken(
    seeds: Sequence[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.capturing.activations.BLOCK_ROWS", 90)
    checkpoints = Checkpoints(lambda name: tmp_path / name, pytest.fail, every_seconds=0, max_share=float("inf"))
    unbroken = fit([sae(**variant) for variant in VARIANTS], seeds=seeds)
    original, steps = TopKStack.partial_fit, []

    def partial_fit(self: TopKStack, batches: Sequence[harness.Batch]) -> None:
        original(self, batches)
        steps.append(self.step)
        if len(steps) == 25:
            raise KeyboardInterrupt

    monkeypatch.setattr(TopKStack, "partial_fit", partial_fit)
    with pytest.raises(KeyboardInterrupt):
        fit([sae(**variant) for variant in VARIANTS], checkpoints=checkpoints, seeds=seeds)
    resumed = fit([sae(**variant) for variant in VARIANTS], checkpoints=checkpoints, seeds=seeds)
    assert steps[25] > 20
    for fitted, expected in zip(resumed, unbroken, strict=True):
        assert fitted.decomposition is not None and expected.decomposition is not None
        for name, tensor in fitted.decomposition.state()[0].items():
            assert torch.equal(tensor, expected.decomposition.state()[0][name])


def test_only_stacked_saes_have_other_keys_than_before() -> None:
    catalog, parameters = load_catalog(), {"n_latents": 8, "k": 2}

    def identity(**more: Any) -> dict[str, Any]:
        config = catalog.config("method", "topk_sae", parameters | more)
        return dict(catalog.identity("method", "topk_sae", config))

    before = {**parameters, "passes": None, "batch_rows": None, "learning_rate": None, "bfloat16_selection": False}
    assert identity() == identity(stacked=False) == before
    assert identity(stacked=True) == {**before, "stacked": True}


@pytest.mark.parametrize("name", ["batch_topk_sae", "matryoshka_sae"])
def test_kinds_that_choose_over_a_batch_are_not_stacked(name: str) -> None:
    with pytest.raises(harness.ConfigError, match="stacked: unknown key"):
        harness.create("method", name, n_latents=64, k=4, stacked=True)
