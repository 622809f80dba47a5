"""Content addresses: equal inputs give equal keys, on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# `json.dumps` would make an encoder at every call, which takes as long as encoding what a cell's key is made from.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, shortest floats. NaN and unknown types are refused."""
    return _ENCODER.encode(value)


def content_key(inputs: Any) -> str:
    """The first 32 hex digits of the sha256 of the canonical form."""
    return hashlib.sha256(canonical_json(inputs).encode()).hexdigest()[:32]
