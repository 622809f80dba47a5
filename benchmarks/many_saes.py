"""Twelve TopK SAEs from one stream of activations against twelve runs that each capture and train their own.

Ours is a suite: `harness run` with twelve values of k, from capture to saved weights. Against it stand twelve suites of
one k each, each with a cache of its own but for the model, as twelve runs of a training library are. Fits of a few
passes, so that neither capture nor training is all of the time.
Run: `python benchmarks/many_saes.py [--tokens 8000] [--passes 3]`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from measuring import Table, parser, quiet_medians

import harness

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


def main() -> None:
    options = parser(__doc__, rounds=1)
    options.add_argument("--tokens", type=int, default=8000)
    options.add_argument("--passes", type=int, default=3)
    arguments = options.parse_args()
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
