"""Learners that learn from rows as these are captured learn what they would from stored rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch

import harness
from harness.capturing import activations
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.model import Capture
from harness.errors import StoreError
from harness.fitting import clocks
from harness.fitting.flow import Flow
from harness.fitting.together import Fitted, fit_in_steps, fit_together, in_step
from harness.storage.activation_store import StoredActivations, write_shard
from tests.fitting.test_checkpoints import checkpoints_in, sae
from tests.support.parts import OrderSensitive, Stackable, rows_of_text

CPU, N, D = torch.device("cpu"), 700, 12
ROWS = rows_of_text(N)
CHUNKS = list(torch.arange(N).split(90))
SITES = {
    "resid_post.0": (torch.randn(N, D, generator=torch.Generator().manual_seed(0)), torch.arange(N)[::2]),
    "resid_post.1": (torch.randn(N, D, generator=torch.Generator().manual_seed(1)), torch.arange(N)[5:]),
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "BLOCK_ROWS", 30)


class Texts:
    """Texts that give the rows above; it counts the chunks that were read."""

    def __init__(self, n_rows: int = N) -> None:
        self.n_readings, self.run, self.rows, self.factor = 0, [], ROWS[:n_rows], 1.0

    def read(self, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, Capture]]:
        self.n_readings += 1
        for number, places in enumerate(CHUNKS):
            places = places[places < len(self.rows)]
            if len(places) and is_wanted(number):
                self.run.append(number)
                rows = self.rows.iloc[places.numpy()].reset_index(drop=True)
                yield number, Capture({site: self.factor * x[places] for site, (x, _) in SITES.items()}, rows)


@pytest.fixture
def captured(tmp_path: Path) -> dict[str, StoredActivations]:
    found = {}
    for site, (x, _) in SITES.items():
        folder = tmp_path / site
        folder.mkdir()
        for number, places in enumerate(CHUNKS):
            part = ROWS.iloc[places.numpy()].reset_index(drop=True)
            write_shard(folder, number, x[places], part, store_rows=False)
        files = {path.name: {} for path in folder.iterdir()}
        manifest = {"n_rows": N, "width": D, "files": files, "rows_stored": False}
        found[site] = StoredActivations(folder, manifest)
    return found


def learners() -> dict[str, Any]:
    return {
        "plain": OrderSensitive(1, 64),
        "three passes": OrderSensitive(3, 77),
        "stacked": Stackable(2, 50),
        "stacked too": Stackable(2, 50),
        "sae": sae("topk_sae"),
    }


def streams(of: Any, keep: torch.Tensor, within: int | None) -> dict[str, Stream]:
    of_seed = [Stream(of, keep, seed, shuffle_characters=within) for seed in (0, 1)]
    seeds = {"asks": 0, "too": 0, "plain": 0, "three passes": 1, "stacked": 0, "stacked too": 1, "sae": 1}
    return {name: of_seed[seed] for name, seed in seeds.items()}


def wanted(within: int | None) -> list[dict[str, Fitted]]:
    return [
        fit_together(learners(), streams(TensorActivations(x, ROWS), keep, within), CPU) for x, keep in SITES.values()
    ]


def passing(
    captured: dict[str, StoredActivations],
    texts: Any,
    within: int | None,
    folder: Path,
    max_bytes: float = 1e9,
    of: Callable[[], dict[str, Any]] = learners,
    **checkpoints: Any,
) -> list[dict[str, Fitted]]:
    flow, fits = Flow(texts.read, captured, max_bytes), []
    for site, (_, keep) in SITES.items():
        mine = {f"{name} {site}": learner for name, learner in of().items()}
        of_name = streams(captured[site], keep, within)
        own = {f"{name} {site}": of_name[name] for name in of()}
        supply_of = {}
        for seed, stream in enumerate({id(one): one for one in own.values()}.values()):
            supply_of[id(stream)] = flow.supply(site, stream, CPU, folder / f"{site}-{seed}")
        fits.append(fit_in_steps(mine, own, supply_of, CPU, **checkpoints))
    return [
        {name.removesuffix(f" {site}"): fitted for name, fitted in found.items()}
        for site, found in zip(SITES, in_step(fits, lambda *told: None), strict=True)
    ]


def assert_equal(found: list[dict[str, Fitted]], expected: list[dict[str, Fitted]]) -> None:
    for one, other in zip(found, expected, strict=True):
        for name, fitted in one.items():
            assert fitted.decomposition is not None, fitted.traceback
            state = other[name].decomposition.state()[0]  # type: ignore[union-attr]
            for key, tensor in fitted.decomposition.state()[0].items():
                assert torch.equal(tensor, state[key]), (name, key)
            assert fitted.rows_seen == other[name].rows_seen and fitted.n_stacked == other[name].n_stacked


@pytest.mark.parametrize("within", [None, 450])
@pytest.mark.parametrize("max_bytes", [1e9, 4 * 240 * D * 4])
def test_learners_of_all_sites_learn_what_they_would_from_stored_rows(
    captured: dict[str, StoredActivations], tmp_path: Path, within: int | None, max_bytes: float
) -> None:
    texts = Texts()
    assert_equal(passing(captured, texts, within, tmp_path, max_bytes), wanted(within))
    # One for the mean, which the SAE asks for, and one for each of its four passes; more where rows don't fit.
    assert texts.n_readings == (15 if max_bytes < 1e9 and within is None else 5)


def test_the_time_of_a_mean_is_no_single_learners(
    captured: dict[str, StoredActivations], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(clocks, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: 0.0))

    class Asks(OrderSensitive):
        def start(self, info: harness.Info) -> None:
            info.mean()
            super().start(info)

    class Slow(Texts):
        def read(self, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, Capture]]:
            for number, chunk in super().read(is_wanted):
                now[0] += 1
                yield number, chunk

    (one, _) = passing(captured, Slow(), 300, tmp_path, of=lambda: {"asks": Asks(), "too": Asks()})
    assert now[0] == 16 and one["asks"].fit_seconds == one["too"].fit_seconds == 0


def test_rows_of_one_pass_are_read_once(captured: dict[str, StoredActivations], tmp_path: Path) -> None:
    texts = Texts()
    one = lambda: {"plain": OrderSensitive(1, 64)}  # noqa: E731
    passing(captured, texts, 300, tmp_path, 4 * 100 * D * 4, one)
    assert texts.run == list(range(len(CHUNKS)))
    assert not [path for path in tmp_path.iterdir() if path.name not in SITES]  # no mean was asked for


def test_a_fit_broken_off_goes_on_where_it_stood(captured: dict[str, StoredActivations], tmp_path: Path) -> None:
    def saes() -> dict[str, Any]:
        return {"sae": sae("topk_sae")}

    class Breaks(Texts):
        def read(self, is_wanted: Callable[[int], bool]) -> Iterator[tuple[int, Capture]]:
            for number, chunk in super().read(is_wanted):
                yield number, chunk
                if self.n_readings == 3 and number == 5:  # the mean, the first pass, and most of the second
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        passing(captured, Breaks(), 300, tmp_path, of=saes, checkpoints=checkpoints_in(tmp_path))
    texts = Texts()
    found = passing(captured, texts, 300, tmp_path, of=saes, checkpoints=checkpoints_in(tmp_path))
    assert_equal(found, wanted(300))
    assert texts.run[0] > 2 and texts.n_readings == 3  # the rest of the second pass, and two more; the mean is known


def test_other_texts_or_another_model_are_refused(captured: dict[str, StoredActivations], tmp_path: Path) -> None:
    def failure(texts: Texts) -> str:
        with pytest.raises(StoreError) as raised:
            passing(captured, texts, 300, tmp_path, of=lambda: {"plain": OrderSensitive()})
        return str(raised.value)

    other = Texts()
    other.rows = other.rows.assign(document=["doc" + str(99 - i // 50) for i in range(N)])
    assert "other texts" in failure(other)
    assert "no longer gives rows" in failure(Texts(450))
    louder = Texts()
    louder.factor = 1.01
    assert "other activations" in failure(louder)


def test_rows_that_are_not_stored_can_not_be_read(captured: dict[str, StoredActivations]) -> None:
    activations_ = captured["resid_post.0"]
    assert not activations_.has_rows and activations_.n_rows == len(activations_.norms) == N
    pd.testing.assert_frame_equal(activations_.rows, ROWS)
    with pytest.raises(StoreError, match="store_rows=false"):
        activations_.take(torch.arange(3))
