"""W&B's runs in a results folder: the id of a plan's own, and the folders that those of earlier plans have left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.storage.leftovers import DISCARDED, Leftover, size_of

_RUN = re.compile(r"(?:(?:offline-)?run-.+|files)-([0-9a-f]{16})")


def run_id(plan: Plan) -> str:
    """The id of a plan's run: the same for equal suites and cells, wherever computed and however often logged."""
    return content_key({"wandb": plan.suite.config.name, "cells": sorted(plan.cells)})[:16]


def runs_folder(results: Path) -> Path:
    return results / "wandb"


def runs_lock(results: Path) -> Path:
    """The lock that is held while a run is logged."""
    return results / ".wandb.lock"


def earlier_runs(plan: Plan, results: Path) -> Iterator[Leftover]:
    """The runs of other plans than this one, which has taken their place in the folder."""
    folder = runs_folder(results)
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        of_run = _RUN.fullmatch(path.name)
        if path.is_symlink() or not path.is_dir():
            continue
        if DISCARDED.fullmatch(path.name):
            yield Leftover("discarded", path, "its removal was broken off", size_of(path), runs_lock(results))
        elif of_run and of_run[1] != run_id(plan):
            why = "its suite has other cells now"
            yield Leftover("wandb", path, why, size_of(path), runs_lock(results))
