"""Layer matching of one family of models: a suite of the harness against the published procedure.

Ours is `harness run` in an empty folder, from rows on disk to the scores, with captures, cells and report. Theirs is
what Leask et al. 2025 (arXiv 2505.17769) do, written plainly: for every ordered pair of models and of layers both are
loaded from disk and compared. Both use linear CKA, SVCCA and relative representations as textbooks have them.
Run: `python benchmarks/layer_matching.py [--models 5 --sites 6 --rows 5000]`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
from pathlib import Path

import torch
from measuring import Table, parser, quiet_medians
from safetensors.torch import load_file, save_file

import harness
from harness import cli

D = 256
SIMILARITIES = ("cka", "svcca", "relative")


def write_family(folder: Path, n_models: int, n_sites: int, n_rows: int) -> list[Path]:
    """Models whose layers drift alike, each in a basis and with noise of its own. Half of the rows are to fit on."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * n_rows, D, generator=generator) * torch.arange(1, D + 1) ** -0.5
    layers = [x]
    for _ in range(n_sites - 1):
        mixing = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
        layers.append(layers[-1] + 0.4 * torch.tanh(layers[-1] @ mixing))
    rows = harness.make_rows(
        {
            "document": [str(i // 50) for i in range(2 * n_rows)],
            "window": [0] * (2 * n_rows),
            "position": [i % 50 for i in range(2 * n_rows)],
        }
    )
    models = []
    for number in range(n_models):
        models.append(folder / f"model-{number}")
        models[-1].mkdir()
        rows.to_parquet(models[-1] / "rows.parquet")
        basis = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
        for layer, values in enumerate(layers):
            own = values @ basis + 0.1 * torch.randn(values.shape, generator=generator)
            save_file({"x": own}, models[-1] / f"resid_post.{layer}.safetensors")
    return models


def published(models: list[Path], n_sites: int, n_rows: int) -> dict[str, float]:
    """The share of layers that are most alike to their own, for each similarity."""
    metrics = {name: harness.create("similarity", name) for name in SIMILARITIES}
    right: dict[str, list[bool]] = {name: [] for name in metrics}
    for a, b in itertools.product(models, repeat=2):
        for i in range(n_sites):
            values: dict[str, list[float]] = {name: [] for name in metrics}
            for j in range(n_sites):
                x, y = (load_file(m / f"resid_post.{k}.safetensors")["x"][:n_rows] for m, k in ((a, i), (b, j)))
                for name, metric in metrics.items():
                    values[name].append(metric(x, y))
            for name, found in values.items():
                right[name].append(max(range(n_sites), key=found.__getitem__) == i)
    return {name: sum(answers) / len(answers) for name, answers in right.items()}


def suite(models: list[Path], n_sites: int, n_rows: int) -> None:
    """`harness run` with a cache of its own."""
    sites = ",".join(f"resid_post.{layer}" for layer in range(n_sites))
    listed = ",".join(f"{{model: stored, path: {path}, label: {path.name}, family: one}}" for path in models)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        os.environ["HARNESS_CACHE"] = f"{folder}/cache"
        os.chdir(folder)
        try:
            code = cli.main(
                [
                    *("run", "suite=smoke", "name=matching", f"models=[{listed}]", f"sites=[{sites}]"),
                    *(f"tokens={{fit: {n_rows}, evaluation: {n_rows}, interp: 0}}", "evaluation_share=0.45"),
                    *(f"similarities=[{','.join(SIMILARITIES)}]", "tasks=[layer_matching]", "methods=[mean]"),
                    *("evaluations=[]", "scorers=[]", "wandb.mode=disabled"),
                ]
            )
        finally:
            os.chdir(here)
    if code:
        raise SystemExit(f"harness run ended with {code}")


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--models", type=int, default=5)
    options.add_argument("--sites", type=int, default=6)
    options.add_argument("--rows", type=int, default=5000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = arguments.sites, arguments.rows
    with tempfile.TemporaryDirectory() as folder:
        models = write_family(Path(folder), arguments.models, *shape)
        runs = {"harness run": lambda: suite(models, *shape), "as published": lambda: published(models, *shape)}
        seconds = quiet_medians(runs, arguments.rounds, loaded=arguments.loaded)
    work = f"layer matching of {arguments.models} models × {arguments.sites} sites, {arguments.rows} rows, d {D}"
    ours, theirs = (
        "harness run: cka, svcca, relative, with nulls",
        "each ordered pair loaded and compared, as published",
    )
    Table(arguments).add(work, (ours, seconds["harness run"]), (theirs, seconds["as published"]))


if __name__ == "__main__":
    main()
