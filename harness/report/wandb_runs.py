"""W&B's runs in a results folder: the id of a plan's own, and the folders that those of earlier plans have left."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.storage.leftovers import DISCARDED, Leftover, size_of

_HEADER, _BLOCK, _FRAME = 7, 2**15, struct.Struct("<IHB")
"""Sizes in a run's file: LevelDB's log format, after a header."""
_WHOLE, _LAST = 1, 4
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


def is_whole(run: Path) -> bool:
    """True for an offline run whose file ends where a record does: wandb says nothing where a disk was full."""
    files = list(run.glob("*.wandb"))
    if len(files) != 1:
        return False
    data, place, kind = files[0].read_bytes(), _HEADER, _LAST
    while place < len(data):
        if _BLOCK - place % _BLOCK < _FRAME.size:
            place += _BLOCK - place % _BLOCK
        elif place + _FRAME.size > len(data):
            return False
        else:
            _, length, kind = _FRAME.unpack_from(data, place)
            place += _FRAME.size + length
    return len(data) > _HEADER and place == len(data) and kind in (_WHOLE, _LAST)
