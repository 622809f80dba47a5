"""A TopK SAE's training step with its sparse gradient, against dense autograd on the same weights and rows.

Both do all that a step needs: forward, gradient, Adam, unit decoder rows. They run interleaved, one step each in
turn, and medians of CPU seconds are compared: quote the ratios, since the load of the machine changes the times. Of
one thread by default, for which waiting costs no CPU seconds.
Run: `python benchmarks/topk_step.py [--n-latents 9216] [--batch-rows 2048] [--rounds 5]`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from plugins.methods.sae import TopKSAEConfig
from plugins.methods.sae.topk import TopKSAE

D, K = 576, 32


class DenseStep:
    """The plain form: all m codes of a row, five matrix products of size b·m·d."""

    def __init__(self, sae: TopKSAE) -> None:
        self.weights = [weight.clone().requires_grad_() for weight in sae.weights]
        self.optimiser = torch.optim.Adam(self.weights, lr=sae.schedule.peak, fused=True)

    def __call__(self, x: Float[Tensor, "b d"]) -> None:
        encoder, encoder_bias, decoder, decoder_bias = self.weights
        top = (x @ encoder.T + encoder_bias).topk(K, dim=1, sorted=False)
        codes = x.new_zeros(len(x), len(encoder)).scatter(1, top.indices, top.values.relu())
        loss = (codes @ decoder + decoder_bias - x).square().sum(dim=1).mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        with torch.no_grad():
            decoder /= torch.linalg.vector_norm(decoder, dim=1, keepdim=True)


def cpu_seconds(run: Callable[[], None]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n-latents", type=int, default=9216)
    parser.add_argument("--batch-rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    x = torch.randn(arguments.batch_rows, D, generator=torch.Generator().manual_seed(0)) / D**0.5
    sae = TopKSAE(TopKSAEConfig(n_latents=arguments.n_latents, k=K, batch_rows=len(x), passes=arguments.rounds + 1))
    mean = x.double().mean(dim=0)
    sae.start(harness.Info(D, len(x), 0, x.device, x.dtype, lambda: mean))
    dense = DenseStep(sae)
    forms: dict[str, Callable[[], None]] = {
        "sparse gradient": lambda: sae.partial_fit(harness.Batch(x, lambda: harness.make_rows({}))),
        "dense autograd": lambda: dense(x),
        "encoding alone": lambda: (x @ sae.weights.encoder.T).topk(K, dim=1, sorted=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for round_number in range(arguments.rounds + 1):
        for name, run in forms.items():
            taken = cpu_seconds(run)
            if round_number:  # the first allocates
                seconds[name].append(taken)
    ours = statistics.median(seconds["sparse gradient"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        print(f"{name:16} {median:7.3f} s  {len(x) / median:7.0f} rows/s  {median / ours:5.2f} of the sparse step")


if __name__ == "__main__":
    main()
