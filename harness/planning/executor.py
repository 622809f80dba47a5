"""Executors: where the cells of a suite are done. Users write a mapping under `executor`; no result depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from harness.errors import ConfigError, suggest
from harness.registry import parameters

_KEY = "executor"
_SHARED = {"workers": "Number of workers", "threads": "Threads of each worker"}


@dataclass(frozen=True)
class LocalExecutor:
    """Workers on this machine."""

    workers: int | Literal["auto"] = "auto"
    """Number of workers; auto: one for each visible GPU, one on a machine without."""
    threads: int | Literal["auto"] = "auto"
    """Threads of each worker; auto: the cores that this process may use, shared equally."""

    def __post_init__(self) -> None:
        _check_counts(self)


@dataclass(frozen=True)
class RayExecutor:
    """Workers on a Ray cluster, one an actor; needs `pip install decomp-harness[ray]`.

    All nodes see the same results folder and the same `$HARNESS_CACHE`.
    """

    workers: int | Literal["auto"] = "auto"
    """Number of workers; auto: one for each GPU of the cluster, or for each node if there are none."""
    threads: int | Literal["auto"] = "auto"
    """Threads, and CPUs of Ray, of each worker; auto: as many as the smallest node has for each of its workers."""
    address: str | None = None
    """The cluster's address; null: `$RAY_ADDRESS`, or else a cluster of this machine alone, for this run."""

    def __post_init__(self) -> None:
        _check_counts(self)


@dataclass(frozen=True)
class SlurmExecutor:
    """Workers in one array of Slurm jobs, which stay until nothing is left.

    All nodes see the same results folder, the same `$HARNESS_CACHE` and this installation.
    """

    workers: int = 4
    """Size of the array."""
    threads: int = 4
    """Threads, and `--cpus-per-task`, of each worker."""
    partition: str | None = None
    """`--partition`; null: Slurm's default."""
    gres: str | None = None
    """`--gres`, such as `gpu:1`."""
    time: str | None = None
    """`--time`, such as `04:00:00`. A worker gives back what it has not finished and is queued again."""
    memory: str | None = None
    """`--mem`, such as `32G`."""
    account: str | None = None
    """`--account`."""
    options: list[str] = field(default_factory=list)
    """Further options of `sbatch`, such as `['--constraint=a100']`."""

    def __post_init__(self) -> None:
        _check_counts(self)


Executor: TypeAlias = LocalExecutor | RayExecutor | SlurmExecutor
EXECUTORS: dict[str, type[Any]] = {"local": LocalExecutor, "ray": RayExecutor, "slurm": SlurmExecutor}


def executor_of(entry: Mapping[str, Any]) -> Executor:
    """The executor that an entry such as `{executor: local, workers: 2}` names; a ConfigError where it is none."""
    name = entry.get(_KEY)
    if name not in EXECUTORS:
        raise ConfigError(f"{_KEY}: {name!r} is no executor.{suggest(str(name), EXECUTORS)}")
    params = {key: value for key, value in entry.items() if key != _KEY}
    executor: Executor = parameters.build(EXECUTORS[name], params, _KEY)
    return executor


def _check_counts(executor: Any) -> None:
    for name, meaning in _SHARED.items():
        count = getattr(executor, name)
        if count != "auto" and count < 1:
            raise ValueError(f"{name} is {count}. {meaning}: give at least 1.")
