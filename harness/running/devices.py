"""Devices of this machine: the one that a suite computes on, and those that its models name for themselves."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from harness.errors import ConfigError
from harness.planning.suite import Suite
from harness.running.machine import rate_cards

if TYPE_CHECKING:
    import torch

_KEY = "device"
# Every machine has them, so torch need not be asked: a plan of most suites shall not wait for its import.
_EVERYWHERE = ("auto", "cpu")
# Of NVIDIA, AMD, and Linux under Windows.
_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


def check_devices(suite: Suite, cards: Collection[str] = ()) -> None:
    """Raise a ConfigError that lists every device which the suite names and this machine lacks.

    Args:
        suite: the suite.
        cards: names that a plan takes in place of the suite's device, for a machine that is not here.
    """
    problems = []
    for where, name in dict(_named(suite)).items():
        try:
            if name not in _EVERYWHERE and not (where == _KEY and name in cards):
                find_device(name)
        except ConfigError as error:
            problems += [f"{where}{problem.removeprefix(_KEY)}" for problem in error.problems]
    if problems:
        raise ConfigError(problems)


def find_device(name: str) -> torch.device:
    """The device of this name, which this machine has; `auto` is its best one."""
    import torch

    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if _count(kind)))
    try:
        device = torch.device(name)
    except RuntimeError:  # its message lists some thirty kinds, most of them of no use to anybody
        hint = " It is a rate card, for `harness plan` alone." if name in rate_cards() else ""
        raise ConfigError(
            f"{_KEY}: {name!r} is no device.{hint} Use auto, cpu, mps, or cuda, of several cuda:1."
        ) from None
    n_here = _count(device.type)
    if (device.index or 0) < n_here:
        return device
    has = ", ".join(f"{device.type}:{i}" for i in range(n_here)) or f"no {device.type}"
    raise ConfigError(
        f"{_KEY}: {name!r} is not available here: this machine has {has}. Use {_KEY}=auto or {_KEY}=cpu, or run it "
        "where that device is."
    )


def n_cards(name: str) -> int:
    """The number of CUDA devices that workers of a suite on this device may share out among them; 0 for none."""
    # Asked of the system first: torch takes a second to import.
    if name not in ("auto", "cuda") or not any(map(os.path.exists, _DRIVERS)):
        return 0
    return _count("cuda")


def _named(suite: Suite) -> Iterator[tuple[str, str]]:
    """Places where the suite names a device, and its name: what merely follows the suite's own is left out."""
    own = suite.config.device
    yield _KEY, own
    entries = [(f"{_KEY} of model {model.label}", model.entry) for model in suite.models]
    entries += [(f"encoder.{_KEY}", suite.encoder.entry)] if suite.encoder else []
    entries += [(f"judge.{_KEY}", suite.judge)] if suite.judge else []
    for where, entry in entries:
        name = entry.params.get(_KEY)
        if isinstance(name, str) and name != own:
            yield where, name


def _count(kind: str) -> int:
    """The number of devices of a kind that this machine has."""
    import torch

    if kind == "cpu":
        return 1
    if kind == "cuda":
        return torch.cuda.device_count() if torch.cuda.is_available() else 0
    here = torch.accelerator.current_accelerator(check_available=True)
    return torch.accelerator.device_count() if here is not None and here.type == kind else 0
