"""A cell: one unit of work with a content-addressed key, and the record of how it went.

Invariant: a record is one file, written atomically when the cell has ended; a cell without a record has not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal[
    "capture", "fit", "evaluation", "latents", "explanation", "scoring", "similarity", "task", "contrast", "circuit"
]


@dataclass(frozen=True)
class Cell:
    """One piece of work: what to do, which cells come first, and the columns that its table rows carry."""

    kind: Kind
    key: str
    label: str
    """The cell in words, for people: `fit itda(k=40) on gpt2 resid_post.6, seed 0`."""
    group: str
    """Cells of one group share work: one forward pass, one stream."""
    work: Mapping[str, Any]
    """The instructions for a worker, complete, as JSON."""
    columns: Mapping[str, Any]
    """Identity columns of its table rows."""
    upstream: tuple[str, ...] = ()
    skipped: str | None = None
    """The reason why this cell can't be done, where planning already knows it."""
    plugin_files: tuple[str, ...] = ()
    """The single-file plugins whose code may run while it is done: its own, and those of all that it rests on."""
    name: str = ""
    """The decomposition that a `fit` makes or a `latents` cell reads: `itda(k=40) on gpt2 resid_post.6, seed 0`. The
    labels of cells that rest on it are built from it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        return cls(**{**data, "upstream": tuple(data["upstream"]), "plugin_files": tuple(data["plugin_files"])})
