"""The folder of what suites share: activations, fits, converted models, checksums."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """`$HARNESS_CACHE`, or the platform's cache folder. Need not exist yet."""
    named = os.environ.get("HARNESS_CACHE")
    return Path(named).expanduser().absolute() if named else platformdirs.user_cache_path("decomp-harness")
