"""Parts of the report that was made before, taken over where all that they show is the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from harness.files import read_sealed, write_sealed
from harness.planning.keys import content_key

_MEMORY = ".made_report.json"


class Earlier:
    """Figures and folders of cards by the keys of what they show; those asked for are kept for the next report.

    Args:
        folder: the report that was made before; None where there is none, or one that is not as it was made.
        results: the folder that keeps the memory.
        made_by: a name of the code, packages and secrets that they depend on besides.
    """

    def __init__(self, folder: Path | None, results: Path, made_by: str) -> None:
        self._folder, self._path, self._made_by = folder, results / _MEMORY, made_by
        self._before = read_sealed(self._path) if folder else {}
        self._now: dict[str, dict[str, Any]] = {"figures": {}, "cards": {}}

    def figure(self, title: str, description: str, draw: partial[Any], make: Callable[[], str]) -> str:
        """The figure that a function draws of its arguments, as the earlier report has it, or made now."""
        shown = [argument.to_csv() if isinstance(argument, pd.DataFrame) else repr(argument) for argument in draw.args]
        key = content_key([self._made_by, title, description, draw.func.__name__, shown])
        found = self._before.get("figures", {}).get(key) or make()
        self._now["figures"][key] = found
        return str(found)

    def cards(self, target: Path, shown: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Put the cards of one decomposition, `<n>.js` and `<n>/`, where the function would write them.

        Args:
            target: `<n>`.
            shown: JSON that names all that they show.
            make: writes them, and gives what the page says of the decomposition.
        """
        key = content_key([self._made_by, target.name, shown])
        about = self._before.get("cards", {}).get(key)
        if about is None or self._folder is None:
            about = make()
        else:
            source = self._folder / target.parent.name / target.name
            shutil.copytree(source, target, copy_function=_linked)
            _linked(source.with_suffix(".js"), target.with_suffix(".js"))
        self._now["cards"][key] = about
        return dict(about)

    def remember(self) -> None:
        """Keep for the next report what this one is made of."""
        write_sealed(self._path, self._now)


def _linked(source: str | Path, target: str | Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without such links
        shutil.copy2(source, target)
