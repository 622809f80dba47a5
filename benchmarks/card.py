"""Common parts of the benchmarks of a card: its ceilings, medians, and rows of results/reference/benchmarks_gpu.csv."""

from __future__ import annotations

import csv
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

TABLE = Path(__file__).parent.parent / "results" / "reference" / "benchmarks_gpu.csv"
COLUMNS = [
    *("work", "ours", "against", "ratio", "seconds", "against_seconds", "rate", "unit", "to_reach", "reached"),
    *("floor_seconds", "times_floor", "floor", "rounds", "device", "versions", "commit", "date"),
]
_PACKAGES = {"torch": "torch", "triton": "triton", "eai-sparsify": "sparsify", "sae-lens": "sae_lens"}


def wait(device: torch.device) -> None:
    """Wait for what a card was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def tf32(*, is_on: bool) -> Iterator[None]:
    """Let float32 products use TF32, or not; what is measured as ours says itself what it uses."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if is_on else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def medians(runs: Mapping[str, Callable[[], object]], rounds: int, device: torch.device) -> dict[str, float]:
    """Median wall seconds of each, all run in turn, after a round that only warms up; the card is waited for."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for attempt in range(rounds + 1):
        for name, run in runs.items():
            wait(device)
            started = time.perf_counter()
            run()
            wait(device)
            if attempt:
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


@dataclass(frozen=True)
class Ceilings:
    """The highest rates that this machine shows: bytes read and written in a copy, FLOP of products."""

    bytes_per_second: float
    flops: Mapping[str, float]

    @classmethod
    def measured(cls, device: torch.device, size: int) -> Ceilings:
        """Rates of square products of this size, and of a copy of four of such matrices."""
        source = torch.randn(4, size, size, device=device)
        target = torch.empty_like(source)
        a, b = source[0], source[1]
        kinds = {"float64": torch.float64, "float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}

        def product(name: str, dtype: torch.dtype) -> Callable[[], object]:
            x, y = a.to(dtype), b.to(dtype)

            def run() -> None:
                with tf32(is_on=name == "tf32"):
                    torch.mm(x, y)

            return run

        runs = {name: product(name, dtype) for name, dtype in kinds.items()}
        seconds = medians({"copy": lambda: target.copy_(source), **runs}, 5, device)
        return cls(2 * 4 * source.numel() / seconds["copy"], {name: 2 * size**3 / seconds[name] for name in kinds})

    def floor(self, n_bytes: float = 0.0, **n_flops: float) -> tuple[str, float]:
        """Words and seconds for work of so many bytes and FLOP of each kind, one after the other."""
        words = [f"{n_bytes / 1e9:.3g} GB"] if n_bytes else []
        words += [f"{n / 1e12:.3g} TFLOP in {kind}" for kind, n in n_flops.items()]
        seconds = n_bytes / self.bytes_per_second + sum(n / self.flops[kind] for kind, n in n_flops.items())
        return " and ".join(words), seconds

    def __str__(self) -> str:
        rates = ", ".join(f"{name} {rate / 1e12:.3g} TFLOP/s" for name, rate in self.flops.items())
        return f"copy {self.bytes_per_second / 1e12:.3g} TB/s, {rates}"


@dataclass(frozen=True)
class Goal:
    """The number to reach: seconds at most, or a share at least of the other's rate."""

    seconds: float | None = None
    share: float | None = None

    def __str__(self) -> str:
        return f"<= {self.seconds:g} s" if self.seconds is not None else f">= {self.share:.0%} of its rate"

    def is_reached(self, ours: float, against: float | None) -> bool:
        """Tell for seconds of ours and of the other."""
        if self.seconds is not None:
            return ours <= self.seconds
        return against is not None and self.share is not None and against / ours >= self.share


@dataclass
class Board:
    """Prints rows and, unless sizes are tiny ones, keeps them; rows of the same work, ours and against are replaced."""

    device: torch.device
    rounds: int
    is_kept: bool
    n_missed: int = field(default=0, init=False)

    def add(
        self,
        work: str,
        ours: tuple[str, float],
        against: tuple[str, float] | None = None,
        floor: tuple[str, float] | None = None,
        goal: Goal | None = None,
        rows: tuple[int, str] | None = None,
    ) -> None:
        """Print and keep a row. Ours, against and floor are each a name and its seconds; `rows` make a rate."""
        row: dict[str, Any] = {"work": work, "ours": ours[0], "seconds": f"{ours[1]:.4g}"}
        text = f"{work}: {ours[0]} {ours[1]:.3g} s"
        if rows:
            row |= {"rate": f"{rows[0] / ours[1]:.4g}", "unit": f"{rows[1]}/s"}
            text += f" ({row['rate']} {row['unit']})"
        if against:
            row |= {"against": against[0], "against_seconds": f"{against[1]:.4g}"}
            row["ratio"] = f"{against[1] / ours[1]:.2f}"
            text += f"; {against[0]} {against[1]:.3g} s, ratio {row['ratio']}"
        if floor:
            row |= {"floor": floor[0], "floor_seconds": f"{floor[1]:.4g}", "times_floor": f"{ours[1] / floor[1]:.1f}"}
            text += f"; {row['times_floor']} times the floor ({floor[0]})"
        if goal:
            is_reached = goal.is_reached(ours[1], against and against[1])
            self.n_missed += not is_reached
            row |= {"to_reach": str(goal), "reached": "yes" if is_reached else "no"}
            text += f"; to reach {goal}: {row['reached']}"
        print(text, flush=True)
        if self.is_kept:
            write(TABLE, COLUMNS, ("work", "ours", "against", "device"), row | self._where())

    def _where(self) -> dict[str, Any]:
        return {"rounds": self.rounds, **where(self.device)}


def where(device: torch.device) -> dict[str, str]:
    """The columns that say what a number was measured on."""
    return {
        "device": torch.cuda.get_device_name(device),
        "versions": " ".join(
            f"{name} {metadata.version(name)}" for name, module in _PACKAGES.items() if find_spec(module)
        ),
        "commit": commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


class Lines:
    """Lines of the table, a method each, and what they are made of."""

    def __init__(self, board: Board, ceilings: Ceilings, is_tiny: bool) -> None:
        self.board, self.ceilings, self.device = board, ceilings, board.device
        self.is_tiny = is_tiny

    def of(self, size: int, tiny: int) -> int:
        return tiny if self.is_tiny else size

    def rows(self, n: int, d: int, seed: int = 0) -> Float[Tensor, "n d"]:
        """Rows of 40 of 4 d directions each, noise, and a mean."""
        generator = torch.Generator(self.device).manual_seed(seed)
        directions = torch.nn.functional.normalize(torch.randn(4 * d, d, generator=generator, device=self.device))
        x = torch.empty(n, d, device=self.device)
        for part in x.split(4096):
            places = torch.randint(4 * d, (len(part), 40), generator=generator, device=self.device)
            values = torch.rand(len(part), 40, generator=generator, device=self.device)
            part[:] = torch.nn.functional.embedding_bag(places, directions, per_sample_weights=values, mode="sum")
            part += 0.05 * torch.randn(part.shape, generator=generator, device=self.device) + 0.5
        return x


def commit() -> str:
    git = ["git", "-C", str(TABLE.parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def write(table: Path, columns: Sequence[str], key: Sequence[str], row: Mapping[str, Any]) -> None:
    """Write a row into a table, in place of one with the same key."""
    row = {name: str(row.get(name, "")) for name in columns}
    kept = list(csv.DictReader(table.read_text(encoding="utf-8").splitlines())) if table.exists() else []
    rows = [old for old in kept if [old[name] for name in key] != [row[name] for name in key]]
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*rows, row], key=lambda one: [one[name] for name in key]))
