"""The worker's events reach its parent whatever a plugin does to the standard streams."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.cells import Cell
from harness.store import Store
from harness.supervisor import Supervisor

LOUD = """
    import os
    import sys

    import harness

    print("hello from a plugin")
    os.write(1, b"hello again\\n")
    assert sys.stdin.readline() == ""

    @harness.hookimpl
    def harness_specs():
        factory = "loud:Loud"
        return [harness.Spec(kind="evaluation", name="loud", version=1, summary="prints", factory=factory)]
"""


def _cell() -> Cell:
    """It fails, as its capture is missing; what matters here is that its end is heard of."""
    task = {"capture": "none", "fit_capture": "none", "max_norm_multiple": 10.0, "evaluation": {"name": "loud"}}
    return Cell("evaluation", "k" * 32, "loud", "group", task, {})


def test_a_plugin_that_prints_and_asks_for_input_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "loud.py").write_text(dedent(LOUD))
    store = Store.of(tmp_path / "results")
    events: list[dict[str, Any]] = []
    with Supervisor(store, "cpu", [str(tmp_path / "loud.py")], events.append) as supervisor:
        supervisor.run([_cell()])
    assert [event["event"] for event in events] == ["cell"]
    record = store.record(_cell().key)
    assert record is not None and record.error is not None and "missing or damaged" in record.error
    log = (tmp_path / "results" / "logs" / "worker.txt").read_text()
    assert "hello from a plugin" in log and "hello again" in log
