"""Results that somebody has sent are read; code that comes with them is not run."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
import yaml

from harness.cli import main as cli
from harness.planning.config import compose, dump_resolved
from harness.registry.known_files import remember

READERS = ("status", "leaderboard", "report", "explain", "wandb-sync", "work", "gc")
EVIL = """
    import harness
    open("RAN", "w").close()

    @harness.hookimpl
    def harness_specs():
        return []
"""


@pytest.fixture
def received(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with results that name a plugin file which came with them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "results" / "smoke"
    folder.mkdir(parents=True)
    (folder / "evil.py").write_text(dedent(EVIL))
    _rewrite(folder, plugin_files=["results/smoke/evil.py"])
    return tmp_path


def _rewrite(folder: Path, **keys: object) -> None:
    config = yaml.safe_load(dump_resolved(compose(["suite=smoke", "methods=[mean]", "scorers=[]"])[0].config))
    (folder / "suite.yaml").write_text(yaml.safe_dump(config | keys))


@pytest.mark.parametrize("verb", READERS)
def test_no_reader_runs_code_that_a_results_folder_names(
    verb: str, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, "results"] if verb == "gc" else [verb, "suite=smoke"]
    assert cli.main(words) == 2
    errors = " ".join(capsys.readouterr().err.split())
    assert "results/smoke/suite.yaml names the plugin file 'results/smoke/evil.py'" in errors
    assert "plugin_files=[results/smoke/evil.py]" in errors
    assert not (received / "RAN").exists()


@pytest.mark.parametrize("verb", ["status", "gc"])
def test_who_names_the_file_has_it_run_and_is_told(
    verb: str, received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [verb, "results" if verb == "gc" else "suite=smoke", "plugin_files=[results/smoke/evil.py]"]
    assert cli.main(words) == 0
    assert "loaded results/smoke/evil.py: the command line names it" in capsys.readouterr().err
    assert (received / "RAN").exists()


def test_a_file_that_this_user_has_run_is_known_until_it_changes(
    received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = received / "results" / "smoke" / "evil.py"
    remember([str(file)])
    assert cli.main(["status", "suite=smoke"]) == 0
    assert "loaded results/smoke/evil.py: you have run it before" in capsys.readouterr().err
    file.write_text(dedent(EVIL) + "# changed\n")
    (received / "RAN").unlink()
    assert cli.main(["status", "suite=smoke"]) == 2
    assert not (received / "RAN").exists()


def test_a_suite_of_ones_own_names_files_for_plan_but_not_for_readers(
    received: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (received / "conf" / "suite").mkdir(parents=True)
    text = (received / "results" / "smoke" / "suite.yaml").read_text()
    (received / "conf" / "suite" / "mine.yaml").write_text(f"# @package _global_\n{text}")
    assert cli.main(["status", "suite=mine", "name=other"]) == 2
    assert "conf/suite/mine.yaml names the plugin file" in capsys.readouterr().err
    assert not (received / "RAN").exists()
    assert cli.main(["plan", "suite=mine"]) == 0
    assert "loaded results/smoke/evil.py: suite 'mine' names it" in capsys.readouterr().err
    assert (received / "RAN").exists()


def test_configs_in_a_results_folder_are_not_read(
    received: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = received / "results" / "smoke"
    (folder / "conf" / "suite").mkdir(parents=True)
    (folder / "conf" / "suite" / "mine.yaml").write_text("# @package _global_\nplugin_files: [evil.py]\n")
    monkeypatch.chdir(folder)
    assert cli.main(["plan", "suite=mine"]) == 2
    assert "lies in a results folder, so its configs are not read" in capsys.readouterr().err
    assert not (folder / "RAN").exists()


def test_a_received_suite_does_not_read_the_environment(
    received: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOLEN", "opensesame")
    label = {"model": "random_weights", "label": "${oc.env:STOLEN}", "sites": ["resid_post.1"]}
    _rewrite(received / "results" / "smoke", models=[label])
    assert cli.main(["status", "suite=smoke", "--json"]) == 0
    written = capsys.readouterr().out
    assert "${oc.env:STOLEN}" in written and "opensesame" not in written


def test_modules_beside_the_results_are_not_imported(received: Path) -> None:
    """`python -m harness` would look for modules in the working folder first."""
    import subprocess
    import sys

    for name in ("yaml", "rich", "pluggy"):
        (received / f"{name}.py").write_text('open("RAN", "w").close()')
    result = subprocess.run([sys.executable, "-m", "harness", "list", "task"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not (received / "RAN").exists()
