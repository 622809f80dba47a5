"""Puts the page together: what is on it, in which order, and the files it consists of."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness.files import temporary_name
from harness.planning.config import dump_resolved
from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.registry.redaction import Redaction
from harness.report import plots
from harness.report.current import FOLDER, report_source
from harness.report.earlier import Earlier
from harness.report.figures import Plot, compared_models, compared_sites, place_plots
from harness.report.latents import Cards, script_json
from harness.report.scores import Scores
from harness.report.sheets import sheet
from harness.storage.locks import file_lock
from harness.storage.made import Made, code_digest
from harness.storage.states import outcome
from harness.storage.store import Store
from harness.tables.results import Results
from harness.views.circuits import circuit_views
from harness.views.costs import cost_views
from harness.views.latents import scores_view
from harness.views.methods import evaluation_views, places
from harness.views.missing import failure_view, undefined_view
from harness.views.scales import scales_views
from harness.views.similarities import models_view, pairs_view, ranks_view, task_views
from harness.wording import visible

_SCRIPTS = ("scores.js", "app.js")
_PLACE = ["family", "model", "site"]


def write_report(plan: Plan, store: Store, results: Results) -> Path:
    """Write `results/<name>/report/`, all of it or nothing; returns the path of its `index.html`.

    The same results give the same files: dates are those of the results.

    Args:
        plan: the cells of the suite.
        store: holds their records and artefacts.
        results: the tables and boards made from the records.
    """
    folder = store.results / FOLDER
    folder.parent.mkdir(parents=True, exist_ok=True)
    with file_lock(folder.with_name(f".{FOLDER}.lock")):  # of several at once each has the earlier one's parts
        _write(plan, store, results, folder)
    return folder / "index.html"


def _write(plan: Plan, store: Store, results: Results, folder: Path) -> None:
    made, redaction = Made(store.results), Redaction(asdict(plan.suite.config))
    source = report_source(results.source, plan)
    before = folder if made.is_untouched(FOLDER) else None
    earlier = Earlier(before, store.results, content_key([code_digest(), redaction.digest]))
    work = temporary_name(folder)
    work.mkdir(parents=True)
    try:
        scores = Scores(plan, results)
        latents = Cards(work / "latents", plan, store, scores, redaction, earlier).write()
        content = _content(plan, store, results, scores, earlier) | {"latents": latents}
        (work / "index.html").write_text(redaction.text(_render(content)), encoding="utf-8")  # people share it
        _replace(folder, work)
        earlier.remember()
        made.remember(FOLDER, source, [FOLDER])
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _replace(folder: Path, work: Path) -> None:
    """Put a whole new report in place of the old one, which is back if that fails."""
    old = temporary_name(folder)
    if folder.exists():
        folder.rename(old)
    try:
        work.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _content(plan: Plan, store: Store, results: Results, scores: Scores, earlier: Earlier) -> dict[str, Any]:
    """The content of the page, apart from latents."""
    tables = results.tables
    ranks = [ranks_view(results.similarity_ranks, plan.suite.config.tokens)] if len(results.similarity_ranks) else []
    return {
        **_head(plan, store, tables),
        "places": list(_places(results, earlier)),
        "evaluations": list(map(sheet, evaluation_views(results))),
        "scales": list(map(sheet, scales_views(results))),
        "tasks": list(map(sheet, [*ranks, *task_views(results.task_scores)])),
        "circuits": list(map(sheet, circuit_views(results.circuit_scores))),
        "similarities": list(_similarities(results.similarities, earlier)),
        "models": list(_models(results.model_similarities, earlier)),
        "scores": list(_scores(results.interpretability, scores)),
        "costs": list(map(sheet, cost_views(tables["cost"]))),
        "counts": sorted(outcome(plan, store).counts.items()),
        "failures": sheet(failure_view(tables, plan)),
        "undefined": sheet(undefined_view(tables)),
        "config": dump_resolved(plan.suite.config).split("\n"),
    }


def _render(content: Mapping[str, Any]) -> str:
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
    return page.encode("utf-8", "replace").decode("utf-8")  # lone surrogates


def _readable(shown: Any) -> Any:
    """A value for the template, with characters made visible that could reorder a line or hide in it."""
    return visible(shown) if isinstance(shown, str) and not isinstance(shown, Markup) else shown


def _head(plan: Plan, store: Store, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    lines = pd.concat([table[["device", "harness_version", "git_sha", "created_at"]] for table in tables.values()])
    found = {name: sorted(lines[name].dropna().unique()) for name in lines}
    packages: dict[str, set[str]] = {}
    for key in plan.cells:
        record = store.end(key)
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


def _places(results: Results, earlier: Earlier) -> Iterator[dict[str, Any]]:
    """The methods of each model and site, as a table and as plots."""
    styles = plots.styles_of(results.leaderboard["method"])
    for place in places(results):
        about = f"{visible(place.model)} {place.site}. The numbers are in the table above."
        drawn = [
            (plot.title, _svg(plot, f"{plot.title}, {about}", earlier))
            for plot in place_plots(place, results.declared, styles)
        ]
        yield {"model": place.model, "site": place.site, "sheet": sheet(place.view), "plots": drawn}


def _similarities(pairs: pd.DataFrame, earlier: Earlier) -> Iterator[dict[str, Any]]:
    """A map and its numbers for each similarity, and for each method whose decompositions it compares."""
    for found in compared_sites(pairs):
        (plot,) = found.maps
        drawn = _svg(plot, f"{found.title}, and its null. The numbers are in the table below.", earlier)
        yield {"title": found.title, "map": drawn, "sheet": sheet(pairs_view(found.title, found.lines))}


def _models(board: pd.DataFrame, earlier: Earlier) -> Iterator[dict[str, Any]]:
    """A map for each score and the numbers, for each similarity and each method whose decompositions it compares."""
    for found in compared_models(board):
        described = f"{found.title}, {{}}, and its null. The numbers are in the table below."
        maps = [(plot.title, _svg(plot, described.format(plot.title), earlier)) for plot in found.maps]
        numbers = sheet(models_view(f"Models by {found.title}", found.lines))
        yield {"title": found.title, "maps": maps, "sheet": numbers}


def _svg(plot: Plot, description: str, earlier: Earlier) -> Markup:
    def make() -> str:
        return plots.svg(plot.draw(), plot.title, description)

    return Markup(earlier.figure(plot.title, description, plot.draw, make))  # noqa: S704  # escaped in svg()


def _scores(board: pd.DataFrame, scores: Scores) -> Iterator[dict[str, Any]]:
    for (_, model, site), lines in board.groupby(_PLACE, sort=False):
        over = sorted(lines["interval_over"].dropna().unique())
        hint = f"95 % intervals over {' or '.join(over)}." if over else "Too few latents for intervals."
        weak = [scores.too_weak(line) for line in lines.to_dict("records")]
        shown = sheet(scores_view(f"Scores of latents of {model} {site}", lines, weak))
        yield {"model": model, "site": site, "hint": hint, "has_weak": any(weak), "sheet": shown}
