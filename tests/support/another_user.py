"""Processes of another user, who may read what others have made, and write only where permissions say so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_AS_ANOTHER = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all,+dac_read_search"),
    "--ambient-caps=-all,+dac_read_search",  # for the interpreter may lie in root's home
)
needs_another_user = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="needs root and setpriv, to run as another user",
)


def run_as_another(script: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python code as another user."""
    command = [*_AS_ANOTHER, sys.executable, "-W", "always::UserWarning", "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent", **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@contextmanager
def another_user() -> Iterator[None]:
    """Have this process act as another user, who may not read everything; whatever it needs was imported before."""
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
