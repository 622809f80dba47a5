"""Boards as they were printed last, which are printed again while nothing that they show has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.cli.console import out
from harness.files import read_sealed, write_sealed
from harness.planning.keys import content_key

if TYPE_CHECKING:
    from harness.storage.store import Store
    from harness.tables.results import Results

_FILE = ".made_boards.json"


def printed(store: Store, source: str) -> str | None:
    """The boards of this source as they were printed; None if they were not, or for another width."""
    kept = read_sealed(store.results / _FILE)
    return str(kept["text"]) if kept.get("key") == _key(source) else None


def print_boards(store: Store, results: Results) -> None:
    """Print the boards of a suite, and keep what was printed."""
    from harness.cli import boards
    from harness.views.suite import views_of

    with out.capture() as captured:
        for view in views_of(results):
            for part in boards.draw(view, out.width):
                out.print(part)
    out.file.write(captured.get())
    write_sealed(store.results / _FILE, {"key": _key(results.source), "text": captured.get()})


def _key(source: str) -> str:
    return content_key([source, out.width, out.color_system, out.encoding, out.is_terminal])
