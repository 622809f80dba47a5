"""The subject of the campaigns: a small suite with every stage, its results, and what people are shown of them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from harness.cli.main import main
from tests.support.result_tables import RUN_COLUMNS

NAME = "t"
_RESULTS = Path("results", NAME)
SUITE = (
    *("suite=smoke", f"name={NAME}", f"plugin_files=[{Path(__file__).with_name('aids.py')}]", "judge=scripted"),
    "models=[{model: random_weights, n_layers: 2, width: 16, n_heads: 2, label: tiny}]",
    *("sites=[resid_post.1]", "tokens={fit: 600, evaluation: 300, interp: 3000}", "context=32", "latents=2"),
    "methods=[mean,{method: itda, k: 4, max_atoms: 24},{method: topk_sae, n_latents: 32, k: 4, passes: 2}]",
    *("evaluations=[reconstruction]", "similarities=[cka,jaccard]", "tasks=[{task: sample_size, n_rows: 100}]"),
    *("scorers=[token_lookup,choice_detection]", "explainers=[token_statistics,judge_written]"),
    "wandb.mode=disabled",
)
_SECONDS_LEFT = 200
_MEASURED = re.compile("seconds|bytes|^judge_")


@dataclass(frozen=True)
class Said:
    """The words of a verb, and how it ended."""

    code: int | None
    """None if it ended in a traceback."""
    out: str
    err: str

    @property
    def lines(self) -> set[str]:
        """Lines of the standard error but bars of progress, which show how fast something went."""
        return {line for line in self.err.splitlines() if "it/s]" not in line}

    @property
    def shown(self) -> Any:
        """The output, JSON without what is measured."""
        try:
            return json.loads(self.out, object_pairs_hook=_unmeasured)
        except ValueError:
            return self.out


@dataclass(frozen=True)
class Subject:
    """A folder with the suite's results and a cache of its own."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def results(self) -> Path:
        return self.folder / _RESULTS

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    def call(self, *words: str) -> Said:
        """A verb in this process."""
        out, err = io.StringIO(), io.StringIO()
        code: int | None = None
        with self.here(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                code = main(words)
            except SystemExit as ended:  # argparse's own
                code = ended.code if isinstance(ended.code, int) else 1
            except Exception:
                traceback.print_exc()
        return Said(code, out.getvalue(), err.getvalue())

    def run(self, *words: str) -> Said:
        """A run of the suite in this process, its workers in theirs."""
        return self.call("run", *SUITE, *words)

    def start(self, popen: type[subprocess.Popen], *words: str, **environment: str) -> subprocess.Popen[str]:
        """A verb in a process of its own, whose output goes to a pipe."""
        return popen(
            [sys.executable, "-P", "-m", "harness", *words],
            cwd=self.folder,
            env={**os.environ, **self._environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def _environment(self) -> dict[str, str]:
        return {"HARNESS_CACHE": str(self.cache), "WANDB_MODE": "disabled", **self.environment}

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """Stand in the folder, with its cache."""
        before = dict(os.environ)
        os.environ.update(self._environment)
        try:
            with contextlib.chdir(self.folder):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def files(self) -> list[Path]:
        """All files of the cache and the results, in order."""
        return sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())

    def kind_of(self, path: Path) -> str:
        """The kind of a file: its path without keys, numbers and names of processes."""
        return re.sub(r"(?<=cells/)..|[0-9a-f]{8,}|\d+", "*", str(path.relative_to(self.folder)))

    def shown(self) -> dict[str, str]:
        """All that people are shown without what is measured or tells of the run: tables, boards, files of the page."""
        found = {}
        for path in sorted(path for glob in ("tables/[!.]*", "*.csv", "*.parquet") for path in self.results.glob(glob)):
            found[path.relative_to(self.results).as_posix()] = _text(path)
        pages = sorted(path for path in self.results.glob("report/**/*") if path.is_file())
        return found | {"report": " ".join(path.relative_to(self.results).as_posix() for path in pages)}

    def n_asked(self) -> float:
        """The number of requests to the judge, all cells together: who was the first to ask what both do is chance."""
        cost = pd.read_parquet(self.results / "tables" / "cost.parquet")
        return float(cost.loc[cost["metric"].str.startswith("judge_requests_"), "value"].sum())

    def copy_to(self, folder: Path) -> Subject:
        shutil.copytree(self.folder, folder, symlinks=True)
        return Subject(folder, self.environment)


def _text(path: Path) -> str:
    """A table as text without what two runs need not share."""
    try:
        table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except Exception as error:
        return f"unreadable: {type(error).__name__}"
    table = table.drop(columns=[*RUN_COLUMNS, "log"], errors="ignore")
    if "metric" in table:
        metric = table["metric"].fillna("").astype(str)
        table = table.assign(value=table["value"].where(~metric.str.contains(_MEASURED)))
        # Of two cells that ask the same it is chance who was the first, and damaged answers are asked for again.
        table = table[~metric.str.startswith("judge_")]
    else:
        table = table.drop(columns=[name for name in table if _MEASURED.search(name) or "pareto" in name])
    return str(table.to_csv(index=False))


def _unmeasured(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {name: value for name, value in pairs if not _MEASURED.search(name)}


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code of a process and what it said; one that hangs is killed, and that is said."""
    try:
        out, _ = process.communicate(timeout=_SECONDS_LEFT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        out += f"\nstill at work after {_SECONDS_LEFT} seconds"
    return process.returncode, out


def differing(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    """The names under which two mappings differ."""
    return sorted(name for name in {*a, *b} if a.get(name) != b.get(name))


def made(folder: Path, words: Sequence[str] = ()) -> Subject:
    """The subject in a new folder, finished."""
    folder.mkdir(parents=True)
    subject = Subject(folder)
    subject.cache.mkdir()
    ran = subject.run(*words)
    assert ran.code == 0, ran.err
    return subject
