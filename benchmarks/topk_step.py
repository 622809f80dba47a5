"""A TopK SAE's training step: exact sparse gradient here, against eai-sparsify, sae-lens and plain dense autograd.

All do what a step needs: forward, gradient, Adam, unit decoder rows, on the same real rows. The floor is the encoding
with its top-k in the faster precision, which no step that finds the k largest can do without. `--passes` trains ours
with codes chosen in float32 and in bfloat16 and compares what they explain on other documents.
Run: `python benchmarks/topk_step.py [--n-latents 9216] [--batch-rows 2048] [--rounds 7] [--passes 6]`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Float
from measuring import Table, explained_variance, parser, quiet_medians, smollm2_rows
from torch import Tensor

import harness
from harness.plugins.methods.sae import TopKSAEConfig
from harness.plugins.methods.sae.topk import TopKSAE

D, K, SITE = 576, 32, "resid_post.15"
Batch = Float[Tensor, "b d"]


class DenseStep:
    """The plain form: all m codes of a row, five matrix products of size b·m·d."""

    def __init__(self, sae: TopKSAE) -> None:
        self.weights = [weight.clone().requires_grad_() for weight in sae.weights]
        self.optimiser = torch.optim.Adam(self.weights, lr=sae.schedule.peak, fused=True)

    def __call__(self, x: Batch) -> None:
        encoder, encoder_bias, decoder, decoder_bias = self.weights
        top = (x @ encoder.T + encoder_bias).topk(K, dim=1, sorted=False)
        codes = x.new_zeros(len(x), len(encoder)).scatter(1, top.indices, top.values.relu())
        loss = (codes @ decoder + decoder_bias - x).square().sum(dim=1).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            decoder /= torch.linalg.vector_norm(decoder, dim=1, keepdim=True)


def started(n_latents: int, x: Batch, **parameters: Any) -> TopKSAE:
    sae = TopKSAE(TopKSAEConfig(n_latents=n_latents, k=K, batch_rows=len(x), passes=1, **parameters))
    mean = x.double().mean(dim=0)
    sae.start(harness.Info(D, 1000 * len(x), 0, x.device, x.dtype, lambda: mean))
    return sae


def sparsify_step(n_latents: int, *, autocast: bool) -> Callable[[Batch], None]:
    """A step as in sparsify's trainer; its own autocast is for CUDA only, so CPU's is put around the forward pass."""
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(D, SparseCoderConfig(num_latents=n_latents, k=K), dtype=torch.float32)
    optimiser = torch.optim.Adam(sae.parameters(), lr=1e-3, fused=True)

    def step(x: Batch) -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16) if autocast else nullcontext():
            loss = sae(x).fvu
        loss.backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        sae.set_decoder_norm_to_unit_norm()

    return step


def sae_lens_step(n_latents: int, batch_rows: int, *, autocast: bool) -> Callable[[Batch], None]:
    import sae_lens
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    config = SAETrainerConfig(
        total_training_samples=10_000 * batch_rows,
        train_batch_size_samples=batch_rows,
        lr=1e-3,
        lr_end=1e-4,
        autocast=autocast,
        logger=LoggingConfig(log_to_wandb=False),
    )
    sae = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=D, d_sae=n_latents, k=K))
    trainer = SAETrainer(config, sae, iter(()))
    return lambda x: trainer._train_step(sae, x)


def peers(n_latents: int, batch_rows: int) -> dict[str, Callable[[Batch], None]]:
    steps: dict[str, Callable[[Batch], None]] = {}
    for autocast in (False, True):
        dtype = "bfloat16 autocast" if autocast else "float32"
        if find_spec("sparsify"):
            steps[f"eai-sparsify {dtype}"] = sparsify_step(n_latents, autocast=autocast)
        if find_spec("sae_lens"):
            steps[f"sae-lens {dtype}"] = sae_lens_step(n_latents, batch_rows, autocast=autocast)
    if len(steps) < 4:
        print("eai-sparsify or sae-lens is not installed: left out (pip install '.[peers]')")
    return steps


def explained(
    fit: Float[Tensor, "n d"], judged: Float[Tensor, "n d"], n_latents: int, passes: int, half: bool
) -> float:
    learner = harness.create(
        "method", "topk_sae", n_latents=n_latents, k=K, batch_rows=2048, passes=passes, bfloat16_selection=half
    )
    sae = harness.fit(learner, fit)
    return explained_variance(judged, sae.decode(sae.encode(judged)))


def main() -> None:
    options = parser(__doc__, rounds=7)
    options.add_argument("--n-latents", type=int, default=9216)
    options.add_argument("--batch-rows", type=int, default=2048)
    options.add_argument("--rows", type=int, default=10_000, help="of SmolLM2")
    options.add_argument("--passes", type=int, default=0, help="of the comparison by explained variance")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    m, b = arguments.n_latents, arguments.batch_rows
    fit, judged = smollm2_rows(SITE, arguments.rows, 4000)
    x = fit[:b]
    full, half = started(m, x), started(m, x, bfloat16_selection=True)
    y = (x - x.mean(dim=0)) / torch.linalg.vector_norm(x - x.mean(dim=0), dim=1).mean()
    dense = DenseStep(full)
    encoder = full.weights.encoder
    floors = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    buffers = {dtype: torch.empty(b, m, dtype=dtype) for dtype in floors.values()}
    others = {"dense autograd float32": lambda y: dense(y)} | peers(m, b)

    def encode(dtype: torch.dtype) -> None:
        torch.mm(y.to(dtype), encoder.T.to(dtype), out=buffers[dtype]).topk(K, dim=1, sorted=False)

    seconds = quiet_medians(
        {
            "full": lambda: full.partial_fit(harness.Batch(x, lambda: harness.make_rows({}))),
            "half": lambda: half.partial_fit(harness.Batch(x, lambda: harness.make_rows({}))),
            **{name: lambda step=step: step(y) for name, step in others.items()},
            **{f"floor {name}": lambda dtype=dtype: encode(dtype) for name, dtype in floors.items()},
        },
        arguments.rounds,
        loaded=arguments.loaded,
    )
    work = f"TopK step, d {D}, {m} latents, k {K}, batch {b}"
    table = Table(arguments, "eai-sparsify", "sae-lens")
    dtype = min(floors, key=lambda dtype: seconds[f"floor {dtype}"])
    floor = (f"{2e-9 * b * m * D:.0f} GFLOP of encoding in {dtype} and its top-k", seconds[f"floor {dtype}"])
    for form, name in (("full", "exact gradient, float32"), ("half", "codes chosen in bfloat16")):
        for other in others:
            table.add(work, (name, seconds[form]), (other, seconds[other]), floor)
    if arguments.passes:
        both = [explained(fit, judged, m, arguments.passes, half) for half in (False, True)]
        print(f"explained variance on other documents: float32 {both[0]:.4f}, chosen in bfloat16 {both[1]:.4f}")


if __name__ == "__main__":
    main()
