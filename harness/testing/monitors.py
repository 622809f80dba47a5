"""Checks of monitors: no more false alarms than they claim, few wrong names, and an alarm where documents change.

Whoever writes a monitor for rows gives a function that makes one:

    make(decomposition, fitted, unseen) -> monitor      # calibrated; both are DocumentRows
    monitor.update(rows) -> outcome                     # the next documents of a stream

where an outcome has `alarm_document` (None, or the number of the document that raised the alarm), `false_alarm_bound`
(the most that the probability of an alarm by now can be), and `changes`, one for each latent that is named.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from harness.contracts.decomposition import Codes, Decomposition
from harness.errors import HarnessError
from harness.testing.checks import Broken, Check, seed_globally

_WIDTH, _ROWS, _N_FITTED, _N_UNSEEN, _N_STREAM, _N_BATCH = 48, 12, 40, 100, 60, 16
_N_STREAMS, _N_BATCHES = 12, 24
_NAMED_WRONGLY = 0.05
_SURE = 0.999


@dataclass(frozen=True)
class DocumentRows:
    """The rows of some documents, one document after the other."""

    x: Float[Tensor, "n d"]
    documents: list[str]
    """The id of the document of each row."""


class MonitorUnderTest:
    """A maker of monitors, and documents whose rows have much in common."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[Decomposition, DocumentRows, DocumentRows], Any]) -> None:
        self._make = make

    @cached_property
    def fitted(self) -> DocumentRows:
        """The documents that the decomposition has learnt from."""
        return self.rows(_N_FITTED, 0, "fitted")

    @cached_property
    def unseen(self) -> DocumentRows:
        """Documents of the same kind."""
        return self.rows(_N_UNSEEN, 1, "unseen")

    @cached_property
    def decomposition(self) -> _Components:
        """Directions of the fitted documents, which it reconstructs better than others."""
        return _Components(torch.linalg.svd(self.fitted.x, full_matrices=False).Vh[: _N_FITTED - 4])

    def rows(self, n: int, seed: int, name: str = "new", shift: float = 0.0) -> DocumentRows:
        """Documents that are drawn alike; shifted ones lie elsewhere."""
        draw = torch.Generator().manual_seed(1000 + seed)
        own = torch.randn(n, _WIDTH, generator=draw).repeat_interleave(_ROWS, dim=0)
        x = own + 0.3 * torch.randn(n * _ROWS, _WIDTH, generator=draw)
        if shift:  # half of it where no direction leads
            x = x + shift * (self._common + 3 * (self._common - self.decomposition.project(self._common)))
        return DocumentRows(x, [f"{name}-{seed}-{number // _ROWS}" for number in range(n * _ROWS)])

    @property
    def _common(self) -> Float[Tensor, " d"]:
        return torch.ones(_WIDTH)

    def made(self) -> Any:
        """A monitor that is calibrated, and has seen no stream."""
        return self._make(self.decomposition, self.fitted, self.unseen)

    def made_from_the_fit(self) -> Any:
        """A monitor that is given the documents of the fit as unseen ones."""
        return self._make(self.decomposition, self.fitted, replace(self.fitted))


class _Components(Decomposition):
    """The products with orthogonal directions."""

    def __init__(self, directions: Float[Tensor, "m d"]) -> None:
        self.directions, self.n_latents = directions, len(directions)

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        """Dense codes, of either sign."""
        return Codes(x @ self.directions.T)

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        """The projection of the rows."""
        return codes.values @ self.directions

    def project(self, x: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
        """The part of a vector that the directions span."""
        return (x @ self.directions.T) @ self.directions


def keeps_its_bound_on_false_alarms(under_test: MonitorUnderTest) -> None:
    """Streams of documents like those of calibration raise the alarm no more often than `false_alarm_bound` says."""
    outcomes = [under_test.made().update(under_test.rows(_N_STREAM, 10 + stream)) for stream in range(_N_STREAMS)]
    bound = float(max(outcome.false_alarm_bound for outcome in outcomes))
    alarms = sum(outcome.alarm_document is not None for outcome in outcomes)
    if alarms > stats.binom.ppf(_SURE, _N_STREAMS, bound):
        raise Broken(
            f"{alarms} of {_N_STREAMS} unchanged streams raise the alarm, and the bound is {bound:.3g}: "
            "calibrate on documents that the decomposition has not learnt from, with one score a document."
        )


def names_few_latents_where_nothing_has_changed(under_test: MonitorUnderTest) -> None:
    """Batches of documents like those of calibration name any latent in 5 % of cases at most."""
    batches = [under_test.made().update(under_test.rows(_N_BATCH, 100 + batch)) for batch in range(_N_BATCHES)]
    wrong = sum(bool(list(outcome.changes)) for outcome in batches)
    if wrong > stats.binom.ppf(_SURE, _N_BATCHES, _NAMED_WRONGLY):
        raise Broken(
            f"{wrong} of {_N_BATCHES} unchanged batches name latents: rows of one document are alike, so the "
            "document is the unit; and many latents are tested, so p-values need adjusting."
        )


def notices_a_change(under_test: MonitorUnderTest) -> None:
    """Documents of another kind raise the alarm and name latents, though not before they come."""
    monitor, n_before = under_test.made(), 20
    before = monitor.update(under_test.rows(n_before, 200))
    after = monitor.update(under_test.rows(40, 201, shift=4.0))
    if before.alarm_document is not None:
        raise Broken(f"the alarm is raised by document {before.alarm_document}, before anything changes.")
    if after.alarm_document is None or after.alarm_document < n_before:
        raise Broken(
            f"alarm_document is {after.alarm_document!r} after 40 documents of another kind, from {n_before} on."
        )
    if not list(after.changes):
        raise Broken("no latent is named in documents of another kind, in which many fire otherwise.")


def refuses_documents_of_the_fit(under_test: MonitorUnderTest) -> None:
    """Calibration on documents that the decomposition has learnt from raises an error of the harness."""
    try:
        under_test.made_from_the_fit()
    except HarnessError:
        return
    raise Broken(
        "it calibrates on documents that the decomposition has learnt from, whose errors are smaller than others': "
        "compare ids, and raise harness.ConfigError."
    )


def repeats_itself(under_test: MonitorUnderTest) -> None:
    """Outcomes of one stream are the same each time, whatever the global random states."""
    found = []
    for seed in (1, 2):
        seed_globally(seed)
        found.append(_told(under_test.made().update(under_test.rows(_N_BATCH, 300, shift=0.3))))
    if found[0] != found[1]:
        raise Broken("another outcome comes when the global random generators have another state: draw with a seed.")


def _told(outcome: Any) -> dict[str, str]:
    return {name: repr(value) for name, value in vars(outcome).items()}


CHECKS: list[Check] = [
    keeps_its_bound_on_false_alarms,
    names_few_latents_where_nothing_has_changed,
    notices_a_change,
    refuses_documents_of_the_fit,
    repeats_itself,
]
