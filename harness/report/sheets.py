"""Tables as people read them: headings, short numbers with their intervals, and by what each column is sorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pandas as pd

from harness.planning.keys import canonical_json
from harness.planning.plan import Plan
from harness.registry.metric import Metric, metric_named
from harness.storage.records import UPSTREAM_FAILED
from harness.tables.costs import COSTS
from harness.tables.declared import Declared

Labels: TypeAlias = Mapping[tuple[Any, Any], str]
"""Of methods, similarities, scorers and tasks: `name(k=40)` by name and config."""


@dataclass(frozen=True)
class Value:
    """What stands in a cell."""

    text: str
    order: float | str | None
    """What the column is sorted by; None comes last whichever way it is sorted."""
    note: str = ""
    """Stands beside it, smaller: an interval."""
    more: tuple[str, ...] = ()
    """Lines that are shown when it is opened: the list that `text` begins."""


@dataclass(frozen=True)
class Column:
    """What heads a column."""

    heading: str
    meaning: str = ""
    is_number: bool = True


@dataclass(frozen=True)
class Sheet:
    """A table on the page."""

    caption: str
    columns: list[Column]
    rows: list[list[Value]]


@dataclass(frozen=True)
class _Measure:
    """A column of a frame, its heading, and how its numbers are written."""

    name: str
    heading: str
    meaning: str
    write: Callable[[float], str]


_INTERPRETABILITY = (
    _Measure("value", "value", "mean over latents, weighted by stratum, with its 95 % interval", "{:.3f}".format),
    _Measure("density_weighted", "by density", "mean over activations: frequent latents count more", "{:.3f}".format),
    _Measure("balanced_accuracy", "bal. acc.", "mean balanced accuracy over latents; chance is 0.5", "{:.3f}".format),
    _Measure(
        "random_explanation", "random expl.", "the same with another latent's explanation: a control", "{:.3f}".format
    ),
    _Measure("floor", "floor", "what looking tokens up in a table reaches on the same latents", "{:.3f}".format),
    _Measure("lift", "lift", "value − floor, latent by latent", "{:+.3f}".format),
    _Measure("chance", "chance", "what guessing reaches", "{:.2f}".format),
    _Measure("n_latents", "latents", "latents scored", "{:.0f}".format),
    _Measure("n_undefined", "undefined", "latents without a score; nothing stands in for them", "{:.0f}".format),
    _Measure("dead_share", "dead", "share of poles active on no row; not scored", "{:.1%}".format),
    _Measure("rare_share", "rare", "share of poles active in too few windows to be scored", "{:.1%}".format),
)
_MAX_NAMED = 2
"""Names shown before a list has to be opened."""


def leaderboard_sheet(place: pd.DataFrame, declared: Declared, labels: Labels, caption: str) -> Sheet:
    """The methods at one model and site, in the leaderboard's order."""
    metrics = [metric for metric in declared.shown if place[metric.name].notna().any()]
    several = place["fit_tokens"].nunique() > 1
    ranked, sparsity = declared.ranked, declared.sparsity
    columns = [Column("method", is_number=False), *([Column("fit tokens")] if several else [])]
    has_tiers = bool(place["tier"].notna().any()) and ranked is not None and sparsity is not None
    if ranked and sparsity and has_tiers:
        rank = f"rank by {ranked.heading} among methods of equal {sparsity.heading} (within 10 %)"
        columns.append(Column("tier", rank))
    columns += [Column(metric.heading, metric.meaning) for metric in metrics]
    if ranked and sparsity:
        front = f"no other method here has a lower {sparsity.heading} and a better {ranked.heading}"
        columns.append(Column("Pareto", front, is_number=False))
    rows = []
    for line in place.to_dict("records"):
        on_front = bool(line["pareto"]) and not pd.isna(line["pareto"])
        rows.append(
            [
                label(labels[line["method"], line["method_config"]]),
                *([number(line["fit_tokens"], "{:,.0f}".format)] if several else []),
                *([number(line["tier"], "{:.0f}".format)] if has_tiers else []),
                *(measured(line, metric.name, metric.write) for metric in metrics),
                *([Value("yes" if on_front else "", 0 if on_front else None)] if ranked and sparsity else []),
            ]
        )
    return Sheet(caption, columns, rows)


def evaluation_sheet(place: pd.DataFrame, metrics: Sequence[Metric], labels: Labels, caption: str) -> Sheet:
    """What an evaluation found at one model and site, with the intervals that it gave."""
    several = place["fit_tokens"].nunique() > 1
    metrics = [metric for metric in metrics if place[metric.name].notna().any()]
    columns = [Column("method", is_number=False), *([Column("fit tokens")] if several else [])]
    columns += [Column(metric.heading, metric.meaning) for metric in metrics]
    rows = [
        [
            label(labels[line["method"], line["method_config"]]),
            *([number(line["fit_tokens"], "{:,.0f}".format)] if several else []),
            *(measured(line, metric.name, metric.write) for metric in metrics),
        ]
        for line in place.to_dict("records")
    ]
    return Sheet(caption, columns, rows)


def interpretability_sheet(lines: pd.DataFrame, too_weak: Sequence[str | None], labels: Labels, caption: str) -> Sheet:
    """What scorers found at one model and site, and of which lines the judge is too weak."""
    several = lines["fit_tokens"].nunique() > 1
    headings = ["method", *(["fit tokens"] if several else []), "scorer", "metric", "judge", "explainer"]
    columns = [Column(heading, is_number=False) for heading in headings]
    columns += [Column(measure.heading, measure.meaning) for measure in _INTERPRETABILITY]
    rows = [
        [
            label(labels[line["method"], line["method_config"]]),
            *([number(line["fit_tokens"], "{:,.0f}".format)] if several else []),
            label(labels[line["scorer"], line["scorer_config"]]),
            text(line["metric"]),
            replace(text(line["judge"]), note=why or ""),
            text(line["explainer"]),
            *(measured(line, measure.name, measure.write) for measure in _INTERPRETABILITY),
        ]
        for line, why in zip(lines.to_dict("records"), too_weak, strict=True)
    ]
    return Sheet(caption, columns, rows)


def pairs_sheet(lines: pd.DataFrame, caption: str) -> Sheet:
    """One similarity of all pairs of sites, or of the seeds of each."""
    columns = [Column("a", is_number=False), Column("b", is_number=False), Column("seed"), Column("value")]
    columns.append(Column("null", "of shuffled rows, or the value that chance gives"))
    rows = [
        [
            *(text(f"{line['model' + b]} {line['side' + b]}") for b in ("", "_b")),
            text(" and ".join(dict.fromkeys(filter(None, (line["seed"], line["seed_b"])))) or None),
            *(number(line[name], "{:.4f}".format) for name in ("value", "null")),
        ]
        for line in lines.to_dict("records")
    ]
    return Sheet(caption, columns, rows)


def cost_sheets(costs: pd.DataFrame, labels: Labels) -> Iterator[Sheet]:
    """What captures and what decompositions cost, a column for each metric; several seeds are averaged."""
    known = costs[costs["metric"].notna() & costs["higher_is_better"].notna()]
    captures, fits = known[known["method"].isna()], known[known["method"].notna()]
    place = ["model", "site"]
    yield from _cost_sheet("Captures", captures, [*place, "split", "fit_tokens"], {}, ["model", "site", "rows of"])
    yield from _cost_sheet(
        "Decompositions", fits, [*place, "fit_tokens", "method", "method_config"], labels, ["model", "site", "method"]
    )


def _cost_sheet(
    caption: str, lines: pd.DataFrame, keys: list[str], labels: Labels, heads: list[str]
) -> Iterator[Sheet]:
    if lines.empty:
        return
    wide = lines.pivot_table(index=keys, columns="metric", values="value", sort=False, dropna=False, observed=True)
    wide = wide.dropna(how="all")
    metrics = [_cost(name) for name in dict.fromkeys(lines["metric"])]
    several = lines["fit_tokens"].nunique() > 1
    columns = [Column(head, is_number=False) for head in heads] + [Column("fit tokens")] * several
    columns += [Column(metric.heading, metric.meaning) for metric in metrics]
    rows = []
    for key, values in wide.iterrows():
        named = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
        what = label(labels[named["method"], named["method_config"]]) if labels else text(named["split"])
        tokens = [number(named["fit_tokens"], "{:,.0f}".format)] * several
        row = [text(named["model"]), text(named["site"]), what, *tokens]
        rows.append(row + [number(values[metric.name], metric.write) for metric in metrics])
    yield Sheet(caption, columns, rows)


def failure_sheet(tables: Mapping[str, pd.DataFrame], plan: Plan, labels: Labels) -> Sheet:
    """Cells that have no numbers, those with one reason together."""
    columns = [Column("state", is_number=False), Column("why", is_number=False), Column("cells")]
    rows = []
    lines = pd.concat([table[table["status"].isin(["failed", "skipped"])] for table in tables.values()])
    lines = lines.fillna({"error": ""}).sort_values("status", kind="stable")  # what failed comes first
    for (status, reason), found in lines.groupby(["status", "error"], sort=False):
        why = text(str(reason).removeprefix(f"{UPSTREAM_FAILED}: "))
        # What is skipped for one cause are a method's many cells, what failed is a cell.
        failed = [plan.cells[key].label for key in found["cell"]] if status == "failed" else None
        which = listed(failed) if failed else _listed_places(found, labels)
        rows.append([text(status), why, Value(f"{len(found):,}", len(found)), which])
    return Sheet("Cells without numbers", [*columns, Column("which", is_number=False)], rows)


def _listed_places(lines: pd.DataFrame, labels: Labels) -> Value:
    """Each fit that occurs, site or pair of sites."""
    keys = ["method", "method_config", "model", "site", "model_b", "site_b", "fit_tokens"]
    return listed([_place(line, labels) for line in lines[keys].drop_duplicates().to_dict("records")])


def _place(line: Mapping[Any, Any], labels: Labels) -> str:
    method = "" if pd.isna(line["method"]) else f"{labels[line['method'], line['method_config']]} on "
    sides = [f"{line[f'model{side}']} {line[f'site{side}']}" for side in ("", "_b") if pd.notna(line[f"model{side}"])]
    tokens = "" if pd.isna(line["fit_tokens"]) else f", {line['fit_tokens']:,} tokens"
    return method + " and ".join(sides) + tokens


def undefined_sheet(tables: Mapping[str, pd.DataFrame], labels: Labels) -> Sheet:
    """Metrics that have no value, by reason."""
    lines = pd.concat([table[table["status"] == "undefined"].assign(table=name) for name, table in tables.items()])
    rows = []
    for (table, metric, why), found in lines.groupby(["table", "metric", "error"], sort=False, dropna=False):
        times = Value(f"{len(found):,}", len(found))
        rows.append([text(table), text(metric), text(why), times, _listed_places(found, labels)])
    headings = [Column(heading, is_number=False) for heading in ("table", "metric", "why")]
    return Sheet("Metrics without a value", [*headings, Column("times"), Column("of which", is_number=False)], rows)


def labels_of(plan: Plan) -> Labels:
    """How methods, similarities, scorers and tasks are written: with the parameters that differ from their defaults."""
    suite = plan.suite
    entries = (*suite.methods, *suite.similarities, *suite.scorers, *suite.tasks)
    return {(entry.name, canonical_json(dict(entry.params))): entry.label for entry in entries}


def text(value: Any) -> Value:
    """A word; a dash where there is none."""
    return Value("–", None) if pd.isna(value) or value == "" else Value(str(value), str(value))


def listed(names: list[str]) -> Value:
    """The first names, and all of them to be opened."""
    if len(names) <= _MAX_NAMED:
        return text("; ".join(names))
    first = "; ".join(names[:_MAX_NAMED])
    return Value(f"{first}; and {len(names) - _MAX_NAMED:,} more", names[0], more=tuple(names))


def number(value: Any, write: Callable[[float], str], note: str = "") -> Value:
    """A number; a dash where there is none."""
    return Value("–", None) if pd.isna(value) else Value(_minus(write(value)), float(value), _minus(note))


def measured(line: Mapping[Any, Any], name: str, write: Callable[[float], str]) -> Value:
    """A number of a line, with its interval where it has one."""
    prefix = "" if name == "value" else f"{name}_"
    bounds: list[Any] = [line.get(f"{prefix}{end}") for end in ("low", "high")]
    note = "" if any(map(pd.isna, bounds)) else " to ".join(map(write, bounds))
    return number(line[name], write, note)


def _minus(written: str) -> str:
    """A minus sign is as wide as a plus."""
    return written.replace("-", "−")


def label(written: str) -> Value:
    """A plugin's name, its parameters smaller."""
    name, _, parameters = written.partition("(")
    return Value(name, written, parameters.removesuffix(")"))


def _cost(name: str) -> Metric:
    """What is known of a cost; a method may report its own."""
    return metric_named(name, COSTS) or Metric(name, name.replace("_", " "), "", format=",.0f")
