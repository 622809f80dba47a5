"""The gradients of SAEs whose authors set them by hand, against those that autograd takes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.method import Batch, Info
from harness.contracts.rows import bare_rows
from harness.sae.learner import SAEForward, SAELearner
from harness.testing.checks import Broken, NotChecked
from harness.testing.trials import MethodUnderTest

_TOLERANCE = 1e-8
"""Relative to the largest number, in float64: sums of a few hundred products, in another order."""
_WEIGHTS = ("weights.encoder", "weights.encoder_bias", "weights.decoder", "weights.decoder_bias")


def sets_the_gradients_of_its_loss(method: MethodUnderTest) -> None:
    """Gradients that an SAE sets by hand in forward(y) are those of autograd on its encode(y) and loss(...)."""
    _ = method.fitted
    learner = method.make()
    if not isinstance(learner, SAELearner):
        raise NotChecked("it is not built on harness.SAELearner")
    if type(learner).forward is SAELearner.forward:
        raise NotChecked("its gradients are those of autograd")
    if type(learner).encode is SAELearner.encode:
        raise NotChecked("it gives no encode(y), of which autograd could take the gradients")
    with torch.no_grad():
        # Fewer rows than in a full batch, which must weigh less.
        y = _trained_a_little(learner, method.x.double())[: max(1, learner.batch_rows // 2)]
        by_hand, by_autograd = (
            _outcome(learner, y, forward) for forward in (type(learner).forward, SAELearner.forward)
        )
    for name, value in by_autograd.items():
        off = float((by_hand[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
        if not off <= _TOLERANCE:
            raise Broken(
                f"{name} that forward(y) sets is off by {off:.2g} of the largest that autograd finds, on {len(y)} rows "
                f"of batches of {learner.batch_rows}. Either forward or encode and loss are wrong; loss is a mean over "
                "the rows, and gradients are its own times len(y) / batch_rows."
            )


def _trained_a_little(learner: SAELearner, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Take two steps, so that no weight is where it began; the rows in the learner's units."""
    learner.start(Info(x.shape[1], len(x), 0, x.device, x.dtype, lambda: x.mean(dim=0)))
    for _ in range(2):
        rows = x[: learner.batch_rows]
        learner.partial_fit(Batch(rows.clone(), lambda: bare_rows(len(x)).iloc[: learner.batch_rows]))
    return learner.units.enter(x)


def _outcome(
    learner: SAELearner, y: Float[Tensor, "b d"], forward: Callable[[SAELearner, Tensor], SAEForward]
) -> dict[str, Tensor]:
    """Results of a forward pass, by names that its author knows."""
    passed = forward(learner, y)
    own = [f"own_parameters()[{place}]" for place in range(len(learner.own_parameters()))]
    outcome = {"error": passed.error, "fired": passed.fired.double()}
    for name, parameter in zip((*_WEIGHTS, *own), learner.parameters(), strict=True):
        if parameter.grad is None:
            raise Broken(f"forward(y) leaves no gradient in {name}; give all that is learnt one, zeros where need be.")
        outcome[f"the gradient of {name}"] = parameter.grad.clone()
    return outcome
