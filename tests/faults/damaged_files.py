"""Damage to any file of a finished suite, judged by what every verb then shows and by what a run makes of it."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.faults.damage import clear, damage
from tests.faults.subject import NAME, Said, Subject, differing
from tests.faults.trial import Trial, Verdict

_SITE = ("site=resid_post.1", "method=itda")
READERS = {
    "status": ("status", f"name={NAME}", "--json"),
    "leaderboard": ("leaderboard", f"name={NAME}", "--json"),
    "boards": ("leaderboard", f"name={NAME}"),
    "latents": ("explain", f"name={NAME}", *_SITE, "--json"),
    "latent": ("explain", f"name={NAME}", *_SITE, "latent=0", "--json"),
    "report": ("report", f"name={NAME}"),
}
_UNREAD = ("logs/", "board/", ".")
"""Beginnings of the paths of results that people are not shown."""


@dataclass
class DamagedFiles:
    """A finished subject that is damaged again and again. It heals by its own runs, and else is copied anew."""

    whole: Subject
    """As it was, never changed."""
    place: Path
    """The folder for the copy that is damaged."""
    usual: dict[str, Said] = field(init=False)
    """The words of the verbs while nothing is damaged."""

    def __post_init__(self) -> None:
        self.expected = self.whole.shown()
        self._begin_anew()

    def trials(self, seed: int, first: int = 0) -> Iterator[tuple[int, list[Trial]]]:
        """Trials without end. Each has a random generator of its own, named by the seed and its number."""
        for number in count(first):
            trial = self.trial(random.Random(f"damage {seed} {number}"))
            yield number, [trial] if trial else []

    def trial(self, draw: random.Random) -> Trial | None:
        """Damage one file, perhaps with something gone that is made again of what is left; None if nothing was hit."""
        path, other = self._drawn(draw)
        kind, content = self.subject.kind_of(path), path.read_bytes()
        how = damage(path, other, draw)
        if how is None:
            return None
        hit = contents(path)
        is_cached = path.is_relative_to(self.subject.cache)
        gone = self._gone(path, draw) if is_cached and draw.random() < 0.5 else ""
        asked = {} if gone else {name: self.subject.call(*words) for name, words in READERS.items()}
        ran = self.subject.run()
        again = self.subject.run() if ran.code != 0 else ran
        verdict, detail = self._judged(path, hit, asked, ran, again)
        if verdict not in ("harmless", "named", "made again"):
            self._begin_anew()
        else:
            if contents(path) == hit:  # nobody needed it
                clear(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            if gone or verdict != "harmless":  # the seconds that it shows are others now
                self.usual["boards"] = self.subject.call(*READERS["boards"])
        return Trial(kind, f"{how}{gone}", verdict, detail)

    def _drawn(self, draw: random.Random) -> tuple[Path, Path]:
        """A file and another of its kind. Kinds are drawn first, so that those with one file are hit as often."""
        kinds: dict[str, list[Path]] = {}
        for path in self.subject.files():
            kinds.setdefault(self.subject.kind_of(path), []).append(path)
        kind = draw.choice(sorted(kinds))
        return draw.choice(kinds[kind]), draw.choice(kinds[kind])

    def _gone(self, path: Path, draw: random.Random) -> str:
        """Remove the results and some folders of the cache, but for the damaged file: others are made again of it."""
        folders = [folder for folder in sorted(self.subject.cache.iterdir()) if folder.is_dir()]
        folders = [folder for folder in folders if not path.is_relative_to(folder)]
        gone = draw.sample(folders, draw.randrange(1, len(folders) + 1))
        for folder in (*gone, self.subject.results):
            shutil.rmtree(folder)
        return f", without results, {', '.join(folder.name for folder in gone)}"

    def _judged(
        self, path: Path, hit: bytes | str | None, asked: dict[str, Said], ran: Said, again: Said
    ) -> tuple[Verdict, str]:
        calls = {**asked, "run": ran, "second run": again}
        for name, said in calls.items():
            if said.code is None or "Traceback (most recent" in said.err + said.out:
                return "traceback", f"{name}: {said.err[-900:]}"
        differs = differing(self.expected, self.subject.shown())
        if again.code != 0 or (differs and ran is not again):
            return "lost", f"{differs} {again.err[-600:]}"
        shown_as_hit = contents(path) == hit and self._is_shown(path)
        words = self._new_words(asked, ran)
        if differs or shown_as_hit:
            return ("lost" if words else "silent"), f"after the run {differs or 'the file'} differs; {words[-3:]}"
        if not self._was_told(asked) and (changed := self._changed(asked)):
            return "silent", f"shown otherwise by {changed}"
        if ran.code != 0:
            return "stopped", ran.err[-600:]
        if words:
            return "named", ""
        return ("made again" if self._changed(asked) or contents(path) != hit else "harmless"), ""

    def _is_shown(self, path: Path) -> bool:
        inside = path.is_relative_to(self.subject.results)
        return inside and not str(path.relative_to(self.subject.results)).startswith((*_UNREAD, "cells/"))

    def _changed(self, asked: dict[str, Said]) -> list[str]:
        return [name for name, said in asked.items() if said.shown != self.usual[name].shown]

    def _was_told(self, asked: dict[str, Said]) -> bool:
        """True if the verbs said something new, or that something is to do."""
        if any(said.lines - self.usual[name].lines for name, said in asked.items()):
            return True
        return "status" in asked and any(cell["state"] == "to do" for cell in json.loads(asked["status"].out)["cells"])

    def _new_words(self, asked: dict[str, Said], ran: Said) -> list[str]:
        lines = [said.lines - self.usual[name].lines for name, said in asked.items()]
        lines.append({line for line in ran.lines - self.ran.lines if not line.startswith(("[", "warning: W&B"))})
        return sorted(set().union(*lines))

    def _asked(self) -> dict[str, Said]:
        return {name: self.subject.call(*words) for name, words in READERS.items()}

    def _begin_anew(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.subject = self.whole.copy_to(self.place)
        self.subject.run()
        self.ran = self.subject.run()
        self.usual = self._asked()
        assert self.ran.code == 0 and all(said.code == 0 for said in self.usual.values()), self.usual


def contents(path: Path) -> bytes | str | None:
    """The contents of a file, or what stands in its place."""
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if path.is_dir():
        return "folder"
    return path.read_bytes() if path.exists() else None
