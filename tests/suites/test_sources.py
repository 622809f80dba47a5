"""Suites over rows of one's own, over one's own files, and with a stranger's distribution."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]


def test_a_suite_over_the_users_own_rows(harness_cli: Cli, tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    rows = tmp_path / "rows"
    rows.mkdir()
    x = draw.normal(size=(3000, 16)).astype(np.float32) * np.geomspace(1, 0.01, 16, dtype=np.float32)
    x[17] = np.nan
    np.save(rows / "resid_post.0.npy", x)
    document = np.repeat(np.arange(300), 10)
    pd.DataFrame({"document": [f"doc{i}" for i in document], "position": np.tile(np.arange(10), 300)}).to_csv(
        rows / "rows.csv", index=False
    )
    suite = [
        "suite=smoke",
        "models=[{model: stored, path: rows, label: mine, sites: [resid_post.0]}]",
        "methods=[mean,{method: pca, n_components: 8}]",
        "similarities=[]",
        "tokens.fit=2000",
        "tokens.evaluation=500",
        "name=own",
    ]
    code, _, errors = harness_cli("run", *suite)
    assert code == 0, errors
    table = read_tables(tmp_path / "results" / "own")["reconstruction"].set_index(["method", "metric"])
    kept = np.isfinite(x).all(1)
    share = np.sort(np.linalg.eigvalsh(np.cov(x[kept].T)))[::-1].cumsum()[7] / np.trace(np.cov(x[kept].T))
    assert table.loc[("pca", "explained_variance"), "value"] == pytest.approx(share, abs=0.01)
    assert 0 < table.loc[("pca", "explained_variance"), "n"] <= 500


def test_a_suite_over_files_by_its_own_config(harness_cli: Cli, tmp_path: Path) -> None:
    """A suite file in the working folder; the corpus is found by a relative path, and what is not read of it named."""
    lines = [json.dumps({"text": f"Document {i} speaks of {i * i} things, and of {i % 7} more."}) for i in range(400)]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "all.jsonl").write_text("\n".join(lines))
    (tmp_path / "texts" / "notes.md").write_text("no text")
    (tmp_path / "conf" / "suite").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "mine.yaml").write_text(
        "# @package _global_\n"
        "models: [{model: random_weights, n_layers: 2, width: 16, n_heads: 2, label: tiny}]\n"
        "sites: [mlp_out.1]\n"
        "corpus: {corpus: files, paths: [texts]}\n"
        "tokens: {fit: 3000, evaluation: 1000}\n"
        "methods: [mean]\n"
    )
    code, _, errors = harness_cli("run", "suite=mine")
    assert code == 0, errors
    assert errors.count("warning: corpus/files: Not read") == 1 and "texts/notes.md." in errors
    cost = read_tables(tmp_path / "results" / "mine")["cost"].set_index(["split", "metric"])["value"]
    assert cost["fit", "capture_tokens"] == 3000 and cost["evaluation", "capture_tokens"] == 1000
    # Another text is another corpus, wherever it lies.
    (tmp_path / "texts" / "all.jsonl").write_text("\n".join(lines[1:]))
    _, output, _ = harness_cli("plan", "suite=mine", "--json")
    assert {cell["state"] for cell in json.loads(output)["cells"]} == {"to do"}


def test_a_strangers_distribution_in_a_suite(external_plugin_path: Path, shared_cache: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(external_plugin_path), "HARNESS_CACHE": str(shared_cache)}
    plugins = ["methods=[mean,acme_axes]", "similarities=[acme_norms]", "evaluations=[reconstruction]", "scorers=[]"]
    arguments = ["run", "suite=smoke", *plugins, "wandb.mode=disabled"]
    ran = subprocess.run(
        [sys.executable, "-m", "harness", *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    tables = read_tables(tmp_path / "results" / "smoke")
    judged = tables["reconstruction"].set_index(["method", "metric"])["value"]
    assert (judged["acme_axes", "explained_variance"] > judged["mean", "explained_variance"].max()).all()
    assert set(tables["similarity"]["similarity"]) == {"acme_norms"}
