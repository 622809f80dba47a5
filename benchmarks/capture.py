"""Capture of one site against the bare forward pass, cut off after the site's layer: what does the harness cost?

Capture tokenises, batches, hooks, keeps the rows of real tokens and knows where each came from; the bare pass gets the
same batches of ids ready-made, and the same weights in a model without the later layers.
Run: `python benchmarks/capture.py [--documents 12]`.
"""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from measuring import Table, parser, quiet_medians
from torch import Tensor

import harness

SITE = "resid_post.15"


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--documents", type=int, default=12)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    documents = harness.create("corpus", "packaged", name="wikipedia").documents()
    texts = [document.text for document in itertools.islice(documents, arguments.documents)]
    model: Any = harness.create("model", "packaged", name="smollm2-135m")
    cut = copy.deepcopy(model.module)
    cut.layers, cut.norm = cut.layers[: harness.parse_site(SITE).layer + 1], torch.nn.Identity()

    batches: list[tuple[Tensor, Tensor]] = []
    activations = model.activations
    model.activations = lambda ids, mask, sites: batches.append((ids, mask)) or activations(ids, mask, sites)
    captured = harness.capture(model, texts, [SITE]).x[SITE]
    model.activations = activations

    @torch.no_grad()
    def bare() -> list[Tensor]:
        return [cut(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state for ids, mask in batches]

    rows = torch.cat([x.flatten(0, 1) for x in bare()])
    assert set(captured.double().sum(dim=1).tolist()) <= set(rows.double().sum(dim=1).tolist())
    seconds = quiet_medians(
        {"capture": lambda: harness.capture(model, texts, [SITE]), "bare": bare},
        arguments.rounds,
        loaded=arguments.loaded,
    )
    Table(arguments, "transformers").add(
        f"capture of SmolLM2-135M {SITE}, {len(captured)} rows",
        ("harness.capture", seconds["capture"]),
        ("the bare truncated forward pass on the same batches", seconds["bare"]),
        note=f"{len(captured) / seconds['capture']:.0f} tokens/s",
    )


if __name__ == "__main__":
    main()
