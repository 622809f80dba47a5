"""Names in W&B: of letters, digits and `_`, as it can't sort by others, the same in all runs, and no two alike."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

_LONGEST = 128
"""Length of the longest part of a name; one is the name of a file, too."""
_T = TypeVar("_T")


def named(values: Iterable[tuple[Sequence[Any], _T]]) -> dict[str, _T]:
    """Values by their names, of whose parts each is cleaned; those that come to one name get a mark of what they were.

    Of several values for the very same parts the last counts.
    """
    by_parts = {tuple(map(str, parts)): value for parts, value in values}
    names = {parts: "/".join(map(_cleaned, parts)) for parts in by_parts}
    times = Counter(names.values())
    return {
        name if times[name] == 1 else f"{name}_{_mark('/'.join(parts))}": by_parts[parts]
        for parts, name in names.items()
    }


def columns(headings: Sequence[str]) -> list[str | int]:
    """Headings of a table, of which the second and further ones of a kind are numbered."""
    seen: Counter[str] = Counter()
    found: list[str | int] = []
    for heading in headings:
        seen[heading] += 1
        found.append(heading if seen[heading] == 1 else f"{heading} ({seen[heading]})")
    return found


def _cleaned(text: str) -> str:
    """A part of a name; what loses letters of other scripts, or its end, has a mark of the whole."""
    plain = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    cleaned = re.sub(r"[^A-Za-z0-9]+", "_", plain).strip("_")
    is_lossy = any(sign.isalnum() and not sign.isascii() for sign in plain) or len(cleaned) > _LONGEST
    return "_".join(filter(None, (cleaned[:_LONGEST], _mark(text)))) if is_lossy or not cleaned else cleaned


def _mark(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
