"""The board: each job is done once, whoever works, stops or dies."""

from __future__ import annotations

import resource
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from harness.capturing.chunks import Range
from harness.errors import StoreError
from harness.files import sealed
from harness.running import board as boards
from harness.running.board import Board
from harness.running.jobs import Job
from harness.running.speaker import Speaker
from harness.storage.processes import SECONDS_UNTIL_GONE, Process

NOBODY = Process(Process.current().machine, 2**22 + 1, "0")
"""A process of this machine that does not run: its number is above all that Linux gives."""
ELSEWHERE = Process("another-machine boot namespace", 1, "0")


def _job(name: str, *needs: str, cells: int = 1) -> Job:
    return Job(name, "fit", tuple(f"{name}{i}" for i in range(cells)), needs)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Board]:
    return lambda *jobs: Board.make(tmp_path / "board", list(jobs), {"id": "x"})


def _say(board: Board, name: str, **event: Any) -> None:
    with (board.folder / "agents" / f"{name}.jsonl").open("ab") as file:
        file.write(sealed(event, f"{name}.jsonl") + b"\n")


def _arrive(board: Board, name: str, process: Process | None = None) -> None:
    _say(board, name, event="agent", process=asdict(process or Process.current()))
    _read(board)


def _read(board: Board) -> list[tuple[str, dict[str, Any]]]:
    return list(board.refresh())


def test_the_most_urgent_job_that_is_ready_goes_first(make: Callable[..., Board]) -> None:
    board = make(_job("a"), _job("b", "a"), _job("c"))
    _arrive(board, "me")
    taken = [board.claim("me"), board.claim("me"), board.claim("me")]
    assert [claim and claim.job.id for claim in taken] == ["a", "c", None]
    _say(board, "me", event="job done", job="a")
    _read(board)
    claim = board.claim("me")
    assert claim is not None and claim.job.id == "b" and not board.is_complete
    for job in ("b", "c"):
        _say(board, "me", event="job done", job=job)
    _read(board)
    assert board.is_complete and board.claim("me") is None


def test_a_worker_is_changed_only_for_what_is_more_urgent(make: Callable[..., Board]) -> None:
    """Jobs with other plugin files need another one."""
    urgent = {"a": 30.0, "own1": 20.0, "b": 19.0, "own2": 18.0, "c": 2.0}
    jobs = [
        replace(_job(name), seconds_to_end=seconds, plugin_files=("own.py",) if "own" in name else ())
        for name, seconds in urgent.items()
    ]
    board, taken, files = make(*jobs), [], ()
    _arrive(board, "me")
    while (claim := board.claim("me", files)) is not None:
        taken.append(claim.job.id)
        files = claim.job.plugin_files
    assert taken == ["a", "b", "own1", "own2", "c"]
    board = make(*jobs[1:])
    assert [claim and claim.job.id for claim in (board.claim("me", ("own.py",)), board.claim("you"))] == ["own1", "b"]


def test_of_many_agents_one_has_each_job(make: Callable[..., Board]) -> None:
    n_agents, jobs = 8, [_job(f"j{i:03}") for i in range(100)]
    board = make(*jobs)
    taken: list[str] = []
    start = threading.Barrier(n_agents)

    def work(name: str) -> None:
        own = Board.read(board.folder)
        start.wait()
        while (claim := own.claim(name)) is not None:
            taken.append(claim.job.id)

    names = [f"agent-{i}" for i in range(n_agents)]
    for name in names:
        _arrive(board, name)
    threads = [threading.Thread(target=work, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(taken) == {job.id: 1 for job in jobs}


def test_a_job_of_a_dead_agent_is_had_again_once(make: Callable[..., Board]) -> None:
    board = make(_job("a"))
    _arrive(board, "dead", NOBODY)
    assert board.claim("dead") is not None
    others = [Board.read(board.folder) for _ in range(3)]
    for i, other in enumerate(others):
        _arrive(other, f"other-{i}")
    for other in others:
        _read(other)
    found = [other.claim(f"other-{i}") for i, other in enumerate(others)]
    claims = [claim for claim in found if claim is not None]
    assert [claim.number for claim in claims] == [2]
    assert others[1].peers["dead"].is_gone and not others[1].peers["other-0"].is_gone


def test_an_agent_of_another_machine_is_gone_when_it_is_silent(
    make: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    board = make(_job("a"), _job("b"))
    _arrive(board, "far", ELSEWHERE)
    _arrive(board, "me")
    assert board.claim("far") is not None
    now = time.monotonic()
    for seconds, event in ((0.9, "beat"), (1.8, "beat"), (2.7, None)):
        monkeypatch.setattr(boards.time, "monotonic", lambda seconds=seconds: now + seconds * SECONDS_UNTIL_GONE)
        assert board.is_worked_on and not board.peers["far"].is_gone
        if event:
            _say(board, "far", event=event)
        _say(board, "me", event="beat")
        _read(board)
    monkeypatch.setattr(boards.time, "monotonic", lambda: now + 3.7 * SECONDS_UNTIL_GONE)
    _say(board, "me", event="beat")
    _read(board)
    claim = board.claim("me")
    assert claim is not None and (claim.job.id, claim.number) == ("a", 2)


def test_a_stopped_agent_is_ended_when_its_job_is_taken_over(
    make: Callable[..., Board], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker too, which may hold locks; a worker of another machine with the same number is let be."""
    board = make(_job("a"))
    agent, worker, other = (subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(3))
    agent.send_signal(signal.SIGSTOP)
    _arrive(board, "stopped", Process.of(agent.pid))
    _say(board, "stopped", event="worker", process=asdict(replace(Process.of(other.pid), machine="elsewhere")))
    _read(board)
    _say(board, "stopped", event="worker", process=asdict(Process.of(worker.pid)))
    _arrive(board, "me")
    assert board.claim("stopped") is not None and board.claim("me") is None
    now = time.monotonic()
    monkeypatch.setattr(boards.time, "monotonic", lambda: now + 1.1 * SECONDS_UNTIL_GONE)
    assert board.claim("me") is not None
    assert (agent.wait(5), worker.wait(5), other.poll()) == (-signal.SIGKILL, -signal.SIGKILL, None)
    other.kill()
    other.wait()


def test_what_is_given_back_is_had_at_once(make: Callable[..., Board]) -> None:
    board = make(_job("a"))
    for name in ("one", "two"):
        _arrive(board, name)
    first = board.claim("one")
    assert first is not None and board.claim("two") is None
    _say(board, "one", event="given back", claim=first.name)
    _read(board)
    second = board.claim("two")
    assert second is not None and second.number == 2 and board.claim("one") is None


@pytest.mark.parametrize("by_link", [True, False])
def test_a_job_of_an_agent_that_nobody_ever_hears_of_is_had_after_a_minute(
    make: Callable[..., Board], monkeypatch: pytest.MonkeyPatch, by_link: bool
) -> None:
    """Its first line was lost on a full disk, or what stands in the place of its claim is rubbish."""
    board, claim = make(_job("a")), Path("claims", "a.1")
    _arrive(board, "me")
    (board.folder / claim).symlink_to("nobody") if by_link else (board.folder / claim).mkdir()
    assert board.claim("me") is None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + SECONDS_UNTIL_GONE + 1)
    found = board.claim("me")
    assert found is not None and found.number == 2


def test_rubbish_beside_the_files_of_agents_disturbs_nobody(make: Callable[..., Board]) -> None:
    board = make(_job("a"))
    (board.folder / "agents" / "folder.jsonl").mkdir()
    (board.folder / "agents" / "nothing.jsonl").symlink_to("nowhere")
    (board.folder / "agents" / "rubbish.jsonl").write_bytes(b"\xff\x00\n{}\n[]\n" + b"{" * 1000)
    _arrive(board, "me")
    assert board.claim("me") is not None and set(board.peers) == {"me"}


def test_a_line_behind_one_that_a_full_disk_has_cut_off_is_read(make: Callable[..., Board]) -> None:
    board = make(_job("a"))
    speaker = Speaker(board.folder, "worker")
    file = board.folder / "agents" / f"{speaker.name}.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + 20, limits[1]))
    try:
        with pytest.raises(OSError, match="large"):
            speaker.say({"event": "beat"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not file.read_bytes().endswith(b"\n")
    speaker.say({"event": "job done", "job": "a"})
    assert [event["event"] for _, event in _read(board)] == ["agent", "job done"] and board.is_complete


def test_cells_that_have_ended_or_were_put_off_are_known_to_all(make: Callable[..., Board]) -> None:
    board = make(_job("a", cells=3))
    _arrive(board, "one")
    _say(board, "one", event="cell", key="a0", status="done", error=None)
    _say(board, "one", event="cell", key="a1", status="to do", error="budget")
    _say(board, "one", event="damaged", key="fit", text="its checksum differs")
    late = Board.read(board.folder)
    assert (late.ended, late.put_off, late.n_cells_left) == ({"a0"}, {"a1"}, 2)
    assert late.damaged == {"fit": "its checksum differs"}


def test_agents_are_known_by_what_is_left_of_their_job(make: Callable[..., Board]) -> None:
    board = make(_job("a", cells=3), _job("b"))
    for name in ("one", "two", "idle"):
        _arrive(board, name)
    _say(board, "one", event="job", job="a")
    _say(board, "one", event="cell", key="a0", status="done", error=None)
    _say(board, "two", event="job", job="b")
    _say(board, "two", event="job done", job="b")
    _read(board)
    assert [(peer.name, keys) for peer, keys in board.at_work()] == [("one", ["a1", "a2"])]


def test_deaths_count_for_the_cell_that_was_done_alone(make: Callable[..., Board]) -> None:
    """Not for one that had ended, nor if the agent took its leave, as at a preemption."""
    board = make(_job("a", cells=2))
    for name, process in (("dead", NOBODY), ("dead too", NOBODY), ("left", NOBODY), ("alive", Process.current())):
        _arrive(board, name, process)
        _say(board, name, event="alone", key="a0")
        _say(board, name, event="cell", key="a0", status="done", error=None)
        _say(board, name, event="alone", key="a1")
    _say(board, "left", event="left")
    _read(board)
    assert (board.deaths("a0"), board.deaths("a1")) == (0, 2)


def test_agents_that_went_with_a_range_are_counted(make: Callable[..., Board]) -> None:
    board = make(_job("a"), _job("b"))
    for name, process in (("dead", NOBODY), ("dead elsewhere", NOBODY), ("left", NOBODY), ("alive", Process.current())):
        _arrive(board, name, process)
        _say(board, name, event="job", job="b" if name == "dead elsewhere" else "a")
    _say(board, "left", event="left")
    _read(board)
    assert [board.n_gone_with(job) for job in board.jobs.values()] == [1, 1]


def test_a_cell_that_several_jobs_do_is_one_that_is_left(make: Callable[..., Board]) -> None:
    whole = _job("a", cells=2)
    board = make(*(replace(whole, id=f"range {i}", part=Range(i, 3)) for i in range(3)), whole)
    assert board.n_cells_left == 2


def test_files_are_read_in_any_order(make: Callable[..., Board]) -> None:
    """One agent did what comes first, and the other, whose file is read before, what comes after."""
    board = make(_job("first"), _job("second", "first"), _job("third", "second"))
    for name in ("a", "b"):
        _arrive(board, name)
    _say(board, "a", event="job done", job="second")
    _say(board, "b", event="job done", job="first")
    late = Board.read(board.folder)
    claim = late.claim("a")
    assert late.done == {"first", "second"} and claim is not None and claim.job.id == "third"
    assert [job for _, job in late._ready] == ["third"]


def test_half_a_line_is_read_when_it_is_whole(make: Callable[..., Board]) -> None:
    board = make(_job("a"))
    _arrive(board, "one")
    path = board.folder / "agents" / "one.jsonl"
    whole = sealed({"event": "job done", "job": "a"}, path.name) + b"\n"
    for part in (whole[:9], whole[9:]):
        assert not board.is_complete
        with path.open("ab") as file:
            file.write(part)
        _read(board)
    assert board.is_complete


@pytest.mark.parametrize("line", ['{"event": "job do', '{"event": "job done", "job": "a"}', "[]", "null", "\xff"])
def test_a_line_that_is_cut_off_or_damaged_loses_only_itself(make: Callable[..., Board], line: str) -> None:
    board = make(_job("a"), _job("b"))
    _arrive(board, "one")
    with (board.folder / "agents" / "one.jsonl").open("a") as file:
        file.write(f"{line}\n")
    _say(board, "one", event="job done", job="b")
    _read(board)
    assert board.done == {"b"}


def test_a_new_board_takes_the_place_of_the_old(make: Callable[..., Board]) -> None:
    old = make(_job("a"))
    _arrive(old, "one")
    new = make(_job("b"))
    assert list(new.jobs) == ["b"] and not new.peers
    assert old.is_replaced and not new.is_replaced
    with pytest.raises(StoreError, match="another run has begun anew"):
        (new.folder / "claims").rmdir()
        old.claim("one")


def test_no_board_is_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "board").mkdir()
    (tmp_path / "board" / "jobs.json").write_text('{"made_with": {}, "jobs": []}')
    for folder in (tmp_path / "board", tmp_path / "none"):
        with pytest.raises(StoreError, match=f"{folder} is no board"):
            Board.read(folder)
