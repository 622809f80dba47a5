"""Runs a plan: puts up a board with the jobs that are to do, or joins one, and waits until every cell has a record."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any, Protocol

import filelock

from harness.errors import HarnessError, StoreError
from harness.planning.cells import Cell
from harness.planning.config import write_resolved
from harness.planning.plan import Plan
from harness.registry.plugin_manager import Catalog
from harness.running.agent import Agent
from harness.running.board import FOLDER, Board
from harness.running.checkout import check_same, made_with, put_probe
from harness.running.crews import crew_of, n_workers
from harness.running.crews.crew import Crew, Events
from harness.running.estimate import seconds_per_cell
from harness.running.jobs import jobs_of
from harness.running.repairs import Repairs
from harness.running.speaker import Speaker
from harness.running.vanished import Vanished
from harness.storage.dependents import write_down
from harness.storage.locks import file_lock
from harness.storage.plans_at_work import at_work
from harness.storage.records import of_artefact
from harness.storage.repair import discard_damaged
from harness.storage.states import Outcome, State, outcome, states
from harness.storage.store import ARTEFACT_KINDS, RESOLVED, Store
from harness.storage.temporaries import sweep

_SECONDS_PER_LOOK = 0.1
_SECONDS_PER_NAMING = 60.0
_MAX_NAMED = 20


class Display(Protocol):
    """Shows the progress of a run to whoever waits for it."""

    def say(self, text: str) -> None: ...

    def begin(self, n_cells: int) -> None: ...

    def event(self, event: dict[str, Any], cell: Cell | None) -> None: ...

    def at_work(self, working: Sequence[tuple[str, Sequence[Cell]]]) -> None:
        """Show, every minute, which process has which cells left of its job."""


def run(plan: Plan, store: Store, display: Display) -> Outcome:
    """Do all cells that are to do. A failure becomes a record; cells that were done stay done.

    Cells that were made from an artefact which is now made anew, with other bytes, are done as well.
    """
    vanished, repairs, outdated = Vanished(plan, store), Repairs(plan, store), set[str]()
    while True:
        with at_work(store.cache, _artefacts(plan)):
            is_whole, before = _attempt(plan, store, display, vanished, repairs)
        if is_whole:
            ended = outcome(plan, store, before)
            if not repairs.take_turn(ended) and not store.damaged.keys() - outdated:
                return outcome(plan, store, before) if repairs.gave_up else ended
            outdated |= store.damaged.keys()


def _attempt(
    plan: Plan, store: Store, display: Display, vanished: Vanished, repairs: Repairs
) -> tuple[bool, dict[str, State]]:
    """Do what is to do; give False if folders of the run have vanished meanwhile, and the states before."""
    board, speaker, before = _board(plan, store, display, vanished, repairs)
    if board is None or speaker is None:
        return True, before
    forward = _forward(plan, display, vanished, repairs)
    try:
        with speaker.present(), crew_of(plan, store, board, forward) as crew:
            _wait(board, crew, forward, display, vanished)
            for key, text in board.damaged.items():  # some of it was said before this run joined
                forward({"event": "damaged", "key": key, "text": text})
    except (HarnessError, OSError):
        if (why := vanished.blame(board)) is None:
            raise
        display.say(why)
        return False, before
    return True, before


def work(plan: Plan, store: Store, display: Display, board_id: str | None = None) -> int:
    """Do jobs of a suite beside others, until nothing is left; return the number of cells that this process did.

    Args:
        plan: the plan.
        store: the store.
        display: told of what this process does.
        board_id: the only board to work at, for workers that a run has started; otherwise any, or a new one.
    """
    with at_work(store.cache, _artefacts(plan)):
        vanished, repairs = Vanished(plan, store), Repairs(plan, store)
        named = _board_named(board_id, store, display) if board_id else None
        board, speaker = (named, None) if board_id else _board(plan, store, display, vanished, repairs)[:2]
        if board is None:
            return 0
        check_same(board.made_with, plan, store)
        agent = Agent(board, plan, store, _forward(plan, display, vanished, repairs))
        with speaker.present() if speaker else nullcontext():
            agent.work()
        return agent.n_ended


def changed_code(plan: Plan, store: Store, catalog: Catalog) -> list[str]:
    """Warnings about single-file methods whose code has changed since stored fits were made, but not their version."""
    changed = []
    for cell in plan.of_kind("fit"):
        name = str(cell.work["method"]["name"])
        manifest = store.manifest("fit", cell.key)
        registered = catalog.find("method", name)
        if manifest and registered.is_file and manifest["provenance"].get("plugin_code") != registered.version:
            changed.append(
                f"method {name!r}: stored fits were made by another {registered.source} of the same version "
                f"{registered.spec.version}. If its results changed, raise the version in its Spec."
            )
    return list(dict.fromkeys(changed))


def _artefacts(plan: Plan) -> list[str]:
    return [key for key, cell in plan.cells.items() if cell.kind in ARTEFACT_KINDS]


def _board(
    plan: Plan, store: Store, display: Display, vanished: Vanished, repairs: Repairs
) -> tuple[Board | None, Speaker | None, dict[str, State]]:
    """The board of a plan, new or joined, and the states before it; no board where nothing is to do.

    This process speaks there at once: a board of which nobody is there would be replaced.
    """
    said = False
    while True:
        with _alone(store, display):
            found = _at_work(store)
            if found is None:
                board, before = _new_board(plan, store, display, vanished, repairs)
                return board, Speaker(board.folder, "run") if board else None, before
            if found.made_with["cells"] == made_with(plan, store)["cells"]:
                check_same(found.made_with, plan, store)
                display.say(f"another run is at work in {store.results}; joining it")
                display.begin(found.n_cells_left)
                return found, Speaker(found.folder, "run"), states(plan, store)
        if not said:
            who = ", ".join(str(peer.process) for peer in found.peers.values() if not peer.is_gone)
            display.say(f"a run with other cells is at work in {store.results} ({who}); waiting for it to end")
            said = True
        time.sleep(1)


def _at_work(store: Store) -> Board | None:
    """The board of a run that goes on; None if there is none, or all who worked at it are gone."""
    try:
        board = Board.read(store.results / FOLDER)
    except StoreError:
        return None
    return board if not board.is_complete and board.is_worked_on else None


def _board_named(board_id: str, store: Store, display: Display) -> Board | None:
    """The board of this id; None where it has been followed by another, so that nothing is left of it."""
    try:
        board = Board.read(store.results / FOLDER)
    except StoreError:
        return None
    if board.made_with["id"] != board_id:
        return None
    display.begin(board.n_cells_left)
    return board


def _new_board(
    plan: Plan, store: Store, display: Display, vanished: Vanished, repairs: Repairs
) -> tuple[Board | None, dict[str, State]]:
    sweep(store.results, depth=2)
    sweep(store.cache, depth=1)
    write_resolved(store.results / RESOLVED, plan.suite.config)
    write_down(store, _artefacts(plan))
    discard_damaged(plan, store, display.say)
    _set_records_aside(plan, store, display)
    _adopt(plan, store)
    vanished.record()
    before = states(plan, store)
    left_alone = vanished.cells.keys() | repairs.failed
    todo = [plan.cells[key] for key, state in before.items() if state.is_todo and key not in left_alone]
    display.begin(len(todo))
    if not todo:
        return None, before
    stacking = {method.name for method in plan.suite.methods if "stacks" in method.provides}
    jobs = jobs_of(todo, n_workers(plan.suite), seconds_per_cell(plan, store), stacking)
    made = made_with(plan, store)
    put_probe(made, store)
    return Board.make(store.results / FOLDER, jobs, made), before


def _wait(board: Board, crew: Crew, forward: Events, display: Display, vanished: Vanished) -> None:
    """Wait until all jobs are done, and show what happens elsewhere."""
    named_at = time.monotonic()
    while True:
        for name, event in board.refresh():
            if name not in crew.names:
                forward(event | {"agent": name})
        vanished.check(board)
        if board.is_complete:
            return
        if board.is_replaced:
            raise StoreError(f"another run has begun anew in {board.folder.parent}. Run the suite again, to join it.")
        crew.check()
        if time.monotonic() - named_at > _SECONDS_PER_NAMING:
            named_at = time.monotonic()
            cells = vanished.plan.cells
            display.at_work([(str(peer.process), [cells[key] for key in keys]) for peer, keys in board.at_work()])
        time.sleep(_SECONDS_PER_LOOK)


def _forward(plan: Plan, display: Display, vanished: Vanished, repairs: Repairs) -> Events:
    """Tell the display of events, of one worker at a time, and note what each is doing."""
    lock = threading.Lock()

    def forward(event: dict[str, Any]) -> None:
        with lock:
            vanished.note(event)
            if said := repairs.note(event):
                display.say(said)
            display.event(event, plan.cells.get(event.get("key", "")))

    return forward


@contextmanager
def _alone(store: Store, display: Display) -> Iterator[None]:
    """Let one process at a time look for a board and put one up."""
    store.results.mkdir(parents=True, exist_ok=True)
    lock = file_lock(store.results / ".lock")
    try:
        lock.acquire(timeout=1)
    except filelock.Timeout:
        display.say(f"another run begins in {store.results}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _set_records_aside(plan: Plan, store: Store, display: Display) -> None:
    """Name records that can't be used and set them aside; give those of an earlier version their checksums."""
    n_named = 0
    for key, cell in plan.cells.items():
        if damage := _record_damage(cell, store):
            n_named += 1
            if n_named <= _MAX_NAMED:
                display.say(f"{damage}: it is set aside, and {cell.label} is done again")
            store.set_record_aside(key)
        elif store.is_of_earlier_version(key) and (record := store.record(key)):
            store.write_record(key, replace(record, verdicts=store.verdicts_digest(key)))
    if n_named > _MAX_NAMED:
        display.say(f"and {n_named - _MAX_NAMED:,} more records, which are set aside and made again")


def _record_damage(cell: Cell, store: Store) -> str | None:
    record = store.end(cell.key)
    if record is None or cell.kind != "scoring" or record.incomplete:  # the latter is to do in any case
        return store.damaged.get(cell.key)
    if not store.is_of_earlier_version(cell.key):
        return store.verdicts_damage(cell.key)
    from harness.tables.verdicts import damage  # pyarrow takes long to import

    return damage(store, cell.key)


def _adopt(plan: Plan, store: Store) -> None:
    """Write records here for artefacts that another suite has made."""
    for key, cell in plan.cells.items():
        if cell.kind in ARTEFACT_KINDS and not cell.skipped and store.end(key) is None:
            manifest = store.whole(cell.kind, key)
            if manifest is not None:
                store.write_record(key, of_artefact(manifest))
