"""Scorers: how well single latents can be understood.

A scorer is pure: `plan` says what it wants to know, the harness finds it out (many requests together, each once), and
`reduce` makes numbers of the answers. So the same scorer runs with any encoder or model, and in tests without one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from harness.contracts.latent import Latent
    from harness.contracts.requests import Request
    from harness.contracts.table_row import TableRow


class Scorer(Protocol):
    """Rates how well one pole of a latent can be understood. Pure: asks by `plan`, judges by `reduce`.

    Both may raise `Undefined`: the main metric of this latent is then null.
    """

    @property
    def metric(self) -> str:
        """The name of the main metric, one of those that `reduce` gives. It is a share, unless there is a `range`."""
        ...

    @property
    def chance(self) -> float:
        """The main metric's value for guesses."""
        ...

    def plan(self, latent: Latent) -> Sequence[Request]:
        """List the requests about one latent; none if it needs no answers."""
        ...

    def reduce(self, latent: Latent, requests: Sequence[Any], responses: Sequence[Any]) -> Iterable[TableRow]:
        """Give the metrics of one latent.

        The main metric's control is `<metric>_random_explanation` if there is one. The main metric's own row may carry
        `verdicts`, what was said of single windows.

        Args:
            latent: as `plan` saw it.
            requests: those that `plan` gave.
            responses: one to each request.
        """
        ...


@runtime_checkable
class HasRange(Protocol):
    """A scorer whose main metric is no share, from 0 to 1."""

    @property
    def range(self) -> tuple[float, float]:
        """The main metric's least and largest value; both may be infinite."""
        ...


@runtime_checkable
class HasOtherMetrics(Protocol):
    """A scorer with metrics beside the main one that leaderboards have a line of."""

    @property
    def also(self) -> Mapping[str, tuple[float, float]]:
        """The ranges of these metrics by their names; one end of a range at least is finite."""
        ...


def also_of(scorer: Scorer) -> dict[str, tuple[float, float]]:
    """The metrics that leaderboards have a line of besides the main one, and between which numbers they lie."""
    return dict(scorer.also) if isinstance(scorer, HasOtherMetrics) else {}


def range_of(scorer: Scorer) -> tuple[float, float]:
    """The two numbers between which a scorer's main metric lies."""
    low, high = scorer.range if isinstance(scorer, HasRange) else (0.0, 1.0)
    return low, high
