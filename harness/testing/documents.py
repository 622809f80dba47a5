"""The first documents of a corpus, by their digests; also as a program, so that two processes can be compared.

`python -m harness.testing.documents` reads one line of JSON that names a corpus, and writes one digest a line.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from itertools import islice
from typing import Any

from harness.contracts.corpus import Document
from harness.testing.registration import Registration

N_DOCUMENTS = 500
"""Number of documents that all checks look at: a corpus may have no end."""
_SECONDS = 60.0
_MARK = "document "


def first_documents(corpus: Any) -> list[Document]:
    """The first documents, in order."""
    return list(islice(corpus.documents(), N_DOCUMENTS))


def digest(document: Document) -> str:
    """A short form of id, text and labels."""
    whole = [document.id, document.text, sorted(map(list, document.labels.items()))]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()[:16]


def digests_elsewhere(declared: Registration, hash_seed: int) -> list[str]:
    """The digests in a process of its own, whose hash() of texts has another seed."""
    task = {"name": declared.name, "params": declared.params, "plugin_files": declared.plugin_files}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "harness.testing.documents"],
        input=json.dumps(task),
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"documents() failed in another process: {ended.stderr.strip()[-500:]}")
    return [line.removeprefix(_MARK) for line in ended.stdout.splitlines() if line.startswith(_MARK)]


def main() -> None:
    """Serve one task."""
    task = json.loads(sys.stdin.readline())
    declared = Registration("corpus", task["name"], task["params"], tuple(task["plugin_files"]))
    for document in first_documents(declared.create()):
        print(_MARK + digest(document))


if __name__ == "__main__":
    main()
