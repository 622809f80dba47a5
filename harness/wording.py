"""Numbers and texts in the form that people read."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

_NAMED = {"\n": "↵", "\t": "⇥", "\r": "␍"}


def visible(text: str) -> str:
    """The text with a sign for each character that a terminal would not print as one."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _picture(c) for c in text)


def _picture(character: str) -> str:
    if unicodedata.category(character) == "Zs":
        return " "
    return _NAMED.get(character) or (chr(0x2400 + ord(character)) if ord(character) < 0x20 else "\ufffd")


def short(value: Any) -> str:
    """A value with four significant digits, or all digits before the point; a dash for a missing one."""
    if value is None or value != value:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}" if round(abs(value)) < 1000 or abs(value) >= 1e7 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def dollars(usd: float) -> str:
    """`$1.24`; rounded up, so that a small cost is never shown as none."""
    return f"${math.ceil(100 * usd) / 100:,.2f}"


def size(n_bytes: float) -> str:
    """A number of bytes with a unit: `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.3g} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.3g} TB"


def seconds(value: float) -> str:
    """`12.3`, or `1.23` for less than ten; without the unit, which heads the column."""
    return f"{value:,.1f}" if value >= 10 else f"{value:.2f}"


def duration(seconds: float) -> str:
    """A duration with a unit: `3 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
