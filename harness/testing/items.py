"""The first items of a source of texts, documents of a corpus or contrasts of a behaviour, and whether they stay.

Also a program, so that two processes can be compared by digests of them: `python -m harness.testing.items` reads one
line of JSON that names a source, and writes one digest a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple
from itertools import islice, zip_longest
from typing import Any, TypeAlias

from harness.contracts.behaviour import Contrast
from harness.contracts.corpus import Document
from harness.testing.checks import Broken
from harness.testing.registration import Registration

N_ITEMS = 500
"""Number of items that all checks look at: a source may have no end."""
FROM_A_NAME = "it is tried where the {kind} is given by its name, as `harness check` does"
_SECONDS = 60.0
_MARK = "item "
Item: TypeAlias = Document | Contrast
_ITEMS_OF: dict[str, Callable[[Any], Iterable[Any]]] = {
    "corpus": lambda corpus: corpus.documents(),
    "behaviour": lambda behaviour: behaviour.contrasts(),
}


def first_items(kind: str, source: Any) -> list[Any]:
    """The first items, in order."""
    return list(islice(_ITEMS_OF[kind](source), N_ITEMS))


def digest(item: Item) -> str:
    """A short form of all that an item holds."""
    whole: Any = (
        astuple(item) if isinstance(item, Contrast) else [item.id, item.text, sorted(map(list, item.labels.items()))]
    )
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def same_items(before: Sequence[Item], after: Sequence[Item], when: str, advice: str) -> None:
    """Raise `Broken`, with the advice, if items are not those of the first time."""
    noun = type(before[0]).__name__.lower()
    for number, (one, other) in enumerate(zip_longest(before, after)):
        if one is None or other is None:
            raise Broken(f"there are {len(after)} {noun}s {when}, and {len(before)} the first time: {advice}")
        if digest(one) != digest(other):
            raise Broken(f"{noun} {number} is another one {when} ({_shown(other)}; not {_shown(one)}): {advice}")


def same_elsewhere(declared: Registration, before: Sequence[Item], advice: str) -> None:
    """Raise `Broken`, with the advice, if another process, whose hash() of texts differs, has other items."""
    own = list(map(digest, before))
    for hash_seed in (1, 2):
        after = _digests_elsewhere(declared, hash_seed)
        if after != own:
            what = "order" if Counter(after) == Counter(own) else f"{type(before[0]).__name__.lower()}s or ids"
            raise Broken(f"another process has other {what}: {advice}")


def _shown(item: Item) -> str:
    if isinstance(item, Contrast):
        return f"{item.clean[:30]!r}, group {item.group!r:.40}"
    return f"id {item.id!r:.40}, {item.text[:30]!r}"


def _digests_elsewhere(declared: Registration, hash_seed: int) -> list[str]:
    """The digests in a process of its own, whose hash() of texts has another seed."""
    names = ("kind", "name", "params", "plugin_files")
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "harness.testing.items"],
        input=json.dumps({name: getattr(declared, name) for name in names}),
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"its texts can't be had in another process: {ended.stderr.strip()[-500:]}")
    return [line.removeprefix(_MARK) for line in ended.stdout.splitlines() if line.startswith(_MARK)]


def main() -> None:
    """Serve one task."""
    task = json.loads(sys.stdin.readline())
    declared = Registration(task["kind"], task["name"], task["params"], tuple(task["plugin_files"]))
    for item in first_items(declared.kind, declared.create()):
        print(_MARK + digest(item))


if __name__ == "__main__":
    main()
