"""A plugin-based benchmark harness for decompositions of language-model activations.

Importing it is cheap: what needs torch is imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from harness.api import catalog, create, fit
from harness.cache import cache_folder
from harness.checksums import file_digest
from harness.errors import ConfigError, HarnessError, Imprecise, PluginError, StoreError, Undefined
from harness.hookspecs import hookimpl
from harness.sites import SITE_KINDS, Site, parse_site
from harness.specs import Spec

if TYPE_CHECKING:
    from harness.capturing import Capture, capture
    from harness.contexts import context_of, evaluation_context
    from harness.contracts import (
        Batch,
        Document,
        DocumentSums,
        EvaluationContext,
        Info,
        ReplayedRows,
        TableRow,
        Truth,
        Window,
        document_id,
    )
    from harness.decomposition import Codes, Decomposition, load
    from harness.response_cache import Recording
    from harness.rows import make_rows
    from harness.scorers import (
        Activate,
        Activated,
        Choose,
        Embed,
        EmbedText,
        Failure,
        Generate,
        Latent,
        LatentWindow,
        Likelihood,
        Promoted,
        Steer,
        Unembed,
        Verdict,
    )
    from harness.spending import Metered
    from harness.splits import documents_in_split
    from harness.tasks import ComparedSite, Comparisons, TaskScore

_LAZY = {
    "Activate": "harness.scorers",
    "Activated": "harness.scorers",
    "Batch": "harness.contracts",
    "Capture": "harness.capturing",
    "Choose": "harness.scorers",
    "Codes": "harness.decomposition",
    "ComparedSite": "harness.tasks",
    "Comparisons": "harness.tasks",
    "Decomposition": "harness.decomposition",
    "Document": "harness.contracts",
    "DocumentSums": "harness.contracts",
    "Embed": "harness.scorers",
    "EmbedText": "harness.scorers",
    "EvaluationContext": "harness.contracts",
    "Failure": "harness.scorers",
    "Generate": "harness.scorers",
    "Info": "harness.contracts",
    "Latent": "harness.scorers",
    "LatentWindow": "harness.scorers",
    "Likelihood": "harness.scorers",
    "Metered": "harness.spending",
    "Promoted": "harness.scorers",
    "Recording": "harness.response_cache",
    "ReplayedRows": "harness.contracts",
    "Steer": "harness.scorers",
    "TableRow": "harness.contracts",
    "TaskScore": "harness.tasks",
    "Truth": "harness.contracts",
    "Unembed": "harness.scorers",
    "Verdict": "harness.scorers",
    "Window": "harness.contracts",
    "capture": "harness.capturing",
    "context_of": "harness.contexts",
    "document_id": "harness.contracts",
    "documents_in_split": "harness.splits",
    "evaluation_context": "harness.contexts",
    "load": "harness.decomposition",
    "make_rows": "harness.rows",
}

__all__ = [
    "SITE_KINDS",
    "Activate",
    "Activated",
    "Batch",
    "Capture",
    "Choose",
    "Codes",
    "ComparedSite",
    "Comparisons",
    "ConfigError",
    "Decomposition",
    "Document",
    "DocumentSums",
    "Embed",
    "EmbedText",
    "EvaluationContext",
    "Failure",
    "Generate",
    "HarnessError",
    "Imprecise",
    "Info",
    "Latent",
    "LatentWindow",
    "Likelihood",
    "Metered",
    "PluginError",
    "Promoted",
    "Recording",
    "ReplayedRows",
    "Site",
    "Spec",
    "Steer",
    "StoreError",
    "TableRow",
    "TaskScore",
    "Truth",
    "Undefined",
    "Unembed",
    "Verdict",
    "Window",
    "cache_folder",
    "capture",
    "catalog",
    "context_of",
    "create",
    "document_id",
    "documents_in_split",
    "evaluation_context",
    "file_digest",
    "fit",
    "hookimpl",
    "load",
    "make_rows",
    "parse_site",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    if name == "testing":  # for tests of plugins
        return importlib.import_module("harness.testing")
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
