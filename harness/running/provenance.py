"""The provenance of numbers: versions, device and commit, in every row of every table."""

from __future__ import annotations

import datetime
import functools
import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

from harness.version import __version__

_PACKAGES = ("torch", "transformers", "numpy", "pandas")


@functools.cache
def versions() -> dict[str, str]:
    """Python's and the main packages' versions, without importing them."""
    found = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), **found}


@functools.cache
def git_sha() -> str | None:
    """The commit of the harness's own checkout, marked if it has changes; None when installed from a wheel."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        sha = _git(folder, "rev-parse", "HEAD")
        return f"{sha}-dirty" if _git(folder, "status", "--porcelain") else sha
    except (OSError, subprocess.CalledProcessError):
        return None


def n_threads() -> int:
    """The number of threads that torch computes with: sums of float32 products depend on it by rounding."""
    import torch

    return torch.get_num_threads()


def provenance(device: str | None, threads: int | None = None) -> dict[str, Any]:
    """Versions, device, threads, commit and time: with these a row was computed."""
    return {
        "device": device,
        "threads": threads,
        "harness_version": __version__,
        "git_sha": git_sha(),
        "created_at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603  # fixed words
