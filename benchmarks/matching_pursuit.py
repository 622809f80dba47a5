"""Gram-based matching pursuit against the published plain form, in encoding and in fitting ITDA.

All run interleaved in one process, one after the other in turn, and medians of CPU seconds are compared: quote the
ratios, since the load of the machine changes the times. Of one thread by default, for which waiting costs no CPU
seconds. Run: `python benchmarks/matching_pursuit.py [--rounds 3]`.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods.matching_pursuit import MatchingPursuit, unit_rows

D, K = 576, 40


def synthetic_rows(n: int, seed: int) -> Float[Tensor, "n d"]:
    """Sparse sums of 4,096 directions of falling variance around a large mean, as the residual stream has it."""
    world, generator = torch.Generator().manual_seed(99), torch.Generator().manual_seed(seed)
    directions = unit_rows(torch.randn(4096, D, generator=world) * torch.arange(1, D + 1) ** -0.5)
    mean = 6 * unit_rows(torch.randn(1, D, generator=world))
    popularity = torch.arange(1, 4097) ** -0.7
    parts = []
    for start in range(0, n, 1000):
        size = min(1000, n - start)
        active = torch.multinomial(popularity.expand(size, -1), 24, generator=generator)
        strengths = 3 * torch.rand(size, 24, 1, generator=generator) ** 2
        noise = 0.05 * torch.randn(size, D, generator=generator)
        parts.append(mean + (strengths * directions[active]).sum(dim=1) + noise)
    return torch.cat(parts)


def plain_pursuit(x: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """The published form: all correlations anew at each step, O(k·m·d) per row; what is left of each row."""
    residual = x.clone()
    for _ in range(K):
        correlations = residual @ atoms.T
        picks = correlations.abs().argmax(dim=1)
        residual -= correlations.gather(1, picks[:, None]) * atoms[picks]
    return residual


def plain_fit(x: Float[Tensor, "n d"], max_atoms: int, threshold: float) -> Float[Tensor, "m d"]:
    """The published batch rule with the threshold of `itda`: all rows above it enter at once."""
    atoms = unit_rows(x[:1])
    for rows in unit_rows(x).split(512):
        left = plain_pursuit(rows, atoms).square().sum(dim=1)
        atoms = torch.cat([atoms, rows[left > threshold]])[:max_atoms]
        if len(atoms) == max_atoms:
            break
    return atoms


def harness_fit(x: Float[Tensor, "n d"], max_atoms: int, threshold: float) -> harness.Decomposition:
    learner = harness.create("method", "itda", k=K, max_atoms=max_atoms, threshold=threshold)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the cap is meant to be hit
        return harness.fit(learner, x)


def interleaved_seconds(rounds: int, runs: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.process_time()
            run()
            seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def report_encode(n_atoms: int, rounds: int) -> None:
    x, atoms = synthetic_rows(4096, seed=1), unit_rows(synthetic_rows(n_atoms, seed=2))
    pursuit = MatchingPursuit(atoms, K)
    source, target = torch.empty(2, 2**25), torch.empty(2, 2**25)
    seconds = interleaved_seconds(
        rounds,
        {
            "plain": lambda: [plain_pursuit(part, atoms) for part in x.split(512)],
            "gram": lambda: pursuit.encode(x),
            "first correlations": lambda: x @ atoms.T,
            "copy": lambda: target.copy_(source),
        },
    )
    # A step can't do without reading one row of G per row; the rest could stay in registers and caches.
    gram_bytes = 4 * K * len(x) * n_atoms
    read_seconds = gram_bytes / (2 * 4 * source.numel() / seconds["copy"])
    floor = seconds["first correlations"] + read_seconds
    print(
        f"encode {len(x)} rows, {n_atoms} atoms, d {D}, k {K}: plain {seconds['plain']:.2f} s, gram "
        f"{seconds['gram']:.2f} s, ratio {seconds['plain'] / seconds['gram']:.1f}\n"
        f"  floor {floor:.2f} s: {2e-9 * len(x) * n_atoms * D:.0f} GFLOP once ({seconds['first correlations']:.2f} s) "
        f"and {gram_bytes / 1e9:.1f} GB of Gram rows at copying speed ({read_seconds:.2f} s); "
        f"gram is at {seconds['gram'] / floor:.1f} times the floor"
    )


def report_fit(threshold: float, rounds: int) -> None:
    x = synthetic_rows(40_000, seed=1)
    seconds = interleaved_seconds(
        rounds,
        {"plain": lambda: plain_fit(x, 4096, threshold), "harness": lambda: harness_fit(x, 4096, threshold)},
    )
    fitted = harness_fit(x, 4096, threshold)
    print(
        f"fit 40,000 rows to at most 4096 atoms, threshold {threshold}: published batch rule, plain form "
        f"{seconds['plain']:.1f} s; itda (each judged again) {seconds['harness']:.1f} s, ratio "
        f"{seconds['plain'] / seconds['harness']:.1f}; {fitted.n_latents} atoms, full after {fitted.rows_until_full}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for n_atoms in (4096, 8192):
        report_encode(n_atoms, arguments.rounds)
    for threshold in (0.2, 0.12):  # never full; full soon, as many enter at once
        report_fit(threshold, arguments.rounds)


if __name__ == "__main__":
    main()
