"""Logs of W&B, read back from the files that its offline mode leaves."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.cli import main as cli
from harness.planning.config import load_resolved
from harness.planning.plan import build_plan
from harness.registry.redaction import HIDDEN
from harness.report import plots, wandb_upload
from harness.report.tracking import summary, track
from harness.report.wandb_runs import is_whole, run_id
from harness.storage.store import Store
from harness.tables.declared import Declared
from harness.tables.results import Results
from tests.support.loopback import serving
from tests.support.result_tables import read_tables
from tests.support.shared import once
from tests.support.wandb_files import media_of, records_of, summary_of

Cli = Callable[..., tuple[int, str, str]]
PASSPHRASE = 'correct-h&ö"<rse'  # as JSON, HTML and scripts write it, it is another text each time
pytestmark = pytest.mark.usefixtures("with_wandb")
TELLTALE = b"correct-h"
TOKEN = "not-for-everybody"
PARETO = ("explained_variance_by_l0", "explained_variance_by_fit_seconds", "ce_increase_by_l0")
PLUGIN = """
from dataclasses import dataclass
from pathlib import Path
import os
import harness

@dataclass
class Config:
    passphrase: str = ""

@harness.hookimpl
def harness_specs():
    return [harness.Spec("method", "acme_fails", 1, "fails and tells", "acme_fails:Fails", Config)]

class Fails:
    passes, batch_rows = 1, 2048
    def __init__(self, config):
        self.config = config
    def start(self, info):
        secrets = f"{self.config.passphrase}, {os.environ['ACME_TOKEN']}"
        raise OSError(f"{Path.home()}/weights can't be opened with {secrets}")
"""


@pytest.fixture(scope="module")
def ran(shared_folder: Path, shared_cache: Path, warm_popen: type[subprocess.Popen]) -> Path:
    """Where a suite ran with two seeds and a method that fails, telling secrets."""
    return once(shared_folder / "tracking", lambda folder: _run(folder, shared_cache, warm_popen))


def _run(folder: Path, cache: Path, popen: type[subprocess.Popen]) -> None:
    (folder / "home").mkdir()
    (folder / "acme_fails.py").write_text(PLUGIN)
    fails = f"{{method: acme_fails, passphrase: '{PASSPHRASE}'}}"
    methods = f"mean,{{method: pca, n_components: 16, k: 8}},{{method: random_dictionary, n_latents: 64, k: 8}},{fails}"
    settings = [f"methods=[{methods}]", "similarities=[cka]", "seeds=[0,1]", "plugin_files=[acme_fails.py]"]
    settings += ["tokens.interp=6000", "latents=8", "scorers=[token_lookup]"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(subprocess, "Popen", popen)
        patch.setenv("HOME", str(folder / "home"))
        patch.setenv("ACME_TOKEN", TOKEN)
        patch.setenv("HARNESS_CACHE", str(cache))
        assert cli.main(["run", "suite=smoke", *settings]) == 1


@pytest.fixture
def stored(ran: Path, harness_cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its results, with a report."""
    monkeypatch.setenv("HOME", str(ran / "home"))
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    shutil.copytree(ran, tmp_path, dirs_exist_ok=True, symlinks=True)
    results = tmp_path / "results" / "smoke"
    (results / "report" / "latents").mkdir(parents=True, exist_ok=True)
    (results / "report" / "index.html").write_text(f"<p>{ran / 'home'}/models</p>")
    (results / "report" / "latents" / "0.js").write_text(f"cards[0] = {{note: '{TOKEN}'}}")
    (results / "report" / "plot.png").write_bytes(b"\x89PNG\xff")
    return results


def test_a_replayed_suite_is_one_run_with_everything(harness_cli: Cli, stored: Path) -> None:
    code, output, errors = harness_cli("wandb-sync", "suite=smoke")
    assert code == 0, errors
    folder = Path(output.split("logged to ")[1].strip())
    records = records_of(folder)
    run = next(record.run for record in records if record.HasField("run"))
    plan = build_plan(load_resolved(stored / "suite.yaml")[0])
    assert (run.run_id, run.run_group, run.job_type) == (run_id(plan), "smoke", "suite")
    assert not run.host and not any(record.HasField(kind) for record in records for kind in ("environment", "stats"))

    config = {update.key: json.loads(update.value_json) for update in run.config.update}
    assert config["tokens"]["fit"] == 6000 and config["seeds"] == [0, 1] and config["versions"]["torch"]
    assert config["methods"][3] == {"method": "acme_fails", "passphrase": HIDDEN} and "wandb" not in config

    tables = {**read_tables(stored), **Results.of(plan, Store.of(stored)).boards}
    assert {"interp", "interpretability", "leaderboard"} < tables.keys()
    shown = {item.nested_key[0]: path for item, path in media_of(records, folder, "table-file")}
    views = {name: json.loads(path.read_text()) for name, path in shown.items() if name.startswith("views/")}
    assert shown.keys() == tables.keys() | views.keys()
    for name, table in tables.items():
        _assert_same_table(json.loads(shown[name].read_text()), table)
    places = [f"{what}_random_gpt2_resid_post_{n}" for what in ("Methods_on", "Latents_of") for n in (1, 2)]
    assert {*views} >= {"views/cka", *(f"views/{place}" for place in places)}
    methods = views["views/Methods_on_random_gpt2_resid_post_1"]
    assert methods["columns"][:4] == ["method", "tier", "L0", "explained variance"]
    assert {row[0] for row in methods["data"]} >= {"mean", "pca(n_components=16, k=8)"}
    images = {item.nested_key[0] for item, _ in media_of(records, folder, "image-file")}
    pareto = {f"plots/{y}/random_gpt2/resid_post_{n}" for n in (1, 2) for y in PARETO}
    assert images == {"plots/cka", *pareto}

    artifact = next(record.artifact for record in records if record.artifact.type == "results")
    files = {entry.path: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert artifact.name == "smoke-results"
    assert {f"tables/{name}.{suffix}" for name in tables for suffix in ("csv", "parquet")} < files.keys()
    assert {"report/index.html", "report/latents/0.js", "report/plot.png"} < files.keys()
    assert all(path.is_relative_to(stored / "wandb") and path.exists() for path in files.values())
    assert files["report/index.html"].read_text() == "<p>~/models</p>"
    assert files["report/plot.png"].read_bytes() == b"\x89PNG\xff"
    errors_sent = pd.read_parquet(files["tables/cost.parquet"])["error"].dropna()
    assert f"OSError: ~/weights can't be opened with {HIDDEN}, {HIDDEN}" in set(errors_sent)


def test_the_summary_names_numbers_alike_in_all_runs(harness_cli: Cli, stored: Path) -> None:
    assert harness_cli("wandb-sync", "suite=smoke", "--mode=offline")[0] == 0
    written = summary_of(next((stored / "wandb").glob("offline-run-*")))
    board = pd.read_csv(stored / "leaderboard.csv").set_index(["site", "method"])
    name = "explained_variance/random_gpt2/resid_post_1/pca_n_components_16_k_8"
    assert written[name] == pytest.approx(board.loc[("resid_post.1", "pca"), "explained_variance"], rel=1e-12)
    assert written["l0/random_gpt2/resid_post_2/mean"] == 0
    best = board[board["tier"] == 1].loc["resid_post.1"]
    assert len(best) and all(method in written["first_tier/random_gpt2/resid_post_1"] for method in best.index)
    assert 0.5 <= written["token_lookup_auroc/random_gpt2/resid_post_1/pca_n_components_16_k_8"] <= 1
    assert not any("acme" in key for key in written)


def test_one_seed_has_no_leaders_and_unknown_numbers_no_entry(harness_cli: Cli, stored: Path) -> None:
    plan = build_plan(load_resolved(stored / "suite.yaml")[0])
    board = pd.read_csv(stored / "leaderboard.csv").assign(tier=pd.NA, ce_increase=float("nan"))
    results = Results.of(plan, Store.of(stored))
    found = summary(replace(results, leaderboard=board, interpretability=results.interpretability.iloc[:0]))
    assert {key.split("/")[0] for key in found} == {"explained_variance", "l0", "fit_seconds"}


def test_syncing_again_replaces_the_run_and_leaks_nothing(harness_cli: Cli, stored: Path) -> None:
    (of_the_run,) = (stored / "wandb").glob("offline-run-*")
    code, output, errors = harness_cli("wandb-sync", "suite=smoke", "--mode", "offline")
    assert code == 0, errors
    (folder,) = (stored / "wandb").glob("offline-run-*")
    assert str(folder) == output.split("logged to ")[1].strip()
    assert folder != of_the_run and folder.name.split("-")[3] == of_the_run.name.split("-")[3]
    sent = [*folder.glob("*.wandb"), *(folder / "files").rglob("*"), *(stored / "wandb").glob("files-*/**/*")]
    sent = [path for path in sent if path.is_file()]
    assert len(sent) > 10
    secrets = [TELLTALE, TOKEN.encode()]
    assert not [path for path in sent for secret in secrets if secret in path.read_bytes()]
    assert not {path.name for path in sent} & {"requirements.txt", "wandb-metadata.json", "diff.patch", "output.log"}


def test_the_report_that_people_share_hides_them_too(ran: Path) -> None:
    files = [path for path in (ran / "results" / "smoke" / "report").rglob("*") if path.is_file()]
    assert not [path for path in files for secret in (TELLTALE, TOKEN.encode()) if secret in path.read_bytes()]
    page = (ran / "results" / "smoke" / "report" / "index.html").read_text()
    assert HIDDEN in page and f"passphrase={HIDDEN}" in page.replace("'", "")


def _edit(path: Path, old: str, new: str) -> None:
    """Edit a stored suite as people may: without its first line, which has the checksum."""
    path.write_text(path.read_text().partition("\n")[2].replace(old, new))


@pytest.mark.parametrize(
    ("suite", "environment", "runs"),
    [("offline", "disabled", 0), ("online", "Offline", 1), ("offline", "online", 1), ("offline", "nonsense", 1)],
)
def test_the_environment_can_hold_a_run_back(
    stored: Path, monkeypatch: pytest.MonkeyPatch, suite: str, environment: str, runs: int
) -> None:
    _edit(stored / "suite.yaml", "mode: offline", f"mode: {suite}")
    plan = build_plan(load_resolved(stored / "suite.yaml")[0])
    assert plan.suite.config.wandb.mode == suite
    shutil.rmtree(stored / "wandb")
    monkeypatch.setenv("WANDB_MODE", environment)
    told: list[str] = []
    track(plan, Results.of(plan, Store.of(stored)), stored, told.append)
    assert not told and len(list(stored.glob("wandb/offline-run-*"))) == runs


def test_without_network_the_reason_is_told_and_nothing_is_lost(
    harness_cli: Cli, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run lies there to be sent later; a run that logs online ends as it would have."""
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    code, _, errors = harness_cli("wandb-sync", "name=smoke", "--mode=online")
    assert code == 2 and "127.0.0.1:9" in errors and "Connection refused" in errors and "Traceback" not in errors
    (run,) = (stored / "wandb").glob("offline-run-*")
    assert f"send it later with: wandb sync {run}" in errors and len(records_of(run)) > 10
    assert is_whole(run)
    (file,) = run.glob("*.wandb")
    content = file.read_bytes()
    for n_bytes in (0, 7, 10, 4096, len(content) - 1):
        file.write_bytes(content[:n_bytes])
        assert not is_whole(run)
    file.unlink()
    assert not is_whole(run)
    _edit(stored / "suite.yaml", "mode: offline", "mode: online")
    plan = build_plan(load_resolved(stored / "suite.yaml")[0])
    told: list[str] = []
    track(plan, Results.of(plan, Store.of(stored)), stored, told.append)
    assert "wandb sync" in told[0]


class Rude(BaseHTTPRequestHandler):
    """Greets, and then ails, hangs, or answers with what is no answer."""

    ends = threading.Event()
    way = ""

    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()

    def do_POST(self) -> None:
        if self.way == "hangs":
            self.ends.wait(60)
            return
        self.send_response(500 if self.way == "ails" else 200)
        self.end_headers()
        self.wfile.write(b"<html>")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ails", "hangs", "babbles"])
def test_a_server_that_greets_and_takes_nothing_costs_its_time(
    way: str, harness_cli: Cli, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`wandb sync` itself is at work here, and gives up, or is ended."""
    monkeypatch.setattr(wandb_upload, "UPLOAD_SECONDS", 20.0)
    monkeypatch.setattr(Rude, "way", way)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with serving(Rude) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.removesuffix("/v1"))
        started = time.monotonic()
        code, _, errors = harness_cli("wandb-sync", "name=smoke", "--mode=online")
        Rude.ends.set()
    (run,) = (stored / "wandb").glob("offline-run-*")
    assert code == 2 and f"send it later with: wandb sync {run}" in errors and "Traceback" not in errors
    assert is_whole(run) and len(records_of(run)) > 10 and time.monotonic() - started < 120


def test_a_place_that_takes_no_run_is_named(harness_cli: Cli, stored: Path) -> None:
    shutil.rmtree(stored / "wandb")
    (stored / "wandb").write_text("a file")
    code, _, errors = harness_cli("wandb-sync", "name=smoke")
    assert code == 2 and f"{stored}/wandb" in errors and "complete without it" in errors


def test_labels_of_other_scripts_stay_apart(harness_cli: Cli, stored: Path) -> None:
    plan = build_plan(load_resolved(stored / "suite.yaml")[0])
    results = Results.of(plan, Store.of(stored))
    board = results.leaderboard
    labels = dict(zip(board["method_label"].unique(), ("模型", "Модель", "a(b=1.5)", "a(b=1, 5)"), strict=False))
    other = replace(results, leaderboard=board.assign(method_label=board["method_label"].map(labels)))
    assert len(summary(other)) == len(summary(results))


def test_what_can_not_be_written_is_one_line(harness_cli: Cli, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    code, _, errors = harness_cli("wandb-sync", "suite=smoke")
    assert code == 2 and "Traceback" not in errors
    assert "No space left on device" in errors and "are complete without it" in errors


def test_what_can_not_be_synced_is_refused(harness_cli: Cli, stored: Path) -> None:
    code, _, errors = harness_cli("wandb-sync", "suite=smoke", "wandb.mode=disabled")
    assert code == 2 and "wandb.mode is disabled" in errors and "--mode offline" in errors
    code, _, errors = harness_cli("wandb-sync", "suite=smoke", "name=never_run", "--mode=offline")
    assert code == 2 and "nothing of 'never_run' is done yet" in errors


def test_another_plan_is_another_run(harness_cli: Cli, stored: Path) -> None:
    suite = load_resolved(stored / "suite.yaml")[0]
    assert run_id(build_plan(suite)) == run_id(build_plan(load_resolved(stored / "suite.yaml")[0]))
    shutil.copy(stored / "suite.yaml", stored / "other.yaml")
    _edit(stored / "other.yaml", "fit: 6000", "fit: 6001")
    assert run_id(build_plan(load_resolved(stored / "other.yaml")[0])) != run_id(build_plan(suite))


def test_a_place_where_nothing_can_be_drawn_has_an_empty_plot(stored: Path) -> None:
    board = pd.read_csv(stored / "leaderboard.csv").query("method == 'mean'")  # its L0 of 0 is on no log scale
    sparsity, explained = Declared.of(load_resolved(stored / "suite.yaml")[0]).axes[0]
    figure = plots.pareto(board, sparsity, explained)
    assert not any(len(line.get_xdata()) for line in figure.axes[0].get_lines())


def _assert_same_table(sent: dict[str, Any], table: pd.DataFrame) -> None:
    assert sent["columns"] == list(table.columns) and len(sent["data"]) == len(table)
    sent_frame = pd.DataFrame(sent["data"], columns=sent["columns"], dtype=object)
    for name in table.columns.difference(["error", "method_config", "method_label"]):  # where something is hidden
        pairs = zip(sent_frame[name], table[name], strict=True)
        assert all((a is None and pd.isna(b)) or a == b or a == pytest.approx(b) for a, b in pairs), name
