"""The first items of a source of texts, by their digests: documents of a corpus, or contrasts of a behaviour.

Also a program, so that two processes can be compared: `python -m harness.testing.items` reads one line of JSON that
names a source, and writes one digest a line. It needs no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import astuple
from itertools import islice
from typing import Any, TypeAlias

from harness.contracts.behaviour import Contrast
from harness.contracts.corpus import Document
from harness.testing.registration import Registration

N_ITEMS = 500
"""Number of items that all checks look at: a source may have no end."""
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


def digests_elsewhere(declared: Registration, hash_seed: int) -> list[str]:
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
