"""Task: a question whose answer is known, put to one similarity; its score is how much of the answer it gets right."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from harness.api import fit
from harness.comparing.calibration import calibrated
from harness.comparing.pairing import Pairing
from harness.contracts.decomposition import Decomposition
from harness.contracts.rows import make_rows
from harness.contracts.similarity import Similarity
from harness.contracts.task import ComparedSite, Comparisons, Task, TaskScore
from harness.errors import PluginError, StoreError, Undefined
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.memory import PeakMemory
from harness.running.session import Session
from harness.storage.records import row


def run(cells: list[Cell], session: Session) -> None:
    """Put every task to its similarity."""
    for number, cell in enumerate(cells):
        with session.alone(cell):
            try:
                session.done(cell, _rows(cell.work, session))
            except Undefined as undefined:
                session.skip(cell, f"{cell.work['task']['name']}: {undefined.reason}")
        session.progress("tasks done", number + 1, len(cells))


def _rows(work: Any, session: Session) -> list[dict[str, Any]]:
    task: Task = session.create("task", work["task"])
    metric: Similarity = session.create("similarity", work["similarity"])
    compare = _Compare(work, metric, session)
    comparisons = _comparisons(work, compare, session)
    with isolated():
        found: object = task.score(comparisons)
    scores = _checked(found, work["task"]["name"], task.metric, len(comparisons.models))
    return [_row(score, task.metric, comparisons.models) for score in scores] + compare.costs()


def _comparisons(work: Any, compare: _Compare, session: Session) -> Comparisons:
    sites = [ComparedSite(**site) for site in work["sites"]]
    alike, unrelated = (np.full((len(sites), len(sites)), np.nan) for _ in range(2))
    for i, j, key in work.get("cells", ()):
        values = _values(key, session)
        name, scale = ("calibrated", float) if work.get("calibrated") else ("similarity", compare.scale)
        alike[i, j] = scale(values[name])
        alike[j, i] = scale(values.get(f"{name}_reversed", values[name]))
        null = values.get("null_shuffled_rows", values.get("chance", math.nan))
        if work.get("calibrated"):
            null = compare.calibrated(null, values["null_quantile"])
        unrelated[i, j] = unrelated[j, i] = scale(null)
    return Comparisons(sites, alike, unrelated, _shared_rows(work, session), compare)


def _values(key: str, session: Session) -> Mapping[str, float]:
    """The values of a similarity cell by metric; undefined ones are NaN."""
    record = session.store.record(key)
    if record is None:
        raise StoreError(f"the record of comparison {key} is gone since the plan was made; run the suite again.")
    return {found["metric"]: math.nan if found["value"] is None else found["value"] for found in record.rows}


def _scale(metric: Similarity) -> Callable[[float], float]:
    """A function from a similarity's own numbers to those that tasks see, of which more is more alike."""
    if metric.higher_is_more_similar:
        return float
    largest = metric.range[1]
    return (lambda distance: 1 - distance / largest) if math.isfinite(largest) else (lambda distance: -distance)


def _shared_rows(work: Any, session: Session) -> Callable[[int, int], tuple[Tensor, Tensor]]:
    pairing = Pairing(session.store, session.device)

    def shared_rows(i: int, j: int) -> tuple[Tensor, Tensor]:
        if [i, j] not in work.get("rows", ()) and [j, i] not in work.get("rows", ()):
            raise PluginError(
                f"task {work['task']['name']}: rows of sites {i} and {j} were not asked for by its Spec's pairs."
            )
        return pairing.shared(work["of"][str(i)], work["of"][str(j)]).pair.take()

    return shared_rows


class _Compare:
    """Compares rows by one similarity, and counts the cost."""

    def __init__(self, work: Any, metric: Similarity, session: Session) -> None:
        self.work, self.metric, self.session = work, metric, session
        self.scale = _scale(metric)
        self.seconds: list[float] = []
        self.peak_bytes: list[int | None] = []

    def __call__(self, x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]) -> float:
        memory, started = PeakMemory(self.session.device.type), time.perf_counter()
        sides: tuple[Any, ...] = (x, y)
        if self.work["method"] is not None:
            sides = (self._fit(x), self._fit(y), *(sides if self.work["of_codes"] else ()))
        value = float(self.metric(*sides))
        self.seconds.append(time.perf_counter() - started)
        self.peak_bytes.append(memory.above_start())
        if not math.isfinite(value):
            raise Undefined(f"the similarity returned {value}")
        return self.scale(value)

    def calibrated(self, value: float, quantile: float) -> float:
        """A value on the scale of calibrated scores; NaN if it or the quantile is, or if there is no such scale."""
        best = self.metric.range[1 if self.metric.higher_is_more_similar else 0]
        found = calibrated(value, quantile, best) if not math.isnan(value + quantile) else None
        return math.nan if found is None else found

    def _fit(self, x: Float[Tensor, "n d"]) -> Decomposition:
        """Let the method learn from rows that have no more identity than their order."""
        places = np.arange(len(x))
        offsets = {"start": places, "end": places + 1}
        rows = make_rows({"document": ["0"] * len(x), "window": places, "position": places, **offsets})
        return fit(self.session.create("method", self.work["method"]), x, rows, self.work["seed"])

    def costs(self) -> list[dict[str, Any]]:
        """Rows for the cost of a comparison: its mean seconds, and the most memory that one took beyond that in use."""
        n = len(self.seconds)
        if not n:
            return []
        known = [peak for peak in self.peak_bytes if peak is not None]
        peak_bytes = max(known) if len(known) == n else None
        return [
            row("tasks", "compare_seconds", sum(self.seconds) / n, n, False),
            row("tasks", "compare_memory_bytes", peak_bytes, n, False, None if known else "not measurable here"),
        ]


def _checked(scores: object, name: str, main_metric: str, n_models: int) -> Sequence[TaskScore]:
    """The scores of a task; a PluginError if they are not what its contract says."""
    if not isinstance(scores, Sequence) or not all(isinstance(score, TaskScore) for score in scores):
        raise PluginError(f"task {name}: score() returned {scores!r:.80}, not a list or tuple of TaskScores.")
    if main_metric not in (score.metric for score in scores):
        raise PluginError(f"task {name}: score() gives no {main_metric!r}, which it names as its main metric.")
    for score in scores:
        for sums in (score.numerator, score.denominator):
            if np.shape(sums) != (n_models, n_models) or not np.isfinite(sums).all():
                raise PluginError(f"task {name}: {score.metric} needs finite sums of shape {n_models} × {n_models}.")
    return scores


def _row(score: TaskScore, main_metric: str, models: list[str]) -> dict[str, Any]:
    numerator, denominator = (np.asarray(sums, float) for sums in (score.numerator, score.denominator))
    total = float(denominator.sum())
    value, reason = (float(numerator.sum()) / total, None) if total else (None, "there was nothing to count")
    has_part = np.flatnonzero(denominator.any(axis=0) | denominator.any(axis=1))
    own = np.ix_(has_part, has_part)  # of many models few belong to a family
    return {
        **row("tasks", score.metric, value, score.n, score.higher_is_better, reason),
        "family": score.family,
        "is_main": score.metric == main_metric,
        "bounds": [end if math.isfinite(end) else None for end in score.bounds],
        "models": {
            "names": [models[i] for i in has_part],
            "numerator": numerator[own].tolist(),
            "denominator": denominator[own].tolist(),
        },
    }
