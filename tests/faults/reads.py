"""Damage to any file of a finished suite, judged by the readers of that file: verbs, and what a run loads.

Nothing is done again, so that a trial takes a tenth of a second. Readers of a file are those that open it while it is
whole. The files keep their inodes, so that all is afterwards as it was.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any, NoReturn
from unittest.mock import patch

from markupsafe import Markup

from harness.cli import verbs
from harness.errors import HarnessError
from harness.planning import config
from harness.planning.suite import Suite
from harness.registry.plugin_manager import Catalog
from harness.report import page
from harness.running import runner
from harness.storage import seals
from harness.storage.store import Store, discarded_name
from tests.faults.damage import damage
from tests.faults.damaged_files import READERS, contents
from tests.faults.loading import Loading, break_off
from tests.faults.pristine import Pristine
from tests.faults.subject import SUITE, Said, Subject
from tests.faults.trial import Trial, Verdict

_VERBS = READERS | {"plan": ("plan", *SUITE, "--json"), "verify": ("verify",), "run": ("run", *SUITE)}
_UNSEEN = {".checkpoint": ["verify", "loads checkpoint"]}
"""Readers of files that only libraries open."""
_MAX_READERS = 2
_STOPPED = "here workers would start"
_opened: set[str] | None = None
"""Paths that were opened since it was last emptied; None while nobody wants to know."""


@dataclass
class DamagedReads:
    """A finished subject that is damaged, read and mended again and again."""

    whole: Subject
    """As it was, never changed."""
    place: Path
    """The folder for the copy that is damaged."""
    readers: dict[str, Callable[[], Said]] = field(init=False)
    usual: dict[str, Said] = field(init=False)
    """The words of the readers while nothing is damaged."""
    readers_of: dict[Path, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.subject = self.whole.copy_to(self.place / "subject")
        self.subject.run()
        with self.subject.here():
            store = Store.of(self.subject.results)
            break_off(store)
            self._loading = Loading.of(store)
        self.readers = {name: partial(self._verb, *words) for name, words in _VERBS.items()}
        self.readers |= {f"loads {name}": partial(self._load, name) for name in self._loading.loaders}
        for ask in self.readers.values():
            ask()  # who comes first makes what is there for all
        found = {name: _with_opened(ask) for name, ask in self.readers.items()}
        self.usual = {name: said for name, (said, _) in found.items()}
        unwell = {name: said.err for name, said in self.usual.items() if said.code != 0}
        assert not unwell, unwell
        self.readers_of = {}
        for path in self.subject.files():
            names = [name for name, (_, opened) in found.items() if str(path) in opened]
            names += _UNSEEN.get(path.suffix, [])
            if names:
                self.readers_of[path] = names
        self.pristine = Pristine(self.subject.folder, self.place / "pristine")

    def trials(self, seed: int, first: int = 0) -> Iterator[tuple[int, list[Trial]]]:
        """Trials without end. Each has a random generator of its own, named by the seed and its number."""
        for number in count(first):
            trial = self.trial(random.Random(f"reads {seed} {number}"))
            yield number, [trial] if trial else []

    def trial(self, draw: random.Random) -> Trial | None:
        """Damage one file and ask some of its readers, one after the other; None if nothing was hit."""
        kinds: dict[str, list[Path]] = {}
        for path in self.readers_of:
            kinds.setdefault(self.subject.kind_of(path), []).append(path)
        own = kinds[draw.choice(sorted(kinds))]
        path, other = draw.choice(own), draw.choice(own)
        names = draw.sample(self.readers_of[path], min(_MAX_READERS, len(self.readers_of[path])))
        try:
            how = damage(path, other, draw)
            if how is None:
                return None
            hit = contents(path)
            verdict, detail = self.judged(names)
            if verdict == "harmless" and contents(path) != hit:
                verdict = "made again"
            return Trial(self.subject.kind_of(path), f"{how}, read by {' and '.join(names)}", verdict, detail)
        finally:
            self.pristine.restore()

    def judged(self, names: list[str]) -> tuple[Verdict, str]:
        """The verdict on the first reader to which damage makes a difference: what it leaves is not what was hit."""
        for name in names:
            verdict, detail = self._judged(name)
            if verdict != "harmless":
                return verdict, detail and f"{name}: {detail}"
        return "harmless", ""

    def _judged(self, name: str) -> tuple[Verdict, str]:
        said, usual = self.readers[name](), self.usual[name]
        if said.code is None or "Traceback (most recent" in said.err + said.out:
            return "traceback", said.err[-900:]
        words = {line for line in said.lines - usual.lines if _STOPPED not in line}
        is_to_do = words != said.lines - usual.lines or _is_to_do(said)
        if said.code == 0 and said.shown != usual.shown and not words and not is_to_do:
            return "silent", f"{said.shown!r:.300}"
        if words:
            return "named", " ".join(sorted(words))[:300]
        return ("made again" if is_to_do else "harmless"), ""

    def _verb(self, *words: str) -> Said:
        with _as_a_process(), _up_to_work():
            return self.subject.call(*words)

    def _load(self, name: str) -> Said:
        said: list[str] = []
        code, found = 0, None
        with _as_a_process(), self.subject.here(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found = self._loading.loaders[name](Store.of(self.subject.results), said.append)
            except HarnessError as error:  # with these words a cell would fail
                code, said = 1, [*said, str(error)]
            except Exception:
                return Said(None, "", traceback.format_exc())
        # Others, of resources, come from whatever this process did before.
        said += [str(each.message) for each in warned if issubclass(each.category, UserWarning)]
        return Said(code, json.dumps(found), "\n".join(said))


def _is_to_do(said: Said) -> bool:
    """True if a reader says that something is to do, or that there is nothing to take up."""
    shown = said.shown
    if isinstance(shown, dict):
        return any(cell.get("state") == "to do" for cell in shown.get("cells", []))
    return shown is None or " to do" in str(shown)


@contextmanager
def _as_a_process() -> Iterator[None]:
    """Forget what a process knows of files that it has read; but not what the configs of the package hold."""
    with (
        patch.dict(seals._found_whole, clear=True),
        patch.object(config, "_preset", _preset),
        patch.object(config, "compose", _compose),
    ):
        yield


@contextmanager
def _up_to_work() -> Iterator[None]:
    """Stop a run where it would start workers, or write all tables anew; plots are left out."""
    with (
        patch.object(runner, "crew_of", _stop),
        patch.object(verbs, "_show", _stop),
        patch.object(Store, "discard", _discard),
        patch.object(page, "_svg", _no_plot),
    ):
        yield


_known_preset, _known_suite = cache(config._preset), cache(config.compose)


def _preset(group: str, name: str) -> dict[str, Any]:
    return deepcopy(_known_preset(group, name))


def _compose(words: Sequence[str], *, only_reads: bool = False) -> tuple[Suite, Catalog]:
    return _known_suite(tuple(words), only_reads=only_reads)


def _no_plot(*_: object) -> Markup:
    return Markup()


def _stop(*_: object) -> NoReturn:
    raise HarnessError(_STOPPED)


def _discard(store: Store, kind: str, key: str) -> None:
    """Give an artefact the name under which it would be removed."""
    folder = store.artefact(kind, key)
    folder.rename(folder.with_name(discarded_name(folder.name)))


def _with_opened(ask: Callable[[], Said]) -> tuple[Said, set[str]]:
    """The words of a reader, and the files that it opens."""
    global _opened
    if _opened is None:
        sys.addaudithook(_note)
    _opened = set()
    return ask(), _opened


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event in ("open", "sqlite3.connect") and isinstance(arguments[0], str | bytes | Path):
        _opened.add(os.fsdecode(arguments[0]))
