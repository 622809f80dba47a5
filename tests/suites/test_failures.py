"""Failures cost their own cells and nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from tests.support.result_tables import assert_equal_tables, read_tables, states

Cli = Callable[..., tuple[int, str, str]]

BROKEN = """
import os
import threading
import time
from dataclasses import dataclass

import harness


@dataclass
class Config:
    how: str = "works"


@harness.hookimpl
def harness_specs():
    return [harness.Spec("method", "fragile", VERSION, "Breaks as asked", "broken:Fragile", Config)]


class Fragile:
    passes = 1
    batch_rows = 512

    def __init__(self, config):
        self.how = config.how
        if self.how == "raises at once":
            raise RuntimeError("as asked: at once")

    def start(self, info):
        import torch

        self.sum = torch.zeros(info.width)

    def partial_fit(self, batch):
        print("printed by the plugin")
        self.sum += batch.x.sum(0)
        batch.x.zero_()  # nobody else may see this
        if self.how == "raises":
            raise RuntimeError("as asked")
        if self.how == "exits":
            raise SystemExit(3)
        if self.how == "dies":
            os._exit(9)
        if self.how == "interrupts":  # leaving a thread that never ends
            threading.Thread(target=time.sleep, args=(10_000,)).start()
            raise KeyboardInterrupt

    def finish(self):
        return Sum(self.sum * float("nan") if self.how == "nan" else self.sum, self.how)


class Sum(harness.Decomposition):
    n_latents = 0

    def __init__(self, sum, how):
        self.sum, self.how = sum, how

    def encode(self, x):
        if self.how == "raises later":
            raise RuntimeError("as asked: later")
        return harness.Codes(x[:, :0])

    def decode(self, codes):
        decoded = self.sum.expand(len(codes.values), -1)
        return decoded * float("nan") if self.how == "nan later" else decoded
"""


# What is about fits and their judgement needs one site, and no model that is loaded to go on from its rows.
_ONE_SITE = [
    *("models.0.sites=[resid_post.1]", "evaluations=[reconstruction]", "similarities=[]"),
    *("scorers=[]", "tokens.interp=0"),
]


@pytest.fixture
def broken_plugin(tmp_path: Path) -> Path:
    path = tmp_path / "broken.py"
    path.write_text(BROKEN.replace("VERSION", "1"))
    return path


def test_each_way_to_fail_costs_its_own_cells(harness_cli: Cli, broken_plugin: Path, tmp_path: Path) -> None:
    ways = ["works", "raises at once", "raises", "exits", "dies", "interrupts", "nan", "raises later", "nan later"]
    suite = [
        "suite=smoke",
        "plugin_files=[broken.py]",
        *_ONE_SITE,
        f"methods=[mean,{{method: fragile, how: {json.dumps(ways)}}}]",
    ]
    code, _, errors = harness_cli("run", *suite)
    assert code == 1
    tables = read_tables(tmp_path / "results" / "smoke")
    cost = tables["cost"][tables["cost"]["method"].notna()]
    fits = {json.loads(config).get("how"): part for config, part in cost.groupby("method_config")}
    failed_fits = {how: set(part["error"].dropna()) for how, part in fits.items() if (part["status"] == "failed").any()}
    assert set(failed_fits) == {"raises at once", "raises", "exits", "dies", "interrupts", "nan"}
    assert failed_fits["raises"] == {"RuntimeError: as asked"}
    assert failed_fits["exits"] == {"SystemExit: the plugin called sys.exit(3)"}
    assert "exit code 9" in next(iter(failed_fits["dies"]))
    assert "NaN" in next(iter(failed_fits["nan"]))

    judged = tables["reconstruction"]
    how = judged["method_config"].map(lambda config: json.loads(config).get("how"))
    assert set(how[judged["status"] == "skipped"]) == set(failed_fits)
    assert set(how[judged["status"] == "failed"]) == {"raises later", "nan later"}
    assert judged.loc[judged["status"] != "done", "value"].isna().all()
    mean = judged[(judged["method"] == "mean") & (judged["metric"] == "explained_variance")]
    assert -0.05 < mean["value"].item() <= 0  # undisturbed by a neighbour that overwrites its batches

    for _, row in cost[cost["status"] == "failed"].iterrows():
        log = (tmp_path / "results" / "smoke" / row["log"]).read_text()
        assert "printed by the plugin" in log or "at once" in log
        assert (
            f"failed: fit fragile(how={json.loads(row['method_config'])['how']})" in errors.replace("how=works", "")
            or json.loads(row["method_config"])["how"] == "works"
        )

    # A failure is not done: it is tried again, and what is done stays.
    _, output, _ = harness_cli("plan", *suite, "--json")
    found = states(output)
    assert found["fit fragile(how=raises) on random-gpt2 resid_post.1, seed 0"] == "failed"
    assert found["fit mean on random-gpt2 resid_post.1, seed 0"] == "done"


def test_a_method_that_can_not_be_had_from_these_rows_is_skipped_for_good(harness_cli: Cli, tmp_path: Path) -> None:
    methods = "methods=[{method: random_dictionary, n_latents: [8, 100000], k: 4}]"
    suite = ["suite=smoke", methods, "models.0.sites=[resid_post.1]"]
    code, _, errors = harness_cli("run", *suite)
    assert code == 0, errors  # nothing failed
    tables = read_tables(tmp_path / "results" / "smoke")
    for table in (tables["cost"], tables["reconstruction"], tables["downstream"]):
        skipped = table[table["status"] == "skipped"]
        assert len(skipped) == 1 and skipped["error"].str.contains("n_latents is 100000, but the stream has only").all()
    _, output, _ = harness_cli("plan", *suite, "--json")
    large = {label: state for label, state in states(output).items() if "n_latents=100000" in label}
    assert len(large) == 6 and set(large.values()) == {"skipped"}


def test_a_new_version_makes_only_its_own_cells_stale(harness_cli: Cli, broken_plugin: Path) -> None:
    suite = ["suite=smoke", "plugin_files=[broken.py]", "methods=[mean,fragile]", *_ONE_SITE]
    code, _, errors = harness_cli("run", *suite)
    assert code == 0 and "another broken.py" not in errors
    broken_plugin.write_text(BROKEN.replace("VERSION", "1") + "\n# edited")
    code, _, errors = harness_cli("run", *suite)
    assert code == 0 and "warning: method 'fragile': stored fits were made by another broken.py" in errors
    broken_plugin.write_text(BROKEN.replace("VERSION", "2"))
    _, output, _ = harness_cli("plan", *suite, "--json")
    stale = [label for label, state in states(output).items() if state == "to do"]
    assert len(stale) == 2 and all("fragile" in label for label in stale)


def _rot(path: Path) -> None:
    """Change a byte, which neither the file's size nor its time tells."""
    before, content = path.stat(), path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_damaged_captures_and_models_are_named_and_made_again(
    harness_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    suite = ["suite=smoke", "methods=[mean]", *_ONE_SITE, "models.0.sites=[resid_post.1,resid_post.2]"]
    assert harness_cli("run", *suite)[0] == 0
    shards = sorted((tmp_path / "cache" / "activations").glob("*/shard-00000.safetensors"))
    assert len(shards) == 4  # two sites, to fit and to judge
    flipped, missing, without_manifest, sound = shards
    before = {shard: load(shard.read_bytes()) for shard in shards}
    written = sound.stat().st_mtime_ns

    (model,) = (tmp_path / "cache" / "models").glob("*/model.safetensors")
    for rotten in (flipped, model):
        _rot(rotten)
    missing.unlink()
    manifest = without_manifest.with_name("manifest.json")
    manifest.write_text("{")
    suite.append("methods=[mean,identity]")
    code, _, errors = harness_cli("run", *suite)
    assert code == 0, errors
    told = [line for line in errors.splitlines() if "made again" in line]
    assert len(told) == 4
    for victim in (flipped, missing, manifest, model):
        assert sum(str(victim) in line for line in told) == 1
    for shard in shards:
        after = load(shard.read_bytes())
        assert before[shard].keys() == after.keys()
        assert all(torch.equal(before[shard][name], after[name]) for name in after)
    assert sound.stat().st_mtime_ns == written
    assert harness_cli("verify")[0] == 0

    # A run that uses nothing of a fit does not read it, unless it is asked to.
    fit = next((tmp_path / "cache" / "fits").glob("*/*.safetensors"))
    _rot(fit)
    assert "made again" not in harness_cli("run", *suite)[2]
    assert harness_cli("verify")[0] == 1
    code, _, errors = harness_cli("run", *suite, "--verify")
    assert code == 0 and f"{fit} is corrupt (its checksum differs): " in errors
    assert harness_cli("verify")[0] == 0


@pytest.mark.usefixtures("with_wandb")
def test_wandb_that_fails_only_warns(harness_cli: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "smoke"
    folder.mkdir(parents=True)
    (folder / "wandb").write_text("a file where a folder should be")
    code, _, errors = harness_cli("run", "suite=smoke", "methods=[mean]", *_ONE_SITE)
    assert code == 0
    assert "warning: W&B logging failed" in errors
    assert (folder / "tables" / "reconstruction.parquet").exists()


_FEW = ("methods=[mean,{method: topk_sae, n_latents: 256, k: 8, passes: 2}]", *_ONE_SITE[:3])


def _start(folder: Path, cache: Path, *overrides: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-P", "-m", "harness", "run", "suite=smoke", "wandb.mode=disabled", *overrides]
    environment = {**os.environ, "HARNESS_CACHE": str(cache)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def test_kill_and_resume_gives_the_tables_of_an_unbroken_run(
    harness_cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Killed with SIGKILL while it captures, while it fits and while it looks at latents, its worker along with it."""
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    monkeypatch.chdir(unbroken)
    assert harness_cli("run", "suite=smoke", *_FEW)[0] == 0
    results, cache = tmp_path / "results" / "smoke", tmp_path / "cache"
    for halfway in ("activations/.*.partial/*", "fits/[!.]*", "latents/[!.]*"):
        process = _start(tmp_path, cache, *_FEW)
        while process.poll() is None and not list(cache.glob(halfway)):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not list(results.glob("tables/*"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_CACHE", str(cache))
    code, _, errors = harness_cli("run", "suite=smoke", *_FEW)
    assert code == 0, errors
    folders = unbroken / "results" / "smoke", results
    assert_equal_tables(*map(read_tables, folders))
    assert harness_cli("compare", *map(str, folders))[0] == 0
    assert not list(cache.rglob("*.partial"))


@pytest.mark.usefixtures("warm_workers")
def test_two_runs_at_once_share_the_work(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    # Rows that come without texts: a process each would spend its time on importing transformers.
    known = (
        "{model: superposition, n_features: 40, width: 16, l0: 2, n_rows: 9000, label: known, sites: [resid_post.0]}"
    )
    quick = ["methods=[mean]", f"models=[{known}]", *_ONE_SITE[1:]]
    folders = [tmp_path, tmp_path, tmp_path / "elsewhere"]
    runs = [_start(folder, tmp_path / "cache", *quick) for folder in folders]
    outcomes = [(run.communicate()[1], run.returncode) for run in runs]
    assert [code for _, code in outcomes] == [0, 0, 0], outcomes
    tables = [read_tables(folder / "results" / "smoke") for folder in folders]
    assert_equal_tables(tables[0], tables[2])
    # One of them captured, the others found it done: all tell of the same capture.
    times = [
        table["cost"].set_index(["site", "metric"])["value"]["resid_post.0", "capture_seconds"] for table in tables
    ]
    assert times[0].tolist() == times[2].tolist()
