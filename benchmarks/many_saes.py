"""Twelve TopK SAEs from one stream of activations against twelve runs that each capture and train their own.

Ours is a suite: `harness run` with twelve values of k, from capture to saved weights. Against it stand twelve suites of
one k each, each with a cache of its own but for the model, as twelve runs of a training library are. Fits of a few
passes, so that neither capture nor training is all of the time.
And, alone with `--small`: eight TopK SAEs of one seed, or of eight, in one computation (`stacked`) against the same fed
side by side, on made-up rows, where calls are most of the time and where they are not.
Run: `python benchmarks/many_saes.py [--tokens 8000] [--passes 3]`, `python benchmarks/many_saes.py --small --rounds 5`.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from measuring import Table, explained_variance, parser, quiet_medians
from torch import Tensor

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.rows import bare_rows
from harness.fitting.together import fit_together

KS = [8, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128]


def run(ks: Sequence[int], tokens: int, passes: int, threads: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "cache").mkdir()
        Path(folder, "cache", "models").symlink_to(harness.cache_folder() / "models")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "harness", "run"),
                *("suite=quickstart", "models=[{preset: smollm2-135m, sites: [resid_post.15]}]"),
                f"methods=[{{method: topk_sae, n_latents: 2304, k: {list(ks)}, passes: {passes}}}]",
                f"tokens={{fit: {tokens}, evaluation: 500, interp: 0}}",
                *("evaluations=[]", "similarities=[]", "scorers=[]", "corpus=wikipedia", "wandb.mode=disabled"),
            ],
            env=os.environ | {"HARNESS_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": str(threads)},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        assert len(list(Path(folder).glob("cache/fits/*/manifest.json"))) == len(ks), done.stdout[-2000:]


def made_rows(n: int, d: int, n_features: int) -> Float[Tensor, "n d"]:
    """Twelve of the features in each row."""
    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(n_features, d, generator=generator))
    active = torch.rand(n, n_features, generator=generator).topk(12, dim=1).indices
    return torch.zeros(n, n_features).scatter(1, active, torch.rand(n, 12, generator=generator)) @ features


def fit_several(
    ks: Sequence[int], x: Float[Tensor, "n d"], n_latents: int, batch_rows: int, n_seeds: int = 1, *, stacked: bool
) -> list[harness.Decomposition]:
    """TopK SAEs of one pass over the same rows."""
    shared = {"n_latents": n_latents, "batch_rows": batch_rows, "passes": 1, "stacked": stacked}
    learners = {str(k): harness.create("method", "topk_sae", k=k, **shared) for k in ks}
    activations, keep = TensorActivations(x, bare_rows(len(x))), torch.arange(len(x))
    streams = [Stream(activations, keep, seed) for seed in range(n_seeds)]
    stream_of = {name: streams[place % n_seeds] for place, name in enumerate(learners)}
    fitted = fit_together(learners, stream_of, x.device)
    made = [one.decomposition for one in fitted.values() if one.decomposition]
    assert len(made) == len(learners), [one.traceback for one in fitted.values()]
    return made


def small(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(arguments.threads)
    table = Table(arguments)
    shapes = ((64, 512, 128, 200), (128, 1024, 128, 200), (576, 2304, 256, 20))
    for (d, m, batch_rows, n_steps), n_seeds in itertools.product(shapes, (1, 8)):
        x = made_rows(batch_rows * n_steps, d, 2 * m)
        stacked, apart = (
            partial(fit_several, range(4, 36, 4), x, m, batch_rows, n_seeds, stacked=stacked)
            for stacked in (True, False)
        )
        seconds = quiet_medians({"stacked": stacked, "apart": apart}, arguments.rounds, loaded=arguments.loaded)
        explained = [[explained_variance(x, sae.decode(sae.encode(x))) for sae in fit()] for fit in (stacked, apart)]
        difference = max(abs(a - b) for a, b in zip(*explained, strict=True))
        of_seeds = "" if n_seeds == 1 else f" and {n_seeds} seeds"
        table.add(
            f"eight TopK SAEs of {m} latents{of_seeds}, d {d}, {n_steps} steps of {batch_rows} rows",
            ("in one computation", seconds["stacked"]),
            ("side by side", seconds["apart"]),
            note=f"explained variance differs by at most {difference:.1e}",
        )


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--tokens", type=int, default=8000)
    options.add_argument("--passes", type=int, default=3)
    options.add_argument("--small", action="store_true", help="stacks of small SAEs alone")
    arguments = options.parse_args()
    small(arguments)
    if arguments.small:
        return
    harness.create("model", "packaged", name="smollm2-135m")  # is converted, if it was not
    rest = (arguments.tokens, arguments.passes, arguments.threads)
    seconds = quiet_medians(
        {"together": lambda: run(KS, *rest), "one": lambda: run(KS[5:6], *rest)},
        arguments.rounds,
        loaded=arguments.loaded,
    )
    Table(arguments).add(
        f"twelve TopK SAEs of 2304 latents, {rest[0]} tokens of SmolLM2, {rest[1]} passes, capture included",
        ("one suite", seconds["together"]),
        ("twelve suites (12 times that of k 32)", 12 * seconds["one"]),
    )


if __name__ == "__main__":
    main()
