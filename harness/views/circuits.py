"""Circuits, for people: what a model does, and for each method what its latents carry of it and how few are needed."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from harness.circuits.limits import LEVEL, MIN_CARRIED, SIZES
from harness.tables.circuits import LINE
from harness.views.view import LISTED, REST, TIER, Field, Line, View, methods, number, view

_OF_MODEL = ["family", "model", "sites", "behaviour", "behaviour_config"]
_MAX_REASONS = 4


def circuit_views(scores: pd.DataFrame) -> Iterator[View]:
    """A table for each model and behaviour: a row for each method."""
    for _, lines in scores.groupby(_OF_MODEL, sort=False, dropna=False):
        of_model, of_methods = (lines[lines["method"].isna() == is_own] for is_own in (True, False))
        first = lines.iloc[0]
        title = f"Circuits of {first['behaviour_label']} in {first['model']}, {first['sites']}"
        rows = [_by_metric(own) for _, own in of_methods.groupby(LINE, sort=False, dropna=False)]
        notes = [*_of_model(of_model), *_reasons(of_methods)]
        yield view(title, [*methods(lines), *_fields()], rows, notes)


def _fields() -> list[Field]:
    share = "{:.2f}".format
    _, _, few, *_, many = SIZES
    return [
        number("carried", "carried", "faithfulness of all latents, errors at their mean", share, is_main=True),
        number(f"nodes_for_{LEVEL}", f"nodes for {LEVEL}", "fewest latents that are so faithful", "{:.0f}".format),
        number(f"faithfulness_{few}", f"F({few})", f"faithfulness of {few} latents", share, spare=TIER),
        number(f"faithfulness_{few} random", f"F({few}) random", "of random active ones", share, spare=LISTED),
        number("cpr", "CPR", f"area under F over log sizes, 1 to {many}", share, spare=TIER),
        number("cpr random", "CPR random", "of random active latents", share, spare=LISTED),
        number("cmd", "CMD", f"area of |1 − F| over log sizes, 1 to {many}; less is better", share, spare=TIER),
        number("n_minimal", "minimal", "latents of the minimal circuit", "{:.0f}".format),
        number("minimal_faithfulness", "F(minimal)", "its faithfulness on groups it was not found on", share),
        number("completeness", "without it", "what is left where only it is at its mean", share, spare=LISTED),
        number("minimal_share_necessary", "necessary", "share of its latents that pass", share, spare=REST),
        number("attribution_exact_ccc", "concordance", "of attributed and exact effects", share, spare=REST),
    ]


def _by_metric(lines: pd.DataFrame) -> Line:
    """The metrics of one method as one line."""
    found = dict(lines.iloc[0])
    for line in lines[lines["site"].isna()].to_dict("records"):
        metric = line["metric"]
        found |= {metric: line["value"], f"{metric}_low": line["low"], f"{metric}_high": line["high"]}
        found[f"{metric} random"] = line["random"]
    return found


def _of_model(lines: pd.DataFrame) -> Iterator[str]:
    """Notes on what the model does, and on how well effects add up."""
    own = lines[lines["site"].isna()].set_index("metric")["value"]
    if {"accuracy", "m_clean", "m_patch"} <= set(own.index):
        yield (
            f"the model is right in {own['accuracy']:.2f} of {own['n_pairs']:.0f} pairs; m is {own['m_clean']:.2f}, "
            f"in the patch {own['m_patch']:.2f}"
        )
    for line in lines[lines["metric"] == "attribution_gap"].to_dict("records"):
        yield f"{line['site']}: attributed effects add up to within {line['value']:.1%}"
    yield f"where all latents carry less than {MIN_CARRIED} no circuit is claimed"


def _reasons(lines: pd.DataFrame) -> list[str]:
    told = dict.fromkeys(
        f"{line['method_label']}: {line['error']}" for line in lines[lines["error"].notna()].to_dict("records")
    )
    return list(told)[:_MAX_REASONS]
