"""The verbs that say what plugins offer: `list` and `show`."""

from __future__ import annotations

import argparse
import inspect
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli import display
from harness.cli.console import ALL_DONE, out, warn_of_plugins
from harness.errors import ConfigError, suggest
from harness.registry.specs import KINDS

if TYPE_CHECKING:
    from harness.registry.plugin_manager import Catalog


def list_verb(options: argparse.Namespace) -> int:
    """List what plugins offer."""
    catalog = _catalog(options.words)
    kinds = [word for word in options.words if "=" not in word] or list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"list: unknown kind {kind!r}.{suggest(kind, KINDS)}")
    entries = [catalog.entries[key] for key in sorted(catalog.entries) if key[0] in kinds]
    if options.json:
        specs = [
            {"kind": e.spec.kind, "name": e.spec.name, "version": e.spec.version, "summary": e.spec.summary}
            | {"source": e.source, "source_version": e.version}
            for e in entries
        ]
        print(json.dumps({"specs": specs, "problems": catalog.problems}, indent=2))
        return ALL_DONE
    rows = [[e.spec.kind, e.spec.name, e.spec.summary, e.source] for e in entries]
    out.print(display.table("", ["kind", "name", "what it is", "from"], rows))
    return ALL_DONE


def show_verb(options: argparse.Namespace) -> int:
    """Show the parameters of one plugin: name, type, default and meaning."""
    from harness.registry import parameters

    catalog = _catalog(options.words)
    kind, _, name = options.words[0].partition("/")
    if not name:
        raise ConfigError(f"show: write KIND/NAME, such as method/pca, not {options.words[0]!r}.")
    entry = catalog.find(kind, name)
    fields = parameters.describe(entry.spec.config) if entry.spec.config else []
    if options.json:
        spec = {"kind": kind, "name": name, "version": entry.spec.version, "summary": entry.spec.summary}
        print(json.dumps(spec | {"source": entry.source, "parameters": fields}, indent=2))
        return ALL_DONE
    out.print(f"{kind}/{name}, version {entry.spec.version}, from {entry.source}", markup=False)
    out.print(entry.spec.summary, markup=False)
    written = inspect.getdoc(entry.spec.config) or ""
    if entry.spec.config and not written.startswith(f"{entry.spec.config.__name__}("):  # which dataclasses get unasked
        out.print(f"\n{written}", markup=False)
    if not fields:
        out.print("\nNo parameters")
        return ALL_DONE
    rows = [[field["name"], field["type"], field["default"], field["meaning"]] for field in fields]
    out.print(display.table("\nParameters", ["name", "type", "default", "what"], rows, unbroken=["name"]))
    return ALL_DONE


def _catalog(words: Sequence[str]) -> Catalog:
    """The catalog, with the files that `plugin_files=[...]` among the words names."""
    from harness.registry.plugin_manager import load_catalog

    files: tuple[str, ...] = ()
    for word in words:
        if "=" in word and not word.startswith("plugin_files="):
            raise ConfigError(f"{word!r}: the only setting here is plugin_files=[FILE.py].")
        if word.startswith("plugin_files="):
            files = tuple(name.strip().strip("'\"") for name in word.partition("=")[2].strip("[]").split(","))
    catalog = load_catalog(files)
    warn_of_plugins(catalog)
    return catalog
