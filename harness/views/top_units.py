"""The units that are understood best, for people."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness.views.view import View, label, methods, number, view, words

_CURSE = (
    "Chosen on one half of the test windows, shown by the other, no document in both: on the half by which they were "
    "chosen the best of many look better than they are (the winner's curse)."
)


def top_views(board: pd.DataFrame) -> Iterator[View]:
    """A table for each model and site."""
    for (model, site), lines in board.groupby(["model", "site"], sort=False):
        fields = [
            *methods(lines),
            words("seed", "seed"),
            label("scorer"),
            words("explainer", "explainer"),
            number(
                "value",
                "fresh half",
                "mean of the chosen units on windows that did not choose them",
                "{:.3f}".format,
                is_main=True,
            ),
            number("choosing_half", "choosing half", "their mean on the windows that chose them", "{:.3f}".format),
            number("all_units", "all", "mean of all units on the fresh half", "{:.3f}".format),
            number("n_top", "chosen", "units chosen", "{:.0f}".format),
            number("n_units", "of", "units with a score on both halves", "{:.0f}".format),
        ]
        yield view(f"The best understood of {model} {site}", fields, lines.to_dict("records"), [_CURSE])
