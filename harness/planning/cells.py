"""A cell: one unit of work with a content-addressed key, and the record of how it went.

Invariant: a record is one file, written atomically when the cell has ended; a cell without a record has not ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Kind = Literal["capture", "fit", "evaluation", "latents", "explanation", "scoring", "similarity", "task"]


@dataclass(frozen=True)
class Cell:
    """What to do, what it depends on, and which columns its table rows carry."""

    kind: Kind
    key: str
    label: str
    """For people: `fit itda(k=40) on smollm2-135m resid_post.15`."""
    group: str
    """Cells of one group share work: one forward pass, one stream."""
    task: Mapping[str, Any]
    """All that a worker needs, as JSON."""
    columns: Mapping[str, Any]
    """Identity columns of its table rows."""
    upstream: tuple[str, ...] = ()
    skipped: str | None = None
    """Why this cell can't be done; known when planning."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cell:
        return cls(**{**data, "upstream": tuple(data["upstream"])})
