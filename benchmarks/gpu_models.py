"""The lines of benchmarks/gpu.py about language models: whole suites, captures, and what runs a model again."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import choices
import torch
from card import TABLE, Goal, Lines, medians, where
from jaxtyping import Float, Int
from scorers import latents
from torch import Tensor

import harness
from harness.capturing.activations import TensorActivations
from harness.latents.activations import read_activations
from harness.plugins.judges import LocalConfig
from harness.plugins.judges.local import Local

SITE = "resid_post.15"
WINDOWS_AT_ONCE = 16, 64, 256
_OF_SMOLLM2 = ["models=[{preset: smollm2-135m, sites: [resid_post.9, resid_post.19]}]"]


class ModelLines(Lines):
    """The lines of models, a method each."""

    def quickstart(self) -> None:
        """The whole of SmolLM2's quickstart, in processes of their own; the second time kernels are compiled."""
        suite, models = ("smoke", []) if self.is_tiny else ("quickstart", _OF_SMOLLM2)
        with tempfile.TemporaryDirectory() as folder:
            for name, limit in (("cold", 40.0), ("warm kernels", 20.0)):
                kernels = {key: f"{folder}/{key}" for key in ("TRITON_CACHE_DIR", "NUMBA_CACHE_DIR")}
                environment = kernels | {"HARNESS_CACHE": f"{folder}/cache {name}"}
                started = time.perf_counter()
                _harness(
                    Path(folder, name), environment, "run", f"suite={suite}", f"device={self.device.type}", *models
                )
                seconds = time.perf_counter() - started
                self.board.add(f"suite={suite} of SmolLM2, {name}", ("harness run", seconds), goal=Goal(limit))

    def capture(self) -> None:
        """SmolLM2 and a Llama of 1.2B weights, drawn at random, against their bare truncated forward pass."""
        self._capture("SmolLM2-135M", self._model, SITE, Goal(share=0.5))
        with tempfile.TemporaryDirectory() as folder:
            large, site = llama(Path(folder), self._model.tokenizer, self.device, is_tiny=self.is_tiny)
            self._capture("a Llama of 1.2B", large, site, Goal(share=0.8))

    def _capture(self, name: str, model: Any, site: str, goal: Goal) -> None:
        texts = self._texts
        ids, layers = self._ids(), model.module.layers
        captured = harness.capture(model, texts, [site]).x[site]

        bares = {size: partial(truncated, model, site, ids, size) for size in WINDOWS_AT_ONCE}
        runs = {
            "ours": lambda: harness.capture(model, texts, [site]),
            **{str(size): run for size, run in bares.items()},
        }
        seconds = medians(runs, self.board.rounds, self.device)
        best, as_many = _best(seconds, bares, len(captured) / ids.numel())
        n_flops = 2 * sum(weight.numel() for weight in layers[: harness.parse_site(site).layer + 1].parameters())
        self.board.add(
            f"capture of {name} {site}, bfloat16, {len(captured)} rows",
            ("harness.capture", seconds["ours"]),
            (f"bare truncated forward pass, {best} windows at once", as_many),
            self.ceilings.floor(bfloat16=n_flops * len(captured)),
            goal,
            (len(captured), "tokens"),
        )

    def downstream(self) -> None:
        """The effect of one more decomposition, once what all share is there, against the whole bare forward pass."""
        model, rows = self._model, self._rows
        context: Any = harness.evaluation_context(model, self._texts, SITE, fit_x=rows.float())
        context, sae = on_device(context, self.device), self._sae(rows)
        evaluation: Any = harness.create("evaluation", "downstream")
        found = {row.metric: row for row in evaluation.evaluate(sae, context)}
        n_rows, ids = found["ce_clean"].n, self._ids()
        bares = {size: partial(whole, model, ids, size) for size in WINDOWS_AT_ONCE[: self.of(2, 1)]}
        runs = {"ours": lambda: evaluation.evaluate(sae, context)} | {str(size): run for size, run in bares.items()}
        seconds = medians(runs, self.board.rounds, self.device)
        best, as_many = _best(seconds, bares, n_rows / ids.numel())
        self.board.add(
            f"downstream effect of an SAE at {SITE} of SmolLM2-135M, bfloat16, {n_rows} positions",
            ("evaluation downstream", seconds["ours"]),
            (f"bare forward pass with its losses, {best} windows at once", as_many),
            self.ceilings.floor(bfloat16=2 * n_rows * sum(weight.numel() for weight in model.module.parameters())),
            Goal(share=0.6),
            (n_rows, "positions"),
        )

    def latents(self) -> None:
        """The activations of a decomposition's latents, against the forward pass that has made their rows."""
        model, rows, ids = self._model, self._rows, self._ids()
        activations = TensorActivations(rows.float(), harness.make_rows(_identities(len(rows))))
        masked, sae = torch.zeros(len(rows), dtype=torch.bool), self._sae(rows)
        bares = {size: partial(truncated, model, SITE, ids, size) for size in WINDOWS_AT_ONCE}
        runs = {"ours": lambda: read_activations(sae, activations, masked, self.device)}
        seconds = medians(runs | {str(size): run for size, run in bares.items()}, self.board.rounds, self.device)
        best, as_many = _best(seconds, bares, len(rows) / ids.numel())
        self.board.add(
            f"latents of an SAE of {sae.n_latents}, {len(rows)} rows of {rows.shape[1]}",
            ("read_activations", seconds["ours"]),
            (f"bare truncated forward pass, {best} windows at once", as_many),
            self.ceilings.floor(n_bytes=4 * rows.numel(), bfloat16=2 * rows.numel() * sae.n_latents),
            Goal(share=0.6),
            (len(rows), "rows"),
        )

    def judge(self) -> None:
        """Choices by the local judge, against its model's bare forward pass over whole prompts."""
        judge, scorer = Local(LocalConfig(device=self.device.type)), harness.create("scorer", "choice_detection")
        requests = [request for latent in latents(self.of(24, 2)) for request in scorer.plan(latent)][
            : self.of(9999, 6)
        ]
        asked = [judge._prompts.choices(request) for request in requests]
        prompts = [beginning + rest for (beginning, rest), _ in asked]
        bares = {size: partial(choices.bare, judge, prompts, size) for size in WINDOWS_AT_ONCE[: self.of(3, 1)]}
        runs = {"ours": lambda: list(judge.choose(requests))} | {str(size): run for size, run in bares.items()}
        seconds = medians(runs, self.board.rounds, self.device)
        best, as_many = _best(seconds, bares, 1.0)
        n_tokens = sum(map(len, prompts))
        n_needed = sum(map(len, {start for (start, _), _ in asked})) + sum(len(rest) for (_, rest), _ in asked)
        n_flops = 2 * n_needed * sum(weight.numel() for weight in judge._model.parameters())
        self.board.add(
            f"{len(requests)} choices by SmolLM2-135M, {n_tokens / len(prompts):.0f} tokens each",
            ("judge local", seconds["ours"]),
            (f"bare forward pass, {best} prompts at once", as_many),
            self.ceilings.floor(bfloat16=n_flops),
            Goal(share=0.6),
            (n_tokens, "tokens"),
        )

    def tables(self) -> None:
        """The tables of one suite on a CPU beside those on the card, by `harness compare`, in gpu_tables.csv."""
        suite, models = ("smoke", []) if self.is_tiny else ("quickstart", _OF_SMOLLM2)
        with tempfile.TemporaryDirectory() as folder:
            for side, device in (("a", "cpu"), ("b", self.device.type)):
                of_run = {"HARNESS_CACHE": f"{folder}/cache {side}"}
                _harness(Path(folder, side), of_run, "run", f"suite={suite}", f"device={device}", *models)
            sides = [f"{folder}/{side}/results/{suite}" for side in "ab"]
            found = json.loads(_harness(Path(folder), {}, "compare", *sides, "--json", codes=(0, 1)))
        lines = list(differences(found["tables"]))
        for line in lines:
            print(f"suite={suite} on cpu and {self.device.type}:", *(f"{key} {value}" for key, value in line.items()))
        if self.board.is_kept:
            rows = [{"suite": suite, **line, **where(self.device), "date": time.strftime("%Y-%m-%d")} for line in lines]
            with TABLE.with_name("gpu_tables.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, rows[0], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)

    def _ids(self) -> Int[Tensor, "w t"]:
        return torch.randint(1000, (self.of(1024, 4), 128), device=self.device)

    @cached_property
    def _texts(self) -> list[str]:
        documents = harness.create("corpus", "packaged", name="wikipedia").documents()
        return [document.text for document in itertools.islice(documents, self.of(600, 1))]

    @cached_property
    def _model(self) -> Any:
        place = {"device": self.device.type, "dtype": "bfloat16"}
        return harness.create("model", "packaged", name="smollm2-135m", **place)

    @cached_property
    def _rows(self) -> Float[Tensor, "n d"]:
        return harness.capture(self._model, self._texts, [SITE]).x[SITE]

    def _sae(self, rows: Float[Tensor, "n d"]) -> harness.Decomposition:
        method = harness.create("method", "untrained_sae", n_latents=self.of(9216, 256), k=self.of(32, 4))
        return harness.fit(method, rows[:4096].float().to(self.device))


def on_device(context: Any, device: torch.device) -> Any:
    """An evaluation context as a run on a device has it."""

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        return ((x.to(device), masked.to(device)) for x, masked in context.blocks())

    replays = dataclasses.replace(context.replays, device=device)
    return dataclasses.replace(context, blocks=blocks, replays=replays)


@torch.no_grad()
def truncated(model: Any, site: str, ids: Int[Tensor, "w t"], size: int) -> None:
    """The forward pass up to a site, `size` windows at once."""
    # The harness reads its model whole, with a head or without: layers are taken away only while this runs.
    body = getattr(model.module, "model", model.module)
    layers, norm = body.layers, body.norm
    body.layers, body.norm = layers[: harness.parse_site(site).layer + 1], torch.nn.Identity()
    for part in ids.split(size):
        body(input_ids=part, use_cache=False)
    body.layers, body.norm = layers, norm


@torch.no_grad()
def whole(model: Any, ids: Int[Tensor, "w t"], size: int) -> None:
    """The forward pass with head and losses, `size` windows at once; the head is there once windows were replayed."""
    for part in ids.split(size):
        logits = model.module(input_ids=part, use_cache=False).logits[:, :-1].flatten(0, 1)
        torch.nn.functional.cross_entropy(logits, part[:, 1:].flatten(), reduction="none")


def differences(tables: Iterable[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Lines about the tables that `harness compare` has found: for each table, and each metric in which rows differ."""
    for table in tables:
        lone = len(table["only_a"]) + len(table["only_b"])
        line = {"table": table["table"], "metric": "", "rows": table["n_rows"], "of one side alone": lone}
        by_metric: dict[str, list[float]] = {}
        for row in table["different"]:
            by_metric.setdefault(str(row["what"].get("metric", "")), []).append(_relative(row["a"], row["b"]))
        yield line | {"different": len(table["different"]), "largest relative": ""}
        for metric, relative in sorted(by_metric.items()):
            own = {"different": len(relative), "largest relative": f"{max(relative):.2g}"}
            yield line | {"metric": metric, "of one side alone": ""} | own


def _relative(a: object, b: object) -> float:
    """The distance of two numbers as a share of the larger; infinite for what is no number on both sides."""
    if not (isinstance(a, int | float) and isinstance(b, int | float)):
        return math.inf
    return abs(a - b) / max(abs(a), abs(b), sys.float_info.min)


def _best(seconds: Mapping[str, float], sizes: Iterable[int], share: float) -> tuple[int, float]:
    """The size that was fastest, and its seconds for a share of its work."""
    best = min(sizes, key=lambda size: seconds[str(size)])
    return best, share * seconds[str(best)]


def _identities(n: int) -> dict[str, Any]:
    return {"document": [str(place // 512) for place in range(n)], "window": [0] * n, "position": range(n)}


def _harness(folder: Path, environment: Mapping[str, str], *words: str, codes: Iterable[int] = (0,)) -> str:
    """Run the program in a folder; its output."""
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "harness", *words],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode not in codes:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-4000:])
    return done.stdout


def llama(folder: Path, tokenizer: Any, device: torch.device, *, is_tiny: bool) -> tuple[Any, str]:
    """A Llama of 1.2B weights drawn at random, in bfloat16, and a site three quarters up."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    if not is_tiny:
        shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32}
    config = LlamaConfig(vocab_size=len(tokenizer), num_key_value_heads=shape["num_attention_heads"] // 2, **shape)
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    model = harness.create("model", "hf", path=str(folder), device=device.type, dtype="bfloat16")
    return model, f"resid_post.{shape['num_hidden_layers'] * 3 // 4}"
