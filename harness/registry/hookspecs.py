"""The whole surface between the harness and its plugins: one hook."""

from __future__ import annotations

import pluggy

from harness.registry.specs import PluginSpec

hookspec = pluggy.HookspecMarker("harness")
hookimpl = pluggy.HookimplMarker("harness")


@hookspec
def harness_specs() -> list[PluginSpec]:  # type: ignore[empty-body]  # pluggy calls the implementations
    """Return the Specs that this plugin offers, of any kinds.

    Called once, when plugins are loaded. Keep it cheap: import torch in the modules that the factories name, not here.
    """
