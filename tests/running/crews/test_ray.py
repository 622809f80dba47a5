"""Troubles with a Ray cluster are told in the words of the suite."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from harness.errors import ConfigError
from harness.planning.executor import RayExecutor
from harness.running.crews.ray import RayCrew


def test_a_cluster_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a folder that can't be written, which other errors of the system mean."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install decomp-harness[ray]")

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect.")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    nothing: Any = SimpleNamespace()
    with pytest.raises(ConfigError, match=r"executor.address: Ray can't be had at host:1: Failed to connect. Give the"):
        RayCrew(nothing, nothing, nothing, RayExecutor(address="host:1")).__enter__()
