"""The verbs that take a suite: each is a function of the parsed options that gives the exit code.

What a verb needs is imported inside it: `list` and `plan` should not wait for pandas.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cli import display
from harness.cli.console import ALL_DONE, SOME_FAILED, complain, err, out, warn_of_plugins
from harness.cli.signals import ending_well
from harness.cli.verification import read_all
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.planning.cells import Cell
    from harness.planning.plan import Plan
    from harness.storage.states import Outcome, State
    from harness.storage.store import Store
    from harness.tables.results import Results

_MAX_NAMED = 3
_MAX_LISTED = 200
_MAX_WARNINGS = 20
_SAME_SUITE = ("suite", "name", "plugin_files")
"""Words beside which a suite is read as its last run has written it down; any other asks for another one."""


def plan_verb(options: argparse.Namespace) -> int:
    """Say what a run would do, and what it would cost."""
    from harness.asking.judge_costs import judge_costs
    from harness.planning.config import compose
    from harness.planning.plan import build_plan
    from harness.running.devices import check_devices
    from harness.running.estimate import estimate
    from harness.running.machine import rate_cards
    from harness.storage.states import states

    suite, catalog = compose(options.words)
    warn_of_plugins(catalog)
    check_devices(suite, rate_cards())
    plan = build_plan(suite)
    store = _store(suite.config.name)
    found = states(plan, store)
    costs, asked = estimate(plan, found, store), judge_costs(plan, found, catalog)
    if options.json:
        _print_states(plan, found, vars(costs) | vars(asked))
        return ALL_DONE
    _say_difference(plan, store)
    _show_states(plan, found)
    _name_damaged(store)
    todo = [cell for cell in plan.cells.values() if found[cell.key].is_todo]
    passes = len({cell.group for cell in todo if cell.kind == "capture"})
    streams = len({(cell.group, cell.columns["seed"]) for cell in todo if cell.kind == "fit"})
    out.print(f"\n{len(found)} cells, {len(todo)} to do: {passes} forward passes, {streams} streams shared by learners")
    for line in display.costs(costs, asked):
        out.print(line, highlight=False)
    return ALL_DONE


def run_verb(options: argparse.Namespace) -> int:
    """Do what is not done yet, then write the tables."""
    from harness.planning.config import compose
    from harness.planning.plan import build_plan
    from harness.registry.known_files import remember
    from harness.running.devices import check_devices
    from harness.running.estimate import check_budget, estimate, remember_timings, stored_bytes
    from harness.running.runner import changed_code, run
    from harness.storage.filesystem import other_spelling
    from harness.storage.states import states

    suite, catalog = compose(options.words)
    warn_of_plugins(catalog)
    check_devices(suite)
    plan, store = build_plan(suite), _store(suite.config.name)
    if other := other_spelling(store.results):
        raise ConfigError(f"name: {store.results.name!r} and {other.name!r} are one folder on this disk; give another.")
    if options.verify:
        read_all(plan, store)
    before = states(plan, store)
    expected = estimate(plan, before, store)
    check_budget(expected, suite.config)
    _say_difference(plan, store)
    for warning in changed_code(plan, store, catalog):
        complain(f"warning: {warning}")
    remember(suite.config.plugin_files)
    started = time.perf_counter()
    with ending_well(), display.TerminalDisplay(err) as shown:
        ended = run(plan, store, shown)
    todo = [plan.cells[key] for key, state in before.items() if state.is_todo]
    remember_timings(todo, plan, store)
    if suite.config.wandb.mode != "disabled" or not _is_shown_again(plan, store):
        _show(plan, store)
    if todo:
        line = display.against_plan(expected, time.perf_counter() - started, stored_bytes(todo, store))
        out.print(f"\n{line}", highlight=False, soft_wrap=True)
    return _summary(plan, store, ended)


def _is_shown_again(plan: Plan, store: Store) -> bool:
    """Print the boards as before, and return True, if tables and report are there and nothing has changed."""
    from harness.cli.printed import printed
    from harness.report.current import current_report
    from harness.storage.made import Made, source_of
    from harness.tables.sealed_tables import table_damage

    source = source_of(plan, store)
    has_tables = Made(store.results).is_current("tables", source)
    if damage := table_damage(store.results / "tables"):
        complain(f"warning: {damage}. All tables are written again.")
        has_tables = False
    text = printed(store, source) if has_tables and current_report(plan, store) is not None else None
    if text is not None:
        out.file.write(text)
    return text is not None


def _show(plan: Plan, store: Store) -> None:
    """Write the tables and the report, log them, and print the boards."""
    from harness.cli.printed import print_boards
    from harness.report.current import current_report
    from harness.report.page import write_report
    from harness.report.tracking import track
    from harness.tables.results import Results

    results = Results.of(plan, store)
    results.write(store.results)
    if current_report(plan, store) is None:
        write_report(plan, store, results)
    track(plan, results, store.results, lambda text: complain(f"warning: {text}"))
    print_boards(store, results)


def work_verb(options: argparse.Namespace) -> int:
    """Do jobs of a suite beside others, on this machine or another, until nothing is left."""
    from harness.running.devices import check_devices
    from harness.running.runner import work
    from harness.storage.processes import end_with_parent

    plan, store = _read_plan(options.words)
    check_devices(plan.suite)
    if options.board:  # started by a run
        end_with_parent(lambda: os.kill(os.getpid(), signal.SIGTERM))
    with ending_well(), display.TerminalDisplay(err) as shown:
        n_done = work(plan, store, shown, options.board)
    name = plan.suite.config.name
    out.print(f"{n_done} cells done here; nothing is left to take. `harness run` of {name} writes its tables.")
    return ALL_DONE


def status_verb(options: argparse.Namespace) -> int:
    """Show where every cell stands."""
    from harness.storage.states import states

    plan, store = _read_plan(options.words)
    found = states(plan, store)
    if options.json:
        _print_states(plan, found)
    else:
        _show_states(plan, found)
    _name_damaged(store)
    return ALL_DONE


def leaderboard_verb(options: argparse.Namespace) -> int:
    """The methods, by model and site, from what is done so far."""
    from harness.cli.printed import print_boards, printed
    from harness.storage.made import source_of
    from harness.storage.states import outcome

    plan, store = _read_plan(options.words)
    text = None if options.json else printed(store, source_of(plan, store))
    if text is not None:
        outcome(plan, store)  # reads all records: boards that were printed before show those that are damaged by now
    if text is not None and not store.damaged:
        out.file.write(text)
    else:
        from harness.tables.results import Results

        results = Results.of(plan, store)
        if options.json:
            print(json.dumps(results.boards_as_json(), indent=2))
            _name_damaged(store)
            return ALL_DONE
        print_boards(store, results)
    _summary(plan, store, outcome(plan, store))
    _name_damaged(store)
    return ALL_DONE


def report_verb(options: argparse.Namespace) -> int:
    """Write what is done so far as a page that opens from disk."""
    from harness.report.current import current_report
    from harness.storage.states import states

    plan, store = _read_plan(options.words)
    page = current_report(plan, store)
    if page is not None:
        states(plan, store)  # reads all records: the page shows those that are damaged by now
    if page is None or store.damaged:
        from harness.report.page import write_report

        page = write_report(plan, store, _results(plan, store))
    _name_damaged(store)
    out.print(f"Report: {_relative(page)}", soft_wrap=True, markup=False, highlight=False)
    return ALL_DONE


def wandb_sync_verb(options: argparse.Namespace) -> int:
    """Log what is stored to W&B, any time after it was computed."""
    from harness.report.tracking import sync

    plan, store = _read_plan(options.words)
    where = sync(plan, _results(plan, store), store.results, options.mode, lambda text: complain(f"warning: {text}"))
    _name_damaged(store)
    out.print(f"logged to {where}", soft_wrap=True, markup=False, highlight=False)
    return ALL_DONE


def explain_verb(options: argparse.Namespace) -> int:
    """One latent's card, or the latents that were sampled."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # else loading a model draws over the card
    from harness.latents.lookup import SELECTORS, Explained

    chosen = {name: value for name, _, value in (word.partition("=") for word in options.words) if name in SELECTORS}
    plan, store = _read_plan([word for word in options.words if word.partition("=")[0] not in SELECTORS])
    explained = Explained.find(plan, store, chosen)
    found = explained.card(chosen["latent"], chosen.get("sign")) if "latent" in chosen else explained.sampled()
    _name_damaged(store)
    if options.json:
        print(json.dumps(found, indent=2))
        return ALL_DONE
    from harness.cli.cards import draw_card, draw_list

    if "latent" in chosen:
        drawn = draw_card(explained.label, found, has_colour=out.color_system is not None)
    else:
        drawn = draw_list(explained.label, found)
    for part in drawn:
        out.print(part)
    return ALL_DONE


def _name_damaged(store: Store) -> None:
    """Print which records can't be used, and what comes of it."""
    damages = list(store.damaged.values())
    for damage in damages[:_MAX_WARNINGS]:
        complain(f"warning: {damage}. Its cell counts as to do; `harness run` sets the record aside and does it again.")
    if len(damages) > _MAX_WARNINGS:
        complain(f"warning: and {len(damages) - _MAX_WARNINGS:,} more records; `harness status` lists them.")


def _store(name: str) -> Store:
    from harness.storage.store import Store, results_folder

    return Store.of(results_folder(name))


def _read_plan(words: Sequence[str]) -> tuple[Plan, Store]:
    """The plan that the last run of a suite wrote down, unless overrides ask for another."""
    from harness.planning.config import compose, default_name, load_resolved
    from harness.planning.plan import build_plan
    from harness.storage.store import RESOLVED

    named = {key: value for key, _, value in (word.partition("=") for word in words) if key in _SAME_SUITE}
    store = _store(named.get("name") or default_name(named.get("suite", "")))
    stored = store.results / RESOLVED
    if len(named) == len(words) > 0 and stored.exists():
        suite, catalog = load_resolved(stored, words)
    else:
        suite, catalog = compose(words, only_reads=True)
        store = _store(suite.config.name)
    warn_of_plugins(catalog)
    plan = build_plan(suite)
    _say_difference(plan, store)
    return plan, store


def _say_difference(plan: Plan, store: Store) -> None:
    """Print in what the resolved config differs from that of the last run."""
    from harness.planning.config import differences
    from harness.storage.store import RESOLVED

    stored = store.results / RESOLVED
    if stored.exists():
        for line in differences(stored, plan.suite.config):
            complain(f"differs from {_relative(stored)}: {line}")


def _show_states(plan: Plan, found: dict[str, State]) -> None:
    alike: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for key, state in found.items():
        cell = plan.cells[key]
        alike[cell.kind, state.name, state.reason or ""].append(cell.label)
    rows = []
    for (kind, name, reason), labels in alike.items():
        if len(labels) > _MAX_LISTED:
            labels = [f"{len(labels):,} cells, such as {labels[0]}; --json lists all"]
        rows += [[kind, name, label, reason] for label in labels]
    out.print(display.table(f"Suite {plan.suite.config.name}", ["kind", "state", "cell", "why"], rows))


def _results(plan: Plan, store: Store) -> Results:
    """The results of a suite; an error if there are none."""
    from harness.tables.results import Results

    results = Results.of(plan, store)
    if results.is_empty:
        raise ConfigError(f"nothing of {plan.suite.config.name!r} is done yet; `harness run` it first.")
    return results


def _print_states(plan: Plan, found: dict[str, State], costs: dict[str, Any] | None = None) -> None:
    cells = []
    for key, state in found.items():
        cell = plan.cells[key]
        known = {"key": key, "kind": cell.kind, "label": cell.label, "group": cell.group}
        cells.append({**known, "state": state.name, "reason": state.reason})
    print(json.dumps({"suite": plan.suite.config.name, "cells": cells} | ({"to_do": costs} if costs else {}), indent=2))


def _summary(plan: Plan, store: Store, ended: Outcome) -> int:
    """Print how a suite stands, what failed and why; return the exit code."""
    counts = ", ".join(f"{n} {name}" for name, n in sorted(ended.counts.items()))
    tables = store.results / "tables"
    where = f"Tables: {_relative(tables)}." if tables.exists() else "No tables yet: `harness run` makes them."
    out.print(f"\n{counts}. {where}", highlight=False, soft_wrap=True, markup=False)
    for reason, cells in ended.skipped.items():
        complain(f"skipped {len(cells)}: {_named(cells, plan)}: {reason}")
    for cell, state in ended.failed:
        record = store.end(cell.key)
        log = f" Log: {_relative(store.results / record.log)}" if record and record.log else ""
        complain(f"failed: {cell.label}: {state.reason}{log}")
    if ended.skipped and not ended.has_answers:
        complain("nothing that the suite asks could be done: what it rests on was skipped, for the reasons above.")
        return SOME_FAILED
    return SOME_FAILED if ended.failed or ended.counts["to do"] else ALL_DONE


def _named(cells: Sequence[Cell], plan: Plan) -> str:
    """Cells by their labels if they are few, else by their methods."""
    names = [cell.label for cell in cells]
    if len(names) > _MAX_NAMED:
        methods = (plan.suite.label("method", cell.columns) if cell.columns.get("method") else "" for cell in cells)
        names = list(dict.fromkeys(own or name for own, name in zip(methods, names, strict=True)))
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + rest


def _relative(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
