"""Tasks: questions about models whose answers are known beforehand, put to similarities to see which deserve belief.

A task sees what one similarity says of pairs of sites, or lets it compare rows that the task has changed, and counts
right answers. It sees all similarities on one scale, on which more is more alike: a distance d from 0 to a largest D is
shown as 1 − d/D, one without a largest as −d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # plans are made without torch
    import numpy as np
    from jaxtyping import Float
    from torch import Tensor


@dataclass(frozen=True)
class ComparedSite:
    """A site of a model of a suite, as far as a task needs to know it."""

    family: str
    """The family of the model, whose members differ by their seed."""
    model: str
    """The label of the model."""
    site: str
    """The name of the site, such as `resid_post.3`."""
    layer: int
    """The number of the site's layer, from 0 on."""
    n_layers: int | None
    """The number of the model's layers; None where it is not known before the model is loaded."""
    control_of: str | None = None
    """The family that this model's family is the untrained counterpart of."""


@dataclass(frozen=True)
class Comparisons:
    """The values of one similarity for the sites of a suite."""

    sites: Sequence[ComparedSite]
    """Models in the order of the suite, and each model's sites in its order."""
    alike: Float[np.ndarray, "s s"]
    """Likeness of site i to site j, by their evaluation rows or by what was fitted at them; the calibrated score where
    the suite has `calibrated: true`. NaN where the similarity is undefined, and for pairs that the task did not ask
    for."""
    unrelated: Float[np.ndarray, "s s"]
    """Likeness of site i to site j with rows in random order, or by chance, on the same scale."""
    shared_rows: Callable[[int, int], tuple[Float[Tensor, "n d"], Float[Tensor, "n e"]]]
    """The aligned unmasked evaluation rows of two sites."""
    compare: Callable[[Float[Tensor, "n d"], Float[Tensor, "n e"]], float]
    """A function that says how alike any aligned rows are; a similarity of decompositions compares what its method
    learns from either side. Raises `Undefined` where the similarity does."""

    @property
    def models(self) -> list[str]:
        """The models of the sites, each once."""
        return list(dict.fromkeys(site.model for site in self.sites))


@dataclass(frozen=True)
class TaskScore:
    """A score as a ratio of sums over ordered pairs of models: Σ numerator / Σ denominator.

    Rows and columns are the models of the comparisons, in their order; what belongs to one model alone stands on the
    diagonal. Intervals come from leaving out one model after the other.
    """

    metric: str
    """The name of the metric."""
    family: str
    """The models that the score is about: a family, or what several families have in common."""
    numerator: Float[np.ndarray, "m m"]
    """Finite sums over what is right, such as the number of right answers."""
    denominator: Float[np.ndarray, "m m"]
    """Finite sums over all that was asked, such as the number of answers; 0 where nothing was."""
    n: int
    """The number of answers that were counted."""
    higher_is_better: bool = True
    """False where a lower score is better."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """The lowest and the highest value that it can have."""


class Task(Protocol):
    """Judges one similarity. An answer that is undefined counts as wrong: it is never left out.

    Its Spec names, as `pairs`, a function of its config and two `ComparedSite`s: whether the task asks for this pair.
    It is called when planning, so it must not import torch. `needs` is `("values",)` where the task reads `alike`, and
    `("rows",)` where it reads `shared_rows` of these pairs.
    """

    @property
    def metric(self) -> str:
        """The name of the main metric, one of those that `score` gives."""
        ...

    def score(self, comparisons: Comparisons) -> Sequence[TaskScore]:
        """Give the metrics of one similarity, each for the families that it is about.

        Raises:
            Undefined: the suite has nothing to count; the reason says why.
        """
        ...
