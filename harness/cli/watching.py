"""The verb that watches a stream of documents with a fit of a suite."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli.console import ALL_DONE, complain
from harness.cli.signals import ending_well
from harness.cli.standing import relative
from harness.cli.verbs import read_plan
from harness.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from harness.monitoring.monitor import Monitor
    from harness.monitoring.suite_monitor import SuiteMonitor

_REPORTS = "reports.jsonl"
_NUMBERS = ("batch", "horizon", "window")


@dataclass(frozen=True)
class _Asked:
    """The words of the verb that are its own."""

    stream: str = ""
    text_field: str = "text"
    batch: int = 16
    horizon: int = 2000
    window: int = 32

    @classmethod
    def of(cls, words: Sequence[str]) -> _Asked:
        given = dict(word.split("=", 1) for word in words if word.partition("=")[0] in cls.names())
        for name in _NUMBERS:
            if name in given and not (given[name].isdecimal() and int(given[name]) > 0):
                raise ConfigError(f"watch: {name} is {given[name]!r}; give a number of documents, such as 32.")
        typed: dict[str, Any] = {name: int(value) if name in _NUMBERS else value for name, value in given.items()}
        asked = cls(**typed)
        if not asked.stream:
            raise ConfigError("watch: which stream? Give stream=PATH, a document in each line, or stream=- for a pipe.")
        return asked

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(cls.__dataclass_fields__)


def watch_verb(options: argparse.Namespace) -> int:
    """Read documents, and print how the stream stands after each batch."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    from harness.latents.lookup import DECOMPOSITION, find_decomposition
    from harness.monitoring.stream import opened
    from harness.monitoring.suite_monitor import SuiteMonitor
    from harness.registry.plugin_manager import load_catalog
    from harness.storage.locks import owned_lock

    asked = _Asked.of(options.words)
    selectors = dict(word.split("=", 1) for word in options.words if word.partition("=")[0] in DECOMPOSITION)
    own = {*DECOMPOSITION, *_Asked.names()}
    plan, store = read_plan([word for word in options.words if word.partition("=")[0] not in own])
    fit = find_decomposition(plan, plan.of_kind("fit"), selectors, "watch")
    if fit.skipped or store.manifest("fit", fit.key) is None:
        raise ConfigError(
            f"watch: {fit.label}: {fit.skipped or 'not done yet, or no longer in the cache; run the suite'}."
        )
    catalog = load_catalog(tuple(plan.suite.config.plugin_files))

    def create(kind: str, call: Mapping[str, Any]) -> Any:
        return catalog.create(kind, call["name"], dict(call["params"]))

    folder = store.results / "watch" / _name(fit.key, asked)
    with ending_well(), opened(asked.stream, sys.stdin.buffer) as lines:
        folder.mkdir(parents=True, exist_ok=True)
        with owned_lock(folder / ".lock", complain):
            _watch(_monitor(SuiteMonitor(plan, store, fit, create), folder, asked), folder, asked, lines)
    return ALL_DONE


def _name(fit: str, asked: _Asked) -> str:
    """The folder's name: another stream, or other numbers, is another monitor."""
    from harness.monitoring.stream import STANDARD_INPUT
    from harness.planning.keys import content_key

    where = asked.stream if asked.stream == STANDARD_INPUT else str(Path(asked.stream).resolve())
    return content_key({"fit": fit, "stream": where, "horizon": asked.horizon, "window": asked.window})[:16]


def _monitor(of_suite: SuiteMonitor, folder: Path, asked: _Asked) -> Monitor:
    """The monitor of a folder, which is calibrated where there is none yet."""
    from harness.monitoring.monitor import Monitor
    from harness.monitoring.monitor_folder import has_monitor
    from harness.monitoring.settings import MonitorSettings

    if not has_monitor(folder):
        of_suite.calibrate(folder, MonitorSettings(horizon=asked.horizon, window=asked.window))
    monitor = Monitor.load(folder, of_suite.create("model", of_suite.model_call()))
    n = len(monitor.watch.reference)
    complain(f"{of_suite.fit.name}, calibrated on {n} documents that it has not learnt from")
    complain(f"reports: {relative(folder / _REPORTS)}")
    return monitor


def _watch(monitor: Monitor, folder: Path, asked: _Asked, lines: Iterable[bytes]) -> None:
    from harness.monitoring.stream import STANDARD_INPUT, batches, texts_of

    texts = texts_of(asked.stream, lines, asked.text_field)
    _settle(folder / _REPORTS, monitor)
    if asked.stream == STANDARD_INPUT:
        complain(f"after {monitor.n_read} documents of earlier calls" if monitor.n_read else "a new stream")
    else:
        monitor.skip_read(texts)
    with (folder / _REPORTS).open("a", encoding="utf-8") as reports:
        for batch in batches(texts, asked.batch):
            line = json.dumps(monitor.update(batch).as_json(), allow_nan=False)
            print(line, file=reports, flush=True)
            print(line, flush=True)


def _settle(path: Path, monitor: Monitor) -> None:
    """Bring the reports to where the state stands: a kill may have come between the two, or in the middle of a line."""
    content = path.read_bytes() if path.exists() else b""
    whole = content[: content.rfind(b"\n") + 1]
    try:
        n_reported = json.loads(whole.splitlines()[-1])["n_read"] if whole else 0
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path}: its last line is no report. Remove the file, and its reports begin anew.") from error
    missing = b""
    if monitor.report is not None and n_reported != monitor.n_read:
        missing = json.dumps(monitor.report.as_json(), allow_nan=False).encode() + b"\n"
    if (settled := whole + missing) != content:
        from harness.files import write_bytes

        write_bytes(path, settled)
