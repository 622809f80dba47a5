"""Each kind of SAE here and in sae-lens: the same rows, passes and latents; explained variance on other documents.

sae-lens gets rows of mean 0 and mean norm √d, as its own normalisation would leave them, batches of 256, and three
learning rates, since its default suits runs a hundred times longer; kinds whose sparsity follows from a weight get
three weights. Ours run with their defaults. L0 is that of the judged rows, which no one trained on.
Run: `pip install '.[peers]' && python benchmarks/sae_quality.py [--tokens 10000] [--passes 10]`.
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
from typing import Any

import torch
from jaxtyping import Float
from measuring import explained_variance, smollm2_rows
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
OURS: dict[str, dict[str, Any]] = {
    "topk_sae": {"k": L0},
    "batch_topk_sae": {"k": L0},
    "matryoshka_sae": {"k": L0},
    "jumprelu_sae": {"target_l0": L0},
    "gated_sae": {"target_l0": L0},
    "relu_sae": {"target_l0": L0},
}
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
    "relu_sae": ("Standard", [{"l1_coefficient": l1} for l1 in (3.0, 10.0, 30.0)]),
}


def judged(x: Float[Tensor, "n d"], decoded: Float[Tensor, "n d"], codes: Float[Tensor, "n m"]) -> str:
    l0 = float((codes != 0).double().sum(dim=1).mean())
    return f"explained variance {explained_variance(x, decoded):.4f}  L0 {l0:5.1f}"


def ours(name: str, parameters: dict[str, Any], fit: Tensor, x: Tensor, passes: int) -> str:
    sae = harness.fit(harness.create("method", name, n_latents=M, passes=passes, **parameters), fit)
    codes = sae.encode(x)
    return judged(x, sae.decode(codes), codes.to_dense())


def theirs(kind: str, parameters: dict[str, Any], rate: float, fit: Tensor, x: Tensor, passes: int) -> str:
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


def timed(label: str, run: Callable[[], str]) -> None:
    started = time.process_time()
    result = run()
    print(f"{label:48} {result}  {time.process_time() - started:6.1f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=10_000)
    parser.add_argument("--passes", type=int, default=10)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    data = (*smollm2_rows(SITE, arguments.tokens, 8000), arguments.passes)
    for name, parameters in OURS.items():
        timed(name, partial(ours, name, parameters, *data))
        kind, choices = THEIRS[name]
        for rate, chosen in itertools.product(RATES, choices):
            weight = [f"{key} {value:g}" for key, value in chosen.items() if key.endswith("coefficient")]
            label = " ".join([f"  sae-lens {kind} lr {rate:g}", *weight])
            timed(label, partial(theirs, kind, chosen, rate, *data))


if __name__ == "__main__":
    main()
