"""The crew of a run: what every executor gives to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection
from typing import Any, Protocol, TypeAlias

from harness.planning.plan import Plan
from harness.running.board import Board
from harness.storage.store import Store

Events: TypeAlias = Callable[[dict[str, Any]], None]


class Crew(Protocol):
    """Workers that have been started and will be ended."""

    @property
    def names(self) -> Collection[str]:
        """Names of the agents whose events reach the run without the board."""
        ...

    def check(self) -> None:
        """Look after the workers; raise an error where none is left, or one found what none could go on with."""
        ...


def work_command(plan: Plan, store: Store, board: Board) -> list[str]:
    """The command by which a worker elsewhere joins a run, in the working folder of the run."""
    # -P: a folder named harness or plugins where the user stands must not hide ours.
    own = ["work", "suite=" + store.results.name, "name=" + store.results.name, f"--board={board.made_with['id']}"]
    files = [json.dumps(file, ensure_ascii=False) for file in plan.suite.config.plugin_files]
    # By name: on another machine it may not be known that this user has run them.
    return [sys.executable, "-P", "-m", "harness", *own, *([f"plugin_files=[{','.join(files)}]"] if files else [])]


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that hold every library to this number of threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    return dict.fromkeys(names, str(threads))
