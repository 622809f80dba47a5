"""Rates of this machine, and of those that are not here."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.running.machine import Machine, calibrate, n_threads, rate_card, rate_cards, this_machine


def test_this_machine_is_tried_out_in_a_second_of_its_processor(tmp_path: Path) -> None:
    started = time.process_time()
    found = calibrate(tmp_path)
    assert time.process_time() - started < 5  # of a machine that is very slow
    assert found.origin == "calibrated" and found.card_bytes is None
    # No machine that this runs on is a thousand times slower or faster than these.
    for rate, usual in ((found.flops, 1e11), (found.memory_bytes_per_second, 1e10), (found.steps, 2e7)):
        assert usual / 1e3 < rate < usual * 1e3
    assert found.disk_bytes_per_second > 0 and not list(tmp_path.iterdir())


def test_it_is_tried_out_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fake(cache: Path, name: str) -> Machine:
        tried.append(name)
        return Machine(1, 2, 3, 4, name=name, origin="calibrated")

    monkeypatch.setattr("harness.running.machine.calibrate", fake)
    assert this_machine(tmp_path) == this_machine(tmp_path) == Machine(1, 2, 3, 4, None, tried[0], "calibrated")
    monkeypatch.setenv("OMP_NUM_THREADS", str(n_threads() + 1))  # other threads, other rates
    this_machine(tmp_path)
    (tmp_path / "machine.json").write_text(json.dumps({"name": tried[1], "colour": "red"}))
    this_machine(tmp_path)
    assert len(tried) == 3
    (tmp_path / "file").write_text("no folder")
    assert this_machine(tmp_path / "file").flops == 1


def test_rate_cards_are_those_of_the_package_and_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    card = rate_card("h200")
    assert card.origin == "shipped" and card.card_bytes and card.name == "h200"
    own = tmp_path / "conf" / "machine"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("{flops: 1.0e+12, memory_bytes_per_second: 1.0e+11, steps: 1.0e+7}")
    assert set(rate_cards()) >= {"h200", "mine"}
    with pytest.raises(ConfigError, match=r"mine\.yaml is no rate card: .*disk_bytes_per_second"):
        rate_card("mine")
