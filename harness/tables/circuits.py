"""Circuits of each method: a line for each metric, with intervals over groups of pairs and beside random nodes.

A metric of one seed is a ratio of sums over groups, and its errors are the jackknife's (Tukey 1958): with R_g the ratio
without group g, the part of g is (mean of R − R_g) √((n − 1)/n), with n − 1 degrees of freedom. Seeds judge on the same
groups, so their parts are averaged, and what their values vary by is the seeds'; the module `intervals` says how an
interval is made of it. Differences to random nodes are paired, group by group. An interval is about other lexical items
of the same behaviour, and with one seed about one fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from harness.planning.plan import Plan
from harness.tables.intervals import Replicates, contrast, interval, skewness_of
from harness.tables.tidy import RowsWithSums

LINE = [*("family", "model", "sites", "behaviour", "behaviour_config"), *("method", "method_config", "fit_tokens")]
MIN_GROUPS = 5
"""Fewest groups with which there is an interval."""
_RANDOM = "_random"
CIRCUIT_SCORE_COLUMNS = (
    *LINE,
    *("site", "metric", "value", "low", "high", "random", "difference_to_random", "difference_to_random_low"),
    *("difference_to_random_high", "n", "n_groups", "n_seeds", "higher_is_better", "error"),
)


def circuit_scores(plan: Plan, table: pd.DataFrame, with_sums: RowsWithSums) -> pd.DataFrame:
    """One line per behaviour, method and metric; `site` where it is about one site, and no method for the model's own.

    Args:
        plan: the cells.
        table: the tidy table of circuits.
        with_sums: the sums by group of its rows.
    """
    sums = {
        (cell.key, row["metric"], row.get("site")): row["documents"]
        for cell in (*plan.of_kind("contrast"), *plan.of_kind("circuit"))
        for row in with_sums.get(cell.key, ())
        if row.get("documents")
    }
    known = table[table["metric"].notna()]
    lines = []
    for key, own in known.groupby([*LINE, "site", "metric"], sort=False, dropna=False):
        named = dict(zip([*LINE, "site", "metric"], key, strict=True))
        if str(named["metric"]).endswith(_RANDOM):
            continue
        random = known[(known["metric"] == f"{named['metric']}{_RANDOM}") & known["cell"].isin(own["cell"])]
        lines.append(named | _line(own, random, sums))
    return pd.DataFrame(lines, columns=list(CIRCUIT_SCORE_COLUMNS)).astype({"fit_tokens": "Int64"})


def _line(own: pd.DataFrame, random: pd.DataFrame, sums: Mapping[Any, Any]) -> dict[str, Any]:
    values, reasons = own["value"].dropna(), own["error"].dropna()
    found = _replicates(own, sums)
    low, high = (None, None) if found is None else interval(found)
    line = {
        "value": values.mean() if len(values) else None,
        **{"low": low, "high": high, "n": int(own["n"].max()), "n_seeds": len(values)},
        "n_groups": None if found is None else len(found.parts),
        "higher_is_better": own["higher_is_better"].iloc[0],
        "error": reasons.iloc[0] if len(reasons) else None,
    }
    if len(random) and len(values):
        beside = _replicates(random, sums)
        apart = None if found is None or beside is None else contrast(found, beside)
        low, high = (None, None) if apart is None else interval(apart)
        name = "difference_to_random"
        line |= {"random": random["value"].mean(), name: values.mean() - random["value"].mean()}
        line |= {f"{name}_low": low, f"{name}_high": high}
    return line


def _replicates(rows: pd.DataFrame, sums: Mapping[Any, Any]) -> Replicates | None:
    """The mean over seeds with its errors; None where rows have no sums, or of too few groups."""
    keys = [
        (line["cell"], line["metric"], None if pd.isna(line["site"]) else line["site"])
        for line in rows.to_dict("records")
    ]
    found = [sums[key] for key in keys if key in sums]
    if not found or len(found[0]["numerator"]) < MIN_GROUPS:
        return None
    return ratio_replicates([(np.array(own["numerator"]), np.array(own["denominator"])) for own in found])


def ratio_replicates(seeds: Sequence[tuple[Float[np.ndarray, " g"], Float[np.ndarray, " g"]]]) -> Replicates | None:
    """The mean over seeds of ratios of sums over the same groups; None where a group holds all of a denominator."""
    values, parts = [], []
    for numerator, denominator in seeds:
        n, rest = len(numerator), denominator.sum() - denominator
        if not rest.all() or not denominator.sum():
            return None
        without = (numerator.sum() - numerator) / rest
        values.append(numerator.sum() / denominator.sum())
        parts.append((without.mean() - without) * np.sqrt((n - 1) / n))
    own = np.mean(parts, axis=0)
    several = len(values) > 1
    apart = [part - own for part in parts]
    return Replicates(
        value=float(np.mean(values)),
        parts=own,
        n_units=len(own),
        freedom=len(own) - 1.0,
        skewness=skewness_of(own),
        n_seeds=len(values),
        seed_variance=float(np.var(values, ddof=1) / len(values)) if several else 0.0,
        residual_variance=float(np.sum(np.square(apart)) / len(values) / (len(values) - 1)) if several else 0.0,
    )
