"""Weights & Biases as a sink: the tables of a suite in one run. The local files are the truth; a failure only warns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from harness.keys import content_key
from harness.suite import SuiteConfig

_INIT_TIMEOUT_SECONDS = 60.0


def run_id(config: SuiteConfig) -> str:
    """The same for the same suite and settings: logging or syncing twice makes no second run."""
    settings = {key: value for key, value in dataclasses.asdict(config).items() if key not in ("device", "wandb")}
    return content_key({"wandb": settings})[:16]


def track(config: SuiteConfig, tables: Mapping[str, pd.DataFrame], folder: Path, warn: Callable[[str], None]) -> None:
    """Log config and tables, offline unless asked otherwise; `warn` is told what went wrong."""
    if config.wandb.mode == "disabled":
        return
    try:
        _log(config, tables, folder)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a sink must never fail a run, however wandb ends (it may call sys.exit)
        warn(f"W&B logging failed ({type(error).__name__}: {error}); the tables in {folder} are complete without it.")


def _log(config: SuiteConfig, tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    with wandb.init(
        project=config.wandb.project,
        entity=config.wandb.entity,
        mode=config.wandb.mode,
        id=run_id(config),
        resume="allow",
        name=config.name,
        group=config.name,
        job_type="suite",
        config=dataclasses.asdict(config),
        dir=str(folder),
        settings=wandb.Settings(silent=True, console="off", init_timeout=_INIT_TIMEOUT_SECONDS),
    ) as run:
        for name, table in tables.items():
            run.log({name: wandb.Table(dataframe=table.astype(object).where(table.notna(), None))})
