"""Labels of plugins in tables: `itda(k=40)`, with the parameters that differ from their defaults."""

from __future__ import annotations

import pandas as pd

from harness.planning.suite import Suite

KINDS = ("method", "similarity", "scorer", "task", "behaviour")


def labelled(table: pd.DataFrame, suite: Suite) -> pd.DataFrame:
    """Append a column of labels for each kind of plugin that a table names: `method_label` and so on."""
    columns = {}
    for kind in KINDS:
        if kind in table:
            names = zip(table[kind], table[f"{kind}_config"], strict=True)
            labels = [suite.labels.get((kind, *named)) for named in names]
            columns[f"{kind}_label"] = pd.Series(labels, table.index, dtype="string")
    return table.assign(**columns)
