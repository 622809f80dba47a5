"""Puts the page together: what is on it, in which order, and the files it consists of."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.planning.config import dump_resolved
from harness.planning.plan import Plan
from harness.report import plots, sheets
from harness.report.latents import script_json, write_latents
from harness.report.model_sheets import model_sheets
from harness.report.redaction import Redaction
from harness.report.scores import Scores
from harness.report.task_sheets import task_sheets
from harness.storage.states import outcome
from harness.storage.store import Store
from harness.tables.leaderboard import ranking
from harness.tables.results import Results
from harness.wording import visible

FOLDER = "report"
_SCRIPTS = ("scores.js", "app.js")
_PLACE = ["family", "model", "site"]


def write_report(plan: Plan, store: Store, results: Results) -> Path:
    """Write `results/<name>/report/`, all of it or nothing; returns the path of its `index.html`.

    The same results give the same files: dates are those of the results.

    Args:
        plan: what was to be done.
        store: what was.
        results: what it came to.
    """
    folder = store.results / FOLDER
    work = folder.with_name(f".{FOLDER}.{os.getpid()}")
    work.mkdir(parents=True)
    try:
        labels, tables = sheets.labels_of(plan), results.tables
        scores = Scores(plan, results, labels)
        latents = write_latents(work / "latents", plan, store, scores, labels)
        content = {
            **_head(plan, store, tables),
            "places": list(_places(results, labels)),
            "evaluations": [
                sheets.evaluation_sheet(
                    place, results.metrics_of(name), labels, f"{name.replace('_', ' ')} of {model} {site}"
                )
                for name, board in results.evaluations.items()
                for (_, model, site), place in board.groupby(_PLACE, sort=False)
            ],
            "tasks": list(task_sheets(results, labels)),
            "similarities": list(_similarities(results.similarities, labels)),
            "models": list(model_sheets(results.model_similarities, labels)),
            "scores": list(_scores(results.interpretability, scores, labels)),
            "latents": latents,
            "costs": list(sheets.cost_sheets(tables["cost"], labels)),
            "counts": sorted(outcome(plan, store).counts.items()),
            "failures": sheets.failure_sheet(tables, plan, labels),
            "undefined": sheets.undefined_sheet(tables, labels),
            "config": dump_resolved(plan.suite.config).split("\n"),
        }
        (work / "index.html").write_bytes(_render(content))
        Redaction(asdict(plan.suite.config)).files(work)  # people share it
        if folder.exists():
            shutil.rmtree(folder)
        work.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder / "index.html"


def _render(content: Mapping[str, Any]) -> bytes:
    assets = files("harness.report")
    style, *scripts = (assets.joinpath(name).read_text(encoding="utf-8") for name in ("style.css", *_SCRIPTS))
    script = "".join(scripts)
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_readable
    )
    environment.filters["script_json"] = lambda data: Markup(script_json(data))  # noqa: S704  # escaped for scripts
    template = environment.from_string(assets.joinpath("index.html").read_text(encoding="utf-8"))
    # Only this script and the files beside the page may run, whatever a text should manage to smuggle in.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = template.render(**content, style=Markup(style), script=Markup(script), digest=digest)  # noqa: S704
    return page.encode("utf-8", "replace")  # lone surrogates


def _readable(shown: Any) -> Any:
    """What the template shows of a value: text that could turn a line around, or hide in it, is to be seen."""
    return visible(shown) if isinstance(shown, str) and not isinstance(shown, Markup) else shown


def _head(plan: Plan, store: Store, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    lines = pd.concat([table[["device", "harness_version", "git_sha", "created_at"]] for table in tables.values()])
    found = {name: sorted(lines[name].dropna().unique()) for name in lines}
    packages: dict[str, set[str]] = {}
    for key in plan.cells:
        record = store.record(key)
        for name, version in (record.provenance.get("versions", {}) if record else {}).items():
            packages.setdefault(name, set()).add(version)
    suite = plan.suite
    return {
        "name": suite.config.name,
        "n_models": len(suite.models),
        "n_methods": len(suite.methods),
        "tokens": suite.config.tokens,
        "seeds": suite.config.seeds,
        "dates": [date[:10] for date in (found["created_at"][:1] + found["created_at"][-1:])],
        "versions": {
            "decomp-harness": found["harness_version"],
            "commit": found["git_sha"],
            **{name: sorted(versions) for name, versions in sorted(packages.items())},
            "device": found["device"],
        },
    }


def _places(results: Results, labels: sheets.Labels) -> Iterator[dict[str, Any]]:
    """Of each model and site the methods, as a table and as plots."""
    board, declared = results.leaderboard, results.declared
    styles = plots.styles_of(board["method"])
    for (_, model, site), place in board.groupby(_PLACE, sort=False):
        drawn = []
        for x, y in declared.axes:
            if place[[x.name, y.name]].notna().all(axis=1).any():
                title = plots.caption(place, x, y)
                described = f"{title}, {visible(str(model))} {site}. The numbers are in the table above."
                drawn.append((title, Markup(plots.svg(plots.pareto(place, x, y, styles), title, described))))  # noqa: S704
        sheet = sheets.leaderboard_sheet(place, declared, labels, f"Methods on {model} {site}")
        yield {"model": model, "site": site, "ranking": ranking(place, declared), "sheet": sheet, "plots": drawn}


def _similarities(pairs: pd.DataFrame, labels: sheets.Labels) -> Iterator[dict[str, Any]]:
    """Of each metric, and of each method where it compares decompositions, a map and its numbers."""
    keys = ["similarity", "similarity_config", "method", "method_config", "fit_tokens"]
    budgets = pairs.loc[pairs["fit_tokens"] != "", "fit_tokens"].nunique()
    for key, lines in pairs.groupby(keys, sort=False):
        metric, config, method, method_config, tokens = map(str, key)
        title = labels[metric, config]
        if method:
            title += f" of {labels[method, method_config]}" + (f", {int(tokens):,} tokens" if budgets > 1 else "")
        described = f"{title}, and its null. The numbers are in the table below."
        named = lines.assign(**{side: [visible(name) for name in lines[side]] for side in ("model", "model_b")})
        drawn = Markup(plots.svg(plots.heat_map(named, metric), title, described))  # noqa: S704  # escaped in svg()
        yield {"title": title, "map": drawn, "sheet": sheets.pairs_sheet(lines, title)}


def _scores(board: pd.DataFrame, scores: Scores, labels: sheets.Labels) -> Iterator[dict[str, Any]]:
    for (_, model, site), lines in board.groupby(_PLACE, sort=False):
        over = sorted(lines["interval_over"].dropna().unique())
        hint = f"95 % intervals over {' or '.join(over)}." if over else "Too few latents for intervals."
        place = f"{model} {site}"
        weak = [scores.too_weak(line) for line in lines.to_dict("records")]
        sheet = sheets.interpretability_sheet(lines, weak, labels, f"Scores of latents of {place}")
        yield {"model": model, "site": site, "hint": hint, "has_weak": any(weak), "sheet": sheet}
