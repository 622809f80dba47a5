"""Neurons and heads beside the residual stream, in every table of a suite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.result_tables import read_tables

Cli = Callable[..., tuple[int, str, str]]

SITES = ("resid_post.1", "mlp_act.1", "attn_z.1")
SUITE = (
    *(
        "run",
        "suite=smoke",
        "name=inner",
        "tokens.fit=1000",
        "tokens.evaluation=300",
        "tokens.interp=2000",
        "latents=4",
    ),
    *("methods=[identity,{method: topk_sae, n_latents: 64, k: 4}]", "evaluations=[reconstruction,downstream]"),
    *("scorers=[token_lookup]", "similarities=[cka]", f"models.0.sites=[{','.join(SITES)}]"),
)


@pytest.mark.slow
def test_neurons_and_heads_are_in_all_tables(harness_cli: Cli, tmp_path: Path) -> None:
    code, _, errors = harness_cli(*SUITE)
    assert code == 0, errors
    folder = tmp_path / "results" / "inner"
    tables = read_tables(folder)
    for name in ("reconstruction", "downstream", "interp", "similarity", "cost"):
        table = tables[name]
        assert set(SITES) == {*table["site"], *table.get("site_b", [])}, name
    exact = tables["reconstruction"].query("method == 'identity' and metric == 'explained_variance'")
    assert set(exact["site"]) == set(SITES) and (exact["value"] == 1).all()
    kept = tables["downstream"].query("method == 'identity' and metric == 'kl'").set_index("site")["value"]
    assert len(kept) == 3 and (kept == 0).all()
    learnt = tables["downstream"].query("method == 'topk_sae' and metric == 'kl'")["value"]
    assert (learnt > 0).all()
    n_parameters = tables["cost"].query("method == 'topk_sae' and metric == 'parameters'").set_index("site")["value"]
    assert n_parameters["mlp_act.1"] > 3 * n_parameters["resid_post.1"]
