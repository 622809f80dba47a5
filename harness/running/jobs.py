"""Jobs: the cells that are to do, in pieces that workers do one after another, and what each piece waits for.

A piece is as large as its kind of cell allows, so that what cells share is read and computed once; and small enough
that all workers have something to do.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter
from typing import Any

from harness.capturing.chunks import Range, chunk_windows
from harness.planning.cells import Cell
from harness.planning.keys import canonical_json, content_key

# Of a family of 24 sites and 8 models all pairs are 36,672 cells: one job of so many would keep one worker for hours.
_MAX_CELLS = 2_000
_PIECES_PER_WORKER = 2
_SECONDS_PER_RANGE = 30.0
"""Expected seconds of a range of a capture, at least: for each its model is loaded, and texts are cut up to there."""


@dataclass(frozen=True)
class Job:
    """Cells of one kind that a worker does together."""

    id: str
    """Made of the cells, so that all who plan the same jobs call them the same."""
    kind: str
    cells: tuple[str, ...]
    """Keys of its cells."""
    needs: tuple[str, ...] = ()
    """Jobs that come first."""
    plugin_files: tuple[str, ...] = ()
    """The single-file plugins whose code may run; a worker that does others is ended first."""
    seconds_to_end: float = 0.0
    """Expected seconds of the longest chain of jobs that begins with this one: the longest goes first."""
    part: Range | None = None
    """The range of its cells that it does: the job that ends them takes it up, and does what was left undone."""

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Job:
        lists = {name: tuple(data[name]) for name in ("cells", "needs", "plugin_files")}
        return cls(**{**data, **lists, "part": data["part"] and Range(*data["part"])})


def jobs_of(
    todo: Sequence[Cell], n_workers: int, seconds: Callable[[Cell], float], stacking: Collection[str] = ()
) -> list[Job]:
    """Jobs for the cells that are to do, the most urgent first.

    One worker does those without plugin files, then file by file: it changes between files as seldom as can be, and
    what a file breaks it breaks when the rest is done. Of several, all but one would wait for a long fit begun last.

    Args:
        todo: cells, in the order of the plan.
        n_workers: the number of workers at hand.
        seconds: a cell's expected duration.
        stacking: names of methods whose learners may learn in one computation; what they learn depends by rounding on
            who is there, so that all of a site stay together.
    """
    groups = _groups(todo)
    n_groups = Counter(group[0].kind for group in groups)
    wanted = {kind: _n_wanted(n_workers, n) for kind, n in n_groups.items()}
    pieces = [piece for group in groups for piece in _split(group, wanted[group[0].kind], stacking)]
    jobs = [_job(piece) for piece in pieces]
    job_of = {key: job.id for job in jobs for key in job.cells}
    needs = {
        job.id: tuple(dict.fromkeys(job_of[key] for cell in piece for key in cell.upstream if key in job_of))
        for job, piece in zip(jobs, pieces, strict=True)
    }
    own = {job.id: sum(map(seconds, piece)) for job, piece in zip(jobs, pieces, strict=True)}
    ranges = _ranges(dict(zip((job.id for job in jobs), pieces, strict=True)), own, n_workers)
    for whole, parts in ranges.items():
        own |= {job.id: own[whole] / len(parts) for job in parts} | {whole: 0.0}
        needs |= {job.id: needs[whole] for job in parts}
        needs[whole] += tuple(job.id for job in parts)
    jobs = [*itertools.chain(*ranges.values()), *jobs]
    to_end = _seconds_to_end(needs, own)
    ready = [replace(job, needs=needs[job.id], seconds_to_end=to_end[job.id]) for job in jobs]
    ready.sort(key=lambda job: -job.seconds_to_end)
    return ready if n_workers > 1 else sorted(ready, key=lambda job: (len(job.plugin_files), job.plugin_files))


def _seconds_to_end(needs: Mapping[str, Iterable[str]], own: Mapping[str, float]) -> dict[str, float]:
    """Seconds of the longest chain that begins with each job."""
    to_end = dict(own)
    for later in reversed(list(TopologicalSorter(needs).static_order())):
        for earlier in needs[later]:
            to_end[earlier] = max(to_end[earlier], own[earlier] + to_end[later])
    return to_end


def _job(cells: Sequence[Cell], part: Range | None = None) -> Job:
    of_cells: dict[str, Any] = {"cells": sorted(cell.key for cell in cells)}
    job_id = content_key(of_cells | ({} if part is None else {"part": part}))
    keys = tuple(cell.key for cell in cells)
    return Job(job_id, cells[0].kind, keys, plugin_files=cells[0].plugin_files, part=part)


def _ranges(pieces: Mapping[str, Sequence[Cell]], own: Mapping[str, float], n_workers: int) -> dict[str, list[Job]]:
    """Jobs for ranges of the captures that are worth it, by the id of the job that takes them up.

    Args:
        pieces: the cells of each job.
        own: its expected seconds.
        n_workers: the number of workers at hand.
    """
    seconds = sum(own[job] for job, cells in pieces.items() if cells[0].kind == "capture")
    of_range = max(_SECONDS_PER_RANGE, seconds / (n_workers * _PIECES_PER_WORKER))
    found = {}
    for job, cells in pieces.items():
        n = min(round(own[job] / of_range), _most_ranges(cells[0])) if n_workers > 1 else 1
        n -= n % n_workers if n > n_workers else 0  # as many for each worker
        if n > 1:
            found[job] = [_job(cells, Range(i, n)) for i in range(n)]
    return found


def _most_ranges(cell: Cell) -> int:
    """The number of chunks of a capture from texts; 1 for what is not cut into ranges.

    The mean of rows that are not stored is taken while they pass, all of them in their order.
    """
    work = cell.work
    if cell.kind != "capture" or work.get("corpus") is None or not work.get("store_rows", True):
        return 1
    tokens, context = int(work["tokens"]), int(work["context"])
    return math.ceil(tokens / (chunk_windows(tokens, context) * context))


def _groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Groups of cells that share work and the code of plugin files, in the order of the plan."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.kind, cell.group, cell.plugin_files), []).append(cell)
    return list(groups.values())


def _n_wanted(n_workers: int, n_groups: int) -> int:
    """The number of pieces of each group: what its cells share is done once for every piece, so no more than needed."""
    return math.ceil(n_workers * _PIECES_PER_WORKER / n_groups) if n_workers > 1 else 1


def _split(group: list[Cell], n_wanted: int, stacking: Collection[str]) -> list[list[Cell]]:
    """A group in so many pieces, if it can be; what has to stay together does."""
    parts = _inseparable(group, stacking)
    n_pieces = min(len(parts), max(n_wanted, math.ceil(len(group) / _MAX_CELLS)))
    bounds = [round(i * len(parts) / n_pieces) for i in range(n_pieces + 1)]
    return [list(itertools.chain(*parts[begin:end])) for begin, end in itertools.pairwise(bounds)]


def _inseparable(group: list[Cell], stacking: Collection[str]) -> list[list[Cell]]:
    """The smallest pieces of a group whose cells don't depend on which others are with them, or would read twice."""
    kind = group[0].kind
    is_pass = kind == "capture" or (kind == "fit" and "source" in group[0].work)  # the latter of rows not stored
    if is_pass or kind == "task":  # a model is run once for all sites, and all that learn from them
        return [group]
    belongs: Callable[[Cell], Any] = {
        "fit": lambda cell: cell.columns["method"] if cell.columns["method"] in stacking else cell.key,
        "similarity": lambda cell: canonical_json([cell.work["a"], cell.work["b"]]),  # all metrics read a pair once
        "scoring": lambda cell: cell.work["fit"],  # what is asked about a latent is known for the next scorer
        "explanation": lambda cell: cell.work["fit"],
    }.get(kind, lambda cell: cell.key)
    parts: dict[Any, list[Cell]] = {}
    for cell in group:
        parts.setdefault(belongs(cell), []).append(cell)
    return list(parts.values())
