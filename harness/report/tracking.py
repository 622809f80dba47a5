"""Weights & Biases as a sink: the results of a suite, as one run. The local files are the truth; a failure only warns.

A run is a copy of what is stored, never an addition to an earlier one: its id follows from the plan, and logging or
syncing again replaces it. Program, machine, environment and source code stay out of it, and secrets are
hidden.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pandas as pd

from harness.errors import ConfigError, HarnessError
from harness.planning.plan import Plan
from harness.planning.suite import WANDB_ARTIFACT, Suite
from harness.registry.redaction import Redaction
from harness.report.figures import Plot, compared_models, compared_sites, place_plots
from harness.report.plots import styles_of
from harness.report.wandb_names import columns, named
from harness.report.wandb_runs import is_whole, run_id, runs_folder, runs_lock
from harness.report.wandb_upload import NotUploaded, allowed_mode, upload
from harness.running.provenance import git_sha, versions
from harness.storage.locks import file_lock
from harness.tables.results import Results
from harness.tables.tidy import write_tables
from harness.version import __version__
from harness.views.methods import places
from harness.views.suite import views_of

if TYPE_CHECKING:
    import wandb

Warn = Callable[[str], None]
_Value: TypeAlias = tuple[tuple[Any, ...], float | str]
"""The parts of a name, and what it names."""

_MAX_TABLE_ROWS = 200_000  # what wandb.Table keeps, without a word about the rest
_MAX_PLOTS = 100  # a third of a second each
_MAX_VIEWS = 200


def track(plan: Plan, results: Results, folder: Path, warn: Warn) -> None:
    """Log the results of a suite, unless logging is switched off; `warn` is told what went wrong.

    W&B's own WANDB_MODE counts where it is stricter than the suite: what it forbids is not sent. No number and no exit
    code of a run depends on W&B.
    """
    mode = allowed_mode(plan.suite.config.wandb.mode)
    if mode == "disabled":
        return
    try:
        sync(plan, results, folder, mode, warn)
    except HarnessError as error:
        warn(str(error))


def sync(plan: Plan, results: Results, folder: Path, mode: str | None, warn: Warn) -> str:
    """Log tables, views, summary and report as one run, in place of what was logged of this plan before.

    Args:
        plan: the plan that the results belong to.
        results: the tables and boards to log.
        folder: the suite's results folder; holds the report, if one was made, and gets offline runs.
        mode: `"online"` or `"offline"`; None for the suite's own.
        warn: told what had to be left out.

    Returns:
        The address or the folder of the run.
    """
    config = plan.suite.config
    mode = mode or config.wandb.mode
    if mode == "disabled":
        raise ConfigError("wandb.mode is disabled in this suite; give --mode offline or --mode online.")
    try:
        with _alone(folder, run_id(plan)):
            run, server = _log(plan, results, folder, warn)
            return upload(run, server) if mode == "online" else str(run)
    except (KeyboardInterrupt, NotUploaded):
        raise
    except BaseException as error:  # a sink must never fail a run, however wandb ends (it may call sys.exit)
        raise HarnessError(
            f"W&B logging failed ({type(error).__name__}: {error}). The results in {folder} are complete without it; "
            f"to log them once more: harness wandb-sync name={config.name}"
        ) from error


def summary(results: Results) -> dict[str, float | str]:
    """Numbers under the same name in all runs, `<metric>/<model>/<site>/<method>`, and who leads where.

    A name has letters, digits and `_` only: W&B can't sort by others. Leaders are those in the first tier, so
    that there are none without several seeds. `results` are redacted already.
    """
    found: list[_Value] = []
    leaders: dict[tuple[str, str], list[str]] = defaultdict(list)
    suite, declared = results.suite, results.declared
    for line in results.leaderboard.to_dict("records"):
        found += _numbers(line, {metric.name: line[metric.name] for metric in declared.main}, suite)
        if declared.sparsity and not pd.isna(line["tier"]) and line["tier"] == 1:
            at = f"{declared.sparsity.heading} {declared.sparsity.write(line[declared.sparsity.name])}"
            leaders[line["model"], line["site"]].append(f"{_method(line, suite)} at {at}")
    for line in results.interpretability.to_dict("records"):
        by = f" {line['explainer']}" if len(suite.explainers) > 1 and not pd.isna(line["explainer"]) else ""
        metric = f"{line['scorer_label']}{by} {line['metric']}"
        found += _numbers(line, {metric: line["value"], f"{metric} lift": line["lift"]}, suite)
    return named([*found, *((("first_tier", *place), ", ".join(lines)) for place, lines in leaders.items())])


def _method(line: Mapping[Any, Any], suite: Suite) -> str:
    """The method of a line, and its budget where there are several."""
    is_swept = len(suite.config.tokens.fit_budgets) > 1
    return f"{line['method_label']} {line['fit_tokens']} tokens" if is_swept else str(line["method_label"])


def _numbers(line: Mapping[Any, Any], metrics: Mapping[str, Any], suite: Suite) -> Iterator[_Value]:
    """A line's numbers by the parts of their names; a metric without a value has no entry."""
    for metric, value in metrics.items():
        if not pd.isna(value):
            yield (metric, line["model"], line["site"], _method(line, suite)), float(value)


def _log(plan: Plan, results: Results, folder: Path, warn: Warn) -> tuple[Path, str]:
    """Write an offline run; its folder, and the server that it may be sent to."""
    settings = dataclasses.asdict(plan.suite.config)
    sink = settings.pop("wandb")
    redaction = Redaction(settings)
    shown = results.with_frames(redaction.table)
    made_by = {"harness_version": __version__, "git_sha": git_sha(), "versions": versions()}
    with (
        tempfile.TemporaryDirectory() as temporary,
        _run(plan, redaction.value(settings) | made_by, folder, sink) as run,
    ):
        work = Path(temporary)
        frames = {name: _table(name, table, warn) for name, table in shown.frames.items()}
        run.log(frames | _views(shown, warn) | _images(shown, work, warn))
        run.summary.update(summary(shown))
        run.log_artifact(_artifact(plan.suite.config.name, shown.frames, folder, work, redaction))
        lies_in, server = Path(run.settings.sync_dir), os.environ.get("WANDB_BASE_URL") or str(run.settings.base_url)
    if not is_whole(lies_in):
        raise OSError(f"{lies_in} is cut short; there must be room")
    return lies_in, server


@contextmanager
def _run(plan: Plan, config: dict[str, Any], folder: Path, sink: Mapping[str, Any]) -> Iterator[wandb.Run]:
    """A run that ends with the block. As a context manager of its own it would print whatever is raised inside."""
    import wandb

    name = plan.suite.config.name
    run = wandb.init(
        project=sink["project"],
        entity=sink["entity"],
        mode="offline",
        id=run_id(plan),
        name=name,
        group=name,
        job_type="suite",
        config=config,
        dir=str(folder),
        settings=wandb.Settings(
            silent=True,
            console="off",
            # What wandb would find out by itself about the program, the machine and the code.
            host="",
            x_disable_meta=True,
            x_disable_stats=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            disable_git=True,
            disable_code=True,
            save_code=False,
        ),
    )
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish()


def _table(name: str, table: pd.DataFrame, warn: Warn) -> wandb.Table:
    import wandb

    if len(table) > _MAX_TABLE_ROWS:
        warn(f"W&B shows {_MAX_TABLE_ROWS:,} of the {len(table):,} rows of {name}; the artifact has all of them.")
        table = table.head(_MAX_TABLE_ROWS)
    cells = table.astype(object).where(table.notna(), None)
    # Row by row: given a frame, wandb looks up every cell, which takes three times as long.
    return wandb.Table(columns=[*cells.columns], data=[*cells.itertuples(index=False, name=None)])


def _views(results: Results, warn: Warn) -> dict[str, wandb.Table]:
    """The views of the terminal and the page, as tables with numbers."""
    import wandb

    shown = named((("views", view.title), view) for view in views_of(results))
    if len(shown) > _MAX_VIEWS:
        warn(f"W&B gets {_MAX_VIEWS} of {len(shown)} views; the report has all of them.")
    tables = {}
    for name, view in list(shown.items())[:_MAX_VIEWS]:
        tables[name] = wandb.Table(columns=columns(view.headings), data=[*view.values], allow_mixed_types=True)
    return tables


def _images(results: Results, folder: Path, warn: Warn) -> dict[str, wandb.Image]:
    """The plots as images, whose files are written to `folder`."""
    import wandb

    plots = list(islice(_plots(results), _MAX_PLOTS + 1))
    if len(plots) > _MAX_PLOTS:
        warn(f"W&B gets {_MAX_PLOTS} plots and no more; the report has all of them.")
    images: dict[str, wandb.Image] = {}
    for name, plot in named((("plots", *plot.key), plot) for plot in plots[:_MAX_PLOTS]).items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        plot.draw().savefig(path, dpi=200)
        images[name] = wandb.Image(str(path))
    return images


def _plots(results: Results) -> Iterator[Plot]:
    """Maps of all sites and of all models by each similarity, and Pareto plots by model and site."""
    for found in (*compared_sites(results.similarities), *compared_models(results.model_similarities)):
        yield from found.maps
    styles = styles_of(results.leaderboard["method"])
    for place in places(results):
        yield from place_plots(place, results.declared, styles)


def _artifact(
    name: str, tables: Mapping[str, pd.DataFrame], results: Path, folder: Path, redaction: Redaction
) -> wandb.Artifact:
    """An artifact of all files in `folder`, with redacted copies of all tables and of the report put there first."""
    import wandb

    write_tables(dict(tables), folder / "tables")
    if (report := results / "report").exists():
        shutil.copytree(report, folder / "report")
        redaction.files(folder / "report")  # it may be of an older version, or a hand's work
    artifact = wandb.Artifact(f"{name}{WANDB_ARTIFACT}", type="results")
    for path in _files(folder):
        artifact.add_file(str(path), name=path.relative_to(folder).as_posix())
    return artifact


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@contextmanager
def _alone(results: Path, run: str) -> Iterator[None]:
    """Hold a lock, delete what earlier logging of the run left here, and have wandb keep its own copies here too."""
    results.mkdir(parents=True, exist_ok=True)
    before, copies = os.environ.get("WANDB_DATA_DIR"), runs_folder(results) / f"files-{run}"
    with file_lock(runs_lock(results)):
        for old in [copies, *runs_folder(results).glob(f"*run-*-{run}")]:
            shutil.rmtree(old, ignore_errors=True)
        os.environ["WANDB_DATA_DIR"] = str(copies)  # no setting says so; the default is the home folder
        try:
            yield
        finally:
            del os.environ["WANDB_DATA_DIR"]
            if before is not None:
                os.environ["WANDB_DATA_DIR"] = before
