"""The checkout that a worker runs, and the folders that it sees: all workers of a run must have the same."""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.errors import ConfigError
from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.running.provenance import versions
from harness.storage.store import Store

_PROBES = "probes"


def made_with(plan: Plan, store: Store) -> dict[str, Any]:
    """All that workers of one run must agree on, and the run's own id."""
    return {
        "id": secrets.token_hex(8),
        "probe": content_key(str(store.results)),
        "cells": content_key(list(plan.cells)),
        "code": _code(),
        "plugin files": _digest(map(Path, plan.suite.config.plugin_files)),
        "versions": versions(),
    }


def put_probe(made_with: Mapping[str, Any], store: Store) -> None:
    """Leave a file in the cache, by which workers elsewhere see that it is the same cache."""
    probe = probe_of(made_with, store)
    with suppress(OSError):  # a cache that can't be written; what lies in it is found by keys, or it is not
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text(made_with["id"])


def probe_of(made_with: Mapping[str, Any], store: Store) -> Path:
    """The file that a run leaves in the cache, unless that can't be written."""
    return store.cache / _PROBES / str(made_with["probe"])


def can_not_be_written(cache: Path) -> bool:
    """True for a cache in which a run can leave no file."""
    return cache.is_dir() and not os.access(cache, os.W_OK)


def check_same(theirs: Mapping[str, Any], plan: Plan, store: Store) -> None:
    """Raise a ConfigError where this process has other code, packages, cells or another cache than the run it joins."""
    ours = made_with(plan, store)
    problems = []
    if theirs["code"] != ours["code"]:
        problems.append("this is another version of the harness's code")
    if theirs["plugin files"] != ours["plugin files"]:
        problems.append("plugin_files have other contents here")
    problems += [
        f"{package} is {ours['versions'].get(package)} here, {version} there"
        for package, version in theirs["versions"].items()
        if ours["versions"].get(package) != version
    ]
    if not problems and theirs["cells"] != ours["cells"]:
        problems.append("the suite has other cells here")
    if not _has_probe(theirs, store):
        problems.append(f"$HARNESS_CACHE, {store.cache} here, is not the folder that the run uses")
    if problems:
        raise ConfigError(
            f"this process can't join the run in {store.results}: {'; '.join(problems)}. All workers of a run need the "
            "same installation and the same folders."
        )


def _has_probe(theirs: Mapping[str, Any], store: Store) -> bool:
    try:
        return bool(probe_of(theirs, store).read_text() == theirs["id"])
    except OSError:
        return can_not_be_written(store.cache)


@functools.cache
def _code() -> str:
    """A digest of the harness and its plugins, as they are installed."""
    package = Path(__file__).parents[1]
    return _digest(sorted(path for folder in (package, package / "plugins") for path in folder.rglob("*.py")))


def _digest(paths: Iterator[Path] | list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:32]
