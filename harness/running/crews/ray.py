"""Workers on a Ray cluster: a task each, which starts a process and waits for it. No result travels through Ray."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import ConfigError, HarnessError
from harness.planning.executor import RayExecutor
from harness.planning.plan import Plan
from harness.running.board import Board
from harness.running.crews.crew import thread_variables, work_command
from harness.storage.store import Store

_MAX_FAILURES = 3
"""Workers in a row that may be lost while no job is done."""


@dataclass
class RayCrew:
    """Tasks on the nodes of a cluster. One that is lost with its node is started again where there is room."""

    plan: Plan
    store: Store
    board: Board
    executor: RayExecutor
    names: frozenset[str] = field(default=frozenset(), init=False)

    def __enter__(self) -> RayCrew:
        try:
            import ray
        except ImportError:
            raise ConfigError("executor: ray needs `pip install decomp-harness[ray]`.") from None
        self.ray = ray
        self.is_own = not ray.is_initialized()
        if self.is_own:
            address = self.executor.address or os.environ.get("RAY_ADDRESS")
            try:
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
            except (ConnectionError, RuntimeError, ValueError) as error:
                raise ConfigError(
                    f"executor.address: Ray can't be had at {address or 'this machine'}: {error} Give the address of a "
                    "cluster that runs, as `ray start --head` prints it, or none to start Ray here."
                ) from None
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        n_cards = int(sum(node.get("GPU", 0) for node in nodes))
        n = (n_cards or len(nodes)) if self.executor.workers == "auto" else self.executor.workers
        self.threads = _threads(self.executor, nodes, n)
        self.remote = ray.remote(
            num_cpus=self.threads, num_gpus=1 if n_cards else 0, max_retries=0, scheduling_strategy="SPREAD"
        )(_work)
        self.tasks = [self._start() for _ in range(n)]
        self.n_failures, self.n_done = 0, 0
        return self

    def __exit__(self, *_: object) -> None:
        for task in self.tasks:
            self.ray.cancel(task, force=True)
        if self.is_own:
            self.ray.shutdown()

    def check(self) -> None:
        ended, self.tasks = self.ray.wait(self.tasks, num_returns=len(self.tasks), timeout=0)
        for task in ended:
            try:
                code, said = self.ray.get(task)
            except self.ray.exceptions.RayError as error:  # its node is gone, or Ray has ended it for its memory
                code, said = -1, str(error)
            if code == 0:
                continue
            self.n_failures = 1 + (self.n_failures if self.n_done == len(self.board.done) else 0)
            self.n_done = len(self.board.done)
            if code == 2 or self.n_failures > _MAX_FAILURES:
                raise HarnessError(f"a worker on the Ray cluster ended with code {code}: {said}")
            self.tasks.append(self._start())

    def _start(self) -> Any:
        variables = {**thread_variables(self.threads), "HARNESS_CACHE": str(self.store.cache)}
        return self.remote.remote(work_command(self.plan, self.store, self.board), str(Path.cwd()), variables)


def _threads(executor: RayExecutor, nodes: list[dict[str, float]], n_workers: int) -> int:
    """Threads of each worker: what the smallest node has for each of those that it gets."""
    if executor.threads != "auto":
        return executor.threads
    n_per_node = max(1, -(-n_workers // max(1, len(nodes))))
    return max(1, int(min((node["CPU"] for node in nodes), default=1)) // n_per_node)


def _work(command: list[str], folder: str, variables: dict[str, str]) -> tuple[int, str]:
    """Run a worker on a node until it ends; its exit code, and the end of what it said."""
    result = subprocess.run(  # noqa: S603  # the run's own words
        command,
        check=False,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return result.returncode, result.stdout[-2000:]
