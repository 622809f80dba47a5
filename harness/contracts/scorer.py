"""What scorers are given, what they may ask, and what is asked of them.

A scorer is pure: `plan` says what it wants to know, the harness finds it out (many requests together, each once), and
`reduce` makes numbers of the answers. So the same scorer runs with any encoder or model, and in tests without one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # `harness plan` asks scorers what they would ask, and does without torch
    from harness.contracts.latent import Latent
    from harness.contracts.requests import Request
    from harness.contracts.table_row import TableRow


class Scorer(Protocol):
    """Rates how well one pole of a latent can be understood. Pure: asks by `plan`, judges by `reduce`.

    Both may raise `Undefined`: the main metric of this latent is then null. The main metric is a share, from 0 to 1,
    unless the scorer has a `range`, a pair of numbers that may be infinite.

    It may have `also`, other metrics that leaderboards have a line of, with their ranges by name; one end of a range at
    least is finite.
    """

    metric: str
    """The name of its main metric, one of those that `reduce` gives."""
    chance: float
    """The main metric's value for guesses."""

    def plan(self, latent: Latent) -> list[Request]:
        """What to ask; nothing if it asks nobody."""
        ...

    def reduce(self, latent: Latent, requests: list[Request], responses: list[Any]) -> list[TableRow]:
        """The metrics of one latent. The main metric's control is `<metric>_random_explanation` if there is one. Its
        own row may carry `verdicts`, what was said of single windows.
        """
        ...


def also_of(scorer: Any) -> dict[str, tuple[float, float]]:
    """The metrics that leaderboards have a line of besides the main one, and between which numbers they lie."""
    return dict(getattr(scorer, "also", {}))


def range_of(scorer: Any) -> tuple[float, float]:
    """Between which numbers its main metric lies."""
    low, high = getattr(scorer, "range", (0.0, 1.0))
    return low, high
