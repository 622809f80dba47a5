"""Tests of devices: what a suite names is checked against what the machine has, before anything is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import ConfigError
from harness.planning.resolver import resolve
from harness.planning.suite import Suite
from harness.running.devices import check_devices, find_device
from tests.support.toy_suites import catalog, model_folder, no_preset, raw_suite


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    _have(monkeypatch, 2)


def _have(monkeypatch: pytest.MonkeyPatch, n_cards: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cards)


def _suite(folder: Path, **changes: Any) -> Suite:
    return resolve(raw_suite(folder, **changes), catalog(), no_preset)


@pytest.mark.usefixtures("two_cards")
@pytest.mark.parametrize("name", ["auto", "cpu", "cuda", "cuda:0", "cuda:1"])
def test_what_is_here_is_taken(tmp_path: Path, name: str) -> None:
    check_devices(_suite(tmp_path, device=name))
    assert find_device(name) == torch.device("cuda" if name == "auto" else name)


def test_a_plan_takes_rate_cards_for_the_suite_alone(tmp_path: Path) -> None:
    check_devices(_suite(tmp_path, device="h200"), ["h200"])
    model = {"model": "toy", "path": model_folder(tmp_path / "a", "a"), "device": "h200"}
    with pytest.raises(ConfigError, match=r"device of model .* 'h200' is no device"):
        check_devices(_suite(tmp_path, models=[model]), ["h200"])


@pytest.mark.parametrize(
    ("name", "n_cards", "reason"),
    [
        ("cuda:2", 2, "device: 'cuda:2' is not available here: this machine has cuda:0, cuda:1. Use device=auto"),
        ("cuda:77", 1, "device: 'cuda:77' is not available here: this machine has cuda:0. Use device=auto"),
        ("cuda", 0, "device: 'cuda' is not available here: this machine has no cuda. Use device=auto"),
        ("xpu", 2, "device: 'xpu' is not available here: this machine has no xpu. Use device=auto"),
        ("meta", 2, "device: 'meta' is not available here"),
        ("nonsense", 2, "device: 'nonsense' is no device. Use auto, cpu, mps, or cuda, of several cuda:1."),
        ("cuda:x", 2, "device: 'cuda:x' is no device."),
        ("h200", 2, "device: 'h200' is no device. It is a rate card, for `harness plan` alone. Use auto, cpu"),
        ("cuda:-1", 2, "device: 'cuda:-1' is no device."),
        ("", 2, "device: '' is no device."),
    ],
)
def test_what_is_not_here_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, n_cards: int, reason: str
) -> None:
    _have(monkeypatch, n_cards)
    with pytest.raises(ConfigError) as caught:
        check_devices(_suite(tmp_path, device=name))
    (problem,) = caught.value.problems  # once, although every model follows it
    assert problem.startswith(reason)


@pytest.mark.usefixtures("two_cards")
def test_devices_of_models_encoders_and_judges_are_checked_too(tmp_path: Path) -> None:
    toy = {"model": "toy", "path": model_folder(tmp_path / "c", "c")}
    asking = {
        "tokens": {"fit": 1000, "evaluation": 200, "interp": 200},
        "scorers": ["retrieval", "asking"],
        "models": [{**toy, "label": "mine", "device": "cuda:5"}],
    }
    suite = _suite(
        tmp_path, **asking, encoder={**toy, "device": "cuda:6"}, judge={"judge": "chooser", "device": "nonsense"}
    )
    with pytest.raises(ConfigError) as caught:
        check_devices(suite)
    starts = [
        "device of model mine: 'cuda:5' is not",
        "encoder.device: 'cuda:6' is not",
        "judge.device: 'nonsense' is no",
    ]
    assert [problem[: len(start)] for problem, start in zip(caught.value.problems, starts, strict=True)] == starts


def test_devices_that_are_everywhere_need_no_torch() -> None:
    code = (
        "import sys\n"
        "from types import SimpleNamespace as N\n"
        "from harness.running.devices import check_devices\n"
        "for name in ('auto', 'cpu'):\n"
        "    check_devices(N(config=N(device=name), models=(), encoder=None, judge=None))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
