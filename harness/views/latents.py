"""Interpretability of latents, for people: a line for each score, or a line for each method with all its scores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from harness.tables.interpretability import FIT, SCORER, shares
from harness.tables.labels import labelled
from harness.tables.results import Results
from harness.views.view import Column, Field, Item, Line, View, known, label, methods, number, view, words

_PLACE = ["family", "model", "site"]
_MEANS = (
    ("value", "value", "mean over latents, weighted by stratum, with its 95 % interval", ".3f"),
    (
        "density_weighted",
        "by density",
        "mean weighted by density, the share of rows with a code that is not 0",
        ".3f",
    ),
    ("balanced_accuracy", "bal. acc.", "mean balanced accuracy over latents; chance is 0.5", ".3f"),
    ("random_explanation", "random expl.", "the same with another latent's explanation: a control", ".3f"),
    ("floor", "floor", "what looking tokens up in a table reaches on the same latents", ".3f"),
    ("lift", "lift", "value − floor, latent by latent", "+.3f"),
    ("chance", "chance", "what guessing reaches", ".2f"),
    ("n_latents", "latents", "latents scored", ".0f"),
    ("n_undefined", "undefined", "latents without a score; nothing stands in for them", ".0f"),
)
_UNSHOWN = {
    "dead": ("dead", "with a code that is 0 on every row; not scored"),
    "rare": ("rare", "with a code that is not 0 in too few windows to be scored"),
    "no_contrast": ("no contrast", "frequent, but too seldom strong or too seldom silent to be scored"),
}
_UNITS = {"latents": "latents, by the better pole,", "poles": "poles (two of a latent with signed codes)"}
_SHARES = [
    (f"{name}_share_of_{units}", f"{heading} {units}", f"share of {whose} {meaning}", ".1%")
    for name, (heading, meaning) in _UNSHOWN.items()
    for units, whose in _UNITS.items()
]
_MAX_NOTES = 5
_LAST = 1000
"""Place of shares of latents among columns that can be spared: they are left out before scores where room is short."""


def _writer(how: str) -> Any:
    return ("{:" + how + "}").format


def scores_view(title: str, lines: pd.DataFrame, too_weak: Sequence[str | None]) -> View:
    """A table of the scores at one model and site, with a note on each line whose judge is too weak."""
    weak = dict(zip(lines.index, too_weak, strict=True))
    fields = [
        *methods(lines),
        label("scorer"),
        words("metric", "metric"),
        Field(Column("judge"), lambda line: Item(known(line["judge"]), note=weak[line["place"]] or "")),
        words("explainer", "explainer"),
        *(number(name, heading, meaning, _writer(how)) for name, heading, meaning, how in (*_MEANS, *_SHARES)),
    ]
    return view(title, fields, lines.assign(place=lines.index).to_dict("records"))


def latents_views(results: Results) -> Iterator[View]:
    """A table for each model and site: a line per method, a column per scorer.

    Fits whose latents were read have a line, scored or not. Intervals and controls are in `scores_view`.
    """
    interp = results.tables["interp"]
    missing = interp[interp["value"].isna() & interp["error"].notna()]
    # Taken apart once: a merge for each place would take most of the time.
    scores, reasons = (dict(iter(table.groupby(_PLACE))) for table in (results.interpretability, missing))
    for place, fits in labelled(shares(interp), results.suite).groupby(_PLACE, sort=False):
        title = f"Latents of {place[1]} {place[2]}"
        yield _wide(title, fits, scores.get(place, results.interpretability[:0]), reasons.get(place, missing[:0]))


def _wide(title: str, fits: pd.DataFrame, scores: pd.DataFrame, missing: pd.DataFrame) -> View:
    scores = scores.fillna({"judge": "", "explainer": ""})
    has_explainers = scores.loc[scores["explainer"] != "", "explainer"].nunique() > 1
    wide, fields, reasons = fits, list[Field](), dict[str, None]()
    for key, own in scores.groupby([*SCORER, "metric"], sort=False):
        name = _name(own.iloc[0].to_dict(), has_explainers)
        found = own.set_index(FIT)["value"].reindex(pd.MultiIndex.from_frame(fits[FIT]))
        wide = wide.assign(**{f"score {len(fields)}": found.to_numpy()})
        chance = own["chance"].iloc[0]
        heading = name if pd.isna(chance) else f"{name} (chance\N{NO-BREAK SPACE}{chance:g})"
        fields.append(number(f"score {len(fields)}", heading, "", _writer(".3f"), spare=1 + len(fields)))
        reasons |= dict.fromkeys(f"{name}: {reason}" for reason in _why(missing, key, found))
    for i, (share, heading, meaning, how) in enumerate(_SHARES):
        fields.append(number(share, heading, meaning, _writer(how), spare=_LAST + i))
        of_share = missing["scorer"].isna() & (missing["metric"] == share)
        reasons |= dict.fromkeys(f"{heading}: {reason}" for reason in missing.loc[of_share, "error"])
    return view(title, [*methods(fits), *fields], wide.to_dict("records"), _notes(list(reasons)))


def _name(line: Line, has_explainers: bool) -> str:
    """The heading of a score: the scorer, its metric, the judge and, if there are several, the explainer."""
    name = f"{line['scorer_label']} {line['metric']}".replace("_", " ")
    by = f" by {line['judge']}" if line["judge"] else ""
    return name + by + (f", explained by {line['explainer']}" if has_explainers and line["explainer"] else "")


def _why(missing: pd.DataFrame, key: Any, found: pd.Series[float]) -> Iterator[str]:
    """The reasons why a scorer has no value for some fits."""
    scorer, config, _, explainer, _ = map(str, key)
    own = missing[(missing["scorer"] == scorer) & (missing["scorer_config"] == config)]
    own = own[own["explainer"].fillna("") == explainer]
    if len(own) and found.isna().any():
        yield from own.merge(found.index[found.isna()].to_frame(index=False), on=FIT)["error"]


def _notes(reasons: Sequence[str]) -> list[str]:
    told = [f"undefined: {reason}" for reason in reasons]
    n_more = len(told) - _MAX_NOTES
    return [*told[:_MAX_NOTES], *([f"undefined: {n_more} more reasons, in tables/interp.csv"] if n_more > 0 else [])]
