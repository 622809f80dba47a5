"""One real suite from an empty folder to its tables, and what a second run makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from harness.tables.interpretability import SHARES
from tests.support.result_tables import Finished, assert_equal_tables, read_tables, states

Cli = Callable[..., tuple[int, str, str]]
CONTRACT_COLUMNS = {
    *("suite", "cell", "status", "error", "family", "model", "site", "method", "method_config", "seed", "metric"),
    *("value", "n", "higher_is_better", "device", "harness_version", "plugin_version", "git_sha", "created_at"),
}


_FEW_AND_MANY = (
    "models=[{model: random_weights, n_layers: 4, label: few}, {model: random_weights, n_layers: 10, label: many}]"
)
_QUICK = (
    *("similarities=[]", "scorers=[]", "evaluations=[reconstruction]"),
    "tokens={fit: 500, evaluation: 300, interp: 0}",
)
METHODS = {"identity", "mean", "pca", "itda", "random_dictionary", "topk_sae"}


def test_smoke_end_to_end(harness_cli: Cli, smoke_run: Finished, tmp_path: Path) -> None:
    code, output, errors = harness_cli("plan", "suite=smoke", "--json")
    assert code == 0, errors
    assert set(states(output).values()) <= {"to do", "done"}
    assert not (tmp_path / "results").exists()  # planning leaves no trace

    assert smoke_run.code == 0, smoke_run.errors
    assert "variance" in smoke_run.output
    assert "of disk; planned were about" in smoke_run.output
    assert "77 done, 4 skipped. Tables: results/smoke/tables" in smoke_run.output
    skipped = "skipped 2: token_lookup of mean on random-gpt2 resid_post.1, seed 0, token_lookup of mean"
    assert skipped in smoke_run.errors and "warning" not in smoke_run.errors
    assert "seed 0: no latent of mean has enough windows to be scored" in smoke_run.errors
    smoke_run.copy_to(tmp_path)
    folder = tmp_path / "results" / "smoke"
    assert list((folder / "wandb").glob("offline-run-*"))
    tables = read_tables(folder)
    assert set(tables) == {"reconstruction", "downstream", "cost", "similarity", "interp"}
    undefined: set[tuple[str, str]] = set()
    for name, table in tables.items():
        assert set(table.columns) >= CONTRACT_COLUMNS, name
        table = table[table["status"] != "skipped"]
        assert set(table["status"]) <= {"done", "undefined"}
        assert (table["value"].isna() == (table["status"] == "undefined")).all()
        missing = table[table["value"].isna()]
        undefined |= set(zip(missing["method"], missing["metric"], strict=True))
        assert (folder / "tables" / f"{name}.csv").exists()
    # The mean has no latents, this dictionary never gets full, and to a random model its mean is worth its rows.
    without_latents = {("mean", "density"), ("mean", "alive_fraction"), ("itda", "rows_until_full")}
    recovered = {(method, "loss_recovered_mean_ablation") for method in METHODS}
    shares = {("mean", name) for name in SHARES}
    assert undefined == without_latents | recovered | shares

    values = tables["reconstruction"].set_index(["site", "method", "metric"])["value"]
    for site in ("resid_post.1", "resid_post.2"):
        assert values[site, "identity", "explained_variance"] == 1.0
        # The mean of the fit rows is nearly that of the evaluation rows, and can't be better.
        assert -0.05 < values[site, "mean", "explained_variance"] <= 0
        assert values[site, "itda", "l0"] <= 8
        assert values[site, "pca", "l0"] == 8
        effect = tables["downstream"].set_index(["site", "method", "metric"])["value"]
        assert effect[site, "identity", "ce_increase"] == 0 == effect[site, "identity", "kl"]
        assert effect[site, "mean", "ce_increase"] == effect[site, "mean", "ce_increase_mean_ablation"]
        assert values[site, "topk_sae", "l0"] == 8
    cost = tables["cost"].dropna(subset="method").set_index(["site", "method", "metric"])["value"]
    assert cost["resid_post.1", "pca", "tokens_seen"] <= 6000
    similarity = tables["similarity"].set_index(["similarity", "metric"])["value"].sort_index()
    assert similarity["cka", "similarity"].item() > 10 * similarity["cka", "null_shuffled_rows"].item()

    resolved = yaml.safe_load((folder / "suite.yaml").read_text())
    assert resolved["name"] == "smoke" and resolved["tokens"]["fit"] == 6000

    cells = {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*.json")}
    code, _, errors = harness_cli("run", "suite=smoke")
    assert code == 0, errors
    assert {path: path.stat().st_mtime_ns for path in (folder / "cells").rglob("*.json")} == cells
    assert_equal_tables(read_tables(folder), tables)

    code, output, _ = harness_cli("status", "suite=smoke", "--json")
    assert code == 0 and set(states(output).values()) == {"done", "skipped"}
    code, output, _ = harness_cli("leaderboard", "suite=smoke", "--json")
    methods = json.loads(output)["methods"]
    assert {line["method"] for line in methods} == METHODS
    place = [line for line in methods if line["site"] == "resid_post.1"]
    assert [line["method"] for line in place][:: len(place) - 1] == ["mean", "identity"]  # from sparse to dense
    assert {line["tier"] for line in place} == {None}  # one seed

    # Adding a method runs only its cells; a fork of the name shares fits but not results.
    code, output, _ = harness_cli(
        "plan", "suite=smoke", "methods=[mean,{method: pca, n_components: [4, 32]}]", "--json"
    )
    added = [label for label, state in states(output).items() if state == "to do"]
    assert added and all("pca(n_components=4)" in label or "pca(n_components=32)" in label for label in added)
    code, output, _ = harness_cli("plan", "suite=smoke", "name=fork", "--json")
    todo = [label for label, state in states(output).items() if state == "to do"]
    assert todo and not any(label.startswith(("fit", "capture", "latents")) for label in todo)


def test_the_difference_to_the_stored_config_is_printed(harness_cli: Cli) -> None:
    quick = ["methods=[mean]", "similarities=[]", "models.0.sites=[resid_post.1]"]
    assert harness_cli("run", "suite=smoke", *quick)[0] == 0
    code, output, errors = harness_cli("status", "suite=smoke", "--json")
    assert code == 0
    assert {label.split()[0] for label in states(output)} == {
        "capture",
        "fit",
        "reconstruction",
        "downstream",
        "latents",
        "token_statistics",
        "token_lookup",
    }  # as it was run
    assert "differs" not in errors
    _, _, errors = harness_cli("plan", "suite=smoke", *quick[1:])
    assert "differs from results/smoke/suite.yaml: methods: ['mean'] -> " in errors


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["suite=smok"], "suite: unknown suite 'smok'. Did you mean 'smoke'?"),
        ([], "which suite? Give suite=NAME."),
        (["suite=smoke", "tokens.fit=many"], "tokens.fit: 'many' is not of type int | list[int]."),
        (["suite=smoke", "tokens.fti=3"], "tokens.fti: unknown key. Did you mean 'fit'?"),
        (["suite=smoke", "contxt=3"], "contxt: unknown key. Did you mean 'context'?"),
        (["suite=smoke", "methods=[pcaa]"], "methods[0]: unknown method 'pcaa'. Did you mean 'pca'?"),
        (["suite=smoke", "methods=[{method: pca, k: 3}]"], "methods[0].n_components: missing"),
        (
            ["suite=smoke", "methods=[{method: pca, n_components: x}]"],
            "methods[0].n_components: 'x' is not of type int.",
        ),
        (["suite=smoke", "methods=[{name: pca}]"], "write NAME, or {method: NAME, parameter: value, ...}."),
        (
            ["suite=smoke", "models=[smollm]"],
            "models[0]: unknown model 'smollm'. Did you mean 'smollm2",
        ),
        (["suite=smoke", "corpus=bibel"], "corpus: unknown corpus 'bibel'. Did you mean 'bible'?"),
        (["suite=smoke", "dtype=float23"], "dtype: 'float23' is not a choice. Did you mean 'float32'"),
        (["suite=smoke", "models.0.sites=[resid_pots.1]"], "unknown kind 'resid_pots'. Did you mean 'resid_post'"),
        (["suite=smoke", "models.0.sites=[]"], "models[0].sites: name at least one site"),
        (["suite=smoke", "name=../evil"], "name '../evil': use letters"),
        (["suite=smoke", "context=63", "max_disk_gb=0.0001"], "max_disk_gb is 0.0001. Raise it"),
        (["suite=smoke", "plugin_files=[nope.py]"], "plugin_files: no file 'nope.py'"),
        (["suite=smoke", "tokens.fit"], "override 'tokens.fit'"),
        (["suite=smoke", "sites=[resid_post.0]"], "sites: every model names its own; these would not be read."),
        (["suite=smoke", "device=cuda:77"], "device: 'cuda:77' is not available here: this machine has"),
    ],
)
def test_what_is_wrong_is_said(harness_cli: Cli, tmp_path: Path, overrides: list[str], message: str) -> None:
    code, _, errors = harness_cli("run", *overrides)
    assert code == 2
    assert message in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.rglob("*.parquet"))


def test_all_problems_at_once(harness_cli: Cli) -> None:
    wrong = ["context=long", "tokens.fit=many", "methods=[pcaa,{method: itda, kk: 3}]", "seedz=[1]"]
    code, _, errors = harness_cli("plan", "suite=smoke", *wrong)
    assert code == 2
    for key in ("context:", "tokens.fit:", "methods[0]:", "methods[1].kk:", "seedz:"):
        assert f"error: {key}" in errors, errors


def test_a_grid_is_a_product(harness_cli: Cli) -> None:
    methods = "methods=[{method: itda, k: [2, 4], max_atoms: [8, 16, 32]}]"
    _, output, _ = harness_cli("plan", "suite=smoke", methods, "seeds=[0,1]", "--json")
    assert sum(label.startswith("fit") for label in states(output)) == 2 * 3 * 2 * 2  # k, max_atoms, sites, seeds


def test_a_plan_says_how_many_readings_are_shared(harness_cli: Cli) -> None:
    """One forward pass for each split; one stream for each site and seed, whichever methods learn from it."""
    words = ["methods=[mean, {method: pca, n_components: 4}]", "seeds=[0,1,2]", "context=17"]  # which nothing else has
    _, output, _ = harness_cli("plan", "suite=smoke", *words)
    n_sites, n_splits, n_seeds = 2, 3, 3
    wanted = f"to do: {n_splits} forward passes, {n_sites * n_seeds} streams shared by learners"
    assert wanted in " ".join(output.split()), output


def test_a_site_that_the_model_lacks_is_skipped_with_the_reason(harness_cli: Cli) -> None:
    _, output, _ = harness_cli("plan", "suite=smoke", _FEW_AND_MANY, "sites=[resid_post.1,resid_post.9]", "--json")
    cells = {cell["label"]: cell for cell in json.loads(output)["cells"]}
    skipped = [cell for label, cell in cells.items() if "few resid_post.9" in label]
    assert skipped and all(cell["state"] == "skipped" for cell in skipped)
    assert skipped[0]["reason"] == "few has 4 blocks, 0 to 3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# @package _global_\nmethods: [pca", "config, suite=mine: can't be composed: "),
        ("methods: [mean]", "conf/suite/mine.yaml: its first line must be `# @package _global_`."),
        ("# @package _global_\nmethods: [mean]\n", "models: missing; it has no default"),
    ],
)
def test_what_is_wrong_with_a_suite_file_is_said(harness_cli: Cli, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "conf" / "suite").mkdir(parents=True)
    (tmp_path / "conf" / "suite" / "mine.yaml").write_text(content)
    code, _, errors = harness_cli("plan", "suite=mine")
    assert code == 2 and message in errors and "Traceback" not in errors


def test_a_spoilt_results_folder_is_no_traceback(harness_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "smoke"
    folder.mkdir(parents=True)
    (folder / "suite.yaml").write_text("[")
    code, _, errors = harness_cli("status", "suite=smoke")
    assert code == 2 and "suite.yaml can't be read" in errors
    quick = ["methods=[mean]", "similarities=[]", "evaluations=[reconstruction]", "scorers=[]", "tokens.interp=0"]
    code, _, errors = harness_cli("run", "suite=smoke", *quick)
    assert code == 0, errors
    (tmp_path / "results" / "file").write_text("")
    code, _, errors = harness_cli("run", "suite=smoke", "name=file")
    assert code == 2 and "results/file" in errors and "of that path is a file. Move it" in errors


def test_cells_that_are_skipped_say_why(harness_cli: Cli) -> None:
    words = ["suite=smoke", _FEW_AND_MANY, "sites=[resid_post.9]", "methods=[mean]", *_QUICK]
    code, output, errors = harness_cli("run", *words)
    assert code == 0 and "4 done, 4 skipped" in output, errors
    (line,) = [line for line in errors.splitlines() if line.startswith("skipped")]
    assert line.startswith("skipped 4: capture few resid_post.9 (fit), ")
    assert line.endswith(", mean: few has 4 blocks, 0 to 3")


def test_a_run_in_which_all_was_skipped_is_no_success(harness_cli: Cli) -> None:
    too_large = "{method: random_dictionary, n_latents: 100000, k: 4}"
    code, output, errors = harness_cli("run", "suite=smoke", f"methods=[{too_large}]", *_QUICK)
    assert code == 1 and "4 done, 4 skipped" in output  # the captures are there, and nothing was made of them
    assert "nothing that the suite asks could be done" in errors
    code, _, errors = harness_cli("run", "suite=smoke", f"methods=[{too_large}]", *_QUICK, "evaluations=[]")
    assert code == 1 and "nothing that the suite asks could be done" in errors
    code, _, errors = harness_cli("run", "suite=smoke", f"methods=[mean,{too_large}]", *_QUICK)
    assert code == 0 and "nothing that" not in errors
