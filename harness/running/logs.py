"""Logs, into which plugins write as they please: a log that grows too long keeps its first and its last part."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

MAX_BYTES = 4_000_000
"""Size from which on a log is cut; looked at every half second."""
KEPT_BYTES = 1_000_000
"""Bytes that a cut leaves at the begin, and at the end."""
_CUT = f"\n… cut here: of a log above {MAX_BYTES:,} bytes the first and the last {KEPT_BYTES:,} are kept …\n".encode()


def cut_log(path: Path) -> None:
    """Cut a log if it is too long, while others go on writing at its end."""
    with suppress(OSError):  # it is gone, or the disk is full
        if path.stat().st_size <= MAX_BYTES:
            return
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            file.seek(-KEPT_BYTES, os.SEEK_END)
            end = file.read()
            file.truncate(KEPT_BYTES)
            file.write(_CUT + end)
