"""Suites may name variables of the environment, but none that holds a secret."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from harness.errors import ConfigError
from harness.planning.config import compose


def _compose(folder: Path, label: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MODELS", "tiny")
    monkeypatch.setenv("MY_TOKEN", "opensesame")
    (folder / "conf" / "suite").mkdir(parents=True)
    text = f"# @package _global_\nmodels: [{{model: random_weights, label: '{label}', sites: [resid_post.1]}}]\n"
    text += "corpus: {corpus: synthetic}\ntokens: {fit: 100, evaluation: 100}\nmethods: [mean]\nname: MY_TOKEN\n"
    (folder / "conf" / "suite" / "mine.yaml").write_text(text)
    return compose(["suite=mine"])[0].models[0].label


def test_a_variable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _compose(tmp_path, "${oc.env:MODELS}-${oc.env:ABSENT,none}", monkeypatch) == "tiny-none"


@pytest.mark.parametrize("label", ["${oc.env:MY_TOKEN}", "${oc.env:MY_TOKEN,none}", "${oc.env:${name}}"])
def test_a_secret_is_not(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"would write a secret into all results|within") as error:
        _compose(tmp_path, label, monkeypatch)
    assert "opensesame" not in str(error.value)
    assert OmegaConf.create({"a": "${oc.env:MY_TOKEN}"}).a == "opensesame"  # of others' configs nothing is said
