"""`harness new`: what it writes works, conforms and is tested."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.registry.parameters import describe
from harness.registry.plugin_manager import load_catalog
from harness.testing import CHECKED_KINDS

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_is_written_works(tmp_path: Path) -> None:
    names = {kind: f"acme_{kind}" for kind in CHECKED_KINDS}
    for kind, name in names.items():
        assert cli.main(["new", kind, name]) == 0
        folder = tmp_path / name
        assert {path.name for path in folder.iterdir()} == {
            *(f"{name}.py", f"test_{name}.py", "pyproject.toml", "README.md"),
        }
        project = tomllib.loads((folder / "pyproject.toml").read_text())
        assert project["project"]["entry-points"]["harness.plugins"] == {name: name}
        assert "$" not in "".join(path.read_text() for path in folder.iterdir())
        catalog = load_catalog((f"{name}/{name}.py",))
        assert not catalog.problems and catalog.find(kind, name).is_file
        config = catalog.find(kind, name).spec.config
        assert config is not None and all(parameter["meaning"] for parameter in describe(config)), kind
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert ended.returncode == 0, ended.stdout
    assert "87 passed, 35 skipped" in ended.stdout, ended.stdout
    ruff = [sys.executable, "-m", "ruff"]
    for check in (["check", "--ignore", "I001"], ["format", "--check"]):
        subprocess.run([*ruff, *check, "--config", ROOT / "pyproject.toml", tmp_path], check=True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method", "my-method"], "can't be the name of a module"),
        (["method", "class"], "can't be the name of a module"),
        (["method", "../elsewhere"], "can't be the name of a module"),
        (["method", "torch"], "a Python module 'torch' already"),
        (["method", "pca"], "a method 'pca' already"),
        (["method", "there"], "there is there already"),
        (["modell", "acme"], "no template for 'modell'. Did you mean 'model'?"),
        (["method"], "write KIND NAME"),
    ],
)
def test_refusals(words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    assert cli.main(["new", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
