"""Steps along gradients, for the kinds of SAE whose decoder rows keep unit norm."""

from __future__ import annotations

from torch import Tensor

import harness
from harness.plugins.methods.sae import fast_paths


class Descending(harness.SAELearner):
    """Takes the step of the decoder in one pass where there is a kernel for it; all others are torch's.

    The moments are those of the optimiser in either form, so that a fit may go on in the other.
    """

    def descend(self) -> None:
        decoder, gradient = self.weights.decoder, self.weights.decoder.grad
        if gradient is None or not (self.unit_decoder and fast_paths.descends_at_once(decoder, gradient)):
            return super().descend()
        group = next(group for group in self._optimiser.param_groups if any(own is decoder for own in group["params"]))
        means, squares = self._moments_for_next_step(decoder)
        rate = self.schedule.learning_rate(self.step)
        moving = decoder, gradient, means, squares
        fast_paths.descend_at_once(*moving, step=self.step + 1, rate=rate, betas=group["betas"], eps=group["eps"])
        decoder.grad = None  # the optimiser leaves it alone
        self._optimise()
        decoder.grad = gradient
        return None

    def _moments_for_next_step(self, parameter: Tensor) -> tuple[Tensor, Tensor]:
        """The means of gradients and their squares as the optimiser keeps them, with one more step counted."""
        state = self._optimiser.state[parameter]
        if not state:
            state["step"] = parameter.new_zeros(())
            state["exp_avg"], state["exp_avg_sq"] = (parameter.new_zeros(parameter.shape) for _ in range(2))
        state["step"] += 1
        return state["exp_avg"], state["exp_avg_sq"]
