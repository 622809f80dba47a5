"""Plugin files are known by what is in them, and nothing that is sent along makes them known."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.registry.known_files import admit, remember


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "acme.py").write_text("x = 1\n")
    return tmp_path / "acme.py"


def test_a_file_that_somebody_names_is_loaded_and_the_line_says_who(plugin: Path) -> None:
    assert admit("acme.py", "the command line", "suite.yaml") == "loaded acme.py: the command line names it"


def test_a_file_is_known_by_its_contents_wherever_it_lies(plugin: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"suite.yaml names the plugin file 'acme.py'.*plugin_files=\[acme.py\]"):
        admit("acme.py", None, "suite.yaml")
    remember(["acme.py"])
    assert "you have run it before" in admit("acme.py", None, "suite.yaml")
    (tmp_path / "elsewhere").mkdir()
    moved = plugin.rename(tmp_path / "elsewhere" / "other.py")
    (tmp_path / "linked.py").symlink_to(moved)
    assert admit("linked.py", None, "suite.yaml").startswith("loaded linked.py: you have run it before")
    moved.write_text("x = 2\n")
    with pytest.raises(ConfigError, match="not run on this machine with these contents"):
        admit("linked.py", None, "suite.yaml")


def test_what_is_known_lies_neither_in_the_results_nor_in_the_cache(plugin: Path, tmp_path: Path) -> None:
    remember(["acme.py"])
    assert [path.name for path in tmp_path.iterdir() if path != plugin] == ["state"]


def test_a_file_that_is_none_is_named(plugin: Path, tmp_path: Path) -> None:
    for name in ("nope.py", "state", "."):
        with pytest.raises(ConfigError, match=f"suite.yaml: plugin_files: no file '{name}'"):
            admit(name, None, "suite.yaml")
    remember(["nope.py", "."])


def test_a_folder_that_can_not_be_written_only_costs_the_knowledge(plugin: Path, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    remember(["acme.py"])
    with pytest.raises(ConfigError):
        admit("acme.py", None, "suite.yaml")
