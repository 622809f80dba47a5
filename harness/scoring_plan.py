"""Whom the scorers of a suite ask besides windows, and which of their needs can't be met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.suite import Entry, ModelEntry

_OF_SUBJECT = {"model", "head"}


def subject_of(scorer: Entry, source: Mapping[str, Any], rows: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a scorer's task says of the model whose activations are decomposed; None where it does not ask it.

    Args:
        scorer: it says what it needs.
        source: the task of the capture that latents are read on.
        rows: that capture, and how its rows are masked.
    """
    if not _OF_SUBJECT & set(scorer.needs):
        return None
    return {"source": source, **{name: rows[name] for name in ("fit_capture", "max_norm_multiple")}}


def unmet(scorer: Entry, method: Entry, model: ModelEntry) -> str | None:
    """Why a scorer can't be used here, as far as a plan can know."""
    if "atoms" in scorer.needs and "atoms" not in method.provides:
        return f"{scorer.name} needs atoms, which {method.name} lacks"
    if _OF_SUBJECT & set(scorer.needs) and model.has_own_rows:
        return f"{scorer.name} needs a model, and of {model.label} there are only rows"
    return None
