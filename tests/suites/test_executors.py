"""Several workers, here, on Ray and on Slurm, give the tables of one, whoever joins, dies or is told to go."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.cli import main as cli
from harness.running import jobs
from harness.running.board import Board
from harness.tables.equality import compare
from tests.support.result_tables import Finished
from tests.support.shared import once
from tests.support.slurm import SlurmCluster, why_no_slurm

Cli = Callable[..., tuple[int, str, str]]

_SMALL = (
    *("models.0.sites=[resid_post.1]", "methods=[mean,{method: itda, k: 8, max_atoms: 64}]", "scorers=[]"),
    *("evaluations=[reconstruction]", "tokens.interp=0", "similarities=[]", "seeds=[0,1]", "wandb.mode=disabled"),
)

# Without what only shows a cluster to people, which takes a second to start.
_RAY_NODE = {"num_cpus": 1, "include_log_monitor": False}
_RAY_HEAD = {**_RAY_NODE, "include_dashboard": False, "no_monitor": True}


@pytest.fixture(scope="module")
def alone(shared_folder: Path, warm_popen: type[subprocess.Popen]) -> Path:
    """The results of one worker."""
    return once(shared_folder / "alone", lambda folder: _run_alone(folder, warm_popen)) / "results" / "smoke"


def _run_alone(folder: Path, popen: type[subprocess.Popen]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess, "Popen", popen)
        patch.chdir(folder)
        patch.setenv("HARNESS_CACHE", str(folder / "cache"))
        assert cli.main(["run", "suite=smoke", *_SMALL]) == 0


@pytest.fixture
def own_cache(harness_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, so that everything is done."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _start(folder: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start the harness in a process of its own; where workers are warm, so is this."""
    command = [sys.executable, "-P", "-m", "harness", *words]
    environment = {**os.environ, "HARNESS_CACHE": str(folder / "cache"), **environment}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def _wait_for(*found: Callable[[], object]) -> None:
    while not all(sign() for sign in found):
        time.sleep(0.02)


def _assert_equal(a: Path, b: Path) -> None:
    differing = [found.table for found in compare(a, b) if not found.is_equal]
    assert not differing


def _agents(folder: Path) -> list[list[dict[str, object]]]:
    """Everything that each agent of the last run has said."""
    paths = (folder / "results/smoke/board/agents").glob("worker-*.jsonl")
    return [[json.loads(line) for line in path.read_text().splitlines()] for path in sorted(paths)]


def _workers(folder: Path) -> list[int]:
    """The worker processes that agents have told of."""
    events: list[Any] = [event for agent in _agents(folder) for event in agent if event["event"] == "worker"]
    return [event["process"]["pid"] for event in events]


def _n_at_work(folder: Path) -> int:
    return sum(any(event["event"] == "job done" for event in agent) for agent in _agents(folder))


def test_two_workers_here(smoke_run: Finished, harness_cli: Cli, own_cache: Path, tmp_path: Path) -> None:
    code, _, errors = harness_cli("run", "suite=smoke", "executor.workers=2")
    assert code == 0, errors
    _assert_equal(smoke_run.folder / "results" / "smoke", tmp_path / "results" / "smoke")
    assert _n_at_work(tmp_path) == 2


def test_captures_in_ranges(
    alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each pass by two workers: file by file what one has made."""
    monkeypatch.setattr(jobs, "_SECONDS_PER_RANGE", 0.0)
    code, _, errors = harness_cli("run", "suite=smoke", *_SMALL, "executor.workers=2")
    assert code == 0, errors
    board = Board.read(tmp_path / "results/smoke/board")
    wholes = [job for job in board.jobs.values() if job.kind == "capture" and job.part is None]
    assert [len(job.needs) for job in wholes] == [2, 2]
    _assert_equal(alone, tmp_path / "results" / "smoke")
    keys = [key for job in wholes for key in job.cells]
    one, two = ([_captured(folder / "cache", key) for key in keys] for folder in (alone.parents[1], tmp_path))
    assert one == two and all(one)


@pytest.mark.slow
def test_a_worker_that_is_killed_in_a_range_costs_no_other(
    alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_SECONDS_PER_RANGE", 0.0)

    def kill() -> None:
        _wait_for(lambda: list(own_cache.glob("activations/.*.partial/shard-*")))
        os.kill(_workers(tmp_path)[0], signal.SIGKILL)

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    code, _, errors = harness_cli("run", "suite=smoke", *_SMALL, "executor.workers=2")
    killing.join(timeout=10)
    assert code == 0 and not killing.is_alive(), errors
    assert len(_workers(tmp_path)) == 3
    _assert_equal(alone, tmp_path / "results" / "smoke")
    keys = [path.name for path in own_cache.glob("activations/[!.]*")]
    one, two = ([_captured(folder / "cache", key) for key in keys] for folder in (alone.parents[1], tmp_path))
    assert one == two and all(one)


def _captured(cache: Path, key: str) -> dict[str, object]:
    """The rows of a capture to the byte, and what its manifest says of them."""
    folder = cache / "activations" / key
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.glob("shard-*")}
    manifest = json.loads((folder / "manifest.json").read_text())
    return found | {name: manifest[name] for name in ("files", "task", "n_rows", "tokenizer_hash", "sites_of_pass")}


def test_two_nodes_of_ray(alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install decomp-harness[ray]")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_RAY_HEAD)
    try:
        cluster.add_node(**_RAY_NODE)
        ray.init(cluster.address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        code, _, errors = harness_cli("run", "suite=smoke", *_SMALL, "executor=ray")
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert code == 0, errors
    _assert_equal(alone, tmp_path / "results" / "smoke")
    assert len(_agents(tmp_path)) == 2


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    if why := why_no_slurm():
        pytest.skip(why)
    with SlurmCluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


def test_an_array_of_slurm(
    slurm: SlurmCluster, alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CONF", str(slurm.config))
    code, _, errors = harness_cli(
        "run", "suite=smoke", *_SMALL, "executor=slurm", "executor.workers=2", "executor.threads=1"
    )
    assert code == 0, errors
    _assert_equal(alone, tmp_path / "results" / "smoke")
    assert len(_agents(tmp_path)) == 2
    assert slurm.jobs() == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["preempted", "warned of its time", "killed"])
def test_a_worker_of_slurm_goes_and_comes_back(slurm: SlurmCluster, alone: Path, tmp_path: Path, how: str) -> None:
    """An array of one: what it gives back, or dies of, only its own second life can finish."""
    wanted = ("executor=slurm", "executor.workers=2", "executor.threads=1")
    run = _start(tmp_path, "run", "suite=smoke", *_SMALL, *wanted, SLURM_CONF=str(slurm.config))
    _wait_for(lambda: _n_at_work(tmp_path) or run.poll() is not None)
    job = slurm.jobs()[0].split(" ")[0]
    if how == "preempted":
        slurm.run("scontrol", "requeue", job)
    elif how == "warned of its time":
        slurm.run("scancel", "--signal=USR2", "--batch", job)
    else:
        process: Any = _agents(tmp_path)[0][0]["process"]
        os.kill(process["pid"], signal.SIGKILL)
    said, _ = run.communicate(timeout=300)
    assert run.returncode == 0, said
    _assert_equal(alone, tmp_path / "results" / "smoke")
    assert slurm.jobs() == []


@pytest.mark.slow
def test_a_node_of_ray_is_taken_away(alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install decomp-harness[ray]")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args=_RAY_HEAD)

    def take_away() -> None:
        _wait_for(lambda: _n_at_work(tmp_path) == 2)
        cluster.remove_node(node, allow_graceful=False)

    try:
        node = cluster.add_node(**_RAY_NODE)
        ray.init(cluster.address, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING)
        taking = threading.Thread(target=take_away, daemon=True)
        taking.start()
        code, _, errors = harness_cli("run", "suite=smoke", *_SMALL, "executor=ray", "executor.workers=2")
        taking.join(timeout=10)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert code == 0, errors
    assert not taking.is_alive()
    _assert_equal(alone, tmp_path / "results" / "smoke")


@pytest.mark.slow
def test_threads_change_numbers_by_rounding_only(smoke_run: Finished, tmp_path: Path) -> None:
    """The bound that docs/scale.md states."""
    run = _start(tmp_path, "run", "suite=smoke", "executor.threads=2", OMP_NUM_THREADS="", WANDB_MODE="disabled")
    said, _ = run.communicate()
    assert run.returncode == 0, said
    records = [json.loads(path.read_text()) for path in (tmp_path / "results/smoke/cells").rglob("*.json")]
    assert {record["provenance"]["threads"] for record in records if record["status"] == "done"} == {2}
    found = compare(smoke_run.folder / "results" / "smoke", tmp_path / "results" / "smoke")
    assert not any(table.only_a or table.only_b for table in found)
    apart = [difference.relative for table in found for difference in table.different]
    assert max(apart, default=0.0) < 1e-6


@pytest.mark.usefixtures("warm_workers")
def test_a_worker_that_joins_is_killed_and_nothing_is_lost(alone: Path, tmp_path: Path) -> None:
    run = _start(tmp_path, "run", "suite=smoke", *_SMALL)
    _wait_for(lambda: _agents(tmp_path), (tmp_path / "results/smoke/suite.yaml").exists)
    worker = _start(tmp_path, "work", "suite=smoke")
    try:
        _wait_for(lambda: len(_agents(tmp_path)) == 2 or run.poll() is not None)
    finally:
        worker.kill()
        worker.communicate()
    said, _ = run.communicate()
    assert run.returncode == 0, said
    _assert_equal(alone, tmp_path / "results" / "smoke")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments_lose_nothing(alone: Path, tmp_path: Path, seed: int) -> None:
    """A run, one that has joined it, or a worker process of either is killed; a run that died is started again."""
    draw, n_kills = random.Random(seed), 6
    command = ("run", "suite=smoke", *_SMALL, "executor.workers=2")
    runs = [_start(tmp_path, *command) for _ in range(2)]
    for _ in range(n_kills):
        time.sleep(draw.uniform(0.5, 6))
        victim = draw.randrange(2)
        processes = [runs[victim].pid, *_children(runs[victim].pid)]
        with suppress(ProcessLookupError):
            os.kill(draw.choice(processes), signal.SIGKILL)
        if runs[victim].poll() is not None:
            runs[victim].communicate()
            runs[victim] = _start(tmp_path, *command)
    said = [run.communicate(timeout=300)[0] for run in runs]
    if any(run.returncode for run in runs):  # a cell that was killed twice has failed, and is done by the next run
        last = _start(tmp_path, *command)
        said.append(last.communicate(timeout=300)[0])
        assert last.returncode == 0, said
    _assert_equal(alone, tmp_path / "results" / "smoke")


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def test_workers_alone_do_all_and_a_run_writes_the_tables(
    alone: Path, harness_cli: Cli, own_cache: Path, tmp_path: Path
) -> None:
    code, said, errors = harness_cli("work", "suite=smoke", *_SMALL)
    assert code == 0, errors
    assert "nothing is left to take. `harness run` of smoke writes its tables" in said
    assert not (tmp_path / "results/smoke/tables").exists()
    agents = _agents(tmp_path)
    assert harness_cli("run", "suite=smoke", *_SMALL)[0] == 0
    assert _agents(tmp_path) == agents  # it had nothing to do
    _assert_equal(alone, tmp_path / "results" / "smoke")


@pytest.mark.usefixtures("warm_workers")
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGUSR2", marks=pytest.mark.slow)])
def test_a_signal_gives_back_what_is_being_done(alone: Path, tmp_path: Path, name: str) -> None:
    number = signal.Signals[name]
    run = _start(tmp_path, "run", "suite=smoke", *_SMALL, "executor.workers=2")
    _wait_for(lambda: _n_at_work(tmp_path) or run.poll() is not None)
    run.send_signal(number)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == -number, said
    assert f"ended by {name}; what is done stays done, and it goes on with the same command" in said
    assert all(agent[-1]["event"] == "left" for agent in _agents(tmp_path))
    assert not list((tmp_path / "results/smoke").glob("tables/*"))
    again = _start(tmp_path, "run", "suite=smoke", *_SMALL)
    said, _ = again.communicate()
    assert again.returncode == 0, said
    _assert_equal(alone, tmp_path / "results" / "smoke")


@pytest.mark.usefixtures("warm_workers")
def test_a_worker_with_another_cache_is_refused(tmp_path: Path) -> None:
    run = _start(tmp_path, "run", "suite=smoke", *_SMALL)
    _wait_for(lambda: _agents(tmp_path), (tmp_path / "results/smoke/suite.yaml").exists)
    worker = _start(tmp_path, "work", "suite=smoke", HARNESS_CACHE=str(tmp_path / "other"))
    said, _ = worker.communicate()
    run.terminate()
    run.communicate()
    assert worker.returncode == 2
    assert f"$HARNESS_CACHE, {tmp_path / 'other'} here, is not the folder that the run uses" in " ".join(said.split())


@pytest.mark.usefixtures("warm_workers")
def test_a_run_with_other_cells_waits_for_its_turn(tmp_path: Path) -> None:
    """The first can't end before the second has said so."""
    first = _start(tmp_path, "run", "suite=smoke", *_SMALL)
    _wait_for(lambda: _workers(tmp_path) or first.poll() is not None)
    (worker,) = _workers(tmp_path)
    os.kill(worker, signal.SIGSTOP)
    second = _start(tmp_path, "run", "suite=smoke", *_SMALL, "seeds=[0,1,2]")
    assert second.stdout is not None
    told = ""
    while "is at work" not in told and (line := second.stdout.readline()):
        told += line
    os.kill(worker, signal.SIGCONT)
    said = [first.communicate()[0], told + second.communicate()[0]]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "a run with other cells is at work" in said[1] and f"process {first.pid} on" in said[1]
    assert (tmp_path / "results/smoke/tables/reconstruction.csv").read_text().count("itda") > 0
