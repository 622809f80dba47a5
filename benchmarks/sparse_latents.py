"""Reading many latents over many rows: sparse, as the latents stage does, against a dense matrix of all codes.

A dictionary of 16,384 latents, k of them active on each row. Ours is `read_activations`; against it stands the plain
way: all codes into one dense [n, m] matrix, and thresholds from the k-th values of its columns (no ceilings, which ours
finds too). Both make the same codes first and end with the same thresholds, which is checked. Each runs in a process of
its own, which tells its peak memory. The default is for a trial; 200,000 rows make a dense matrix of 13 GB.
Run: `python benchmarks/sparse_latents.py [--rows 20000] [--latents 16384]`.
"""

from __future__ import annotations

import math
import multiprocessing
import time
from multiprocessing.connection import Connection

import pandas as pd
import torch
from jaxtyping import Float
from measuring import Table, parser
from streaming import Peak
from torch import Tensor

import harness
from harness.capturing.activations import TensorActivations
from harness.latents.activations import MAX_DENSITY, read_activations

K = 32


class Given(harness.Decomposition):
    """Row i, whose only coordinate is i, has the i-th of the given codes."""

    signed = False

    def __init__(self, codes: harness.Codes, n_latents: int) -> None:
        self.codes, self.n_latents = codes, n_latents

    def encode(self, x: Float[Tensor, "n d"]) -> harness.Codes:
        places = x[:, 0].long()
        assert self.codes.indices is not None
        return harness.Codes(self.codes.values[places], self.codes.indices[places], self.n_latents)

    def decode(self, codes: harness.Codes) -> Float[Tensor, "n d"]:
        raise NotImplementedError


def codes(n_rows: int, n_latents: int) -> harness.Codes:
    """Latents drawn by Zipf's law, so that some fire on more than a hundredth of the rows."""
    generator = torch.Generator().manual_seed(0)
    share = 1 / torch.arange(1, n_latents + 1).double() ** 0.7
    indices = torch.multinomial(share.expand(256, -1), K, generator=generator)  # no latent twice on a row
    indices = indices[torch.randint(256, (n_rows,), generator=generator)]
    return harness.Codes(torch.rand(n_rows, K, generator=generator) + 0.01, indices, n_latents)


def sparse(n_rows: int, n_latents: int) -> Float[Tensor, " m"]:
    rows = TensorActivations(torch.arange(n_rows, dtype=torch.float32)[:, None], pd.DataFrame())
    masked = torch.zeros(n_rows, dtype=torch.bool)
    found = read_activations(Given(codes(n_rows, n_latents), n_latents), rows, masked, torch.device("cpu"))
    return found.thresholds[:, 0]


def dense(n_rows: int, n_latents: int) -> Float[Tensor, " m"]:
    matrix = codes(n_rows, n_latents).to_dense(n_latents)
    rank = math.floor(MAX_DENSITY * n_rows)
    return torch.cat([part.kthvalue(n_rows - rank, dim=0).values for part in matrix.split(256, dim=1)])


def measured(way: str, n_rows: int, n_latents: int, threads: int, to: Connection) -> None:
    torch.set_num_threads(threads)
    peak = Peak()
    peak.start()
    started = time.perf_counter()
    thresholds = {"sparse": sparse, "dense": dense}[way](n_rows, n_latents)
    seconds = time.perf_counter() - started
    peak.done.set()
    peak.join()
    to.send((seconds, peak.rss_bytes, thresholds.numpy()))


def alone(way: str, n_rows: int, n_latents: int, threads: int) -> tuple[float, int, Tensor]:
    """Seconds, peak resident bytes and thresholds, from a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measured, args=(way, n_rows, n_latents, threads, theirs))
    process.start()
    seconds, rss_bytes, thresholds = ours.recv()
    process.join()
    return seconds, rss_bytes, torch.from_numpy(thresholds)


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--rows", type=int, default=20_000)
    options.add_argument("--latents", type=int, default=16_384)
    arguments = options.parse_args()
    found = {way: alone(way, arguments.rows, arguments.latents, arguments.threads) for way in ("sparse", "dense")}
    assert torch.equal(found["sparse"][2], found["dense"][2]), "the two ways differ"
    peaks = {way: f"{rss_bytes / 1e9:.2f} GB" for way, (_, rss_bytes, _) in found.items()}
    Table(arguments).add(
        f"{arguments.latents} latents read over {arguments.rows} rows, {K} active on each",
        ("read_activations", found["sparse"][0]),
        ("a dense matrix, k-th values by column", found["dense"][0]),
        note=f"resident at most {peaks['sparse']} against {peaks['dense']}",
    )


if __name__ == "__main__":
    main()
