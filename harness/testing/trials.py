"""A method on trial: fits of made-up rows, as the checks need them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from harness.api import fit
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.decomposition import Decomposition
from harness.contracts.method import Learner
from harness.contracts.rows import bare_rows
from harness.errors import ConfigError, Undefined
from harness.fitting.together import fit_together
from harness.testing import learners
from harness.testing.bases import BASES
from harness.testing.checks import NotChecked
from harness.testing.examples import rows

SIZES = ((300, 24), (3000, 96), (12_000, 768))
"""Rows and width: the first that the method can learn from, with its parameters, is taken."""


class MethodUnderTest:
    """A method, by what makes a fresh learner; what most checks need of it is fitted once."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Learner], provides: tuple[str, ...] | None = None) -> None:
        self.make = make
        self.provides = provides
        """The words of the Spec's `provides`; None where no Spec is at hand."""
        self.base: Callable[[int], Decomposition] = BASES[0]
        """A function that gives the fit that it learns from, if it learns from one, for rows of a width."""

    @cached_property
    def outcome(self) -> tuple[Float[Tensor, "n d"], Decomposition | BaseException]:
        """The rows of the fit, and what came of it."""
        for (n, d), self.base in itertools.product(SIZES, BASES):
            x = rows(n, d)
            try:
                return x, fit(self.make(), x.clone(), base=self.base(d))
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the plugin's own code; it may even call sys.exit
                outcome = error
                if not isinstance(error, (Undefined, ConfigError)):
                    break
        return x, outcome

    @property
    def x(self) -> Float[Tensor, "n d"]:
        """The rows of the fit, for the caller to spoil."""
        return self.outcome[0].clone()

    @property
    def fitted(self) -> Decomposition:
        """A fit of ordinary rows with seed 0; not to be changed."""
        if isinstance(self.outcome[1], BaseException):
            raise NotChecked("nothing to check before `learns` holds")
        return self.outcome[1]

    def fit(
        self, x: Tensor | None = None, through: Callable[[Learner], Learner] = lambda learner: learner, seed: int = 0
    ) -> Decomposition:
        """Another fit, with a fresh learner; from the same rows if no others are given."""
        _ = self.fitted
        x = self.x if x is None else x
        return fit(through(self.make()), x, seed=seed, base=self.base(x.shape[1]))

    def fit_stack(self, seeds: tuple[int, ...]) -> list[Decomposition]:
        """Other fits of the same rows, of fresh learners that learn in one computation, one for each of the seeds."""
        x = self.x
        activations, keep = TensorActivations(x, bare_rows(len(x))), torch.arange(len(x))
        streams = {seed: Stream(activations, keep, seed, in_given_order=True) for seed in seeds}
        names = {f"{place} of seed {seed}": streams[seed] for place, seed in enumerate(seeds)}
        fitted = fit_together({name: self.make() for name in names}, names, x.device).values()
        if error := next((one.error for one in fitted if one.error), None):
            raise error
        return [one.decomposition for one in fitted if one.decomposition]

    def difference(self, a: Decomposition, b: Decomposition) -> str | None:
        """The name of what differs in two decompositions, or in what they make of the rows; None if all is equal."""
        return learners.difference(a, b, self.x)

    def in_float64(self) -> tuple[Float[Tensor, "n d"], Decomposition]:
        """Rows and a fit of them; in float64, where rounding tips no choice of latents, if the method takes it."""
        try:
            fitted = self.fit(self.x.double())
            fitted.encode(self.x.double())
        except RuntimeError:
            return self.x, self.fitted
        return self.x.double(), fitted
