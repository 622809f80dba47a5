"""The verb that takes two results and says whether they are equal."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from harness.cli.console import ALL_DONE, SOME_FAILED, out
from harness.errors import ConfigError


def compare_verb(options: argparse.Namespace) -> int:
    """Say whether the tables of two results folders, or of two suites that have run, are equal."""
    from harness.cli.boards import draw
    from harness.storage.store import results_folder
    from harness.tables.equality import compare
    from harness.views.equality import equality_views

    if len(options.words) != 2:
        raise ConfigError("compare: name two results, such as: harness compare results/here /elsewhere/results/there")
    a, b = (Path(word) if Path(word).is_dir() else results_folder(word) for word in options.words)
    found = compare(a, b)
    is_equal = all(table.is_equal for table in found)
    if options.json:
        print(json.dumps({"equal": is_equal, "tables": [asdict(table) for table in found]}, indent=2))
    else:
        for view in equality_views(found):
            for part in draw(view, out.width):
                out.print(part)
        out.print("equal" if is_equal else "not equal", highlight=False)
    return ALL_DONE if is_equal else SOME_FAILED
