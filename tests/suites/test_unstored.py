"""Suites whose rows for fitting are never stored: the tables of one that stores them, whoever is killed on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]

# Saves checkpoints after every block, and has run and worker die after some of them.
DEADLY = """
import os
import signal

import harness
from harness.fitting.checkpoints import Checkpoints

Checkpoints.__init__.__defaults__ = (0.0, float("inf"))
save_all, n_saves = Checkpoints.save_all, [0]


def deadly(self, standing):
    save_all(self, standing)
    n_saves[0] += bool(standing)
    if str(n_saves[0]) == os.environ.get("DIE_AFTER"):
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


Checkpoints.save_all = deadly


@harness.hookimpl
def harness_specs():
    return []
"""
SUITE = (
    *("suite=smoke", "seeds=[0,1]", "scorers=[]", "similarities=[]", "tokens.interp=0", "shuffle_characters=10000"),
    "methods=[mean,{method: itda, k: 8, max_atoms: 64},{method: topk_sae, n_latents: 64, k: 8, passes: [1, 2]}]",
)


@pytest.mark.slow
def test_kill_and_resume_gives_the_tables_of_stored_rows(
    harness_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed with SIGKILL while learners learn, in the first pass and in the second, the worker along with the run."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    unstored = (*SUITE, "store_rows=false", "plugin_files=[deadly.py]", "name=unstored")
    command = [sys.executable, "-m", "harness", "run", *unstored, "wandb.mode=disabled"]
    cache = tmp_path / "cache"
    for n_saves in ("4", "9"):
        environment = {**os.environ, "HARNESS_CACHE": str(cache), "DIE_AFTER": n_saves}
        killed = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert list(cache.glob("fits/.*.checkpoint"))
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    code, _, errors = harness_cli("run", *unstored)
    assert code == 0, errors
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "other cache"))
    assert harness_cli("run", *SUITE, "name=stored")[0] == 0
    code, printed, _ = harness_cli("compare", "stored", "unstored")
    assert code == 0 and "equal" in printed
    assert len(read_tables(tmp_path / "results" / "unstored")["cost"]) > 100
    assert not list(cache.glob("fits/.*.checkpoint"))


def test_a_plan_says_what_it_costs_not_to_store_rows(harness_cli: Cli) -> None:
    suite = ["suite=smoke", "models.0.seed=7", "tokens={fit: 100000, evaluation: 3000, interp: 0}", "scorers=[]"]
    code, printed, _ = harness_cli("plan", *suite)
    assert code == 0 and "tokens to read: 103,000; disk: 59.6 MB" in printed
    # A reading for the mean and two passes; 29 bytes a row and site, beside the rows for evaluation.
    code, printed, _ = harness_cli("plan", *suite, "store_rows=false")
    told = (
        "tokens to read: 403,000, of which up to 300,000 again for rows that are not stored; "
        "disk: 8.23 MB instead of 59.6 MB"
    )
    assert code == 0 and told in " ".join(printed.split())
    code, printed, _ = harness_cli("plan", *suite, "store_rows=false", "max_held_gb=0.03")
    assert "up to 600,000 again" in " ".join(printed.split())
    code, printed, _ = harness_cli("plan", *suite, "store_rows=false", "max_held_gb=0.03", "shuffle_characters=10000")
    assert "up to 300,000 again" in " ".join(printed.split())
    code, _, errors = harness_cli("run", *suite, "max_disk_gb=0.01")
    assert code == 2 and "keep no rows that methods learn from: store_rows=false" in " ".join(errors.split())
