"""Machines: how fast one multiplies, copies, interprets and writes. This one is tried out; others have a rate card.

Rates of this machine are counted in seconds of its processor, not of the clock: what else runs on it does not change
them, and an estimate is that of a quiet machine.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml

from harness.errors import ConfigError, StoreError
from harness.files import read_sealed, temporary_name, write_sealed

_FILE = "machine.json"
_FOLDER = "machine"
_ROUNDS = 4
_SECONDS_A_ROUND = 0.02
_DISK_BYTES = 16 << 20
_STEPS = 20_000


@dataclass(frozen=True)
class Machine:
    """The rates of a machine."""

    flops: float
    """Operations a second of products in float32, on all cores or the card."""
    memory_bytes_per_second: float
    """Bytes read and written."""
    steps: float
    """Steps of a loop in Python a second."""
    disk_bytes_per_second: float
    card_bytes: int | None = None
    """Bytes of memory on the card, if its rates are those of a card."""
    name: str = ""
    """The machine that the rates are of."""
    origin: Literal["calibrated", "shipped"] = "shipped"


def rate_cards() -> dict[str, Path]:
    """Machines that need not be here, by name: those of the package, and of `conf/machine/` where the user stands."""
    folders = [Path(str(files("harness.conf"))) / _FOLDER, Path.cwd() / "conf" / _FOLDER]
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def rate_card(name: str) -> Machine:
    """The machine of a rate card."""
    path = rate_cards()[name]
    try:
        return Machine(**yaml.safe_load(path.read_text(encoding="utf-8")), name=name)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        keys = "flops, memory_bytes_per_second, steps, disk_bytes_per_second and, of a card, card_bytes"
        raise ConfigError(f"{path} is no rate card: {error}. It has numbers for {keys}.") from None


def this_machine(cache: Path) -> Machine:
    """The rates of this machine, as they were found when it was first asked."""
    name = f"{platform.node()}, {platform.machine()}, {n_threads()} threads"
    known = read_sealed(cache / _FILE)
    if known.get("name") == name:
        with suppress(TypeError):  # of another version
            return Machine(**known)
    found = calibrate(cache, name)
    with suppress(StoreError):  # a cache that can't be written: it is tried out anew next time
        write_sealed(cache / _FILE, asdict(found))
    return found


def n_threads() -> int:
    """Threads that compute: those that the environment says, or one a core that this process may use."""
    named = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(named) if named.isdecimal() and int(named) > 0 else cores


def calibrate(cache: Path, name: str = "") -> Machine:
    """Try out this machine, in less than a second of its processor."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    a = np.ones((512, 512), dtype=np.float32)
    source, target = np.ones(4 << 20), np.empty(4 << 20)
    with threadpool_limits(1):
        products = _rate(lambda: a @ a, 2 * 512**3)
    return Machine(
        flops=products * n_threads(),
        memory_bytes_per_second=_rate(lambda: np.copyto(target, source), 2 * source.nbytes),
        steps=_rate(_loop, _STEPS),
        disk_bytes_per_second=_disk_rate(cache),
        name=name,
        origin="calibrated",
    )


def _rate(work: Callable[[], object], amount: float) -> float:
    """The amount that is done in a second of the processor, in the best of some rounds."""
    rates = []
    for _ in range(_ROUNDS):
        started, n_done = time.process_time(), 0
        while (passed := time.process_time() - started) < _SECONDS_A_ROUND:
            work()
            n_done += 1
        rates.append(amount * n_done / passed)
    return max(rates)


def _loop() -> int:
    total = 0
    for i in range(_STEPS):
        total += i & 7
    return total


def _disk_rate(cache: Path) -> float:
    """Bytes that its disk writes in a second of the clock; those of a common one where the cache can't be written."""
    path = temporary_name(cache / "calibration")
    started = time.perf_counter()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(bytes(_DISK_BYTES))
            file.flush()
            os.fsync(file.fileno())
        return _DISK_BYTES / (time.perf_counter() - started)
    except OSError:
        return 5e8
    finally:
        path.unlink(missing_ok=True)
