"""Crews: the workers of a run, wherever its executor has them work. A module for each executor."""

from __future__ import annotations

from contextlib import AbstractContextManager

from harness.planning.executor import LocalExecutor, RayExecutor
from harness.planning.plan import Plan
from harness.planning.suite import Suite
from harness.running.board import Board
from harness.running.crews.crew import Crew, Events
from harness.running.crews.local import LocalCrew, n_local
from harness.storage.store import Store

_UNKNOWN_WORKERS = 8
"""Workers that jobs are made for where their number is known only later."""


def crew_of(plan: Plan, store: Store, board: Board, on_event: Events) -> AbstractContextManager[Crew]:
    """The crew that a suite asks for; at work inside the `with` block."""
    executor = plan.suite.executor
    if isinstance(executor, LocalExecutor):
        return LocalCrew(plan, store, board, on_event, executor)
    if isinstance(executor, RayExecutor):
        from harness.running.crews.ray import RayCrew

        return RayCrew(plan, store, board, executor)
    from harness.running.crews.slurm import SlurmCrew

    return SlurmCrew(plan, store, board, executor)


def n_workers(suite: Suite) -> int:
    """The number of workers to make jobs for."""
    executor = suite.executor
    if isinstance(executor, LocalExecutor):
        return n_local(executor, suite.config.device)
    return _UNKNOWN_WORKERS if executor.workers == "auto" else executor.workers
