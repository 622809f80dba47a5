"""A fit that is broken off goes on from its checkpoint and ends with the same bits."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import harness
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.snapshots import Snapshot
from harness.fitting.together import Fitted, fit_together
from harness.storage.tensor_files import save_tensors, take_up_tensors
from tests.support.parts import OrderSensitive, Stackable, stream_of

CPU = torch.device("cpu")
X = torch.randn(700, 12, generator=torch.Generator().manual_seed(0))
KINDS = {
    "topk_sae": {"k": 3},
    "batch_topk_sae": {"k": 3},
    "matryoshka_sae": {"k": 3, "group_shares": [0.5, 0.5]},
    "relu_sae": {"target_l0": 3},
    "gated_sae": {"target_l0": 3},
    "jumprelu_sae": {"target_l0": 3},
}
pytestmark = [
    pytest.mark.usefixtures("small_blocks"),
    pytest.mark.filterwarnings("ignore:.*_sae. the L0 of rows kept out"),
]


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.capturing.activations.BLOCK_ROWS", 90)


def sae(name: str) -> Any:
    return harness.create("method", name, n_latents=32, batch_rows=40, passes=4, **KINDS[name])


def checkpoints_in(folder: Path, warn: Callable[[str], None] = pytest.fail) -> Checkpoints:
    return Checkpoints(lambda name: folder / f"{name}.checkpoint", warn, every_seconds=0, max_share=float("inf"))


def run(
    learners: dict[str, Any], checkpoints: Checkpoints | None = None, n_calls: int | None = None
) -> dict[str, Fitted]:
    """Fit, broken off by hand in a call of some learner's partial_fit if `n_calls` says so."""
    if n_calls is not None:
        first = next(iter(learners.values()))
        original, calls = first.partial_fit, iter(range(n_calls))

        def partial_fit(batch: harness.Batch) -> None:
            original(batch)
            if next(calls, None) is None:
                raise KeyboardInterrupt

        first.partial_fit = partial_fit
    return fit_together(learners, stream_of(X), CPU, checkpoints=checkpoints)


def tensors(fitted: Fitted) -> dict[str, torch.Tensor]:
    assert fitted.decomposition is not None, fitted.traceback
    return fitted.decomposition.state()[0]


@pytest.mark.parametrize("name", KINDS)
def test_a_fit_broken_off_twice_ends_as_unbroken(name: str, tmp_path: Path) -> None:
    unbroken = run({name: sae(name)})[name]
    for n_calls in (7, 30):  # in the first pass, and in the second
        with pytest.raises(KeyboardInterrupt):
            run({name: sae(name)}, checkpoints_in(tmp_path), n_calls)
    resumed_at: list[int] = []
    last = sae(name)
    original = last.partial_fit
    last.partial_fit = lambda batch: (resumed_at.append(last.step), original(batch))
    resumed = run({name: last}, checkpoints_in(tmp_path))[name]
    assert resumed_at[0] > 20
    assert resumed.rows_seen == unbroken.rows_seen == 4 * len(X)
    expected = tensors(unbroken)
    for key, tensor in tensors(resumed).items():
        assert torch.equal(tensor, expected[key]), key
    assert resumed.decomposition.report() == unbroken.decomposition.report()


def test_learners_beside_it_start_over_and_get_all_they_should(tmp_path: Path) -> None:
    alone = run({"other": OrderSensitive(3, 64)})["other"]
    with pytest.raises(KeyboardInterrupt):
        run({"topk_sae": sae("topk_sae"), "other": OrderSensitive(3, 64)}, checkpoints_in(tmp_path), 30)
    resumed = run({"topk_sae": sae("topk_sae"), "other": OrderSensitive(3, 64)}, checkpoints_in(tmp_path))
    assert resumed["other"].rows_seen == alone.rows_seen
    assert all(torch.equal(tensor, tensors(alone)[key]) for key, tensor in tensors(resumed["other"]).items())


def _changed(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], object]) -> None:
    """Write a checkpoint of which something was changed, as whoever knows its format would: its checksum fits."""
    found = take_up_tensors(path, "")
    assert found is not None
    change(*found)
    save_tensors(path, *found)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def _rename_kind(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    about["skeleton"] = {"objekt": about["skeleton"]["object"]}


def _rename_attribute(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    tensors["strange"] = tensors.pop(next(iter(tensors)))


def _take_of_another(tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    about["standing"]["members"] = [["another", 0]]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"{}" * 50),
        _flip,
        lambda path: save_file({"x": torch.zeros(3)}, path, {"checkpoint": "{}"}),  # an earlier version's
        lambda path: _changed(path, _rename_kind),
        lambda path: _changed(path, _rename_attribute),
        lambda path: _changed(path, _take_of_another),
    ],
)
@pytest.mark.filterwarnings("default:.*checkpoint")
def test_a_checkpoint_of_no_use_is_removed_and_the_fit_begins_anew(
    damage: Callable[[Path], object], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    unbroken = run({"topk_sae": sae("topk_sae")})["topk_sae"]
    with pytest.raises(KeyboardInterrupt):
        run({"topk_sae": sae("topk_sae")}, checkpoints_in(tmp_path), 30)
    path = tmp_path / "topk_sae.checkpoint"
    damage(path)
    told: list[str] = []
    checkpoints = dataclasses.replace(checkpoints_in(tmp_path, told.append), every_seconds=60)
    again = run({"topk_sae": sae("topk_sae")}, checkpoints)["topk_sae"]
    assert all(torch.equal(tensor, tensors(unbroken)[key]) for key, tensor in tensors(again).items())
    assert again.decomposition is not None and again.decomposition.report() == unbroken.decomposition.report()  # type: ignore[union-attr]
    (warning,) = [*told, *(str(warning.message) for warning in recwarn.list if "checkpoint" in str(warning.message))]
    assert str(path) in warning and "The fit begins anew." in warning and not path.exists()


def test_a_checkpoint_that_can_not_be_written_only_warns(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    warned: list[str] = []
    fitted = run({"topk_sae": sae("topk_sae")}, checkpoints_in(tmp_path / "file", warned.append))["topk_sae"]
    assert fitted.error is None
    assert warned and "no checkpoint" in warned[0]


def test_killed_while_it_writes(tmp_path: Path, warm_popen: type[subprocess.Popen]) -> None:
    """SIGKILL in the middle of writing leaves the checkpoint before it."""
    script = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import harness.capturing.activations
harness.capturing.activations.BLOCK_ROWS = 90
import harness.storage.tensor_files as files, tests.fitting.test_checkpoints as t
from pathlib import Path
written, save = [], files.save_file
def save_then_die(tensors, path, metadata):
    save(tensors, path, metadata)
    written.append(path)
    if len(written) == 12:
        Path(path).write_bytes(Path(path).read_bytes()[:999])
        os.kill(os.getpid(), signal.SIGKILL)
files.save_file = save_then_die
t.run({"topk_sae": t.sae("topk_sae")}, t.checkpoints_in(Path(sys.argv[2])))
"""
    command = [sys.executable, "-P", "-c", script, str(Path(__file__).parents[2]), str(tmp_path)]
    assert warm_popen(command).wait() == -signal.SIGKILL
    unbroken, checkpoints = run({"topk_sae": sae("topk_sae")})["topk_sae"], checkpoints_in(tmp_path)
    assert checkpoints.load("topk_sae") is not None
    resumed = run({"topk_sae": sae("topk_sae")}, checkpoints)["topk_sae"]
    assert all(torch.equal(tensor, tensors(unbroken)[key]) for key, tensor in tensors(resumed).items())


@pytest.mark.parametrize(("names", "is_used"), [("ab", True), ("a", False), ("abc", False), ("ac", False)])
def test_a_checkpoint_of_a_stack_is_for_the_same_learners(names: str, is_used: bool, tmp_path: Path) -> None:
    alone = run({"a": Stackable(3, 64)})["a"]
    calls = iter(range(20))

    def touch(batch: harness.Batch) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"a": Stackable(3, 64, touch), "b": Stackable(3, 64)}, checkpoints_in(tmp_path))
    batches: list[harness.Batch] = []
    told: list[str] = []
    again = run(
        {name: Stackable(3, 64, batches.append if name == "a" else _leave) for name in names},
        checkpoints_in(tmp_path, told.append),
    )
    assert (len(batches) < 3 * 11) == is_used
    assert ["taken of other learners" in text for text in told] == [True] * (names in ("abc", "ac"))
    for fitted in again.values():
        assert torch.equal(tensors(fitted)["offset"], tensors(alone)["offset"])
        assert fitted.rows_seen == 3 * len(X)


def test_a_checkpoint_of_a_stack_is_for_the_same_seeds(tmp_path: Path) -> None:
    calls = iter(range(20))

    def touch(batch: harness.Batch) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    streams = {seed: stream_of(X, seed=seed) for seed in (0, 1)}
    made = {"a": Stackable(3, 64, touch), "b": Stackable(3, 64)}
    with pytest.raises(KeyboardInterrupt):
        fit_together(made, {"a": streams[0], "b": streams[1]}, CPU, checkpoints=checkpoints_in(tmp_path))
    for seeds, is_used in (((0, 0), False), ((0, 1), True)):
        batches: list[harness.Batch] = []
        again = {"a": Stackable(3, 64, batches.append), "b": Stackable(3, 64)}
        of_each = {name: streams[seed] for name, seed in zip(again, seeds, strict=True)}
        kept = {path: path.read_bytes() for path in tmp_path.iterdir()}
        fitted = fit_together(again, of_each, CPU, checkpoints=checkpoints_in(tmp_path, lambda text: None))
        for path, content in kept.items():
            path.write_bytes(content)
        assert (len(batches) < 3 * 11) == is_used
        for name, seed in zip(again, seeds, strict=True):
            alone = fit_together({"a": Stackable(3, 64)}, streams[seed], CPU)["a"]
            assert torch.equal(tensors(fitted[name])["offset"], tensors(alone)["offset"])


def _leave(batch: harness.Batch) -> None:
    pass


@dataclasses.dataclass
class Inner:
    weight: torch.Tensor
    names: list[str]
    steps: dict[int, float]


class Holder:
    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.inner = Inner(torch.randn(3, generator=self.generator), ["a"] * seed, {seed: 1.5})
        self.same = self.inner.weight
        self.several = [Inner(torch.full((2,), float(seed)), [], {}), seed]
        self.module = torch.nn.Linear(2, 2)
        self.device, self.function = CPU, len
        self.itself = self


def test_a_snapshot_follows_attributes() -> None:
    one, other = Holder(1), Holder(2)
    shared, second = other.same, other.several[0]
    Snapshot.of(one).restore(other)
    assert other.inner == Inner(other.inner.weight, ["a"], {1: 1.5})
    assert torch.equal(other.inner.weight, one.inner.weight)
    assert other.inner.weight is other.same is shared  # written into, since it has two names
    assert torch.equal(other.module.weight, one.module.weight)
    assert other.several[0] is second and second.weight.tolist() == [1.0, 1.0] and other.several[1] == 1
    assert torch.rand(1, generator=other.generator) == torch.rand(1, generator=one.generator)
    assert other.itself is other


def test_a_snapshot_needs_the_objects_of_start() -> None:
    one, other = Holder(1), Holder(2)
    other.inner = None  # type: ignore[assignment]
    with pytest.raises(harness.PluginError, match=r"makes all its objects in start\(\)"):
        Snapshot.of(one).restore(other)
