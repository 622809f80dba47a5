"""Every hot path on a card, beside plain PyTorch and the peers, and above its floor of bytes and FLOP.

Rows are made up, with sparse structure and a mean; all forms of a line run in turn in one process. The ceilings that
floors are made of are measured first. eai-sparsify and sae-lens are left out where they are not installed.
Run: `make bench-gpu`, or in parts that take less than ten minutes each: `make bench-gpu ONLY="topk kinds"`. Without a
card nothing is run, and it exits with 1; `--tiny` runs all lines in small on whatever there is, to try this script, and
records nothing.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from card import Board, Ceilings, Goal, Lines, medians, tf32
from gpu_models import ModelLines
from gpu_results import ResultLines
from jaxtyping import Float
from many_saes import fit_several
from measuring import explained_variance
from streaming import written
from torch import Tensor

import harness
from harness.capturing.activations import Stream
from harness.fitting.together import fit_together
from harness.plugins.methods.matching_pursuit import MatchingPursuit, unit_rows
from harness.stages.similarity import _BLOCK_ROWS_ON_CARD

Batch = Float[Tensor, "b d"]
Step = Callable[[Batch], object]
KINDS = ("batch_topk_sae", "matryoshka_sae", "relu_sae", "gated_sae", "jumprelu_sae")


class MethodLines(Lines):
    """The lines of methods and similarities, a method each."""

    def feed(self) -> None:
        """A fit from a store, held on the card and read ahead, against its learner alone."""
        from harness.fitting import supply

        n, d, m, b = (self.of(*sizes) for sizes in ((1_000_000, 3000), (768, 64), (16_384, 256), (4096, 512)))
        k = self.of(40, 4)
        x = self.rows(b, d)
        alone = started("topk_sae", x, n_latents=m, k=k, batch_rows=b, passes=1)
        seconds = medians({"step": lambda: step(alone, x)}, 3 * self.board.rounds, self.device)["step"] * n / b
        floor = self.ceilings.floor(n_bytes=2 * 4 * n * d)
        with tempfile.TemporaryDirectory() as folder:
            stream = Stream(written(Path(folder), n, d), torch.arange(n), 0)
            for way, share in (("rows stay on the card", supply._HELD_SHARE), ("rows are read ahead", 0.0)):
                supply._HELD_SHARE = share

                def fit() -> None:
                    learner = harness.create("method", "topk_sae", n_latents=m, k=k, batch_rows=b, passes=2)
                    fitted = fit_together({"sae": learner}, stream, self.device)["sae"]
                    assert fitted.decomposition is not None, fitted.traceback

                taken = _timed(fit, self.device) / 2
                work = f"a pass of a TopK fit, {n} rows of {d} from disk, {m} latents, {way}"
                self.board.add(
                    work, ("fit_together", taken), ("the learner alone", seconds), floor, Goal(share=0.9), (n, "rows")
                )

    def topk(self) -> None:
        """Steps of two sizes against dense autograd and the peers."""
        for d, m, k, limit in ((576, 9216, 32, 1.1e-3), (2304, 16_384, 64, 3.6e-3)):
            d, m, k, b = self.of(d, 48), self.of(m, 256), self.of(k, 4), self.of(4096, 128)
            x = self.rows(b, d)
            full, half = (
                started("topk_sae", x, n_latents=m, k=k, batch_rows=b, passes=1, bfloat16_selection=is_half)
                for is_half in (False, True)
            )
            y = (x - x.mean(dim=0)) / torch.linalg.vector_norm(x - x.mean(dim=0), dim=1).mean()
            others = {
                "dense autograd float32": dense_step(full, k),
                "dense autograd TF32": dense_step(full, k, is_tf32=True),
            }
            others |= peers(d, m, k, b, self.device)
            runs = {"exact gradient": lambda full=full, x=x: step(full, x)}
            runs |= {"exact gradient, codes chosen in bfloat16": lambda half=half, x=x: step(half, x)}
            runs |= {name: (lambda other=other, y=y: other(y)) for name, other in others.items()}
            seconds = medians(runs, 3 * self.board.rounds, self.device)
            # The weights and the moments of Adam are read and written; k rows of both weights are read, and again for
            # their gradients.
            floor = self.ceilings.floor(n_bytes=4 * (6 * 2 * m * d + 4 * b * k * d), bfloat16=2 * b * m * d)
            for ours, other in itertools.product(list(runs)[:2], others):
                work = f"TopK step, d {d}, {m} latents, k {k}, batch {b}"
                self.board.add(work, (ours, seconds[ours]), (other, seconds[other]), floor, Goal(limit), (b, "rows"))

    def kinds(self) -> None:
        """Steps of the other kinds at the second size, against TopK's."""
        d, m, k, b = self.of(2304, 48), self.of(16_384, 256), self.of(64, 4), self.of(4096, 128)
        x = self.rows(b, d)
        fixed = {"n_latents": m, "batch_rows": b, "passes": 1}
        learners = {"topk_sae": started("topk_sae", x, k=k, **fixed)}
        for kind in KINDS:
            learners[kind] = started(
                kind, x, **({"k": k} if "topk" in kind or "matr" in kind else {"target_l0": k}), **fixed
            )
        runs = {kind: (lambda one=one: step(one, x)) for kind, one in learners.items()}
        seconds = medians(runs, 3 * self.board.rounds, self.device)
        for kind in KINDS:
            work, other = f"{kind} step, d {d}, {m} latents, L0 {k}, batch {b}", ("topk_sae", seconds["topk_sae"])
            self.board.add(work, (kind, seconds[kind]), other, goal=Goal(share=1 / 1.5), rows=(b, "rows"))

    def stacked(self) -> None:
        """TopK SAEs of one stream in one computation against the same side by side.

        The rule: where all of these reach 1.5 times the rate, stacks become automatic on a card; else the option goes.
        """
        d, b = self.of(576, 48), self.of(4096, 64)
        for n_saes, m in itertools.product((8, 24), (2048, 16_384)):
            n_saes, m = self.of(n_saes, 3), self.of(m, 128)
            x, ks = self.rows(self.of(20, 3) * b, d), [8 + 4 * place for place in range(n_saes)]
            runs = {
                name: functools.partial(fit_several, ks, x, m, b, stacked=name == "in one")
                for name in ("in one", "apart")
            }
            explained = [
                [explained_variance(x[:b], sae.decode(sae.encode(x[:b]))) for sae in fit()] for fit in runs.values()
            ]
            seconds = medians(runs, self.board.rounds, self.device)
            difference = max(abs(one - other) for one, other in zip(*explained, strict=True))
            self.board.add(
                f"{n_saes} TopK SAEs of {m} latents from one stream, d {d}, batch {b}",
                (f"in one computation (explained variance differs by {difference:.0e})", seconds["in one"]),
                ("side by side", seconds["apart"]),
                self.ceilings.floor(bfloat16=2 * n_saes * len(x) * m * d),
                Goal(share=1.5),
                (n_saes * len(x), "rows"),
            )

    def pursuit(self) -> None:
        """Matching pursuit of two sizes against the textbook form, in float32 and in TF32."""
        for d, m, limit in ((576, 4096, 12e-3), (2304, 16_384, 45e-3)):
            d, m, n, k = self.of(d, 48), self.of(m, 256), self.of(32_768, 256), self.of(40, 4)
            x, atoms = self.rows(n, d), unit_rows(self.rows(m, d, seed=1) - 0.5)
            pursuit = MatchingPursuit(atoms, k)
            runs: dict[str, Callable[[], object]] = {"ours": lambda pursuit=pursuit, x=x: pursuit.encode(x)}
            for name in ("float32", "TF32"):
                runs[name] = lambda x=x, atoms=atoms, k=k, name=name: textbook(x, atoms, k, is_tf32=name == "TF32")
            seconds = medians(runs, self.board.rounds, self.device)
            floor = self.ceilings.floor(n_bytes=4 * (k - 1) * n * m, bfloat16=2 * n * m * d)
            for name in ("float32", "TF32"):
                work, against = f"ITDA encode, {n} rows, {m} atoms, d {d}, k {k}", (f"textbook {name}", seconds[name])
                self.board.add(work, ("MatchingPursuit", seconds["ours"]), against, floor, Goal(limit), (n, "rows"))

    def itda(self) -> None:
        """A fit of rows that are on the card."""
        n, d, m, k = self.of(100_000, 2000), self.of(576, 48), self.of(4096, 256), self.of(40, 4)
        x = self.rows(n, d)

        def fit() -> None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the cap may be hit
                harness.fit(harness.create("method", "itda", k=k, max_atoms=m, threshold=0.1, batch_rows=512), x)

        seconds = medians({"ours": fit}, self.board.rounds, self.device)["ours"]
        floor = self.ceilings.floor(n_bytes=4 * (k - 1) * n * m, bfloat16=2 * n * m * d)
        self.board.add(
            f"ITDA fit, {n} rows of {d}, at most {m} atoms",
            ("harness.fit", seconds),
            None,
            floor,
            Goal(0.9),
            (n, "rows"),
        )

    def similarity(self) -> None:
        """All pairs of sites by one metric and by three, against linear CKA written down in float64."""
        n, d, n_sites = self.of(50_000, 1500), self.of(576, 48), self.of(12, 3)
        sites = {f"site {i}": self.rows(n, d, seed=i) for i in range(n_sites)}
        pairs = list(itertools.combinations(sites, 2))
        runs = {"cka": ["cka"], "cka, svcca, procrustes": ["cka", "svcca", "procrustes"]}
        seconds = medians(
            {name: (lambda metrics=metrics: shared(sites, pairs, metrics)) for name, metrics in runs.items()}
            | {"textbook": lambda: [textbook_cka(sites[a].double(), sites[b].double()) for a, b in pairs]},
            self.board.rounds,
            self.device,
        )
        products = 2 * (len(pairs) + n_sites) * n * d**2
        work = f"{{}} of {len(pairs)} pairs of {n_sites} sites, {n} rows, d {d}"
        for name, limit in (("cka", 0.15), ("cka, svcca, procrustes", 0.6)):
            against = ("cka of each pair, float64", seconds["textbook"])
            floor = self.ceilings.floor(n_bytes=4 * n_sites * n * d, float64=products)
            self.board.add(work.format(name), ("shared moments", seconds[name]), against, floor, Goal(limit))

    def kmeans(self) -> None:
        """A fit of rows that are on the card."""
        n, d, m = self.of(400_000, 3000), self.of(768, 48), self.of(1024, 64)
        x = self.rows(n, d)
        runs = {"ours": lambda: harness.fit(harness.create("method", "kmeans", n_latents=m, k=4), x)}
        seconds = medians(runs, self.board.rounds, self.device)["ours"]
        floor = self.ceilings.floor(n_bytes=4 * n * d * 8, float32=4 * 2 * n * m * d, float64=5 * 2 * n * m * d)
        self.board.add(
            f"k-means, {m} centroids, {n} rows of {d}", ("harness.fit", seconds), None, floor, Goal(1.0), (n, "rows")
        )


def started(name: str, x: Batch, **parameters: Any) -> Any:
    learner = harness.create("method", name, **parameters)
    mean = x.double().mean(dim=0)
    learner.start(harness.Info(x.shape[1], 1000 * len(x), 0, x.device, x.dtype, lambda: mean))
    return learner


def step(learner: Any, x: Batch) -> None:
    learner.partial_fit(harness.Batch(x, lambda: _identities(len(x))))


@functools.cache
def _identities(n: int) -> Any:
    return harness.make_rows({"document": ["0"] * n, "window": [0] * n, "position": range(n)})


def dense_step(sae: Any, k: int, *, is_tf32: bool = False) -> Step:
    """The plain form: all m codes of a row, five matrix products of size b·m·d."""
    weights = [weight.detach().clone().requires_grad_() for weight in sae.weights]
    optimiser = torch.optim.Adam(weights, lr=1e-3, fused=True)

    def run(x: Batch) -> None:
        encoder, encoder_bias, decoder, decoder_bias = weights
        with tf32(is_on=is_tf32):
            top = (x @ encoder.T + encoder_bias).topk(k, dim=1, sorted=False)
            codes = x.new_zeros(len(x), len(encoder)).scatter(1, top.indices, top.values.relu())
            loss = (codes @ decoder + decoder_bias - x).square().sum(dim=1).mean()
            optimiser.zero_grad()
            loss.backward()
        optimiser.step()
        with torch.no_grad():
            decoder /= torch.linalg.vector_norm(decoder, dim=1, keepdim=True)

    return run


def peers(d: int, m: int, k: int, batch_rows: int, device: torch.device) -> dict[str, Step]:
    """Steps of eai-sparsify and sae-lens, as their trainers do them, where they are installed."""
    steps: dict[str, Step] = {}
    if find_spec("sparsify"):
        from sparsify import SparseCoder, SparseCoderConfig

        sae = SparseCoder(d, SparseCoderConfig(num_latents=m, k=k), device=device, dtype=torch.float32)
        optimiser = torch.optim.Adam(sae.parameters(), lr=1e-3, fused=True)

        def sparsify(x: Batch) -> None:
            sae(x).fvu.backward()
            sae.remove_gradient_parallel_to_decoder_directions()
            optimiser.step()
            optimiser.zero_grad()
            sae.set_decoder_norm_to_unit_norm()

        steps["eai-sparsify"] = sparsify
    if find_spec("sae_lens"):
        import sae_lens
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        config = SAETrainerConfig(
            **{"total_training_samples": 10_000 * batch_rows, "train_batch_size_samples": batch_rows},
            **{"lr": 1e-3, "lr_end": 1e-4, "device": str(device), "logger": LoggingConfig(log_to_wandb=False)},
        )
        of_lens = sae_lens.TopKTrainingSAE(sae_lens.TopKTrainingSAEConfig(d_in=d, d_sae=m, k=k, device=str(device)))
        trainer = SAETrainer(config, of_lens, iter(()))
        steps["sae-lens"] = lambda x: trainer._train_step(of_lens, x)
    if len(steps) < 2:
        print("eai-sparsify or sae-lens is not installed: left out (pip install '.[peers]')")
    return steps


def textbook(x: Batch, atoms: Float[Tensor, "m d"], k: int, *, is_tf32: bool) -> Batch:
    """Matching pursuit with all correlations anew at each step; what is left of each row."""
    residual = x.clone()
    with tf32(is_on=is_tf32):
        for _ in range(k):
            correlations = residual @ atoms.T
            picks = correlations.abs().argmax(dim=1)
            residual -= correlations.gather(1, picks[:, None]) * atoms[picks]
    return residual


def textbook_cka(x: Float[Tensor, "n d1"], y: Float[Tensor, "n d2"]) -> float:
    x, y = x - x.mean(dim=0), y - y.mean(dim=0)
    return float((x.T @ y).norm().square() / ((x.T @ x).norm() * (y.T @ y).norm()))


def shared(sites: dict[str, Tensor], pairs: list[tuple[str, str]], names: list[str]) -> list[float]:
    """Values as a run computes them: from statistics of one reading; rows of doubted pairs are read again."""

    def blocks(wanted: Any) -> Iterator[harness.AlignedBlock]:
        for parts in zip(*(sites[name].split(_BLOCK_ROWS_ON_CARD) for name in wanted), strict=True):
            none = torch.zeros(len(parts[0]), dtype=torch.bool, device=parts[0].device)
            yield dict(zip(wanted, parts, strict=True)), dict.fromkeys(wanted, none)

    metrics: list[Any] = [harness.create("similarity", name) for name in names]
    statistics = {kind: kind(pairs, {}, blocks) for kind in dict.fromkeys(metric.statistics for metric in metrics)}
    for block in blocks(list(sites)):
        for kind in statistics.values():
            kind.update(*block)
    found = [metric.compute_from(statistics[metric.statistics].pair(*pair)) for pair in pairs for metric in metrics]
    return [value() if callable(value) else value for value in found]


def _timed(run: Callable[[], object], device: torch.device) -> float:
    return medians({"it": run}, 1, device)["it"]


def lines_by_name() -> dict[str, type[Lines]]:
    """The class that has each line."""
    kinds = ModelLines, MethodLines, ResultLines
    return {name: kind for kind in kinds for name, value in vars(kind).items() if callable(value) and name[0] != "_"}


def main() -> None:
    names = lines_by_name()
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5, help="over which medians are taken")
    options.add_argument("--only", nargs="+", choices=names, default=list(names))
    options.add_argument("--tiny", action="store_true", help="in small, on whatever there is; nothing is recorded")
    arguments = options.parse_args()
    if not torch.cuda.is_available() and not arguments.tiny:
        print("There is no CUDA device here: nothing was run and nothing was recorded.", file=sys.stderr)
        print("Run `make bench-gpu` on a machine with one; see results/reference/gpu.md.", file=sys.stderr)
        raise SystemExit(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    ceilings = Ceilings.measured(device, 128 if arguments.tiny else 8192)
    print(f"Ceilings: {ceilings}")
    board = Board(device, arguments.rounds, is_kept=not arguments.tiny)
    for name in arguments.only:
        getattr(names[name](board, ceilings, arguments.tiny), name)()
    print(f"{board.n_missed} of the numbers to reach were missed." if board.n_missed else "All were reached.")


if __name__ == "__main__":
    main()
