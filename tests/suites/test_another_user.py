"""Two users of one group share a cache and read each other's results: whole processes with umasks of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import pytest

from tests.support.another_user import needs_another_user
from tests.support.result_tables import RUN_COLUMNS

pytestmark = [pytest.mark.slow, needs_another_user]
FIRST, SECOND, GROUP = 65532, 65533, 65531
_MEAN, _SAE = "mean", "{method: topk_sae, n_latents: 16, k: 4}"
_HOLDS = """
import sys
from pathlib import Path
from harness.storage.store import Store
with Store.of(Path()).lock("fit", sys.argv[1]):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A cache of the group, and a folder for each user; pytest's own folders are for one alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        for name, user, mode in (("cache", FIRST, 0o2775), ("first", FIRST, 0o755), ("second", SECOND, 0o755)):
            (Path(folder) / name).mkdir()
            os.chown(Path(folder) / name, user, GROUP)
            (Path(folder) / name).chmod(mode)
        yield Path(folder)


def _start(place: Path, user: int, where: str, arguments: Sequence[str], umask: str) -> subprocess.Popen[str]:
    rights = "-all,+dac_read_search"  # for the interpreter may lie in root's home
    as_user = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups"]
    as_user += [f"--inh-caps={rights}", f"--ambient-caps={rights}"]
    home = place / ("first" if user == FIRST else "second")
    own = {"HARNESS_CACHE": str(place / "cache"), "HOME": str(home), "WANDB_MODE": "disabled"}
    return subprocess.Popen(
        ["sh", "-c", f'umask {umask}; exec "$@"', "sh", *as_user, sys.executable, "-P", *arguments],
        cwd=place / where,
        env=os.environ | own | {"PYTHONDONTWRITEBYTECODE": "1", "USER": "root", "LOGNAME": "root"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _call(place: Path, user: int, where: str, *words: str, umask: str = "022") -> tuple[int, str, str]:
    process = _start(place, user, where, ["-m", "harness", *words], umask)
    out, errors = process.communicate(timeout=300)
    assert "Traceback" not in errors, errors
    return process.returncode, out, errors


def _suite(*methods: str) -> list[str]:
    return [
        *("suite=smoke", "name=s", "context=32", "tokens={fit: 600, evaluation: 300}"),
        f"methods=[{','.join(methods)}]",
        "models=[{model: random_weights, n_layers: 2, width: 16, n_heads: 2, label: tiny, sites: [resid_post.1]}]",
        *("scorers=[]", "explainers=[]", "similarities=[]", "evaluations=[reconstruction]"),
    ]


def _table(folder: Path) -> str:
    table = pd.read_parquet(folder / "results" / "s" / "tables" / "reconstruction.parquet")
    return str(table.drop(columns=[*RUN_COLUMNS], errors="ignore").to_csv(index=False))


def _cached(place: Path) -> dict[str, int]:
    return {str(path): path.lstat().st_mtime_ns for path in (place / "cache").rglob("*")}


def test_results_and_cache_of_another_user_are_read(place: Path) -> None:
    assert _call(place, FIRST, "first", "run", *_suite(_MEAN))[0] == 0
    for path in ((place / "cache"), *(place / "cache").rglob("*")):
        path.chmod(path.stat().st_mode & ~0o022)
    before = _cached(place)
    for words in (["status", "name=s"], ["leaderboard", "name=s"], ["verify"]):
        code, out, errors = _call(place, SECOND, "first", *words)
        assert code == 0 and "damaged" not in errors and ("done" in out or "nothing is damaged" in out), errors
    page = place / "first" / "results" / "s" / "report" / "index.html"
    code, _, errors = _call(place, SECOND, "first", "report", "name=s")
    assert code == 2 and str(page) in errors.replace("\n", "") and "may not write" in errors
    code, _, errors = _call(place, SECOND, "first", "run", *_suite(_MEAN))
    assert code == 2 and "Permission denied" in errors
    code, _, errors = _call(place, SECOND, "second", "run", *_suite(_MEAN))
    assert code == 0 and _table(place / "second") == _table(place / "first"), errors
    assert _cached(place) == before


def test_two_users_fill_one_cache_and_wait_for_each_other(place: Path) -> None:
    assert _call(place, FIRST, "first", "run", *_suite(_MEAN), umask="002")[0] == 0
    plan = json.loads(_call(place, FIRST, "first", "plan", *_suite(_MEAN, _SAE), "--json")[1])
    (key,) = [cell["key"] for cell in plan["cells"] if cell["kind"] == "fit" and cell["state"] == "to do"]
    holder = _start(place, FIRST, "first", ["-c", _HOLDS, key], "002")
    assert holder.stdout and holder.stdout.readline() == "held\n"
    waiting = _start(place, SECOND, "second", ["-m", "harness", "run", *_suite(_MEAN, _SAE)], "022")
    assert waiting.stderr
    told = next(line for line in waiting.stderr if "waiting for" in line)
    assert f"process {holder.pid} on " in told and f"({FIRST}, since " in told
    holder.communicate("\n")
    errors = waiting.communicate()[1]
    assert waiting.returncode == 0, errors
    assert _call(place, FIRST, "first", "run", *_suite(_MEAN, _SAE), umask="002")[0] == 0
    assert _table(place / "second") == _table(place / "first")
    assert _call(place, FIRST, "first", "verify")[0] == 0
