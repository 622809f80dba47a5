"""`harness show`: what a plugin takes, and what each parameter means."""

from __future__ import annotations

import json
import re
from pathlib import Path
from textwrap import dedent

import pytest

from harness.cli import main as cli

ACME = """
    from dataclasses import dataclass
    import harness

    @dataclass
    class Config:
        "Parameters of the test."

        k: int
        "Codes that a row keeps."
        side: str | None = None
        bare: bool = True

    @harness.hookimpl
    def harness_specs():
        return [
            harness.MethodSpec("acme", 2, "The k coordinates that vary most", "acme:Acme", Config),
            harness.MethodSpec("bare", 1, "Nothing to choose", "acme:Acme"),
        ]
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The words that bring a plugin of one's own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "acme.py").write_text(dedent(ACME))
    return "plugin_files=[acme.py]"


def test_each_parameter_is_shown_with_its_meaning(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "method/acme", plugin]) == 0
    printed = capsys.readouterr().out
    assert "method/acme, version 2, from acme.py" in printed and "Parameters of the test." in printed
    lines = [re.split(r"\s{2,}", line.strip()) for line in printed.splitlines()]
    assert ["name", "type", "default", "what"] in lines
    assert ["k", "int", "required", "Codes that a row keeps."] in lines
    assert ["side", "str | null", "null"] in lines and ["bare", "bool", "true"] in lines


def test_the_meaning_is_in_the_json(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "method/acme", plugin, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["name"], shown["version"]) == ("method", "acme", 2)
    assert shown["parameters"] == [
        {"name": "k", "type": "int", "default": "required", "meaning": "Codes that a row keeps."},
        {"name": "side", "type": "str | null", "default": "null", "meaning": ""},
        {"name": "bare", "type": "bool", "default": "true", "meaning": ""},
    ]


def test_a_plugin_without_parameters_says_so(plugin: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "method/bare", plugin]) == 0
    printed = capsys.readouterr().out
    assert "No parameters" in printed and "default" not in printed


def test_what_the_readme_shows_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", "method/itda", "--json"]) == 0
    meaning = {
        parameter["name"]: parameter["meaning"] for parameter in json.loads(capsys.readouterr().out)["parameters"]
    }
    assert "‖x−x̂‖²/‖x‖²" in meaning["threshold"] and all(meaning.values())


@pytest.mark.parametrize(
    ("name", "penalty"), [("relu_sae", "l1 · Σ codes,"), ("gated_sae", "l1 · Σ relu(π) + ‖y − ŷ(relu(π))‖²,")]
)
def test_the_weight_of_a_penalty_is_told_by_the_loss_of_the_kind(
    name: str, penalty: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both take the parameter from one base; its place among the others and its default stay."""
    assert cli.main(["show", f"method/{name}", "--json"]) == 0
    parameters = {parameter["name"]: parameter for parameter in json.loads(capsys.readouterr().out)["parameters"]}
    assert f"loss = ‖y − ŷ‖² + {penalty} for rows y" in parameters["l1"]["meaning"]
    assert list(parameters)[-2:] == ["target_l0", "l1"] and parameters["l1"]["default"] == "null"
