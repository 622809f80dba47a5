"""The tutorial and the how-to are followed to the letter; the reference is what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from harness.planning.config import compose
from harness.planning.executor import SlurmExecutor
from tests.support.documents import Reader

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
GENERATOR = DOCS / "generate.py"


WITHOUT_WANDB = {"WANDB_MODE": "disabled"}  # it takes as long as the runs themselves; the tutorial does not mention it


@pytest.mark.parametrize(
    ("name", "environment"),
    [
        ("tutorial.md", WITHOUT_WANDB),
        pytest.param("howto.md", {}, marks=pytest.mark.slow),
        pytest.param("monitoring.md", WITHOUT_WANDB, marks=pytest.mark.slow),
        pytest.param("scales.md", WITHOUT_WANDB, marks=pytest.mark.slow),
    ],
)
def test_a_reader_gets_through(
    name: str, environment: dict[str, str], tmp_path: Path, shared_cache: Path, warm_popen: type[subprocess.Popen]
) -> None:
    Reader(tmp_path, shared_cache, warm_popen, environment).follow(DOCS / name)
    described = (DOCS / "reference" / "tables.md").read_text(encoding="utf-8")
    own = re.findall(r'harness\.Metric\("(\w+)"', (DOCS / name).read_text(encoding="utf-8"))  # of examples
    for board in tmp_path.glob("results/*/*.csv"):
        columns = [column for column in pd.read_csv(board).columns if f"| `{column}` |" not in described]
        assert {*columns} <= {*own}, f"docs/meanings.py says nothing of {columns} in {board.name}"


def test_commands_for_many_workers_are_right() -> None:
    """Each is composed as it stands; only the executors' own tests have the clusters that they need."""
    text = (DOCS / "scale.md").read_text(encoding="utf-8")
    commands = [line.partition("#")[0].split()[2:] for line in text.splitlines() if line.startswith("harness ")]
    executors = [compose(words)[0].executor for words in commands]
    assert {type(executor).__name__ for executor in executors} == {"LocalExecutor", "RayExecutor", "SlurmExecutor"}
    asked = next(executor for executor in executors if isinstance(executor, SlurmExecutor))
    assert (asked.workers, asked.partition, asked.gres, asked.time) == (8, "gpu", "gpu:1", "04:00:00")


def test_the_table_of_capacities_follows_from_the_presets() -> None:
    text = (DOCS / "scale.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| ([\d.]+[mb]) \| (.*) \|$", text, re.MULTILINE)
    presets = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf/model").glob("pythia-*.yaml")}
    assert [name for name, _ in lines] == ["70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"]
    for name, columns in lines:
        width, blocks = presets[f"pythia-{name}"]["width"], presets[f"pythia-{name}"]["n_layers"]
        n_weights = 12 * blocks * width**2 + 2 * 50_304 * width
        n_bytes = [2 * n_weights, 2e6 * width, 2e6 * width * blocks, 4 * 4 * 2 * 16_384 * width]
        told = [float(column.replace(",", "")) for column in columns.split(" | ")]
        assert told[:2] == [width, blocks]
        assert told[2:] == pytest.approx([size / 1e9 for size in n_bytes], abs=0.05)


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, GENERATOR, tmp_path], check=True)
    made = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").iterdir()}
    stale = sorted(name for name in made.keys() | committed.keys() if made.get(name) != committed.get(name))
    assert not stale, f"docs/reference: {', '.join(stale)} differ from the code. Run: python docs/generate.py"
