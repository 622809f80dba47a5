"""Common parts of benchmarks: medians over quiet rounds, rows of results/reference/benchmarks.csv, and real rows."""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from jaxtyping import Float
from torch import Tensor

import harness

TABLE = Path(__file__).parent.parent / "results" / "reference" / "benchmarks.csv"
COLUMNS = [
    *("work", "ours", "against", "ratio", "seconds", "against_seconds", "floor_seconds", "times_floor", "floor"),
    "note",
    *("threads", "rounds", "versions", "cpu", "date"),
]
# Cores that other processes may use while a run counts: load changes ratios, not only times.
_MAX_OTHER_CORES = 0.1
_MAX_TRIES = 4

Runs = Mapping[str, Callable[[], object]]


def parser(doc: str, rounds: int) -> argparse.ArgumentParser:
    """A parser with the options that all benchmarks have."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--rounds", type=int, default=rounds, help="quiet ones, over which medians are taken")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--loaded", action="store_true", help="count rounds on a busy machine; nothing is recorded")
    return made


def quiet_medians(runs: Runs, rounds: int, *, loaded: bool = False, warm_up: bool = True) -> dict[str, float]:
    """Median wall seconds of each, all run in turn, after a round that only warms up unless that was done before.

    A run counts if the other processes of the machine used less than a tenth of a core during it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for attempt in range(0 if warm_up else 1, 1 + rounds * _MAX_TRIES):
        for name, run in runs.items():
            if attempt and len(seconds[name]) == rounds:
                continue
            busy, own, started = _busy_seconds(), _own_seconds(), time.perf_counter()
            run()
            taken = time.perf_counter() - started
            others = (_busy_seconds() - busy) - (_own_seconds() - own)
            if attempt and (loaded or others < max(_MAX_OTHER_CORES * taken, 0.02)):
                seconds[name].append(taken)
    lacking = [name for name, values in seconds.items() if len(values) < rounds]
    if lacking:
        raise SystemExit(f"the machine was too busy to time {', '.join(lacking)}; stop other work, or try --loaded.")
    return {name: statistics.median(values) for name, values in seconds.items()}


def _busy_seconds() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _own_seconds() -> float:
    """CPU seconds of this process and of the child processes that have ended."""
    return sum(os.times()[:4])


class Table:
    """Prints rows and keeps them in the file; rows of the same work, ours and against are replaced."""

    def __init__(self, arguments: argparse.Namespace, *packages: str) -> None:
        self._arguments = arguments
        self._versions = " ".join(f"{name} {metadata.version(name)}" for name in ("torch", *packages) if _has(name))

    def add(
        self,
        work: str,
        ours: tuple[str, float],
        against: tuple[str, float] | None = None,
        floor: tuple[str, float] | None = None,
        note: str = "",
    ) -> None:
        """Print and keep a row. Ours, against and floor are each a name and its seconds; a note has other numbers."""
        row: dict[str, Any] = {"work": work, "ours": ours[0], "seconds": f"{ours[1]:.4g}", "note": note}
        text = f"{work}: {ours[0]} {ours[1]:.3g} s{note and f' ({note})'}"
        if against:
            ratio = f"{against[1] / ours[1]:.2f}"
            row |= {"against": against[0], "against_seconds": f"{against[1]:.4g}", "ratio": ratio}
            text += f"; {against[0]} {against[1]:.3g} s, ratio {ratio}"
        if floor:
            times = f"{ours[1] / floor[1]:.2f}"
            row |= {"floor": floor[0], "floor_seconds": f"{floor[1]:.4g}", "times_floor": times}
            text += f"; {times} times the floor ({floor[0]})"
        print(text, flush=True)
        if self._arguments.loaded:
            return
        row |= {
            "threads": torch.get_num_threads(),
            "rounds": self._arguments.rounds,
            "versions": self._versions,
            "cpu": _cpu(),
            "date": time.strftime("%Y-%m-%d"),
        }
        _write({name: row.get(name, "") for name in COLUMNS})


def _write(row: dict[str, Any]) -> None:
    kept = list(csv.DictReader(TABLE.open(encoding="utf-8"))) if TABLE.exists() else []
    key = ("work", "ours", "against")
    rows = [old for old in kept if [old[name] for name in key] != [row[name] for name in key]]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*rows, row], key=lambda one: [one[name] for name in key]))


def _has(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def smollm2_rows(site: str, n_fit: int, n_judged: int) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    """Rows of SmolLM2-135M; those that judge are of other documents."""
    texts = (document.text for document in harness.create("corpus", "packaged", name="wikipedia").documents())
    model = harness.create("model", "packaged", name="smollm2-135m")
    taken = []
    for n in (n_judged, n_fit):
        parts: list[Tensor] = []
        while sum(map(len, parts)) < n:
            parts.append(harness.capture(model, list(itertools.islice(texts, 4)), [site]).x[site].float())
        taken.append(torch.cat(parts)[:n])
    return taken[1], taken[0]


def explained_variance(x: Float[Tensor, "n d"], decoded: Float[Tensor, "n d"]) -> float:
    """1 − Σ‖x − x̂‖² / Σ‖x − mean x‖²."""
    x = x.double()
    return 1 - float((x - decoded.double()).square().sum() / (x - x.mean(dim=0)).square().sum())
