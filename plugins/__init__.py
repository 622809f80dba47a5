"""The built-in science. Registers as any plugin does and imports only harness's public names."""

from __future__ import annotations

import importlib

import harness

_KINDS = (
    *("methods", "similarities", "models", "corpora", "behaviours"),
    *("evaluations", "scorers", "tasks", "judges", "explainers"),
)


@harness.hookimpl
def harness_specs() -> list[harness.PluginSpec]:
    """Specs of all built-in plugins, which every folder lists in its SPECS without importing torch."""
    return [spec for kind in _KINDS for spec in importlib.import_module(f"harness.plugins.{kind}").SPECS]
