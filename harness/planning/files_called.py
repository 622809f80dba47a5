"""Plugins that came as single files, and the cells whose work runs their code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from harness.planning.cells import Cell
from harness.planning.suite import Suite


def with_plugin_files(cells: Mapping[str, Cell], suite: Suite) -> Mapping[str, Cell]:
    """The cells of a plan, in its order, with the files whose code may run: their own, and those of their upstream."""
    files = {(entry.kind, entry.name): entry.file for entry in suite.entries if entry.file is not None}
    if not files:
        return cells
    found: dict[str, Cell] = {}
    for key, cell in cells.items():
        inherited = {file for other in cell.upstream for file in found[other].plugin_files}
        found[key] = replace(cell, plugin_files=tuple(sorted(inherited.union(_called(cell.work, files)))))
    return found


def _called(work: Mapping[str, Any], files: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """The files of the plugins that instructions name, however deep: `{"method": {"name": ...}}`."""
    for role, value in work.items():
        if isinstance(value, Mapping):
            kind = "model" if role == "encoder" else role
            if (file := files.get((kind, str(value.get("name"))))) is not None:
                yield file
            yield from _called(value, files)
