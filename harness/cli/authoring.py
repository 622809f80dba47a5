"""The verbs for those who write plugins: `check` one against what its kind promises, and `new`, one to start from."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.cli.console import ALL_DONE, SOME_FAILED, out, warn_of_plugins
from harness.errors import ConfigError, suggest
from harness.templates import write_distribution
from harness.testing import CHECKED_KINDS, Finding

_COLOURS = {"holds": "green", "fails": "red", "not checked": "yellow"}


def check_verb(options: argparse.Namespace) -> int:
    """Run the checks of one plugin in a process of their own."""
    from harness.registry.plugin_manager import load_catalog
    from harness.testing.process import run_apart

    what, params, plugin_files = _parsed(options.words)
    kind, _, name = what.partition("/")
    if not name:
        raise ConfigError(f"check: write KIND/NAME, such as method/acme, not {what!r}.")
    if kind not in CHECKED_KINDS:
        raise ConfigError(f"check: there are no checks for {kind!r}.{suggest(kind, CHECKED_KINDS)}")
    catalog = load_catalog(plugin_files)
    warn_of_plugins(catalog)
    catalog.config(kind, name, params)  # what is wrong with the parameters is said before torch is imported
    findings = run_apart(kind, name, params, plugin_files)
    if options.json:
        checks = [{**vars(finding), "outcome": finding.outcome} for finding in findings]
        print(json.dumps({"kind": kind, "name": name, "parameters": params, "checks": checks}, indent=2))
    else:
        _show(what, findings)
    return SOME_FAILED if any(finding.outcome == "fails" for finding in findings) else ALL_DONE


def new_verb(options: argparse.Namespace) -> int:
    """Write a distribution with a plugin that works, to be changed."""
    if len(options.words) != 2:
        raise ConfigError("new: write KIND NAME, such as: harness new method acme")
    kind, name = options.words
    folder = write_distribution(kind, name, Path.cwd())
    out.print(f"{folder.name}/ holds {', '.join(sorted(path.name for path in folder.iterdir()))}", highlight=False)
    out.print(f"Try it: harness check {kind}/{name} plugin_files=[{name}/{name}.py]", markup=False, highlight=False)
    return ALL_DONE


def _parsed(words: Sequence[str]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """KIND/NAME, its parameters and the files of plugins; values are YAML, as in a suite."""
    import yaml

    what, *settings = words
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"check: {setting!r} is not param=value.")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"check: the value of {key!r} can't be read: {value!r}.") from error
    files = values.pop("plugin_files", None) or []
    return what, values, tuple(map(str, files if isinstance(files, list) else [files]))


def _show(what: str, findings: Sequence[Finding]) -> None:
    for finding in findings:
        out.print(f"[{_COLOURS[finding.outcome]}]{finding.outcome:>11}[/]  {finding.check}", highlight=False)
        if finding.problem is not None:
            out.print(f"{'':13}asked: {finding.requirement}", markup=False, highlight=False, soft_wrap=True)
            out.print(f"{'':13}found: {finding.problem}", markup=False, highlight=False, soft_wrap=True)
        elif finding.not_checked is not None:
            out.print(f"{'':13}{finding.not_checked}", markup=False, highlight=False, soft_wrap=True)
    n = {outcome: sum(finding.outcome == outcome for finding in findings) for outcome in _COLOURS}
    counts = ", ".join(f"{n} {outcome}" for outcome, n in n.items())
    out.print(f"\n{what}: {len(findings)} checks: {counts}", markup=False, highlight=False)
