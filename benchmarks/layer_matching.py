"""Layer matching of one family of models: a suite of the harness against the published procedure.

Ours is `harness run` in an empty folder, from rows on disk to the scores, with captures, cells, report, and a second
value of each pair on shuffled rows. Theirs is what Leask et al. 2025 (arXiv 2505.17769) do: for every ordered pair of
models and of layers both are loaded from disk and compared, by linear CKA, SVCCA, relative representations and linear
regression, written plainly. In float64 they have the digits that ours have; in float32 a few less.
Run: `python benchmarks/layer_matching.py [--models 5 --sites 11 --rows 5000]`.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from measuring import Table, parser, quiet_medians
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

import harness
from harness.cli import main as cli

D = 256

Metrics = dict[str, Callable[[Tensor, Tensor], float]]


def write_family(folder: Path, n_models: int, n_sites: int, n_rows: int) -> list[Path]:
    """Models whose layers drift alike, each in a basis and with noise of its own. Some of the rows are to fit on."""
    generator = torch.Generator().manual_seed(0)
    n_all = 3 * n_rows
    x = torch.randn(n_all, D, generator=generator) * torch.arange(1, D + 1) ** -0.5
    layers = [x]
    for _ in range(n_sites - 1):
        mixing = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
        layers.append(layers[-1] + 0.4 * torch.tanh(layers[-1] @ mixing))
    rows = harness.make_rows(
        {
            "document": [str(i // 50) for i in range(n_all)],
            "window": [0] * n_all,
            "position": [i % 50 for i in range(n_all)],
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


def plain_cka(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """Linear CKA by Kornblith et al. 2019 (arXiv 1905.00414), section 3."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))


def plain_svcca(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """SVCCA by Raghu et al. 2017 (arXiv 1706.05806): the correlations of the directions with .99 of the variance."""
    kept = []
    for rows in (x, y):
        left, sizes, _ = torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False)
        share = sizes.square().cumsum(dim=0) / sizes.square().sum()
        kept.append(left[:, : int((share < 0.99).sum()) + 1])
    return float(torch.linalg.svdvals(kept[0].T @ kept[1]).mean())


def plain_relative(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """Relative representations by Moschella et al. 2022 (arXiv 2209.15430), section 3, with 300 anchors."""
    anchors = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:300]
    x, y = functional.normalize(x), functional.normalize(y)
    return float(functional.cosine_similarity(x @ x[anchors].T, y @ y[anchors].T).mean())


def plain_regression(x: Float[Tensor, "n d"], y: Float[Tensor, "n d"]) -> float:
    """R² of y by least squares on x, in sample."""
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    residual = y - x @ torch.linalg.lstsq(x, y).solution
    return 1 - float(residual.square().sum() / y.square().sum())


PLAIN: Metrics = {
    "cka": plain_cka,
    "svcca": plain_svcca,
    "relative": plain_relative,
    "linear_regression": plain_regression,
}
PARAMS = {"linear_regression": {"estimate": "in_sample"}}
OWN: Metrics = {name: harness.create("similarity", name, **PARAMS.get(name, {})) for name in PLAIN}


def rows_of(model: Path, layer: int, n_rows: int) -> Float[Tensor, "n d"]:
    """The rows of a layer, read from disk."""
    with safe_open(model / f"resid_post.{layer}.safetensors", framework="pt") as file:
        return file.get_slice("x")[:n_rows]


def published(models: list[Path], n_sites: int, n_rows: int, dtype: torch.dtype) -> dict[str, float]:
    """The share of layers that are most alike to their own, for each similarity."""
    right: dict[str, list[bool]] = {name: [] for name in PLAIN}
    for a, b in itertools.product(models, repeat=2):
        for i in range(n_sites):
            values: dict[str, list[float]] = {name: [] for name in PLAIN}
            for j in range(n_sites):
                x, y = (rows_of(m, k, n_rows).to(dtype) for m, k in ((a, i), (b, j)))
                for name, metric in PLAIN.items():
                    values[name].append(metric(x, y))
            for name, found in values.items():
                right[name].append(max(range(n_sites), key=found.__getitem__) == i)
    return {name: sum(answers) / len(answers) for name, answers in right.items()}


def largest_difference(models: list[Path], n_rows: int) -> float:
    """The largest difference between the plain metrics and the harness's, on two layers of two models."""
    x, y = (rows_of(model, k, n_rows) for k, model in enumerate(models[:2]))
    return max(abs(PLAIN[name](x, y) - OWN[name](x, y)) for name in PLAIN)


def called(name: str) -> str:
    """A similarity as a suite lists it."""
    params = "".join(f", {key}: {value}" for key, value in PARAMS.get(name, {}).items())
    return f"{{similarity: {name}{params}}}"


def suite(models: list[Path], n_sites: int, n_rows: int, folder: Path) -> None:
    """Run a suite by `harness run` with a cache of its own in a new folder."""
    sites = ",".join(f"resid_post.{layer}" for layer in range(n_sites))
    listed = ",".join(f"{{model: stored, path: {path}, label: {path.name}, family: one}}" for path in models)
    here = Path.cwd()
    folder.mkdir()
    with contextlib.redirect_stdout(io.StringIO()):
        os.environ["HARNESS_CACHE"] = str(folder / "cache")
        os.chdir(folder)
        try:
            code = cli.main(
                [
                    *("run", "suite=smoke", "name=matching", f"models=[{listed}]", f"sites=[{sites}]"),
                    *(f"tokens={{fit: {n_rows}, evaluation: {n_rows}, interp: 0}}", "evaluation_share=0.45"),
                    *(f"similarities=[{','.join(map(called, PLAIN))}]", "tasks=[layer_matching]", "methods=[mean]"),
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
    options.add_argument("--sites", type=int, default=11, help="11, as published: the blocks of GPT-2 but the first")
    options.add_argument("--rows", type=int, default=5000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    shape = arguments.sites, arguments.rows
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), itertools.count()
        models = write_family(folder, arguments.models, *shape)
        runs: dict[str, Callable[[], object]] = {
            "harness run": lambda: suite(models, *shape, folder / f"run-{next(numbers)}"),
            "float64": lambda: published(models, *shape, torch.float64),
            "float32": lambda: published(models, *shape, torch.float32),
        }
        print(f"plain metrics and the harness's differ by {largest_difference(models, arguments.rows):.1e} at most")
        suite(models[:2], 2, arguments.rows, folder / "warm-up")
        published(models[:1], 1, arguments.rows, torch.float64)
        seconds = quiet_medians(runs, arguments.rounds, loaded=arguments.loaded, warm_up=False)
    work = f"layer matching of {arguments.models} models × {arguments.sites} sites, {arguments.rows} rows, d {D}"
    ours, *theirs = seconds
    table = Table(arguments)
    for other in theirs:
        against = f"each ordered pair loaded and compared, {other}", seconds[other]
        table.add(work, ("harness run: four similarities, with nulls", seconds[ours]), against)


if __name__ == "__main__":
    main()
