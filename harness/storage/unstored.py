"""Captures whose rows are not stored: what is kept of them, and whether an artefact holds what a cell asks for.

The key of a capture says nothing of it: its rows are the same ones, so all that is learnt from them is too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

IDENTITY_BYTES = 29
"""Bytes of a row that are kept where the row itself is not: its document, window, position and place in the text, and
its norm."""


def has_rows(manifest: Mapping[str, Any]) -> bool:
    """True if the artefact of a capture holds its rows, and not only what is kept of them."""
    return bool(manifest.get("rows_stored", True))


def suffices(manifest: Mapping[str, Any], work: Mapping[str, Any]) -> bool:
    """True if an artefact holds what a cell's work asks for.

    Without rows it holds their mean, which is of those that one norm leaves.
    """
    if has_rows(manifest):
        return True
    of_same_mask = manifest["task"]["max_norm_multiple"] == work.get("max_norm_multiple")
    return not work.get("store_rows", True) and of_same_mask
