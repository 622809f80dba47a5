"""The verb that reads everything and names what is damaged."""

from __future__ import annotations

import argparse
import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from harness.cli.console import ALL_DONE, SOME_FAILED, complain, out
from harness.errors import ConfigError

if TYPE_CHECKING:
    from harness.planning.plan import Plan
    from harness.storage.store import Store
    from harness.storage.verification import Verified

_CACHE = "cache"


def verify_verb(options: argparse.Namespace) -> int:
    """Read everything and name what is damaged; nothing is changed."""
    from harness.storage.cache import cache_folder
    from harness.storage.store import Store
    from harness.storage.verification import Verified, keys_of

    verified, cache = Verified(), cache_folder()
    folders = [_results(word) for word in options.words if word != _CACHE]
    if not options.words:
        folders = sorted(path.parent for path in Path("results").glob("*/cells"))
    stores, has_all = [Store.of(folder) for folder in folders], not options.words or _CACHE in options.words
    for store in stores:
        verified.records(store)
    complain(f"reading {cache}")
    for store in [Store.of(Path())] if has_all else stores:
        keys = None if has_all else keys_of(store)
        verified.artefacts(store, keys)
        verified.checkpoints(store, keys)
        verified.shards(store, keys)
    _read_shared(verified, cache)
    if options.json:
        damaged = [{**vars(one), "path": str(one.path)} for one in verified.found]
        unsealed = [str(path) for path in verified.unsealed]
        print(json.dumps({"read": verified.n_read, "damaged": damaged, "without_checksums": unsealed}, indent=2))
    else:
        _show(verified)
    return SOME_FAILED if verified.found else ALL_DONE


def read_all(plan: Plan, store: Store) -> None:
    """Read all that a run may use, name what is damaged, and discard artefacts that are: the run makes them again."""
    from harness.storage.repair import discard_damaged
    from harness.storage.verification import Verified

    complain(f"reading all of {plan.suite.config.name}")
    discard_damaged(plan, store, complain, read=True)
    verified = Verified()
    verified.records(store)
    verified.checkpoints(store, plan.cells)
    verified.shards(store, plan.cells)
    _read_shared(verified, store.cache)
    _name(verified)


def _read_shared(verified: Verified, cache: Path) -> None:
    """Read what suites share besides artefacts."""
    verified.models(cache)
    answers = cache / "judges" / "responses.sqlite"
    if answers.exists():
        verified.add("answers", answers, _damages_of_answers(answers), "what is damaged is asked again")


def _damages_of_answers(path: Path) -> Iterator[str]:
    from harness.asking.answer_rows import is_whole

    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as file:
            found = [str(text) for (text,) in file.execute("pragma quick_check") if text != "ok"]
            rows = file.execute("select key, judge, request, response from responses")
            n_damaged = 0 if found else sum(not is_whole(*row) for row in rows)
    except sqlite3.Error as error:
        found, n_damaged = [str(error)], 0
    if found:
        yield f"{path} is damaged ({found[0]})"
    if n_damaged:
        yield f"{path} holds {n_damaged:,} answers that are not as they were stored"


def _results(word: str) -> Path:
    """The results folder that a word names: `suite=NAME`, or a folder."""
    from harness.planning.config import default_name
    from harness.storage.store import results_folder

    key, is_suite, name = word.partition("=")
    folder = results_folder(default_name(name)) if is_suite and key in ("suite", "name") else Path(word)
    if not (folder / "cells").is_dir():
        raise ConfigError(
            f"verify: {word!r} has no results: there is no folder {folder / 'cells'}. Name suite=NAME, a folder of "
            "results, or cache; or nothing, for all."
        )
    return folder


def _show(verified: Verified) -> None:
    _name(verified)
    outcome = f"{len(verified.found):,} damaged" if verified.found else "nothing is damaged"
    read = f"{verified.n_read:,} artefacts, models, checkpoints, shards and records read"
    out.print(f"{read}: {outcome}", highlight=False, soft_wrap=True)


def _name(verified: Verified) -> None:
    for damage in verified.found:
        complain(f"damaged: {damage.text}: {damage.then}")
    if verified.unsealed:
        complain(f"not checked, as an earlier version has made them without checksums: {_named(verified.unsealed)}")


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
