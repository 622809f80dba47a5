"""The verbs that take a suite: each is a function of the parsed options that gives the exit code.

What a verb needs is imported inside it: `list` and `plan` should not wait for pandas.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import display
from harness.cli.console import ALL_DONE, complain, err, out, warn_of_plugins
from harness.cli.signals import ending_well
from harness.cli.standing import name_damaged, print_states, relative, say_difference, show_states, summary
from harness.cli.verification import read_all
from harness.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.storage.store import Store
    from harness.tables.results import Results

_TOP = "top="
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
        print_states(plan, found, vars(costs) | vars(asked))
        return ALL_DONE
    say_difference(plan, store)
    show_states(plan, found)
    name_damaged(store)
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
    say_difference(plan, store)
    for warning in changed_code(plan, store, catalog):
        complain(f"warning: {warning}")
    remember(suite.config.plugin_files)
    started = time.perf_counter()
    todo = [plan.cells[key] for key, state in before.items() if state.is_todo]
    with ending_well(), display.TerminalDisplay(err) as shown:
        ended = run(plan, store, shown)
    remember_timings(todo, plan, store)
    if not _has_shown(plan, store):
        with ending_well(), display.TerminalDisplay(err) as shown:
            ended = run(plan, store, shown)
        _show(plan, store)
    if todo:
        line = display.against_plan(expected, time.perf_counter() - started, stored_bytes(todo, store))
        out.print(f"\n{line}", highlight=False, soft_wrap=True)
    return summary(plan, store, ended)


def _has_shown(plan: Plan, store: Store) -> bool:
    """Show what came of a run; False if damaged artefacts, which are discarded, are in the way of it."""
    from harness.storage.made import SHOWN_KINDS
    from harness.storage.repair import discard_damaged
    from harness.storage.store import DamagedArtefact

    if plan.suite.config.wandb.mode == "disabled" and _is_shown_again(plan, store):
        return True
    try:
        _show(plan, store)
    except DamagedArtefact:
        shown = {key: cell for key, cell in plan.cells.items() if cell.kind in SHOWN_KINDS}
        if not discard_damaged(replace(plan, cells=shown), store, complain, read=True):
            raise
        return False
    return True


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

    plan, store = read_plan(options.words)
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

    plan, store = read_plan(options.words)
    found = states(plan, store)
    if options.json:
        print_states(plan, found)
    else:
        show_states(plan, found)
    name_damaged(store)
    return ALL_DONE


def leaderboard_verb(options: argparse.Namespace) -> int:
    """The methods, by model and site, from what is done so far; with top=K their best understood units."""
    from harness.cli.printed import print_boards, printed
    from harness.storage.made import source_of
    from harness.storage.states import outcome

    asked = [word for word in options.words if word.startswith(_TOP)]
    plan, store = read_plan([word for word in options.words if word not in asked])
    if asked:
        return _show_top(plan, store, asked[-1].removeprefix(_TOP), options.json)
    text = None if options.json else printed(store, source_of(plan, store))
    # Reads all records: boards that were printed before show those that are damaged by now.
    ended = None if text is None else outcome(plan, store)
    if text is not None and not store.damaged:
        out.file.write(text)
    else:
        from harness.tables.results import Results

        results = Results.of(plan, store)
        if options.json:
            print(json.dumps(results.boards_as_json(), indent=2))
            name_damaged(store)
            return ALL_DONE
        print_boards(store, results)
    summary(plan, store, ended or outcome(plan, store))
    name_damaged(store)
    return ALL_DONE


def _show_top(plan: Plan, store: Store, n_top: str, as_json: bool) -> int:
    """The best understood units of each decomposition."""
    from harness.cli import boards
    from harness.tables.labels import labelled
    from harness.tables.top_units import top_units
    from harness.views.top_units import top_views

    if not n_top.isdecimal() or int(n_top) < 1:
        raise ConfigError(f"leaderboard: top is {n_top!r}; give how many units are chosen, such as top=16.")
    board = top_units(plan, store, int(n_top))
    if not len(board):
        raise ConfigError(
            "leaderboard: no scorer here has given verdicts on windows, so no units can be chosen. Add one that does, "
            "such as scorers=[token_lookup], and run it."
        )
    board = labelled(board, plan.suite)
    if as_json:
        print(json.dumps(json.loads(board.to_json(orient="records", double_precision=15)), indent=2))
        return ALL_DONE
    for view in top_views(board):
        for part in boards.draw(view, out.width):
            out.print(part)
    return ALL_DONE


def report_verb(options: argparse.Namespace) -> int:
    """Write what is done so far as a page that opens from disk."""
    from harness.report.current import current_report
    from harness.storage.states import states

    plan, store = read_plan(options.words)
    page = current_report(plan, store)
    if page is not None:
        states(plan, store)  # reads all records: the page shows those that are damaged by now
    if page is None or store.damaged:
        from harness.report.page import write_report

        _check_writable(store.results)

        page = write_report(plan, store, _results(plan, store))
    name_damaged(store)
    out.print(f"Report: {relative(page)}", soft_wrap=True, markup=False, highlight=False)
    return ALL_DONE


def _check_writable(results: Path) -> None:
    """Refuse to write a report into another user's results; the one that is there may hide other secrets than this."""
    there = results / "report" / "index.html"
    if there.exists() and not os.access(results, os.W_OK):
        raise StoreError(
            f"no report can be written anew: you may not write in {results}. That of the last run lies there: {there}"
        )


def wandb_sync_verb(options: argparse.Namespace) -> int:
    """Log what is stored to W&B, any time after it was computed."""
    from harness.report.tracking import sync

    plan, store = read_plan(options.words)
    where = sync(plan, _results(plan, store), store.results, options.mode, lambda text: complain(f"warning: {text}"))
    name_damaged(store)
    out.print(f"logged to {where}", soft_wrap=True, markup=False, highlight=False)
    return ALL_DONE


def explain_verb(options: argparse.Namespace) -> int:
    """One latent's card, or the latents that were sampled."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # else loading a model draws over the card
    from harness.latents.lookup import SELECTORS, Explained

    chosen = {name: value for name, _, value in (word.partition("=") for word in options.words) if name in SELECTORS}
    plan, store = read_plan([word for word in options.words if word.partition("=")[0] not in SELECTORS])
    explained = Explained.find(plan, store, chosen)
    found = explained.card(chosen["latent"], chosen.get("sign")) if "latent" in chosen else explained.sampled()
    name_damaged(store)
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


def _store(name: str) -> Store:
    from harness.storage.store import Store, results_folder

    return Store.of(results_folder(name))


def read_plan(words: Sequence[str]) -> tuple[Plan, Store]:
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
    say_difference(plan, store)
    return plan, store


def _results(plan: Plan, store: Store) -> Results:
    """The results of a suite; an error if there are none."""
    from harness.tables.results import Results

    results = Results.of(plan, store)
    if results.is_empty:
        raise ConfigError(f"nothing of {plan.suite.config.name!r} is done yet; `harness run` it first.")
    return results
