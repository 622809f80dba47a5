"""Quality of each kind of SAE, here and in sae-lens, by explained variance on documents that neither has learnt from.

sae-lens gets rows of mean 0 and mean norm √d, as its own normalisation would leave them, batches of 256, and three
learning rates, since its default suits runs a hundred times longer; kinds whose sparsity follows from a weight get
three weights. Ours run with their defaults, and aim at the L0 of those runs of theirs that none of their others beats
with fewer codes, so that explained variance is compared at equal L0. L0 is that of the judged rows, which no one
trained on. Rows of the kinds that ran are replaced in results/reference/sae_quality.csv.
Run: `pip install '.[peers]' && python benchmarks/sae_quality.py [--kinds relu_sae] [--tokens 10000] [--passes 10]`.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import pandas as pd
import torch
from jaxtyping import Float
from measuring import TABLE, explained_variance, smollm2_rows
from torch import Tensor

import harness

try:
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}: sae-lens is what this compares with. Run: pip install '.[peers]'") from missing

SITE, M, L0, BATCH_ROWS = "resid_post.15", 1024, 40, 256
RATES = (3e-4, 1e-3, 3e-3)
OURS = {
    "topk_sae": "k",
    "batch_topk_sae": "k",
    "matryoshka_sae": "k",
    "jumprelu_sae": "target_l0",
    "gated_sae": "target_l0",
    "relu_sae": "target_l0",
}
"""The parameter that sets L0, for each kind."""
THEIRS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "topk_sae": ("TopK", [{"k": L0}]),
    "batch_topk_sae": ("BatchTopK", [{"k": L0}]),
    "matryoshka_sae": ("MatryoshkaBatchTopK", [{"k": L0, "matryoshka_widths": [32, 96, 224, 480]}]),
    "jumprelu_sae": (
        "JumpReLU",
        [
            {
                "jumprelu_sparsity_loss_mode": "quadratic",
                "target_l0": L0,
                "l0_coefficient": coefficient,
                "jumprelu_bandwidth": 0.5,
                "jumprelu_init_threshold": 0.5,
            }
            for coefficient in (1.0, 10.0)
        ],
    ),
    "gated_sae": ("Gated", [{"l1_coefficient": l1} for l1 in (3.0, 10.0, 30.0)]),
    "relu_sae": ("Standard", [{"l1_coefficient": l1} for l1 in (1.0, 3.0, 10.0)]),
}


class Judged(NamedTuple):
    """Scores of an SAE on rows that it was not trained on."""

    explained_variance: float
    l0: float


def judged(x: Float[Tensor, "n d"], decoded: Float[Tensor, "n d"], codes: Float[Tensor, "n m"]) -> Judged:
    return Judged(explained_variance(x, decoded), float((codes != 0).double().sum(dim=1).mean()))


def ours(name: str, parameters: dict[str, Any], fit: Tensor, x: Tensor, passes: int) -> Judged:
    sae = harness.fit(harness.create("method", name, n_latents=M, passes=passes, **parameters), fit)
    codes = sae.encode(x)
    return judged(x, sae.decode(codes), codes.to_dense())


def theirs(kind: str, parameters: dict[str, Any], rate: float, fit: Tensor, x: Tensor, passes: int) -> Judged:
    torch.manual_seed(0)
    mean = fit.mean(dim=0)
    scale = torch.linalg.vector_norm(fit - mean, dim=1).mean() / fit.shape[1] ** 0.5
    n_steps = passes * (len(fit) // BATCH_ROWS)
    config = getattr(sae_lens, f"{kind}TrainingSAEConfig")(d_in=fit.shape[1], d_sae=M, **parameters)
    trainer = SAETrainerConfig(
        total_training_samples=n_steps * BATCH_ROWS,
        train_batch_size_samples=BATCH_ROWS,
        lr=rate,
        lr_end=rate / 10,
        lr_warm_up_steps=n_steps // 20,
        lr_decay_steps=n_steps // 5,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = getattr(sae_lens, f"{kind}TrainingSAE")(config)
    SAETrainer(trainer, sae, batches((fit - mean) / scale)).fit()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        sae.save_inference_model(folder)
        saved = sae_lens.SAE.load_from_disk(folder)
        y = (x - mean) / scale
        codes = saved.encode(y)
        return judged(y, saved.decode(codes), codes)


def batches(y: Float[Tensor, "n d"]) -> Iterator[Float[Tensor, "b d"]]:
    generator = torch.Generator().manual_seed(0)
    while True:
        yield from (y[index] for index in torch.randperm(len(y), generator=generator).split(BATCH_ROWS)[:-1])


class Results:
    """Prints each result and keeps it as a row of the table."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.rows: list[dict[str, Any]] = []
        self.budget = {"tokens": arguments.tokens, "passes": arguments.passes, "latents": M, "site": SITE}

    def add(self, name: str, library: str, settings: dict[str, Any], run: Callable[[], Judged]) -> Judged:
        started = time.process_time()
        result = run()
        cpu_seconds = time.process_time() - started
        listed = " ".join(f"{key} {value:g}" for key, value in settings.items() if isinstance(value, (int, float)))
        print(f"{name:15} {library:9} {listed:60} {result.explained_variance:.4f}  L0 {result.l0:5.1f}", flush=True)
        shown = {"explained_variance": round(result.explained_variance, 4), "l0": round(result.l0, 1)}
        own = {"kind": name, "library": library, "settings": listed, **shown, "cpu_seconds": round(cpu_seconds)}
        self.rows.append(own | self.budget)
        return result

    def write(self) -> None:
        path = TABLE.with_name("sae_quality.csv")
        table, kinds = pd.DataFrame(self.rows), {row["kind"] for row in self.rows}
        if path.exists():
            before = pd.read_csv(path)
            table = pd.concat([before[~before["kind"].isin(kinds)], table])
        table.to_csv(path, index=False)


def compare(name: str, data: tuple[Tensor, Tensor, int], results: Results) -> None:
    """sae-lens with each of its settings, and ours at the L0 of each run of it that no other run dominates."""
    kind, choices = THEIRS[name]
    found = [
        results.add(name, "sae-lens", {**chosen, "lr": rate}, partial(theirs, kind, chosen, rate, *data))
        for chosen, rate in itertools.product(choices, RATES)
    ]
    front = [run for run in found if not any(one > run and one.l0 <= run.l0 for one in found)]
    for l0 in sorted({round(run.l0, 1) for run in front}):
        parameters = {"target_l0": l0} if OURS[name] == "target_l0" else {"k": round(l0)}
        results.add(name, "ours", parameters, partial(ours, name, parameters, *data))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=list(OURS), choices=OURS)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    results = Results(arguments)
    data = (*smollm2_rows(SITE, arguments.tokens, 8000), arguments.passes)
    for name in arguments.kinds:
        compare(name, data, results)
        results.write()


if __name__ == "__main__":
    main()
