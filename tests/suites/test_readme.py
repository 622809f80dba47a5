"""Every command and program in the README does what it says."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.result_tables import Finished

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines() if line]
PROGRAMS = [block for language, block in BLOCKS if language == "python"]

Cli = Callable[..., tuple[int, str, str]]


def test_every_command_works(harness_cli: Cli, smoke_run: Finished, tmp_path: Path) -> None:
    smoke_run.copy_to(tmp_path)  # test_smoke.py runs it from an empty folder
    (tmp_path / "acme.py").write_text(next(block for block in PROGRAMS if "# acme.py" in block))
    commands = [shlex.split(line, comments=True) for line in COMMANDS]
    ours = [words[1:] for words in commands if words[0] == "harness"]
    assert len(ours) >= 8
    for words in ours:
        code, output, errors = harness_cli(*words)
        assert code == 0, (words, errors)
        assert output and "warning" not in errors, (words, errors)


def test_every_make_target_exists() -> None:
    targets = {line.split()[1] for line in COMMANDS if line.startswith("make ")}
    assert {"quickstart", "test"} <= targets
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)


def test_the_python_example_runs(monkeypatch: pytest.MonkeyPatch, shared_cache: Path) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(shared_cache))
    program = next(block for block in PROGRAMS if "harness.capture(" in block)
    names: dict[str, object] = {}
    exec(compile(program, "README.md", "exec"), names)
    assert names["codes"].to_dense().shape[1] == 4  # type: ignore[attr-defined]


def test_the_method_example_is_short() -> None:
    program = next(block for block in PROGRAMS if "# acme.py" in block)
    assert sum(bool(line.strip()) for line in program.splitlines()) < 40


def test_the_suite_example_composes(harness_cli: Cli, tmp_path: Path) -> None:
    block = next(block for language, block in BLOCKS if language == "yaml")
    (tmp_path / "conf" / "suite").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "mine.yaml").write_text(block)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("A text.")
    code, output, errors = harness_cli("plan", "suite=mine")
    assert code == 0, errors
    assert "itda(k=40, max_atoms=2048)" in output
