"""A plugin to start from: a distribution with a module that works, a README and a test that uses the kit.

The texts beside this file are `string.Template`s of `$name` and `$title` (the name as a class).
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import keyword
import re
import sys
from pathlib import Path
from string import Template

from harness.errors import ConfigError, suggest
from harness.registry.plugin_manager import load_catalog
from harness.testing import CHECKED_KINDS

_FILES = {
    "{name}.py": "{kind}.template",
    "test_{name}.py": "test.template",
    "pyproject.toml": "pyproject.template",
    "README.md": "readme.template",
}


def write_distribution(kind: str, name: str, where: Path) -> Path:
    """Write a plugin of a kind into the folder `name`, which must not be there yet."""
    if kind not in CHECKED_KINDS:
        raise ConfigError(f"new: there is no template for {kind!r}.{suggest(kind, CHECKED_KINDS)}")
    _check_name(kind, name, where / name)
    folder = where / name
    names = {"kind": kind, "name": name, "title": "".join(part.capitalize() for part in name.split("_"))}
    texts = importlib.resources.files(__name__)
    folder.mkdir()
    for file, template in _FILES.items():
        text = Template((texts / template.format(**names)).read_text(encoding="utf-8")).substitute(names)
        (folder / file.format(**names)).write_text(text, encoding="utf-8")
    return folder


def _check_name(kind: str, name: str, folder: Path) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"new: {name!r} can't be the name of a module. A name starts with a lower case letter and holds only lower "
            "case letters, digits and '_'."
        )
    if folder.exists():
        raise ConfigError(f"new: {folder} is there already. Choose another name, or move it away.")
    if name in load_catalog().names(kind):
        raise ConfigError(f"new: there is a {kind} {name!r} already. Choose another name.")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise ConfigError(f"new: there is a Python module {name!r} already. Choose another name.")
