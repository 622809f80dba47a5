"""The kit notices an SAE whose gradients by hand are not those of its loss, and says which."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import harness
from harness.testing.checks import run_check
from harness.testing.findings import Finding
from harness.testing.sae import sets_the_gradients_of_its_loss
from harness.testing.trials import MethodUnderTest


class ReLU(harness.SAEDecomposition):
    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(self.pre_activations(x).relu())


class ByAutograd(harness.SAELearner):
    name = "by_autograd"

    def encode(self, y: Tensor) -> Tensor:
        return self.weights.pre_activations(y).relu()

    def decomposition(self, weights: harness.SAEWeights, training: dict[str, float]) -> ReLU:
        return ReLU(weights, training)


class ByHand(ByAutograd):
    def forward(self, y: Tensor) -> harness.SAEForward:
        pre = self.weights.pre_activations(y)
        support = harness.Support.where(pre > 0)
        codes = support.of(pre)
        error = self.weights.decode(support, codes) - y
        output_grad = error * (2 / self.batch_rows)
        pre_grad = support.products(output_grad, self.weights.decoder)
        self.weights.set_gradients(support, codes, pre_grad, y, output_grad)
        return harness.SAEForward(error, support.totals_by_latent(codes) > 0, error.square().sum() / len(y), pre)


class ForgetsTheShare(ByHand):
    def forward(self, y: Tensor) -> harness.SAEForward:
        full, self.batch_rows = self.batch_rows, len(y)
        forward = super().forward(y)
        self.batch_rows = full
        return forward


class HalvesOne(ByHand):
    def forward(self, y: Tensor) -> harness.SAEForward:
        forward = super().forward(y)
        self.weights.decoder_bias.grad = self.weights.decoder_bias.grad / 2
        return forward


class LeavesOneOut(ByHand):
    def forward(self, y: Tensor) -> harness.SAEForward:
        forward = super().forward(y)
        self.weights.encoder_bias.grad = None if self.step >= 2 else self.weights.encoder_bias.grad
        return forward


class DecodesOtherCodes(ByHand):
    def encode(self, y: Tensor) -> Tensor:
        return super().encode(y) * 1.001


class OnlyByHand(ByHand):
    encode = harness.SAELearner.encode


def checked(make: Any) -> Finding:
    learner_of = make if not isinstance(make, type) else lambda: make(harness.SAEConfig(n_latents=32, batch_rows=100))
    return run_check(sets_the_gradients_of_its_loss, MethodUnderTest(learner_of))


def test_right_gradients_hold() -> None:
    finding = checked(ByHand)
    assert finding.outcome == "holds", finding


@pytest.mark.parametrize(
    ("broken", "problem"),
    [
        (ForgetsTheShare, r"weights.encoder that forward\(y\) sets is off by 1 of the largest .* 50 rows of batches"),
        (HalvesOne, r"the gradient of weights.decoder_bias that forward\(y\) sets is off by 0.5"),
        (LeavesOneOut, "leaves no gradient in weights.encoder_bias"),
        (DecodesOtherCodes, r"error that forward\(y\) sets is off by"),
    ],
)
def test_wrong_gradients_do_not(broken: type, problem: str) -> None:
    finding = checked(broken)
    assert finding.problem is not None
    with pytest.raises(AssertionError, match=problem):
        harness.testing.raise_problems([finding])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (ByAutograd, "those of autograd"),
        (OnlyByHand, "no encode"),
        (lambda: harness.create("method", "mean"), "not built on harness.SAELearner"),
    ],
)
def test_others_are_not_checked(make: Any, reason: str) -> None:
    assert reason in str(checked(make).not_checked)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("topk_sae", {"k": 4}),
        ("batch_topk_sae", {"k": 4}),
        ("matryoshka_sae", {"k": 4, "group_shares": [0.25, 0.25, 0.5]}),
        ("relu_sae", {"target_l0": 4.0}),
        ("gated_sae", {"target_l0": 4.0}),
        ("jumprelu_sae", {"target_l0": 4.0, "bandwidth": 0.5}),
    ],
)
def test_all_built_in_kinds_hold(name: str, parameters: dict[str, Any]) -> None:
    finding = checked(lambda: harness.create("method", name, n_latents=32, batch_rows=100, **parameters))
    assert finding.outcome == "holds", finding


def test_an_sae_without_encode_or_forward_is_told_what_to_give() -> None:
    class Neither(ByAutograd):
        encode = harness.SAELearner.encode

    with pytest.raises(NotImplementedError, match=r"Neither: give encode\(y\) and loss"):
        harness.fit(Neither(harness.SAEConfig(n_latents=8)), torch.randn(50, 8))
