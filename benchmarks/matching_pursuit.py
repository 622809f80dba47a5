"""Matching pursuit with compiled and with torch's steps against the textbook form, in encoding and in fitting ITDA.

The floor of encoding is the first product with the atoms and one row of the Gram matrix per row and step, read at
copying speed. Checked besides: the picks against float64, the atoms of `itda_paper` against the published form, and
what the atoms of `itda` explain against as many of the published rule. Run: `python benchmarks/matching_pursuit.py`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from measuring import Table, explained_variance, parser, quiet_medians, smollm2_rows
from torch import Tensor

import harness
from harness.plugins.methods.matching_pursuit import MatchingPursuit, PursuitDecomposition, unit_rows

K, SITE, BLOCK = 40, "resid_post.15", 512


def plain_pursuit(x: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """The textbook form: all correlations anew at each step, O(k·m·d) per row; what is left of each row."""
    residual = x.clone()
    for _ in range(K):
        correlations = residual @ atoms.T
        picks = correlations.abs().argmax(dim=1)
        residual -= correlations.gather(1, picks[:, None]) * atoms[picks]
    return residual


def published_fit(
    x: Float[Tensor, "n d"], max_atoms: int, error_of: Callable[[Tensor, Tensor], Tensor], threshold: float
) -> Float[Tensor, "m d"]:
    """The published rule: distinct rows until there are d atoms, then all rows of a batch above the threshold."""
    atoms = x.new_empty(0, x.shape[1])
    for rows in x.split(BLOCK):
        unit = unit_rows(rows)
        if len(atoms) < x.shape[1]:
            atoms = torch.cat([atoms, unit_rows(rows.unique(dim=0))[: x.shape[1] - len(atoms)]])
        left = plain_pursuit(unit, atoms)
        atoms = torch.cat([atoms, unit[error_of(unit, left) > threshold]])[:max_atoms]
        if len(atoms) == max_atoms:
            break
    return atoms


def relative_error(unit: Float[Tensor, "b d"], left: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return left.square().sum(dim=1)


def published_error(unit: Float[Tensor, "b d"], left: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    return (unit - unit_rows(unit - left)).square().mean(dim=1)


def fit(method: str, x: Float[Tensor, "n d"], max_atoms: int, threshold: float) -> harness.Decomposition:
    learner = harness.create("method", method, k=K, max_atoms=max_atoms, threshold=threshold, batch_rows=BLOCK)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the cap is meant to be hit
        return harness.fit(learner, x)


def encode(table: Table, x: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"], rounds: int, loaded: bool) -> None:
    compiled, in_torch = MatchingPursuit(atoms, K), MatchingPursuit(atoms, K)
    in_torch.may_be_compiled = False
    source, target = torch.ones(2, 2**25), torch.empty(2, 2**25)
    seconds = quiet_medians(
        {
            "compiled": lambda: compiled.encode(x),
            "torch": lambda: in_torch.encode(x),
            "plain": lambda: [plain_pursuit(part, atoms) for part in x.split(BLOCK)],
            "first": lambda: x @ atoms.T,
            "copy": lambda: target.copy_(source),
        },
        rounds,
        loaded=loaded,
    )
    gram_bytes = 4 * (K - 1) * len(x) * len(atoms)
    floor = (
        f"{2e-9 * x.numel() * len(atoms):.0f} GFLOP once and {gram_bytes / 1e9:.1f} GB of Gram rows",
        seconds["first"] + gram_bytes * seconds["copy"] / (2 * 4 * source.numel()),
    )
    work = f"ITDA encode, {len(x)} rows, {len(atoms)} atoms, d {x.shape[1]}, k {K}"
    for form, name in (("compiled", "compiled steps"), ("torch", "torch alone")):
        table.add(work, (name, seconds[form]), ("textbook matching pursuit", seconds["plain"]), floor)
    exact = MatchingPursuit(atoms.double(), K).encode(x.double()).indices
    for name, pursuit in (("compiled", compiled), ("torch", in_torch)):
        same = (pursuit.encode(x).indices == exact).all(dim=1).double().mean()
        print(f"  {name}: the picks of float64 on {100 * same:.2f} % of rows")


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--rows", type=int, default=20_000, help="of SmolLM2, to fit")
    options.add_argument("--atoms", type=int, nargs="+", default=[4096, 8192])
    options.add_argument("--judged", type=int, default=4096)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    rounds, loaded = arguments.rounds, arguments.loaded
    x, judged = smollm2_rows(SITE, arguments.rows, arguments.judged)
    table = Table(arguments, "numba")
    for n_atoms in arguments.atoms:
        encode(table, judged, unit_rows(x[:n_atoms]), rounds, loaded)
    m = arguments.atoms[0]
    for method, error_of, threshold in (("itda_paper", published_error, 2e-4), ("itda", relative_error, 0.1)):
        seconds = quiet_medians(
            {
                "ours": lambda: fit(method, x, m, threshold),  # noqa: B023  # run before the next
                "plain": lambda: published_fit(x, m, error_of, threshold),  # noqa: B023
            },
            rounds,
            loaded=loaded,
        )
        fitted, published = fit(method, x, m, threshold), published_fit(x, m, error_of, threshold)
        work = f"{method} fit, {len(x)} rows to at most {m} atoms, threshold {threshold:g}"
        note = f"{fitted.n_latents} atoms; published form {len(published)}"
        table.add(work, ("harness.fit", seconds["ours"]), ("published form", seconds["plain"]), note=note)
        size = min(fitted.n_latents, len(published))
        found = [PursuitDecomposition(atoms[:size], K) for atoms in (fitted.dictionary, published)]
        variances = [explained_variance(judged, one.decode(one.encode(judged))) for one in found]
        same = len({bytes(row.numpy()) for row in fitted.dictionary} & {bytes(row.numpy()) for row in published})
        print(
            f"  published: {len(published)} atoms, {same} of them the same; explained variance of {size} each: "
            f"{variances[0]:.4f}, published {variances[1]:.4f}"
        )


if __name__ == "__main__":
    main()
