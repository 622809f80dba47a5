"""A suite that compares models by all their sites, from captures to report."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import harness
from harness.planning.config import load_resolved
from harness.planning.plan import build_plan
from harness.storage.activation_store import StoredActivations
from harness.storage.store import Store
from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]
MODELS = (
    "models=[{model: random_weights, n_layers: 2, width: 16, label: one, family: random},"
    "{model: random_weights, n_layers: 2, width: 16, seed: 1, label: two, family: random},"
    "{model: random_weights, n_layers: 3, width: 24, label: '<i>three', family: random}]"
)
WORDS = (
    *("suite=smoke", "name=whole", MODELS, "sites=[resid_post.0,resid_post.1]", "whole_models=true", "scorers=[]"),
    *("tokens={fit: 200, evaluation: 200, interp: 0}", "evaluations=[]", "similarities=[cka,jaccard]"),
    "methods=[{method: itda, k: 2, max_atoms: 12}]",
)


def test_models_are_compared_by_all_their_sites(harness_cli: Cli, tmp_path: Path) -> None:
    code, printed, errors = harness_cli("run", *WORDS)
    assert code == 0, errors
    assert "Models by cka" in printed and "Models by jaccard" in printed
    results = tmp_path / "results" / "whole"
    table = read_tables(results)["similarity"]
    is_whole = table["site"] == "all 2 sites"
    assert is_whole.any() and (table.loc[is_whole, "site_b"] == "all 2 sites").all()

    board = pd.read_csv(results / "model_similarities.csv")
    pairs = set(itertools.combinations(("one", "two", "<i>three"), 2))
    for _, lines in board.groupby(["similarity", "score"]):
        assert set(zip(lines["model"], lines["model_b"], strict=True)) == pairs
    assert board.groupby("similarity")["score"].nunique().to_dict() == {"cka": 3, "jaccard": 3}
    assert board[["value", "null"]].notna().all(axis=None) and board["error"].isna().all()
    values = board.set_index(["similarity", "score", "model", "model_b"])["value"]

    plan, store = build_plan(load_resolved(results / "suite.yaml")[0]), Store.of(results)
    rows, atoms = {}, {}
    for model in ("one", "two", "<i>three"):
        of_model = [cell for cell in plan.cells.values() if cell.columns["model"] == model]
        captures = [cell for cell in of_model if cell.kind == "capture" and cell.columns["split"] == "evaluation"]
        read = [StoredActivations(*_artefact(store, "capture", cell.key)) for cell in captures]
        rows[model] = torch.cat([site.take(torch.arange(site.n_rows)) for site in read], dim=1)
        fits = [harness.load(store.artefact("fit", cell.key)) for cell in of_model if cell.kind == "fit"]
        assert len(captures) == len(fits) == 2
        atoms[model] = {
            tuple(token) for fit in fits for token in fit.atoms[["document", "position", "end"]].to_numpy().tolist()
        }
    for a, b in pairs:
        assert values["cka", "union", a, b] == pytest.approx(harness.create("similarity", "cka")(rows[a], rows[b]))
        jaccard = len(atoms[a] & atoms[b]) / len(atoms[a] | atoms[b])
        assert values["jaccard", "union", a, b] == pytest.approx(jaccard)

    code, output, _ = harness_cli("leaderboard", *WORDS, "--json")
    found = json.loads(output)["model_similarities"]
    assert code == 0 and np.allclose([line["value"] for line in found], board["value"])
    code, _, _ = harness_cli("report", *WORDS)
    page = (results / "report" / "index.html").read_text(encoding="utf-8")
    assert code == 0 and "&lt;i&gt;three" in page and "<i>three" not in page
    assert 'id="models"' in page and "all sites together" in page


def _artefact(store: Store, kind: str, key: str) -> tuple[Path, dict[str, object]]:
    manifest = store.manifest(kind, key)
    assert manifest is not None
    return store.artefact(kind, key), manifest
