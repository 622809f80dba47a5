"""A suite in which methods learn from the fits of others, from the plan to the cards and the page."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.result_tables import Finished, read_tables

Cli = Callable[..., tuple[int, str, str]]
GROUPS = "clusters(of=topk_sae, at=90)"
SUITE = (
    *("suite=smoke", "name=groups", "tokens.interp=6000", "tokens.fit=2000", "tokens.evaluation=500", "latents=64"),
    *("models.0.sites=[resid_post.1]", "evaluations=[]", "similarities=[]", "explainers=[]"),
    "methods=[{method: clusters, of: topk_sae, at: 90},{method: topk_sae, n_latents: 128, k: 4, passes: 2}]",
)


ROWS = (
    *("suite=ground_truth", "name=planted", "seeds=[0]", "tokens.fit=3000", "tokens.evaluation=1200"),
    *("models.0.n_features=32", "models.0.width=16", "models.0.n_rows=15000", "evaluations=[hierarchy]"),
    "methods=[{method: random_groups, of: clusters},{method: clusters, of: topk_sae, at: 12},"
    "{method: topk_sae, n_latents: 32, k: 4, passes: 2}]",
)


def test_a_fit_learns_from_a_fit(harness_cli: Cli, tmp_path: Path) -> None:
    code, _, errors = harness_cli("run", *ROWS)
    assert code == 0, errors
    table = read_tables(tmp_path / "results/planted")["hierarchy"].set_index(["method", "metric"])
    assert set(table.index.get_level_values("method")) == {"topk_sae", "clusters", "random_groups"}
    assert table["value"]["topk_sae", "live_poles"] > 16 >= table["value"]["clusters", "live_poles"] > 0
    assert "without directions" in table["error"]["clusters", "truth_recall"]
    assert harness_cli("verify", "suite=planted")[0] == 0
    assert harness_cli("plan", *ROWS)[1].count("to do") == 1  # the sum: 0 of them


@pytest.mark.slow
def test_groups_are_shown_and_scored_as_latents_are(harness_cli: Cli, tmp_path: Path) -> None:
    code, _, errors = harness_cli("run", *SUITE)
    assert code == 0, errors
    tables = read_tables(tmp_path / "results/groups")
    assert tables["interp"].query("metric == 'auroc' and method == 'clusters'")["value"].notna().any()

    code, printed, _ = harness_cli("explain", "suite=groups", "method=clusters", "--json")
    (card, *_) = json.loads(printed)["cards"]
    of_group = ("explain", "suite=groups", "method=clusters", f"latent={card['index']}")
    shown = json.loads(harness_cli(*of_group, "--json")[1])
    members = shown["members"]
    assert len(members) >= 3 and {member["method"] for member in members} == {"topk_sae(n_latents=128, passes=2, k=4)"}
    assert "Members of topk_sae(n_latents=128, passes=2, k=4) (weight): " in harness_cli(*of_group)[1]
    of_member = ("explain", "suite=groups", "method=topk_sae", f"latent={members[0]['index']}", "--json")
    parents = json.loads(harness_cli(*of_member)[1])["parents"]
    assert {"method": GROUPS, "index": card["index"], "weight": members[0]["weight"]}.items() <= next(
        parent.items() for parent in parents if parent["method"] == GROUPS
    )

    page = tmp_path / "results/groups/report/latents"
    scripts = [path.read_text() for path in page.rglob("*.js")]
    assert sum('"members":[' in script for script in scripts) >= 1
    assert sum('"parents":[' in script for script in scripts) >= 3
    for script in scripts:
        for kin in ("members", "parents"):
            if f'"{kin}":[' in script:
                content = json.loads(script.partition(" = ")[2].rstrip(";\n"))
                for one in content[kin]:
                    assert one["place"] is None or (page / f"{one['list']}/{one['place']}.js").exists()


def test_the_best_units_are_shown_by_windows_that_did_not_choose_them(
    smoke_run: Finished, harness_cli: Cli, tmp_path: Path
) -> None:
    smoke_run.copy_to(tmp_path)
    code, printed, errors = harness_cli("leaderboard", "suite=smoke", "top=2", "--json")
    assert code == 0, errors
    lines = json.loads(printed)
    assert {line["method_label"] for line in lines} > {"identity", "pca(n_components=32, k=8)"}
    for line in lines:
        assert line["n_top"] == min(2, line["n_units"]) == len(line["units"])
        assert line["value"] == pytest.approx(sum(unit["fresh"] for unit in line["units"]) / line["n_top"])
    assert "winner's curse" in harness_cli("leaderboard", "suite=smoke", "top=2")[1].replace("\n", " ")
    code, _, errors = harness_cli("leaderboard", "suite=smoke", "top=none")
    assert code == 2 and "top is 'none'; give how many" in errors
