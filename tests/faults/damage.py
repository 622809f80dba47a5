"""Kinds of damage to a file. Each is a function of the file, another of its kind, and a random generator."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[bytes, bytes, random.Random], bytes]
"""New contents, of the old ones and of those of another file of the kind."""


def _flip(old: bytes, _: bytes, draw: random.Random) -> bytes:
    new = bytearray(old)
    if new:
        new[draw.randrange(len(new))] ^= 1 << draw.randrange(8)
    return bytes(new)


def _zeros(old: bytes, _: bytes, draw: random.Random) -> bytes:
    """A run of zeros, as of a block that was never written; often at the end."""
    length = draw.choice((1, 64, 512, 4096))
    begin = draw.choice((draw.randrange(len(old) + 1), max(0, len(old) - length)))
    return old[:begin] + bytes(min(length, len(old) - begin)) + old[begin + length :]


def _digit(old: bytes, _: bytes, draw: random.Random) -> bytes:
    """Another digit, which keeps most texts readable."""
    places = [place for place, byte in enumerate(old) if 48 <= byte <= 57]
    new = bytearray(old)
    if places:
        place = draw.choice(places)
        new[place] = 48 + (new[place] - 48 + draw.randrange(1, 10)) % 10
    return bytes(new)


def _cut(old: bytes, _: bytes, draw: random.Random) -> bytes:
    return old[: draw.randrange(len(old) + 1)]


def _emptied(old: bytes, other: bytes, draw: random.Random) -> bytes:
    return b""


def _doubled(old: bytes, _: bytes, draw: random.Random) -> bytes:
    return old + old


def _lengthened(old: bytes, _: bytes, draw: random.Random) -> bytes:
    return old + draw.choice((b"\n", b"\0" * 512, b"{}", draw.randbytes(64)))


def _another(old: bytes, other: bytes, draw: random.Random) -> bytes:
    """The contents of another file of the kind: each is sound, and in the wrong place."""
    return other


def _hybrid(old: bytes, other: bytes, draw: random.Random) -> bytes:
    """The begin of one and the end of another."""
    place = draw.randrange(len(old) + 1)
    return old[:place] + other[place:]


def _foreign(old: bytes, _: bytes, draw: random.Random) -> bytes:
    """Contents that are no file of this kind at all."""
    texts = (
        b"null",
        b"[1]",
        b"{}",
        b'"text"',
        b"3",
        b"a: [b",
        b"<html></html>",
        b"PK\3\4",
        b"\x93NUMPY",
        b"SQLite format 3\0",
    )
    return draw.choice((*texts, pickle.dumps({"a": [1]}), draw.randbytes(max(1, len(old)))))


def _lines(old: bytes, _: bytes, draw: random.Random) -> bytes:
    """Lines in another order, one twice or not at all, or with other ends."""
    lines = old.splitlines(keepends=True)
    if len(lines) < 2:
        return old.replace(b"\n", b"\r\n") + b"\r\n"
    place = draw.randrange(len(lines))
    return draw.choice(
        (
            b"".join(lines[:place] + lines[place + 1 :]),
            b"".join(lines[: place + 1] + lines[place:]),
            b"".join(lines[place:] + lines[:place]),
            old.replace(b"\n", b"\r\n"),
        )
    )


def _structure(old: bytes, other: bytes, draw: random.Random) -> bytes:
    """One part of a JSON document gone, renamed or of another type; a flipped bit where it is none."""
    try:
        document = json.loads(old)
        places = list(_places(document))
    except ValueError:
        return _flip(old, other, draw)
    if not places:
        return b"null"
    holder, name = draw.choice(places)
    value = holder.pop(name)
    if draw.random() < 0.3 and isinstance(holder, dict):
        holder[f"{name}_"] = value
    elif draw.random() < 0.8:
        new = draw.choice((None, [], {}, "", "x", -1, 0, 1e308, float("nan"), True, [value], {"a": value}, str(value)))
        holder.insert(name, new) if isinstance(holder, list) else holder.update({name: new})
    return json.dumps(document).encode()


def _places(document: Any) -> Any:
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, value in list(inner):
        yield document, name
        yield from _places(value)


CHANGES: dict[str, Change] = {
    change.__name__.strip("_"): change
    for change in (
        *(_flip, _zeros, _digit, _cut, _emptied, _doubled, _lengthened, _another, _hybrid, _foreign, _lines),
        _structure,
    )
}
_LIKELY = ("flip", "flip", "digit", "digit", "structure", "structure", "cut", "another")
PLACES = ("removed", "folder", "dangling link", "link to itself")


def damage(path: Path, other: Path, draw: random.Random) -> str | None:
    """Damage a file; the words for how, None if that left it as it was.

    Contents change in place or by a rename, as new ones or, as rot does, under the time that the file had.
    """
    if draw.random() < 0.1:
        how = draw.choice(PLACES)
        _displace(path, how)
        return how
    how = draw.choice((*CHANGES, *_LIKELY))
    before, old = path.stat(), path.read_bytes()
    new = CHANGES[how](old, other.read_bytes(), draw)
    if new == old:
        return None
    if draw.random() < 0.3:
        path.unlink()
    path.write_bytes(new)
    if draw.random() < 0.5:
        return how
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    return f"{how}, time kept"


def _displace(path: Path, how: str) -> None:
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "dangling link":
        path.symlink_to(path.with_name("nowhere"))
    elif how == "link to itself":
        path.symlink_to(path)


def clear(path: Path) -> None:
    """Remove a file, link or folder, if there is any."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
