"""Workers on this machine: one for each GPU, or as many as asked for, each with its share of the cores."""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass, field
from typing import Any

from harness.planning.executor import LocalExecutor
from harness.planning.plan import Plan
from harness.running.agent import Agent
from harness.running.board import Board
from harness.running.crews.crew import Events, thread_variables
from harness.running.devices import n_cards
from harness.running.machine import n_threads
from harness.storage.store import Store

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def n_local(executor: LocalExecutor, device: str) -> int:
    """The number of workers on this machine."""
    return max(1, n_cards(device)) if executor.workers == "auto" else executor.workers


@dataclass
class LocalCrew:
    """Agents in threads of this process, each of which has a worker process of its own."""

    plan: Plan
    store: Store
    board: Board
    on_event: Events
    executor: LocalExecutor
    agents: list[Agent] = field(default_factory=list)
    errors: queue.SimpleQueue[BaseException] = field(default_factory=queue.SimpleQueue)

    def __enter__(self) -> LocalCrew:
        for environment in _environments(self.executor, self.plan.suite.config.device):
            own = Board.read(self.board.folder)
            self.agents.append(Agent(own, self.plan, self.store, self.on_event, environment))
        self.threads = [threading.Thread(target=self._work, args=(agent,)) for agent in self.agents]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for agent in self.agents:
            agent.stop()
        for thread in self.threads:
            thread.join()

    @property
    def names(self) -> set[str]:
        return {agent.name for agent in self.agents}

    def check(self) -> None:
        if not self.errors.empty():
            raise self.errors.get()

    def _work(self, agent: Agent) -> None:
        try:
            agent.work()
        except BaseException as error:
            self.errors.put(error)


def _environments(executor: LocalExecutor, device: str) -> list[dict[str, str]]:
    """Environment variables of each worker: its threads, and the one card that it sees, which it then calls `cuda`."""
    n, cards = n_local(executor, device), _cards(device)
    threads = _threads(executor, n)
    of_card = [{_VISIBLE: cards[i % len(cards)]} if cards and n > 1 else {} for i in range(n)]
    return [threads | card for card in of_card]


def _threads(executor: LocalExecutor, n_workers: int) -> dict[str, str]:
    if executor.threads != "auto":
        return thread_variables(executor.threads)
    if n_workers == 1 or "OMP_NUM_THREADS" in os.environ:  # as torch finds the machine, or as the user wants it
        return {}
    return thread_variables(max(1, n_threads() // n_workers))


def _cards(device: str) -> list[str]:
    """The cards that this process sees, as the system calls them."""
    visible: Any = os.environ.get(_VISIBLE)
    if visible:
        return [name.strip() for name in visible.split(",")][: n_cards(device)]
    return [str(i) for i in range(n_cards(device))]
