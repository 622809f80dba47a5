"""The worker's events reach its parent whatever a plugin does to the standard streams."""

from __future__ import annotations

import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from harness.capturing.chunks import Range
from harness.planning.cells import Cell
from harness.running.logs import MAX_BYTES
from harness.running.supervisor import Supervisor
from harness.storage.records import Record
from harness.storage.store import Store

LOUD = """
    import os
    import sys

    import harness

    print("hello from a plugin")
    os.write(1, b"hello again\\n")
    assert sys.stdin.readline() == ""

    @harness.hookimpl
    def harness_specs():
        factory = "loud:Loud"
        return [harness.Spec(kind="evaluation", name="loud", version=1, summary="prints", factory=factory)]
"""


def _cell(plugin: Path) -> Cell:
    """It fails, as its capture is missing; what matters here is that its end is heard of."""
    work = {"capture": "none", "fit_capture": "none", "max_norm_multiple": 10.0, "evaluation": {"name": "loud"}}
    return Cell("evaluation", "k" * 32, "loud", "group", work, {}, plugin_files=(str(plugin),))


def test_a_plugin_that_prints_and_asks_for_input_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "loud.py").write_text(dedent(LOUD))
    store = Store.of(tmp_path / "results")
    events: list[dict[str, Any]] = []
    cell = _cell(tmp_path / "loud.py")
    with Supervisor(store, "cpu", events.append) as supervisor:
        supervisor.run([cell])
    assert [event["event"] for event in events] == ["worker", "cell"]
    record = store.record(cell.key)
    assert record is not None and record.error is not None and "missing or damaged" in record.error
    log = (tmp_path / "results" / "logs" / "worker.txt").read_text()
    assert "hello from a plugin" in log and "hello again" in log


@pytest.mark.parametrize("n_deaths", [0, 1, 2])
def test_a_range_of_cells_is_tried_twice_and_no_cell_is_blamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_deaths: int
) -> None:
    """The job that ends the cells does what is left, and finds out which of them kills."""
    supervisor, tried = Supervisor(Store.of(tmp_path), "cpu", [], lambda event: None), list[object]()

    def attempt(cells: list[Cell], part: Range) -> list[Cell]:
        tried.append(part)
        return cells if len(tried) <= n_deaths else []

    monkeypatch.setattr(supervisor, "attempt", attempt)
    supervisor.run_range([_cell(tmp_path)], Range(1, 3))
    assert tried == [Range(1, 3)] * min(n_deaths + 1, 2)
    assert supervisor.store.record(_cell(tmp_path).key) is None


ODD = """
    import os
    import time

    import harness

    def make(*_):
        child = os.fork()  # it holds the pipes, and whatever else was open
        if not child:
            time.sleep(1000)
        open("CHILD", "w").write(str(child))
        WHAT

    @harness.hookimpl
    def harness_specs():
        return [harness.SimilaritySpec(name="odd", version=1, summary="odd", factory=make, needs=("atoms",))]
"""


def _end_of_odd(folder: Path, what: str, cell_minutes: float | None, monkeypatch: pytest.MonkeyPatch) -> Record:
    """The record of a cell whose plugin starts a process that stays, and then does something."""
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
    (folder / "odd.py").write_text(dedent(ODD).replace("WHAT", what).replace("CHILD", str(folder / "child")))
    work = {"a": {"fit": "f"}, "b": {"fit": "g"}, "similarity": {"name": "odd", "params": {}}}
    cell = Cell("similarity", "s" * 32, "odd", "group", work, {}, plugin_files=(str(folder / "odd.py"),))
    store = Store.of(folder / "results")
    with Supervisor(store, "cpu", lambda event: None, cell_minutes=cell_minutes) as supervisor:
        supervisor.run([cell])
    status = Path("/proc") / (folder / "child").read_text() / "status"
    deadline = time.monotonic() + 5  # for the system to end it
    while status.exists() and "Z (zombie)" not in status.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    record = store.record(cell.key)
    assert record is not None and record.status == "failed"
    return record


@pytest.mark.usefixtures("warm_workers")
def test_a_plugin_that_hangs_is_ended_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = _end_of_odd(tmp_path, "time.sleep(1000)", 0.02, monkeypatch)
    assert record.error_type == "TimeLimit"
    assert record.error is not None and "longer than cell_minutes, 0.02, and was ended" in record.error


def test_a_worker_that_hangs_before_it_is_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.running.supervisor._SECONDS_TO_START", 0.5)
    monkeypatch.setattr(Supervisor, "send", lambda *_: None)  # it waits for its setting
    supervisor = Supervisor(Store.of(tmp_path), "cpu", lambda event: None, cell_minutes=0.01)
    with supervisor:
        assert supervisor.attempt([_cell(tmp_path)]) and supervisor.is_overdue and supervisor.process is None


@pytest.mark.usefixtures("warm_workers")
def test_a_worker_that_dies_is_not_waited_for_because_of_its_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = _end_of_odd(tmp_path, "os._exit(7)", None, monkeypatch)
    assert record.error_type == "ProcessDied"
    assert record.error is not None and "(exit code 7)" in record.error


BAD = """
    import json
    import os
    import sys

    import harness

    class Mute(BaseException):
        def __str__(self):
            raise SystemExit(4)

    def make(*_):
        WHAT

    @harness.hookimpl
    def harness_specs():
        return [harness.SimilaritySpec(name="bad", version=1, summary="bad", factory=make, needs=("atoms",))]
"""
_NO_FITS = "missing or damaged"
"""Part of the error of a cell whose plugin has not done anything that matters: there are no fits to compare."""
_WRITES_EVERYWHERE = """
        for fd in range(3, 64):
            try:
                os.write(fd, b'{"event": "job done"}\\n[]\\nx {"event": "cell"}\\n' + b"q" * 3_000_000)
            except OSError:
                pass
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("raise Mute", "(its text can't be had: SystemExit)"),
        ("raise RuntimeError('x' * 3_000_000)", "x … (cut: it has 3,000,000 characters)"),
        (r"raise RuntimeError('\udc80')", r"\udc80"),
        ("sys.stdout = sys.stderr = None", _NO_FITS),
        ("sys.stdout.close(), sys.stderr.close()", _NO_FITS),
        (_WRITES_EVERYWHERE, _NO_FITS),
        ("os.closerange(0, 64)", "while doing this cell alone"),
        ("json.dumps = lambda *_, **__: '{}'", "its worker told nonsense"),
        ("json.dump = lambda _, file, **__: file.write('{}')", "is missing or damaged"),
    ],
)
@pytest.mark.usefixtures("warm_workers")
def test_a_plugin_that_breaks_its_worker_costs_its_cell_alone(
    what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[dict[str, Any]] = []
    record, _ = _end_of_bad(tmp_path, what, monkeypatch, events)
    assert record.status == "failed" and record.error is not None and told in record.error
    assert len(record.error) < 2_100
    assert [event["status"] for event in events if event["event"] == "cell"] == ["failed"]


@pytest.mark.usefixtures("warm_workers")
def test_a_log_keeps_its_begin_and_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flood = "os.write(1, b'first'); [os.write(1, b'y' * 1_000_000) for _ in range(9)]"
    record, store = _end_of_bad(tmp_path, flood, monkeypatch, [])
    log = (store.results / str(record.log)).read_text()
    assert len(log) < MAX_BYTES
    assert log.startswith("first") and "cut here" in log and _NO_FITS in log


@pytest.mark.usefixtures("warm_workers")
def test_a_copy_of_the_worker_that_a_fork_has_made_does_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker waits for its copy, which would otherwise say that the job is done, and wait for the next."""
    what = "child = os.fork(); child and (os.waitpid(child, 0), open(f'{__file__}.waited', 'w').close())"
    record, _ = _end_of_bad(tmp_path, what, monkeypatch, [])
    assert _NO_FITS in str(record.error)
    assert (tmp_path / "bad.py.waited").exists()


@pytest.mark.usefixtures("warm_workers")
def test_secrets_in_an_error_are_in_no_record_and_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQL_PWD", "opensesame-42")
    events: list[dict[str, Any]] = []
    token = f"hf_{'a1' * 20}"
    what = f"print('left'); raise RuntimeError('x' * 1_990 + os.environ['MYSQL_PWD'] + '{token}')"
    record, store = _end_of_bad(tmp_path, what, monkeypatch, events)
    told = f"{record} {events} {(store.results / str(record.log)).read_text()}"
    assert "left" in told and "[hidden]" in told
    assert "opense" not in told and "hf_" not in told.replace("+ '{token}'", "")


def _end_of_bad(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch, events: list[dict[str, Any]]
) -> tuple[Record, Store]:
    monkeypatch.setenv("HARNESS_CACHE", str(folder / "cache"))
    (folder / "bad.py").write_text(dedent(BAD).replace("WHAT", what))
    store = Store.of(folder / "results")
    cell = _compared("b" * 32, str(folder / "bad.py"))
    with Supervisor(store, "cpu", events.append) as supervisor:
        supervisor.run([cell])
    record = store.record(cell.key)
    assert record is not None
    return record, store


def _compared(key: str, *plugin_files: str) -> Cell:
    work = {"a": {"fit": "f"}, "b": {"fit": "g"}, "similarity": {"name": "bad", "params": {}}}
    return Cell("similarity", key, key, "group", work, {}, plugin_files=plugin_files)


@pytest.mark.usefixtures("warm_workers")
def test_code_of_a_plugin_file_never_runs_in_the_worker_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "bad.py").write_text(dedent(BAD).replace("WHAT", "pass"))
    store, file = Store.of(tmp_path / "results"), str(tmp_path / "bad.py")
    events: list[str] = []
    with Supervisor(store, "cpu", lambda event: events.append(event["event"])) as supervisor:
        for key, files in (("1" * 32, ()), ("2" * 32, (file,)), ("3" * 32, (file,)), ("4" * 32, ())):
            supervisor.run([_compared(key, *files)])
    assert events == ["worker", "cell", "worker", "cell", "cell", "worker", "cell"]
    told = [str(store.record(digit * 32)) for digit in "1234"]
    assert ["unknown similarity 'bad'" in record for record in told] == [True, False, False, True]


def test_what_is_left_of_a_job_that_died_is_tried_in_halves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 32 cells kills its worker: it is found in few attempts, and it alone fails."""
    deadly, n_cells = 19, 32
    cells = [Cell("fit", f"{place:032x}", str(place), "group", {}, {}) for place in range(n_cells)]
    attempts: list[int] = []

    def attempt(self: Supervisor, given: list[Cell]) -> list[Cell]:
        attempts.append(len(given))
        return given[given.index(cells[deadly]) :] if cells[deadly] in given else []

    buried: list[Cell] = []
    monkeypatch.setattr(Supervisor, "attempt", attempt)
    monkeypatch.setattr(Supervisor, "bury", lambda self, cell: buried.append(cell))
    with Supervisor(Store.of(tmp_path / "results"), "cpu", lambda event: None) as supervisor:
        supervisor.run(cells)
    assert buried == [cells[deadly]]
    assert attempts[0] == n_cells and attempts.count(1) >= 2 and len(attempts) < 12
