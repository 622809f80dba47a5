"""The evaluation `downstream` in a suite: models with a head, without one, and rows without a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.capturing.splits import documents_in_split
from tests.support.result_tables import read_tables
from tests.support.tiny_models import save_tiny_model

Cli = Callable[..., tuple[int, str, str]]
SUITE = [
    "suite=smoke",
    "name=downstream",
    "methods=[identity,{method: pca, n_components: 8}]",
    "similarities=[]",
    "evaluations=[downstream]",
    "tokens={fit: 1000, evaluation: 333}",
]


def test_models_with_and_without_a_head(harness_cli: Cli, tmp_path: Path) -> None:
    save_tiny_model("bert", tmp_path / "bert")
    (tmp_path / "rows").mkdir()
    np.save(tmp_path / "rows" / "resid_post.1.npy", np.random.default_rng(0).normal(size=(3000, 8)).astype(np.float32))
    pd.DataFrame({"document": np.arange(3000) // 10}).to_csv(tmp_path / "rows" / "rows.csv", index=False)
    models = (
        "models=[{model: random_weights, label: gpt2},{model: hf, path: bert, label: bert},"
        "{model: stored, path: rows, label: mine}]"
    )
    code, _, errors = harness_cli("run", *SUITE, models, "sites=[resid_post.1]")
    assert code == 0, errors
    table = read_tables(tmp_path / "results" / "downstream")["downstream"]
    skipped = table[table["status"] == "skipped"].set_index("model")["error"]
    assert set(skipped["bert"]) == {"downstream: bert has no language-model head that predicts next tokens"}
    assert set(skipped["mine"]) == {"downstream: its rows are stored; there is no model that could go on from them"}

    values = table[table["model"] == "gpt2"].set_index(["method", "metric"])["value"]
    assert values["identity", "ce_increase"] == 0 and values["identity", "kl"] == 0
    assert values["pca", "kl"] > 0 and values["pca", "ce_clean"] == values["identity", "ce_clean"]
    assert values["pca", "ce_clean"] == pytest.approx(_clean_loss(333), abs=1e-6)


def _clean_loss(n_rows: int) -> float:
    """Over the first rows of the evaluation split, by hand: the byte after a row, unless its window ends there."""
    model = harness.create("model", "random_weights")
    losses: list[float] = []
    for document in documents_in_split(harness.create("corpus", "synthetic").documents(), [0, 0.1]):
        for window in model.windows([document.text], 64)[0]:
            ids = torch.tensor([list(window.ids)])
            with torch.no_grad():
                states = model.module(input_ids=ids).last_hidden_state[0]
            log_probabilities = torch.log_softmax((states @ model.module.wte.weight.T).double(), dim=-1)
            for t in range(1, len(window.ids)):
                if n_rows == 0:
                    return float(np.mean(losses))
                n_rows -= 1
                if t + 1 < len(window.ids):
                    losses.append(-float(log_probabilities[t, window.ids[t + 1]]))
    raise AssertionError("the corpus is too short")
