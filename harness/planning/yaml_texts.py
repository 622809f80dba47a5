"""Texts of YAML files, looked at before they are loaded: of a size, a depth, and aliases that a loader can bear.

A loader copies what an alias stands for, so that a few lines can come to gigabytes (the "billion laughs"), and follows
one that holds itself, or a thousand brackets, until Python gives up.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from harness.errors import ConfigError

MAX_BYTES = 2**18
"""Size of the largest file: Python's loader takes 5 s for it."""
MAX_DEPTH = 64
_BITS = 63
MAX_VALUES = 100_000
"""Most values in a file, once every alias and every `${reference}` stands for what it means."""
_REFERENCE = re.compile(r"\$\{([^${}]*)\}")
_OF_THEMSELVES = ("oc.env", "oc.decode")
"""Resolvers that refer to no other key."""


def checked_text(path: Path) -> str:
    """The text of a YAML file that can be loaded.

    Raises:
        ConfigError: it can't; the reason says what is wrong, and who calls says where.
        OSError: the file can't be read.
        UnicodeDecodeError: it is not UTF-8.
        yaml.YAMLError: it is no YAML.
    """
    with path.open("rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ConfigError("it is no regular file.")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"it is larger than {MAX_BYTES:,} bytes, which no suite needs. Is it another file?")
    text = content.decode("utf-8-sig").replace("\r\n", "\n")
    _check_aliases(text)
    return text


def _check_aliases(text: str) -> None:
    """Raise a ConfigError where a loader would run out of memory or stack."""
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    known: dict[str, int] = {}
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MAX_DEPTH:
                raise ConfigError(f"line {line}: it is nested more than {MAX_DEPTH} deep. Take brackets out.")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in (anchor for anchor, _ in open_nodes):
                raise ConfigError(f"line {line}: *{event.anchor} is part of what it stands for. Write it out.")
            anchor, size = None, known.get(str(event.anchor), 0)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, size = open_nodes.pop()
        else:
            continue
        if anchor:
            known[anchor] = size
        above, so_far = open_nodes.pop()
        open_nodes.append((above, so_far + size))
        if so_far + size > MAX_VALUES:
            raise ConfigError(f"line {line}: its aliases come to more than {MAX_VALUES:,} values. Write fewer.")


def check_references(values: Any) -> None:
    """Raise a ConfigError where `${references}` refer to themselves, or come to more than can be held."""
    _References(values).size(())


def check_numbers(values: Any, where: str = "") -> None:
    """Raise a ConfigError where a number is none that a key can hold, also of an entry that nobody asks for."""
    if isinstance(values, float) and not math.isfinite(values):
        raise ConfigError(f"{where}: {values} is no finite number")
    if isinstance(values, int) and values.bit_length() > _BITS:
        raise ConfigError(f"{where}: a number of {values.bit_length():,} bits, which is too large for anything here.")
    if isinstance(values, dict | list):
        for key, value in values.items() if isinstance(values, dict) else enumerate(values):
            check_numbers(value, f"{where}.{key}" if where else f"{key!s:.200}")


def _by_texts(values: Any) -> Any:
    """Lists and mappings alike as mappings from texts."""
    if isinstance(values, dict | list):
        items = values.items() if isinstance(values, dict) else enumerate(values)
        return {str(key): _by_texts(value) for key, value in items}
    return values


class _References:
    def __init__(self, values: Any) -> None:
        self._values = _by_texts(values)
        self._known: dict[tuple[str, ...], int | None] = {}
        """Sizes of values by their place; None while one is looked at."""

    def size(self, place: tuple[str, ...]) -> int:
        """The number of values and characters at a place, once resolved."""
        if place not in self._known:
            self._known[place] = None
            self._known[place] = sum(self._sizes(place))
        size = self._known[place]
        where = ".".join(place)
        if size is None:
            raise ConfigError(f"{where}: ${{...}} refers to itself. Write the value out.")
        if size > MAX_VALUES * 10:
            raise ConfigError(f"{where}: what ${{...}} refers to comes to more than can be held. Write fewer.")
        return size

    def _sizes(self, place: tuple[str, ...]) -> Iterator[int]:
        value = self._at(place)
        yield 1
        if isinstance(value, dict):
            for key in value:
                yield self.size((*place, key))
        elif isinstance(value, str):
            yield len(value)
            if "${" in _REFERENCE.sub("", value):
                raise ConfigError(f"{'.'.join(place)}: ${{...}} within ${{...}}. Write one of them out.")
            for found in _REFERENCE.findall(value):
                resolver, colon, key = found.partition(":")
                if not (colon and resolver in _OF_THEMSELVES):
                    yield self.size(self._target((key if colon else found).split(",")[0].strip(), place))

    def _at(self, place: tuple[str, ...]) -> Any:
        value = self._values
        for key in place:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def _target(self, key: str, place: tuple[str, ...]) -> tuple[str, ...]:
        """The place that a key means; each dot in front of one is a step up."""
        plain = key.lstrip(".")
        above = place[: len(place) - (len(key) - len(plain))] if len(plain) < len(key) else ()
        return (*above, *filter(None, re.split(r"[.\[\]]", plain)))
