"""Scaling: one suite by one worker and by more, with one thread each, from an empty cache each time.

    python results/reference/scaling.py [suite=quickstart key=value ...] [--workers 1 2]

writes a line for each number of workers to scaling.csv beside this file, where other lines stay. Options come last.
Seconds are wall time of a machine that does nothing else:

    wall_seconds               of the run, from the first job to the last
    busy_seconds               of all jobs together
    critical_path_seconds      of the longest chain of jobs that wait for each other: no number of workers is quicker
    idle_share                 of the workers' time, in which nothing was ready, or they started
    between_jobs_seconds       the median time from the end of a job to the beginning of the next on the same worker
    times_as_fast              as the first line of the suite
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.running.board import FOLDER, Board
from harness.running.provenance import git_sha

CSV = Path(__file__).with_suffix(".csv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("overrides", nargs="*", default=["suite=quickstart"])
    options = parser.parse_args()
    for n_workers in options.workers:
        row = measured(n_workers, options.overrides)
        print(row, flush=True)
        lines = [line for line in _lines() if [line["suite"], line["workers"]] != [row["suite"], n_workers]]
        alone = next((line for line in [*lines, row] if line["suite"] == row["suite"]), row)["wall_seconds"]
        row["times_as_fast"] = round(alone / row["wall_seconds"], 2)
        pd.DataFrame([*lines, row]).to_csv(CSV, index=False)


def _lines() -> list[dict[str, Any]]:
    return pd.read_csv(CSV).to_dict("records") if CSV.exists() else []


def measured(n_workers: int, overrides: list[str]) -> dict[str, Any]:
    """The line of a run by so many workers."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["run", *overrides, "name=scaling", f"executor.workers={n_workers}", "executor.threads=1"]
        environment = {**os.environ, "HARNESS_CACHE": f"{folder}/cache", "WANDB_MODE": "disabled"}
        whole = [sys.executable, "-P", "-m", "harness", *command]
        subprocess.run(whole, cwd=folder, env=environment, check=True)  # noqa: S603  # the caller's own overrides
        return {
            "suite": " ".join(overrides),
            "executor": "local",
            "workers": n_workers,
            "threads": 1,
            **of_board(Path(folder) / "results" / "scaling" / FOLDER),
            "cores": len(os.sched_getaffinity(0)),
            "commit": git_sha(),
            "date": datetime.now(UTC).date().isoformat(),
        }


def of_board(folder: Path) -> dict[str, Any]:
    """Counts and seconds of a run that has ended, by what its agents said."""
    board = Board(folder, Board.read(folder).jobs)
    spans: dict[str, tuple[float, float]] = {}
    of_agent: dict[str, list[tuple[float, float]]] = {}
    begun: dict[str, float] = {}
    for agent, event in board.refresh():
        if event["event"] == "job":
            begun[event["job"]] = event["at"]
        elif event["event"] == "job done":
            span = begun[event["job"]], event["at"]
            spans[event["job"]] = span
            of_agent.setdefault(agent, []).append(span)
    wall = max(end for _, end in spans.values()) - min(begin for begin, _ in spans.values())
    busy = sum(end - begin for begin, end in spans.values())
    longest: dict[str, float] = {}
    for job in board.jobs.values():  # what is needed stands before
        before = max((longest[need] for need in job.needs), default=0.0)
        longest[job.id] = before + spans[job.id][1] - spans[job.id][0]
    gaps = [later[0] - earlier[1] for own in of_agent.values() for earlier, later in itertools.pairwise(sorted(own))]
    return {
        "cells": len({key for job in board.jobs.values() for key in job.cells}),
        "jobs": len(board.jobs),
        "wall_seconds": round(wall, 1),
        "busy_seconds": round(busy, 1),
        "critical_path_seconds": round(max(longest.values()), 1),
        "idle_share": round(1 - busy / (wall * len(of_agent)), 3),
        "between_jobs_seconds": round(float(np.median(gaps)), 4) if gaps else None,
    }


if __name__ == "__main__":
    main()
