"""Linear CKA, SVCCA and Procrustes of all pairs of sites from shared moments, against what a user would write.

Side by side: `shared`, one reading of the rows for all pairs, of one to three metrics; `pair by pair`, the same metrics
called on every two matrices; `textbook`, CKA written down in float64 and float32; and minibatch CKA, ours against
torch-cka. On 2,000 rows also rsatoolbox, whose whitened cosine of squared Euclidean dissimilarities is biased linear
CKA. Both need `pip install torch-cka rsatoolbox`; what is not installed is left out.
Run: `python benchmarks/similarity.py [--sites 12 --rows 20000]`.
"""

from __future__ import annotations

import argparse
import itertools
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from measuring import Table, parser, quiet_medians
from torch import Tensor, nn

import harness

D, BLOCK_ROWS, MINIBATCH_ROWS, FEW_ROWS = 576, 1024, 256, 2000

Sites = dict[str, Float[Tensor, "n d"]]


def correlated_sites(n_sites: int, n_rows: int) -> Sites:
    """Sites that are each the one before plus a nonlinear step, with a falling spectrum around a mean."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_rows, D, generator=generator) * torch.arange(1, D + 1) ** -0.5
    sites = {}
    for number in range(n_sites):
        mixing = torch.linalg.qr(torch.randn(D, D, generator=generator))[0]
        x = x + 0.3 * torch.tanh(x @ mixing) + 0.02 * torch.randn(n_rows, D, generator=generator)
        sites[f"site {number}"] = x + 3
    return sites


def shared(sites: Sites, names: tuple[str, ...], **params: str) -> dict[tuple[str, str], list[float]]:
    """Values as a run computes them: from shared statistics; rows of doubted pairs are read again, once for all."""
    metrics = [harness.create("similarity", name, **params) for name in names]
    pairs = list(itertools.combinations(sites, 2))
    statistics = {kind: read(sites, kind, pairs) for kind in dict.fromkeys(metric.statistics for metric in metrics)}
    found = {
        pair: [metric.compute_from(statistics[metric.statistics].pair(*pair)) for metric in metrics] for pair in pairs
    }
    return {pair: [value() if callable(value) else value for value in values] for pair, values in found.items()}


def read(sites: Sites, kind: type, pairs: list[tuple[str, str]]) -> Any:
    """The statistics of these pairs from one reading of the rows."""

    def blocks(names: Collection[str]) -> Iterator[harness.AlignedBlock]:
        for start in range(0, len(next(iter(sites.values()))), BLOCK_ROWS):
            rows = {name: sites[name][start : start + BLOCK_ROWS] for name in names}
            yield rows, {name: torch.zeros(len(x), dtype=torch.bool) for name, x in rows.items()}

    statistics = kind(pairs, {}, blocks)
    for rows, masked in blocks(dict.fromkeys(itertools.chain(*pairs))):
        statistics.update(rows, masked)
    return statistics


def pair_by_pair(sites: Sites, names: tuple[str, ...]) -> dict[tuple[str, str], list[float]]:
    metrics = [harness.create("similarity", name) for name in names]
    return {(a, b): [s(sites[a], sites[b]) for s in metrics] for a, b in itertools.combinations(sites, 2)}


def textbook_cka(sites: Sites, dtype: torch.dtype) -> dict[tuple[str, str], list[float]]:
    """Linear CKA by Kornblith et al. 2019, section 3, pair by pair."""
    values = {}
    for a, b in itertools.combinations(sites, 2):
        x, y = (sites[name].to(dtype) for name in (a, b))
        x, y = x - x.mean(dim=0), y - y.mean(dim=0)
        values[a, b] = [float((x.T @ y).norm() ** 2 / ((x.T @ x).norm() * (y.T @ y).norm()))]
    return values


class _Site(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class _Network(nn.Module):
    """A network whose layers give the rows of the sites, for libraries that hook layers."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.sites = nn.ModuleDict({name: _Site() for name in names})

    def forward(self, x: Float[Tensor, "b s d"]) -> None:
        for site, rows in zip(self.sites.values(), x.unbind(dim=1), strict=True):
            site(rows)


def torch_cka(sites: Sites) -> dict[tuple[str, str], list[float]]:
    """CKA by torch-cka, used as documented: both models on one loader, unbiased HSIC of minibatches."""
    from torch.utils.data import DataLoader, TensorDataset
    from torch_cka import CKA

    network = _Network(list(sites))
    layers = [f"sites.{name}" for name in sites]
    # Its float32 sums come out as NaN on rows that have a mean.
    rows = torch.stack([x - x.mean(dim=0) for x in sites.values()], dim=1)
    loader = DataLoader(TensorDataset(rows), MINIBATCH_ROWS, drop_last=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of models without names
        compared = CKA(network, network, model1_layers=layers, model2_layers=layers, device="cpu")
        compared.compare(loader)
    values = compared.export()["CKA"]
    pairs = itertools.combinations(enumerate(sites), 2)
    return {(a, b): [float(values[i, j])] for (i, a), (j, b) in pairs}


def rsatoolbox_cka(sites: Sites) -> dict[tuple[str, str], list[float]]:
    """CKA by rsatoolbox, used as documented: one dissimilarity matrix of each site, then all pairs at once."""
    from rsatoolbox.data import Dataset
    from rsatoolbox.rdm import calc_rdm, compare

    rdms = calc_rdm([Dataset(x.double().numpy()) for x in sites.values()], method="euclidean")
    values = compare(rdms, rdms, method="cosine_cov")
    pairs = itertools.combinations(enumerate(sites), 2)
    return {(a, b): [float(values[i, j])] for (i, a), (j, b) in pairs}


def largest_error(found: dict[tuple[str, str], list[float]], wanted: dict[tuple[str, str], list[float]]) -> float:
    return max(abs(found[pair][0] - wanted[pair][0]) for pair in wanted)


def compare_with_torch_cka(sites: Sites, arguments: argparse.Namespace, table: Table) -> None:
    whole = {name: x[: arguments.rows - arguments.rows % MINIBATCH_ROWS] for name, x in sites.items()}
    ours, theirs = "minibatch cka, kernels shared", f"torch-cka, minibatches of {MINIBATCH_ROWS}"
    runs: dict[str, Callable[[], object]] = {
        ours: lambda: shared(whole, ("cka",), estimator="minibatch"),
        theirs: lambda: torch_cka(whole),
    }
    error = largest_error(shared(whole, ("cka",), estimator="minibatch"), torch_cka(whole))
    seconds = quiet_medians(runs, arguments.rounds, loaded=arguments.loaded)
    work = f"all {len(sites) * (len(sites) - 1) // 2} pairs of {len(sites)} sites, {arguments.rows} rows, d {D}"
    table.add(work, (ours, seconds[ours]), (theirs, seconds[theirs]))
    print(f"  the two differ by {error:.1e} at most")


def compare_with_rsatoolbox(sites: Sites, arguments: argparse.Namespace, table: Table) -> None:
    few = {name: x[:FEW_ROWS] for name, x in sites.items()}
    pairs = list(itertools.combinations(few, 2))
    ours, at_once, by_itself = "cka from shared moments", "rsatoolbox, all at once", "rsatoolbox, each pair by itself"
    runs: dict[str, Callable[[], object]] = {
        ours: lambda: shared(few, ("cka",)),
        at_once: lambda: rsatoolbox_cka(few),
        by_itself: lambda: [rsatoolbox_cka({name: few[name] for name in pair}) for pair in pairs],
    }
    error = largest_error(shared(few, ("cka",)), rsatoolbox_cka(few))
    seconds = quiet_medians(runs, arguments.rounds, loaded=arguments.loaded)
    work = f"all {len(pairs)} pairs of {len(few)} sites, {FEW_ROWS} rows, d {D}"
    for theirs in (at_once, by_itself):
        table.add(work, (ours, seconds[ours]), (theirs, seconds[theirs]))
    print(f"  the two differ by {error:.1e} at most")


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--sites", type=int, default=12)
    options.add_argument("--rows", type=int, default=20_000)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    sites = correlated_sites(arguments.sites, arguments.rows)
    both = ("cka", "svcca")
    x = next(iter(sites.values()))
    runs: dict[str, Callable[[], object]] = {
        "shared cka": lambda: shared(sites, ("cka",)),
        "shared cka, svcca": lambda: shared(sites, both),
        "shared cka, svcca, procrustes": lambda: shared(sites, (*both, "procrustes")),
        "each pair by itself, cka, svcca": lambda: pair_by_pair(sites, both),
        "textbook cka, float64": lambda: textbook_cka(sites, torch.float64),
        "textbook cka, float32": lambda: textbook_cka(sites, torch.float32),
        "one product": lambda: x.T @ x,
    }
    wanted = textbook_cka(sites, torch.float64)
    error = largest_error(shared(sites, ("cka",)), wanted)
    seconds = quiet_medians(runs, arguments.rounds, loaded=arguments.loaded)
    # Every pair of sites has one product of its own, and every site one with itself.
    n_products = len(wanted) + len(sites)
    floor = (f"{n_products} float32 products of {arguments.rows} rows", n_products * seconds["one product"])
    table = Table(arguments, "torch-cka", "rsatoolbox")
    work = f"all {len(wanted)} pairs of {len(sites)} sites, {arguments.rows} rows, d {D}"
    for other in [name for name in runs if name.startswith("textbook")]:
        table.add(work, ("cka from shared moments", seconds["shared cka"]), (other, seconds[other]), floor)
    together = {
        "cka and svcca from shared moments": seconds["shared cka, svcca"],
        "cka, svcca and procrustes from shared moments": seconds["shared cka, svcca, procrustes"],
    }
    one_by_one = "each pair by itself, cka, svcca"
    for ours, other in zip(together, (one_by_one, "textbook cka, float64"), strict=True):
        table.add(work, (ours, together[ours]), (other, seconds[other]))
        table.add(work, (ours, together[ours]), ("cka from shared moments", seconds["shared cka"]))
    print(f"  largest error of cka {error:.1e}")
    for package, compare in {"torch_cka": compare_with_torch_cka, "rsatoolbox": compare_with_rsatoolbox}.items():
        if find_spec(package):
            compare(sites, arguments, table)
        else:
            print(f"{package} is left out. To have it: pip install {package.replace('_', '-')}")


if __name__ == "__main__":
    main()
