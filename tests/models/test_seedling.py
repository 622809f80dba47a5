"""Small language models that are trained when first used."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from math import log
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.capturing.splits import in_split
from harness.planning.config import compose
from harness.planning.plan import build_plan
from harness.plugins.corpora import PackagedConfig
from harness.plugins.corpora.packaged import PackagedCorpus
from harness.plugins.models import SeedlingConfig
from harness.plugins.models.planning import seedling_identity, seedling_recipe
from harness.plugins.models.pretraining import Pretraining
from harness.plugins.models.seedling import checkpoint, training_record
from harness.plugins.models.training_texts import END_OF_TEXT, TrainingTexts, load_texts

pytestmark = pytest.mark.filterwarnings("ignore:.*unigram entropy:UserWarning")  # tiny ones learn little

TINY = SeedlingConfig(
    n_layers=2, width=32, vocabulary=400, corpus="bible", n_steps=16, batch_windows=8, context=32, device="cpu"
)
TEXT = "In the beginning God created the heaven and the earth. Überraschung!"


@pytest.fixture
def cache(tiny_texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return _use_new_cache(tiny_texts, tmp_path / "cache", monkeypatch)


@pytest.fixture(scope="module")
def texts(tiny_texts: Path) -> TrainingTexts:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARNESS_CACHE", str(tiny_texts))
        return load_texts(seedling_recipe(TINY)["corpus"], TINY.vocabulary)


def _use_new_cache(tiny_texts: Path, folder: Path, patch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_texts, folder)
    patch.setenv("HARNESS_CACHE", str(folder))
    return folder


def _weights(config: SeedlingConfig) -> dict[int, bytes]:
    folders = {step: checkpoint(replace(config, step=step)) for step in reversed(config.checkpoints())}
    return {step: (folder / "model.safetensors").read_bytes() for step, folder in folders.items()}


@pytest.fixture(scope="module")
def unbroken(tiny_texts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The weights of a training that nothing interrupted."""
    with pytest.MonkeyPatch.context() as patch:
        _use_new_cache(tiny_texts, tmp_path_factory.mktemp("unbroken") / "cache", patch)
        return _weights(TINY)


def test_a_seed_gives_the_same_bytes_and_another_seed_others(unbroken: dict[int, bytes], cache: Path) -> None:
    """Whatever the state of the process, which is left as it was; and in parts as well as at once."""
    torch.manual_seed(123)
    torch.set_default_dtype(torch.float64)
    try:
        before = torch.get_rng_state(), torch.get_num_threads()
        for step in TINY.checkpoints():
            with torch.no_grad():
                folder = checkpoint(replace(TINY, step=step))
            assert (folder / "model.safetensors").read_bytes() == unbroken[step]
            kept = {path.name for path in folder.parent.iterdir() if path.is_dir()}
            assert kept == {f"step-{kept}" for kept in TINY.checkpoints() if kept <= step}  # no more is trained
        assert torch.equal(torch.get_rng_state(), before[0]) and torch.get_num_threads() == before[1]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert [path.name for path in folder.parent.iterdir() if path.is_file()] == []  # no state is left
    assert [step for step, _ in training_record(TINY)["training_losses"]] == list(range(1, 17))

    other = _weights(replace(TINY, seed=1))
    assert all(other[step] != unbroken[step] for step in TINY.checkpoints())
    assert len(set(unbroken.values())) == len(TINY.checkpoints()) == 6


def test_a_killed_training_goes_on_to_the_same_bits_in_a_process_that_waited(
    unbroken: dict[int, bytes],
    cache: Path,
    warm_popen: type[subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = (
        "import time\n"
        "import torch\n"
        # More threads than cores have to be asked for here too: products in a library of torch's take no more unasked.
        f"torch.set_num_threads({torch.get_num_threads()})\n"
        "from harness.plugins.models import SeedlingConfig, pretraining, seedling\n"
        "pretraining.SECONDS_BETWEEN_STATES = 0\n"
        "take_step = pretraining.Pretraining._take_step\n"
        "def take_step_or_hang(training):\n"
        "    if training.step == 11:\n"
        "        print('at step 11', flush=True)\n"
        "        time.sleep(600)\n"
        "    take_step(training)\n"
        "pretraining.Pretraining._take_step = take_step_or_hang\n"
        f"seedling.checkpoint({TINY!r})\n"
    )
    monkeypatch.setattr("harness.storage.locks._SECONDS_UNTIL_SAID", 0.2)
    first_steps: list[int] = []
    go_on = Pretraining.go_on
    monkeypatch.setattr(Pretraining, "go_on", lambda own, *rest: first_steps.append(own.step) or go_on(own, *rest))
    with warm_popen([sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None and child.stdout.readline() == "at step 11\n"
            waiting = threading.Thread(target=checkpoint, args=(TINY,))
            waiting.start()
            while f"waiting for process {child.pid} on" not in capsys.readouterr().err and waiting.is_alive():
                time.sleep(0.01)
            time.sleep(0.1)
            assert waiting.is_alive() and not first_steps
        finally:
            child.kill()  # by SIGKILL: it can't tidy up
    waiting.join()
    assert first_steps == [11]
    assert _weights(TINY) == unbroken
    assert not list(cache.rglob("*.partial")) and not list(cache.rglob("state*"))


def test_a_damaged_state_is_not_taken_up(unbroken: dict[int, bytes], cache: Path) -> None:
    family = checkpoint(replace(TINY, step=4)).parent
    state = (family / "state.safetensors").read_bytes()
    for damaged in (state[: len(state) // 2], state[:-9] + bytes([state[-9] ^ 1]) + state[-8:]):
        (family / "state.safetensors").write_bytes(damaged)
        with pytest.warns(UserWarning, match=r"state\.safetensors is corrupt.*: the training begins anew\."):
            checkpoint(replace(TINY, step=8))
        shutil.rmtree(family / "step-8")
    assert _weights(TINY) == unbroken


def test_a_damaged_checkpoint_is_named_and_trained_again(unbroken: dict[int, bytes], cache: Path) -> None:
    folder = checkpoint(replace(TINY, step=2))
    flipped = bytearray(unbroken[2])
    flipped[-9] ^= 1
    (folder / "model.safetensors").write_bytes(flipped)
    with pytest.warns(UserWarning, match=r"model\.safetensors is corrupt.*: it is trained again\."):
        assert checkpoint(replace(TINY, step=2)) == folder
    assert (folder / "model.safetensors").read_bytes() == unbroken[2]
    assert sorted(path.name for path in folder.parent.iterdir() if path.is_dir()) == ["step-0", "step-1", "step-2"]


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda folder: (folder / ".seal").unlink(), "an earlier version has made it"),
        (lambda folder: (folder / "config.json").write_text("{}"), r"config\.json is corrupt"),
        (lambda folder: (folder / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
        (lambda folder: (folder / "adapter_config.json").touch(), r"adapter_config\.json was put there"),
    ],
)
def test_weights_that_are_as_recorded_are_kept(
    damage: Any, named: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = checkpoint(replace(TINY, step=1))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    monkeypatch.setattr(Pretraining, "go_on", None)  # nothing is trained
    damage(folder)
    with pytest.warns(UserWarning, match=rf"{named}.*: its weights are as they were"):
        assert checkpoint(replace(TINY, step=1)) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert len(list(folder.parent.glob(".step-1.aside-*/adapter_config.json"))) == ("adapter" in named)


def test_loss_falls_under_that_of_frequencies_alone(cache: Path, texts: TrainingTexts) -> None:
    config = replace(TINY, width=64, n_steps=64, batch_windows=16, context=64)
    with pytest.warns(UserWarning, match=r"nats under the unigram entropy, less than 0\.7"):
        model = harness.create("model", "seedling", **vars(config))
    record = model.training_record
    assert record == training_record(config) == json.loads((model.folder / "training.json").read_text())
    assert 0.05 < record["nats_under_unigram"] == record["unigram_entropy"] - record["validation_loss"]

    counts, n = Counter(texts.training.tolist()), len(texts.training) + config.vocabulary
    windows = texts.validation[: 256 * 64].view(256, 64)
    surprisals = [-log((counts[token] + 1) / n) for token in windows[:, 1:].flatten().tolist()]
    assert record["unigram_entropy"] == pytest.approx(sum(surprisals) / len(surprisals), abs=1e-12)

    weights = model.folder / "model.safetensors"
    assert record["weights_sha256"] == harness.file_digest(weights)
    with torch.no_grad():
        replayed = model.replay(windows[:8], "resid_post.0").logits().log_softmax(-1)[:, :-1]
    nats = -replayed.gather(-1, windows[:8, 1:, None]).mean()
    assert float(nats) == pytest.approx(record["validation_loss"], abs=0.3)  # 8 windows of the 256


def test_an_untrained_one_knows_nothing_and_is_no_reason_to_warn(cache: Path, recwarn: Any) -> None:
    model = harness.create("model", "seedling", **vars(replace(TINY, step=0)))
    assert model.training_record["validation_loss"] == pytest.approx(log(TINY.vocabulary), abs=0.3)
    assert model.training_record["tokens_seen"] == 0 and not recwarn.list


def test_nothing_is_learnt_from_the_documents_of_evaluation_or_interpretation(texts: TrainingTexts) -> None:
    def split(tokens: torch.Tensor) -> list[str]:
        *found, rest = texts.tokenizer.decode(tokens).split(END_OF_TEXT)
        assert rest == ""
        return found

    documents = list(PackagedCorpus(PackagedConfig("bible")).documents())
    assert split(texts.training) == [document.text for document in documents if in_split(document.id, (0.2, 1))]
    assert split(texts.validation) == [document.text for document in documents if in_split(document.id, (0, 0.1))]


def test_every_epoch_has_all_windows_in_an_order_of_its_own(tmp_path: Path) -> None:
    windows = torch.arange(10)[:, None]
    orders = {}
    for seed in (0, 1):
        training = Pretraining(torch.nn.Linear(1, 1), windows, 100, 4, 1e-3, seed, tmp_path / "none", "tiny")
        seen = torch.cat([training.batch(step) for step in range(5)]).flatten().tolist()
        assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
        assert torch.equal(training.batch(1), torch.tensor(seen[4:8])[:, None])  # also when it comes out of turn
        orders |= {tuple(seen[:10]): seed, tuple(seen[10:]): seed}
    assert len(orders) == 4


def test_the_learning_rate_rises_and_falls(tmp_path: Path) -> None:
    training = Pretraining(torch.nn.Linear(1, 1), torch.zeros(1, 1), 100, 4, 1.0, 0, tmp_path / "none", "tiny")
    rates = [training.learning_rate(step) for step in range(100)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[5:] == sorted(rates[5:], reverse=True) and 0.1 < rates[-1] < 0.102


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox", "llama"])
def test_every_architecture_is_read_as_any_model(architecture: Any, cache: Path, texts: TrainingTexts) -> None:
    config = replace(TINY, architecture=architecture, n_steps=1)
    model = harness.create("model", "seedling", **vars(config))
    assert (model.n_layers, model.width) == (2, 32) and model.module.config.model_type == architecture
    sites = ["resid_pre.1", "attn_out.1", "mlp_out.1", "resid_post.1"]
    c = harness.capture(model, [TEXT], sites, context=32)
    assert len(c.rows) > 10 and all(len(x) == len(c.rows) and x.isfinite().all() for x in c.x.values())
    torch.testing.assert_close(c.x[sites[0]] + c.x[sites[1]] + c.x[sites[2]], c.x[sites[3]])

    windows = model.windows([TEXT], 32)[0]
    assert [i for window in windows for i in window.ids] == texts.tokenizer(TEXT)["input_ids"]
    ends = [0, *(end for window in windows for end in window.end)]
    starts = [start for window in windows for start in window.start]
    assert ends[-1] == len(TEXT) and all(start <= end for start, end in zip(starts, ends, strict=False))
    assert not any(flag for window in windows for flag in window.special)


def test_a_plan_needs_no_torch_and_no_training(cache: Path) -> None:
    suite, _ = compose(["suite=smoke", "models=[{preset: seedling, sites: [resid_post.5]}]"])
    assert {cell.columns["site"] for cell in build_plan(suite).of_kind("capture")} == {"resid_post.5"}
    with pytest.raises(harness.ConfigError, match=r"no model has resid_post\.6: seedling has 6 blocks, 0 to 5"):
        compose(["suite=smoke", "models=[{preset: seedling, sites: [resid_post.6]}]"])
    assert [path.name for path in (cache / "models").iterdir() if "texts" not in path.name] == []
    code = (
        "import sys; from harness.plugins.models import SeedlingConfig as C, planning as p\n"
        "p.seedling_identity(C()), p.seedling_shape(C()); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_what_results_depend_on() -> None:
    identity = seedling_identity(TINY)
    assert identity == seedling_identity(replace(TINY, step=TINY.n_steps, device="cuda"))
    others = [
        {"architecture": "llama"}, {"n_layers": 3}, {"width": 64}, {"n_heads": 2}, {"vocabulary": 500},
        {"corpus": "wikipedia"}, {"n_steps": 32}, {"step": 0}, {"batch_windows": 4}, {"context": 16}, {"seed": 1},
        {"dtype": "bfloat16"},
    ]  # fmt: skip
    assert all(seedling_identity(replace(TINY, **change)) != identity for change in others)
    assert {name for change in others for name in change} | {"device"} == set(vars(TINY))
    for name in ("step", "dtype"):
        change = {"step": 0, "dtype": "bfloat16"}[name]
        assert seedling_recipe(replace(TINY, **{name: change})) == seedling_recipe(TINY)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"step": 100}, r"step is 100; weights are kept at 0, 1, 2, 4, 8, 16 \(null: the last\)"),
        ({"width": 36}, "each needs a multiple of 8 channels"),
        ({"vocabulary": 256}, "the end of text alone are 257"),
        ({"n_steps": 0}, "give at least 1"),
        ({"context": 1}, "context 1: 2"),
    ],
)
def test_what_cannot_be_trained_is_refused(params: dict[str, Any], message: str) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        harness.create("model", "seedling", **(vars(TINY) | params))
