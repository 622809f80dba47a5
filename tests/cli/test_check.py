"""`harness check`, and the kit as a user's own tests have it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import harness.testing
from harness.cli import main as cli
from tests.testing.test_broken_similarities import Good

_PLUGIN = """
import os, sys
import harness.testing

@harness.hookimpl
def harness_specs():
    return [harness.Spec("similarity", name, 1, "One that ends the process", kind) for name, kind in KINDS.items()]

class Leaves:
    higher_is_more_similar = symmetric = True
    streams = False
    range = (0.0, 1.0)
    invariant_to = frozenset()

    def __init__(self, config):
        print("made one")

    def __call__(self, x, y):
        if x is not y and x.shape == y.shape and (x == y).all():
            self.leave()
        return 0.5

    def leave(self):
        os._exit(0)

class Exits(Leaves):
    def leave(self):
        sys.exit("enough")

KINDS = {"leaves": Leaves, "exits": Exits}
"""


@pytest.fixture
def plugin(tmp_path: Path) -> str:
    (tmp_path / "leaving.py").write_text(_PLUGIN)
    return str(tmp_path / "leaving.py")


def test_os_exit_is_named_with_the_check_under_way(plugin: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "similarity/leaves", f"plugin_files=[{plugin}]", "--json"]) == 1
    out = capfd.readouterr().out
    found = json.loads(out)  # what the plugin prints is not in it
    assert (found["kind"], found["name"]) == ("similarity", "leaves")
    checks = {check["check"]: check for check in found["checks"]}
    failed = [name for name, check in checks.items() if check["outcome"] == "fails"]
    assert failed == ["gives_a_number_in_its_range"]
    assert "exit code 0" in checks[failed[0]]["problem"] and "os._exit" in checks[failed[0]]["problem"]
    assert checks["says_what_it_is"]["outcome"] == "holds"
    assert checks["repeats_itself"]["not_checked"] == "the process had ended before"


@pytest.mark.usefixtures("warm_workers")
def test_sys_exit_is_a_finding_and_the_other_checks_go_on(plugin: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "similarity/exits", f"plugin_files=[{plugin}]"]) == 1
    out = capfd.readouterr().out
    assert "sys.exit('enough') was called in leave" in out and f"{plugin}:" in out
    assert "holds  repeats_itself" in out
    assert "similarity/exits: 12 checks: " in out


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["corpus/synthetic", "n_documents=50"], "corpus/synthetic: 6 checks: 5 holds, 0 fails, 1 not checked"),
        (["task/layer_matching", "families=[small]"], "task/layer_matching: 10 checks: 10 holds, 0 fails"),
    ],
)
def test_what_a_spec_states_is_checked_too(words: list[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", *words]) == 0
    assert said in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method/pca"], "method/pca.n_components: missing"),
        (["method/pca", "n_component=3"], "Did you mean 'n_components'?"),
        (["method/pca", "3"], "'3' is not param=value"),
        (["method/pac", "n_components=3"], "Did you mean 'pca'?"),
        (["method/acme", "k=3"], "What is in a file of yours is found with plugin_files=[FILE.py]."),
        (["pca"], "write KIND/NAME"),
        (["corpora/synthetic"], "no checks for 'corpora'"),
        (["method/pca", "n_components=3", "plugin_files=[missing.py]"], "no file 'missing.py'"),
    ],
)
def test_usage(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


@harness.testing.conforms("similarity", Good)
def test_the_decorator(check: Any) -> None:
    check()


_TESTS = """
import harness.testing
from tests.testing.test_broken_similarities import Good, OutOfRange

@harness.testing.conforms("similarity", OutOfRange)
def test_out_of_range(check):
    check()

@harness.testing.conforms("similarity", "cka_itda_paper")
def test_by_name(check):
    check()

def test_fixtures(harness_rows, harness_latents):
    assert harness_rows.shape == (300, 24) and len(harness_latents) == 8
"""


def test_a_file_of_tests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_of_a_user.py").write_text(_TESTS)
    plugins = ["-p", "harness.testing.pytest_plugin", "-p", "no:cacheprovider"]
    assert pytest.main(["-rs", *plugins, "--rootdir", str(tmp_path), "-c", os.devnull, str(tmp_path)]) == 1
    out = capfd.readouterr().out
    assert "gives_a_number_in_its_range: the value is 83.6" in out and "outside its range (-1.0, 1.0)" in out
    assert "1 failed, 18 passed, 6 skipped" in out
    assert "it does not say that it streams" in out


def test_the_pytest_plugin_is_light() -> None:
    code = "import sys, harness; harness.testing.conforms; import harness.testing.pytest_plugin; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
