"""The verb that shows what no suite needs any more, and frees it."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.console import ALL_DONE, SOME_FAILED, complain, out, warn_of_plugins
from harness.errors import ConfigError
from harness.wording import size

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.storage.dependents import Dependent
    from harness.storage.freeing import Freed
    from harness.storage.leftovers import Leftover
    from harness.storage.store import Store

_MAX_LISTED = 20
_FILES = "plugin_files="


def gc_verb(options: argparse.Namespace) -> int:
    """Show what can be removed; with `--yes` remove it."""
    from harness.storage.cache import cache_folder
    from harness.storage.freeing import Freed
    from harness.storage.plans_at_work import freeing

    cache = cache_folder()
    freed = Freed()
    # Plans are read in the turn too: a run that ended a moment before has written down another.
    with freeing(cache) if options.yes else nullcontext():
        is_named = any(not word.startswith(_FILES) for word in options.words)
        elsewhere = [] if is_named else _elsewhere(cache)
        suites = _suites(options.words, elsewhere, cache)
        found = _found(suites, elsewhere, cache, options)
        if options.yes:
            freed.set_aside(found)
    freed.delete()
    kept = [store.results for _, store in suites] + [dependent.results for dependent in elsewhere]
    if options.json:
        _print_json(kept, found, freed, options.yes)
    else:
        _show(kept, freed.freed if options.yes else found, is_freed=options.yes)
    _complain(freed)
    return SOME_FAILED if freed.failed else ALL_DONE


def _elsewhere(cache: Path) -> list[Dependent]:
    """The results in other folders that rest on the cache."""
    from harness.storage.dependents import dependents

    here = Path("results").absolute()
    return [own for own in dependents(cache) if own.results.parent != here and not own.is_gone]


def _found(
    suites: Sequence[tuple[Plan, Store]], elsewhere: Sequence[Dependent], cache: Path, options: argparse.Namespace
) -> list[Leftover]:
    from harness.report.wandb_runs import earlier_runs
    from harness.storage.leftovers import Kept, leftovers

    kept = Kept()
    for plan, store in suites:
        kept.add(plan, store)
    for dependent in elsewhere:
        kept.needed |= set(dependent.artefacts)
    of_runs = [leftover for plan, store in suites for leftover in earlier_runs(plan, store.results)]
    return [*leftovers(cache, kept, captures=options.captures, models=options.models), *of_runs]


def _suites(words: Sequence[str], elsewhere: Sequence[Dependent], cache: Path) -> list[tuple[Plan, Store]]:
    """The suites whose plans say what is kept: those named, or all that have results where the user stands."""
    files = [word for word in words if word.startswith(_FILES)]
    kept = [word for word in words if word not in files]
    found = [suite for word in kept or ["results"] for suite in _named(word, files)]
    if not found and not elsewhere:
        raise ConfigError(
            f"gc: no suite has run with {cache}, and there are no results in {Path.cwd() / 'results'}, so nothing "
            "would be kept. Name the suites to keep: harness gc suite=NAME, or a folder of results."
        )
    return found


def _named(word: str, files: Sequence[str]) -> list[tuple[Plan, Store]]:
    """The suite `suite=NAME`, as its last run wrote it down; or those of a results folder, or of a folder of such.

    Args:
        word: the suite or folder.
        files: `plugin_files=[...]`, if given, which stands for the plugin files of every suite.
    """
    from harness.planning.config import compose, default_name
    from harness.planning.plan import build_plan
    from harness.storage.store import RESOLVED, Store, results_folder

    key, is_suite, name = word.partition("=")
    if is_suite and key != "suite":
        raise ConfigError(f"gc: {word!r} is neither suite=NAME nor a folder of results. See harness gc --help.")
    if is_suite:
        stored = [results_folder(default_name(name)) / RESOLVED]
        if not stored[0].exists():
            suite, _ = compose([word, *files], only_reads=True)
            return [(build_plan(suite), Store.of(results_folder(suite.config.name)))]
    else:
        stored = sorted([*Path(word).glob(RESOLVED), *Path(word).glob(f"*/{RESOLVED}")])
        if not stored and word != "results":
            raise ConfigError(f"gc: {word!r} has no {RESOLVED}, and no folder in it has. Name a folder of results.")
    return [(_read(path, files), Store.of(path.parent)) for path in stored]


def _read(stored: Path, files: Sequence[str]) -> Plan:
    """The plan of a stored suite; what it needs is not known where it can't be read, so nothing is freed then."""
    from harness.planning.config import load_resolved
    from harness.planning.plan import build_plan

    try:
        suite, catalog = load_resolved(stored, files)
        warn_of_plugins(catalog)
        return build_plan(suite)
    except ConfigError as error:
        advice = f"gc: nothing is freed, as it is not known what {stored} needs. Name the suites to keep without it."
        raise ConfigError([*(f"{stored}: {problem}" for problem in error.problems), advice]) from error


def _show(kept: Sequence[Path], found: Sequence[Leftover], *, is_freed: bool) -> None:
    from harness.cli.display import table
    from harness.storage.cache import cache_folder

    alike: dict[tuple[str, str], list[Leftover]] = {}
    for leftover in found:
        alike.setdefault((leftover.kind, leftover.why), []).append(leftover)
    rows = []
    for (kind, why), own in alike.items():
        listed = own if len(own) <= _MAX_LISTED else []
        rows += [[kind, _name(one.path), why, size(one.n_bytes)] for one in listed]
        if not listed:
            n_bytes = sum(one.n_bytes for one in own)
            rows.append([kind, f"{len(own):,}, such as {_name(own[0].path)}", why, size(n_bytes)])
    if rows:
        out.print(table(f"In {cache_folder()}", ["kind", "name", "why", "size"], rows, numbers=["size"]))
    by_kind: Counter[str] = Counter()
    for leftover in found:
        by_kind[leftover.kind] += leftover.n_bytes
    parts = ", ".join(f"{kind} {size(n_bytes)}" for kind, n_bytes in by_kind.most_common() if n_bytes)
    total = f"{size(by_kind.total())} in {len(found):,}" + (f" ({parts})" if parts else "")
    names = ", ".join(str(_name(folder)) for folder in kept)
    lines = [f"\n{'freed' if is_freed else 'to free'}: {total}", f"kept: what {names} need, and runs that are at work"]
    lines += ["nothing is removed yet; --yes removes it"] if found and not is_freed else []
    for line in lines:
        out.print(line, highlight=False, soft_wrap=True, markup=False)


def _name(path: Path) -> Path:
    """The path as seen from the cache, or from where the user stands."""
    from harness.storage.cache import cache_folder

    folders = [folder for folder in (cache_folder(), Path.cwd()) if path.is_relative_to(folder)]
    return path.relative_to(folders[0]) if folders else path


def _print_json(kept: Sequence[Path], found: Sequence[Leftover], freed: Freed, is_asked: bool) -> None:
    gone = {leftover.path for leftover in freed.freed}
    lines = [
        {"kind": one.kind, "path": str(one.path), "why": one.why, "bytes": one.n_bytes, "freed": one.path in gone}
        for one in found
    ]
    n_bytes = sum(one.n_bytes for one in (freed.freed if is_asked else found))
    print(json.dumps({"kept": list(map(str, kept)), "leftovers": lines, "bytes": n_bytes}, indent=2))


def _complain(freed: Freed) -> None:
    if freed.in_use:
        complain(f"left {len(freed.in_use)} that a process is using, such as {freed.in_use[0].path}; try again later")
    for path, reason in freed.failed.items():
        complain(f"error: {path} can't be removed: {reason}. Look at who owns it and whether its disk can be written.")
