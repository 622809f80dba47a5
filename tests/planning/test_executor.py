"""Executors are checked when planning, and are no part of what results depend on."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import ConfigError
from harness.planning.config import compose, differences, dump_resolved
from harness.planning.executor import LocalExecutor, RayExecutor, SlurmExecutor
from harness.planning.plan import build_plan


@pytest.mark.parametrize(
    ("words", "executor"),
    [
        ([], LocalExecutor()),
        (["executor=local", "executor.workers=3"], LocalExecutor(workers=3)),
        (["executor.threads=2"], LocalExecutor(threads=2)),
        (["executor=ray", "executor.address=auto"], RayExecutor(address="auto")),
        (["executor={executor: slurm, gres: 'gpu:1'}"], SlurmExecutor(gres="gpu:1")),
        (["executor.options=['--qos=low']", "executor=slurm"], SlurmExecutor(options=["--qos=low"])),
    ],
)
def test_an_executor_is_chosen_and_changed(words: list[str], executor: object) -> None:
    assert compose(["suite=smoke", *words])[0].executor == executor


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["executor=slurn"], "executor: unknown executor 'slurn'. Did you mean 'slurm'?"),
        (["executor={executor: kubernetes}"], "executor: 'kubernetes' is no executor."),
        (["executor=slurm", "executor.partitoin=gpu"], "executor.partitoin: unknown key. Did you mean 'partition'"),
        (["executor.workers=0"], "executor: workers is 0. Number of workers: give at least 1."),
        (["executor.threads=many"], "executor.threads: 'many' is not of type int | 'auto'."),
        (["cell_minutes=0"], "cell_minutes is 0.0; give minutes above 0"),
    ],
)
def test_what_is_wrong_is_said(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        compose(["suite=smoke", *words])
    assert said in str(error.value)


def test_no_cell_depends_on_where_it_is_done(tmp_path: Path) -> None:
    """Neither its key, nor what is said of two runs of a suite."""
    here, elsewhere = (compose(["suite=smoke", *words])[0] for words in ([], ["executor=slurm", "cell_minutes=9"]))
    assert build_plan(here).cells == build_plan(elsewhere).cells
    (tmp_path / "suite.yaml").write_text(dump_resolved(here.config))
    assert differences(tmp_path / "suite.yaml", elsewhere.config) == []


def test_a_key_that_an_older_file_lacks_is_no_difference(tmp_path: Path) -> None:
    """Unless it has another value than its default now."""
    suite = compose(["suite=smoke"])[0]
    lines = dump_resolved(suite.config).splitlines(keepends=True)
    older = [line for line in lines if not line.startswith(("shuffle_characters", "calibrated"))]
    assert len(older) == len(lines) - 2
    (tmp_path / "suite.yaml").write_text("".join(older))
    assert differences(tmp_path / "suite.yaml", suite.config) == []
    shuffled = compose(["suite=smoke", "shuffle_characters=100"])[0]
    assert differences(tmp_path / "suite.yaml", shuffled.config) == ["shuffle_characters: None -> 100"]
