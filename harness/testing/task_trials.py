"""A task on trial: a made-up similarity that knows which sites are alike, and some that know nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.task import ComparedSite, Comparisons, TaskScore
from harness.errors import PluginError, Undefined
from harness.testing.checks import NotChecked

_FAMILIES = {"small": (4, 4), "large": (3, 6), "kin": (3, 4), "untrained": (2, 4)}
"""The number of models of each family, and the number of their layers."""
_CONTROL_OF = {"untrained": "small"}
_BY_DEPTH, _BY_ORDER, _BY_FAMILY, _BY_TRAINING = 0.7, 0.03, 0.15, 0.1
_ROWS, _WIDTH = 2048, 12
N_GUESSES = 8
TRUTH = (
    "sites are the more alike the nearer they are in relative depth and in the order of their family's models; models "
    "of one family, and trained ones, are more alike than others; unrelated rows have nothing in common"
)


def compared_sites() -> list[ComparedSite]:
    """List the layers of all models, models in order."""
    return [
        ComparedSite(family, f"{family} {number}", f"resid_post.{layer}", layer, n_layers, _CONTROL_OF.get(family))
        for family, (n_models, n_layers) in _FAMILIES.items()
        for number in range(n_models)
        for layer in range(n_layers)
    ]


@dataclass
class Said:
    """The values of one similarity for sites, and a record of what a task has looked at."""

    sites: Sequence[ComparedSite]
    alike: Float[np.ndarray, "s s"]
    unrelated: Float[np.ndarray, "s s"]
    compare: Callable[[Tensor, Tensor], float]
    may_see: Callable[[int, int], bool] = lambda i, j: True
    asked: set[str] = field(default_factory=set)
    lent: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Rows that the task was given, each beside a copy."""

    @cached_property
    def comparisons(self) -> Comparisons:
        """The form in which tasks see it."""
        return Comparisons(self.sites, self.alike, self.unrelated, self._shared_rows, self._compare)

    def _shared_rows(self, i: int, j: int) -> tuple[Tensor, Tensor]:
        self.asked.add("rows")
        if not self.may_see(i, j):
            raise PluginError(f"rows of sites {i} and {j} were not asked for by its Spec's pairs")
        rows = tuple(_rows_at(self.sites[place]) for place in (i, j))
        self.lent += [(own, own.clone()) for own in rows]
        return rows[0], rows[1]

    def _compare(self, x: Tensor, y: Tensor) -> float:
        self.asked.add("compare")
        return self.compare(x, y)


def knowing(sites: Sequence[ComparedSite]) -> Said:
    """A similarity that is right about everything: see `TRUTH`; of rows it is linear CKA."""
    alike = np.array([[_true_likeness(a, b) for b in sites] for a in sites])
    return Said(sites, alike, np.zeros_like(alike), _cka)


def guessing(sites: Sequence[ComparedSite], seed: int) -> Said:
    """A similarity that draws its values, by seed."""
    draw = np.random.default_rng(seed)
    drawn = (np.triu(draw.random((len(sites), len(sites)))) for _ in range(2))
    alike, unrelated = (np.where(side, side, side.T) for side in drawn)
    return Said(sites, alike, unrelated, lambda x, y: float(draw.random()))


def constant(sites: Sequence[ComparedSite], value: float) -> Said:
    """A similarity that says one thing of all, of unrelated rows too."""
    alike, unrelated = (np.full((len(sites), len(sites)), value) for _ in range(2))
    return Said(sites, alike, unrelated, lambda x, y: value)


def undefined(sites: Sequence[ComparedSite], every: int = 1) -> Said:
    """The similarity that knows, undefined for every so many pairs."""
    said, n = knowing(sites), len(sites)
    place = np.add.outer(np.arange(n), np.arange(n)) % every == 0
    said.alike[place] = said.unrelated[place] = math.nan
    calls = iter(range(10**9))

    def compare(x: Tensor, y: Tensor) -> float:
        if next(calls) % every == 0:
            raise Undefined("it is undefined here")
        return _cka(x, y)

    return Said(sites, said.alike, said.unrelated, compare)


def _true_likeness(a: ComparedSite, b: ComparedSite) -> float:
    depths = [site.layer / ((site.n_layers or 1) - 1) for site in (a, b)]
    order = [int(site.model.split()[-1]) for site in (a, b)]
    apart = _BY_ORDER * abs(order[0] - order[1]) if a.family == b.family else _BY_FAMILY
    return 1 - _BY_DEPTH * abs(depths[0] - depths[1]) - apart - _BY_TRAINING * (a.control_of != b.control_of)


def _rows_at(site: ComparedSite) -> Float[Tensor, "n d"]:
    """Rows of the same tokens at all sites, which drift from layer to layer."""
    shared = torch.randn(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seed = sum(map(ord, site.model)) * 100 + site.layer
    own = torch.randn(_ROWS, _WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return shared * torch.linspace(2, 0.5, _WIDTH) + 0.1 * (1 + site.layer) * own + 1


def _cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]) -> float:
    x, y = (side.double() - side.double().mean(dim=0) for side in (x, y))
    return float((y.T @ x).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def value_of(score: TaskScore) -> float | None:
    """The value of a score; None where there was nothing to count."""
    total = float(np.sum(score.denominator))
    return float(np.sum(score.numerator)) / total if total else None


def are_scores(found: object) -> bool:
    """True for a sequence of scores, as runs take them."""
    return isinstance(found, Sequence) and all(isinstance(score, TaskScore) for score in found)


class TaskUnderTest:
    """A task, by what makes a fresh one, and from its Spec the pairs that it asks for and what it needs of them."""

    stuck_in: str | None = None

    def __init__(
        self,
        make: Callable[[], Any],
        pairs: Callable[[ComparedSite, ComparedSite], Any] | None = None,
        needs: Sequence[str] | None = None,
    ) -> None:
        self.make = make
        self.pairs = pairs
        self.needs = needs
        self.sites = compared_sites()

    @cached_property
    def outcome(self) -> Any:
        """The scores of the similarity that knows, or the exception that came instead."""
        try:
            return self.make().score(knowing(self.sites).comparisons)
        except Exception as error:  # the plugin's own code
            return error

    def scores(self, said: Said, task: Any = None) -> dict[tuple[str, str], TaskScore]:
        """The scores of a similarity by metric and family."""
        if not are_scores(self.outcome):
            raise NotChecked("nothing to check before `gives_scores` holds")
        found = (task or self.make()).score(said.comparisons)
        return {(score.metric, score.family): score for score in found}

    def goodness(self, said: Said, metric: str | None = None) -> float:
        """The mean over families of a metric, or of the main one; larger is better; NaN: nothing to count."""
        metric = metric or self.make().metric
        scores = [score for (name, _), score in self.scores(said).items() if name == metric]
        values = [value_of(score) for score in scores]
        signs = [1 if score.higher_is_better else -1 for score in scores]
        if not values or any(value is None for value in values):
            return math.nan
        return float(np.mean([sign * value for sign, value in zip(signs, values, strict=True) if value is not None]))

    @property
    def is_of_rows(self) -> bool:
        """True if it compares rows that it has changed."""
        said = knowing(self.sites)
        self.scores(said)
        return "compare" in said.asked
