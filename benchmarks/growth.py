"""Cost of the verbs that read results, by the size of a suite: CPU seconds and peak memory of each, as processes.

One small suite is run. Its records and artefacts, under other keys and with values that differ a little, are written
through the store as those of larger suites: `methods` has models at two sites each with eight methods and three seeds,
evaluations, latents, explanations and scores; `pairs` has every pair of places by three similarities; `pythia` is only
planned: 8 models of 24 sites with the methods of `methods` and three similarities. Nothing is recorded: CPU seconds of
a busy machine are not those of a quiet one.
Run: `python benchmarks/growth.py [--cells 1000 6000 20000] [--folder FOLDER]`; a folder that is given is kept, and what
is in it is not written again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from harness.planning.cells import Cell
    from harness.storage.records import Record
    from harness.storage.store import Store

_TEMPLATE = "growth-template"
_METHODS: list[Any] = [
    *("identity", "mean"),
    {"method": "pca", "n_components": 32, "k": 8},
    {"method": "itda", "k": 8, "max_atoms": 128, "centre": True},
    *({"method": "random_dictionary", "n_latents": n, "k": 8, "centre": True} for n in (128, 256)),
    *({"method": "topk_sae", "n_latents": n, "k": 8} for n in (128, 256)),
]
_OF_METHODS = {"methods": _METHODS, "evaluations": ["reconstruction", "downstream"], "scorers": ["token_lookup"]}
_OF_PAIRS = {"methods": ["mean"], "similarities": ["cka", "svcca", "relative"]}
_N_OF_METHODS = 294
"""Cells that each model of `methods` has."""
_PLACE = ("family", "model", "site", "fit_tokens", "seed", "trained_at")
_VERBS = ("plan", "status", "leaderboard", "leaderboard", "report", "report", "run", "run")
"""The second time nothing has changed since the first."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[1000, 6000, 20000])
    parser.add_argument("--kinds", nargs="+", default=["methods", "pairs", "pythia"])
    parser.add_argument("--folder", type=Path, help="where suites are written, and stay")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).absolute()
        (folder / "conf" / "suite").mkdir(parents=True, exist_ok=True)
        os.chdir(folder)
        os.environ |= {"HARNESS_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
        print(f"{'suite':16} {'cells':>8} {'verb':14} {'CPU s':>8} {'peak MB':>8}", flush=True)
        for name, config in _suites(arguments.kinds, arguments.cells):
            _write_suite(name, config)
            # In a process of its own: a child begins with the memory that its parent had.
            n_cells = _elsewhere(_write_results, name)
            for memory in Path("results", name).glob(".made*"):
                memory.unlink()
            for verb in () if name == _TEMPLATE else ("plan",) if name == "pythia" else _VERBS:
                seconds, peak_bytes = _spent([verb, f"suite={name}"])
                print(f"{name:16} {n_cells:8} {verb:14} {seconds:8.2f} {peak_bytes / 1e6:8.0f}", flush=True)


def _suites(kinds: list[str], sizes: list[int]) -> Iterator[tuple[str, dict[str, Any]]]:
    both = {**_OF_METHODS, "similarities": _OF_PAIRS["similarities"]}
    yield _TEMPLATE, {**both, "models": _models(1, 2), "seeds": [0]}
    for size in sizes:
        if "methods" in kinds:
            yield f"methods{size}", {**_OF_METHODS, "models": _models(max(1, round(size / _N_OF_METHODS)), 2)}
        if "pairs" in kinds:
            n_sites = (size / 1.5) ** 0.5
            yield f"pairs{size}", {**_OF_PAIRS, "models": _models(max(1, round(n_sites / 4)), 4), "seeds": [0]}
    if "pythia" in kinds:
        yield "pythia", {**_OF_METHODS, "models": _models(8, 24), "similarities": ["cka", "svcca", "jaccard"]}


def _models(n: int, n_sites: int) -> list[dict[str, Any]]:
    sites = [f"resid_post.{layer}" for layer in range(n_sites)]
    return [
        {"model": "random_weights", "n_layers": max(4, n_sites), "width": 32, "n_heads": 2, "seed": i}
        | {"label": f"random-{i}", "family": f"family-{i % 4}", "sites": sites}
        for i in range(n)
    ]


def _write_suite(name: str, config: Mapping[str, Any]) -> None:
    tokens: dict[str, int] = {"fit": 3000, "evaluation": 2000}
    if "scorers" in config:
        tokens["interp"] = 3000
    whole = {"corpus": {"corpus": "synthetic"}, "tokens": tokens, "context": 64, "seeds": [0, 1, 2], **config}
    whole["wandb"] = {"mode": "disabled", "project": "growth", "entity": None}
    path = Path("conf", "suite", f"{name}.yaml")
    path.write_text("# @package _global_\n" + yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")


def _write_results(name: str) -> int:
    """Give every cell of a suite a record, and an artefact if its kind has one; return the number of cells."""
    from harness.planning.config import compose, dump_resolved
    from harness.planning.plan import build_plan
    from harness.storage.store import RESOLVED, Store, results_folder

    plan = build_plan(compose([f"suite={name}"])[0])
    store = Store.of(results_folder(name))
    if name == _TEMPLATE:
        _spent(["run", f"suite={name}"])
    elif name != "pythia" and not (store.results / RESOLVED).exists():
        template = Store.of(results_folder(_TEMPLATE))
        made = {_alike(cell): cell for cell in build_plan(compose([f"suite={_TEMPLATE}"])[0]).cells.values()}
        for cell in plan.cells.values():
            _copy(made[_alike(cell)], template, cell, store)
        (store.results / RESOLVED).write_text(dump_resolved(plan.suite.config), encoding="utf-8")
    return len(plan.cells)


def _alike(cell: Cell) -> str:
    """A name that is equal for cells which differ in their place and seed alone."""
    of_place = {*_PLACE, *(f"{name}_b" for name in _PLACE)}
    return json.dumps([cell.kind, {name: cell.columns[name] for name in sorted(cell.columns) if name not in of_place}])


def _copy(made: Cell, template: Store, cell: Cell, store: Store) -> None:
    """Write what one cell has left as what another one, in another store, would leave."""
    from harness.storage.store import ARTEFACT_KINDS

    record = template.record(made.key)
    assert record is not None, made.label
    made_from = store.made_from(cell.upstream)
    store.write_record(cell.key, replace(record, rows=_varied(record, cell.key), made_from=made_from))
    verdicts = template.record_path(made.key).with_suffix(".parquet")
    if verdicts.exists():
        os.link(verdicts, store.record_path(cell.key).with_suffix(".parquet"))
    manifest = template.manifest(made.kind, made.key) if made.kind in ARTEFACT_KINDS else None
    if manifest is not None and store.manifest(cell.kind, cell.key) is None:
        work = store.work_folder(cell.kind, cell.key)
        work.mkdir(parents=True)
        for name in manifest.pop("files"):
            os.link(template.artefact(made.kind, made.key) / name, work / name)
        store.commit(cell.kind, cell.key, manifest)


def _varied(record: Record, key: str) -> list[dict[str, Any]]:
    """The rows of a record with their values, and the sums that these are made of, up to a tenth smaller."""
    rows = []
    for i, row in enumerate(record.rows):
        share = 1 - hashlib.sha256(f"{key} {i}".encode()).digest()[0] / 2560
        documents = row.get("documents")
        if documents:
            row = row | {"documents": documents | {"numerator": [share * one for one in documents["numerator"]]}}
        rows.append(row | {"value": row["value"] and share * row["value"]})
    return rows


def _elsewhere(function: Any, *arguments: Any) -> Any:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def _spent(words: list[str]) -> tuple[float, int]:
    """CPU seconds of a verb with all processes that it starts, and the most memory that one of these held."""
    log = Path("log.txt").absolute()
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, "-m", "harness", *words], stdout=subprocess.DEVNULL, stderr=file)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"harness {' '.join(words)} ended with {process.returncode}; see {log}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


if __name__ == "__main__":
    main()
