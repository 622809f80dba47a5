"""A plugin-based benchmark harness for decompositions of language-model activations.

Importing it is cheap: a name is imported when first used. The names stand in `__init__.pyi`, which editors read too.
"""

import ast
import importlib
from pathlib import Path
from typing import Any


def _public_names() -> dict[str, str]:
    """Each public name with the module that it is imported from, as the stub beside this file says."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}


_MODULES = _public_names()
__all__ = sorted(name for name in _MODULES if not name.startswith("_") and name != "testing")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    if name == "testing":  # for tests of plugins
        return importlib.import_module("harness.testing")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "testing"]
