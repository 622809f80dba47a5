"""Time to result: seconds on one card, capture included, until a method's decomposition is as good as asked for.

Good is a held-out explained variance of .80, and a cross-entropy increase of .3 nats, at an L0 of 40. A method learns
anew from ever more tokens, each time twice as many, until both are reached or the texts end. Its seconds are those in
which these tokens are captured, from texts in memory, and those of `harness.fit`; a model that is loaded and kernels
that were compiled before are not counted. Later commits must not take longer.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from card import TABLE, Lines, wait, where, write
from gpu_models import SITE, llama, on_device
from jaxtyping import Float
from torch import Tensor

import harness

TO_REACH = {"explained_variance": 0.80, "ce_increase": 0.3}
METHODS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "random rows": ("random_dictionary", "n_latents", {}),
    "k-means": ("kmeans", "n_latents", {}),
    "ITDA": ("itda", "max_atoms", {"threshold": 0.1}),
    "TopK": ("topk_sae", "n_latents", {}),
    "BatchTopK": ("batch_topk_sae", "n_latents", {}),
    "Matryoshka": ("matryoshka_sae", "n_latents", {}),
}
"""A name, the method, its parameter of size, and others."""
COLUMNS = [
    *("model", "method", "latents", "to_reach", "seconds", "capture_seconds", "tokens", "value", "l0"),
    *("device", "versions", "commit", "date"),
]


class Rows(NamedTuple):
    """The first rows of a model at its site, and the seconds in which so many were captured."""

    x: Float[Tensor, "n d"]
    seconds: float


class ResultLines(Lines):
    """Both models, a line for each method and each number to reach."""

    def results(self) -> None:
        place = {"device": self.device.type, "dtype": "bfloat16"}
        small: Any = harness.create("model", "packaged", name="smollm2-135m", **place)
        if not self.is_tiny:
            self._of_model("SmolLM2-135M", small, SITE, TO_REACH)
        with tempfile.TemporaryDirectory() as folder:
            large, site = llama(Path(folder), small.tokenizer, self.device, is_tiny=self.is_tiny)
            # What random weights predict is worth nothing, so nothing of it can be lost.
            self._of_model("a Llama of 1.2B, random weights", large, site, {"explained_variance": 0.80})

    def _of_model(self, name: str, model: Any, site: str, to_reach: Mapping[str, float]) -> None:
        corpus = harness.create("corpus", "packaged", name="wikipedia")
        texts = [document.text for document in itertools.islice(corpus.documents(), self.of(10**6, 12))]
        n_held_out = self.of(40, 1)
        held_out, texts = texts[:n_held_out], texts[n_held_out:]
        first = harness.capture(model, texts[: self.of(8, 6)], [site]).x[site].float()
        context: Any = harness.evaluation_context(model, held_out, site, fit_x=first)
        context = on_device(context, self.device)
        steps = list(self._captured(model, texts, site))
        for method in METHODS:
            _fit(method, self.of(4096, 32), self.of(40, 4), first.to(self.device))  # compiles its kernels
            self._of_method(name, method, steps, context, dict(to_reach))

    def _captured(self, model: Any, texts: list[str], site: str) -> Iterator[Rows]:
        """Ever more rows, each time about twice as many."""
        n_texts, seconds, parts = self.of(8, 6), 0.0, list[harness.Capture]()
        done = 0
        while done < len(texts):
            wait(self.device)
            started = time.perf_counter()
            parts.append(harness.capture(model, texts[done:n_texts], [site]))
            x = torch.cat([part.x[site] for part in parts]).float().to(self.device)
            wait(self.device)
            seconds += time.perf_counter() - started
            yield Rows(x, seconds)
            done, n_texts = n_texts, 2 * n_texts

    def _of_method(self, name: str, method: str, steps: list[Rows], context: Any, to_reach: dict[str, float]) -> None:
        m, k = self.of(4096, 32), self.of(40, 4)
        for rows in steps:
            wait(self.device)
            started = time.perf_counter()
            fitted = _fit(method, m, k, rows.x)
            wait(self.device)
            seconds = rows.seconds + time.perf_counter() - started
            found = _measured(fitted, context, to_reach)
            row: dict[str, Any] = {
                "model": name,
                "method": method,
                "latents": m,
                "capture_seconds": f"{rows.seconds:.3g}",
            }
            row |= {"seconds": f"{seconds:.3g}", "tokens": len(rows.x), "l0": f"{found['l0']:.1f}"}
            for metric, value in list(to_reach.items()):
                if found[metric] >= value if metric == "explained_variance" else found[metric] <= value:
                    self._add(row | {"to_reach": f"{metric} {value}", "value": f"{found[metric]:.3f}"})
                    del to_reach[metric]
            if not to_reach:
                return
        for metric, value in to_reach.items():
            self._add(
                row | {"to_reach": f"{metric} {value}", "value": f"{found[metric]:.3f}", "seconds": "not reached"}
            )

    def _add(self, row: dict[str, Any]) -> None:
        print("{model}, {method} of {latents}: {to_reach} after {seconds} s, {tokens} tokens, L0 {l0}".format(**row))
        if self.board.is_kept:
            row |= {**where(self.device), "date": time.strftime("%Y-%m-%d")}
            write(TABLE.with_name("time_to_result.csv"), COLUMNS, ("model", "method", "to_reach", "device"), row)


def _fit(method: str, m: int, k: int, x: Float[Tensor, "n d"]) -> harness.Decomposition:
    name, size, others = METHODS[method]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a cap may be hit
        return harness.fit(harness.create("method", name, **{size: min(m, len(x))}, k=k, **others), x)


def _measured(fitted: harness.Decomposition, context: Any, metrics: Mapping[str, float]) -> dict[str, float]:
    names = ["reconstruction", *(["downstream"] if "ce_increase" in metrics else [])]
    evaluations: list[Any] = [harness.create("evaluation", name) for name in names]
    rows = [row for evaluation in evaluations for row in evaluation.evaluate(fitted, context)]
    return {row.metric: math.nan if row.value is None else row.value for row in rows}
