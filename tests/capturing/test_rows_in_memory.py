"""Batches follow the device, are halved where they do not fit, and leave the rows as they are but for rounding."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import pandas as pd
import pytest
import torch

import harness
from harness.capturing import chunks
from harness.capturing.chunks import BATCH_WINDOWS, batches
from harness.capturing.halving import Halving
from harness.capturing.rows_in_memory import runs_on_card
from tests.support.tiny_models import TEXTS, save_tiny_model

SITES = ["resid_post.0", "mlp_out.1"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return harness.create("model", "hf", path=str(save_tiny_model("gpt2", tmp_path_factory.mktemp("gpt2"))))


@pytest.fixture
def sizes(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """The shapes of the batches that the model gets."""
    found: list[tuple[int, int]] = []
    own = model.activations
    monkeypatch.setattr(model, "activations", lambda ids, *rest: found.append(tuple(ids.shape)) or own(ids, *rest))
    yield found


def test_batches_of_a_card_are_as_large_as_a_number_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [5, 9, 1, 9, 2] * 20
    on_cpu, on_card = (list(batches(lengths, is_card=is_card)) for is_card in (False, True))
    assert [len(batch) for batch in on_cpu] == [BATCH_WINDOWS] * 6 + [4]
    assert on_card == [sorted(range(100), key=lengths.__getitem__)]
    monkeypatch.setattr(chunks, "_CARD_BATCH_TOKENS", 60)
    on_card = list(batches(lengths, is_card=True))
    assert [*chain(*on_card)] == [*chain(*on_cpu)] and all(len(b) * lengths[b[-1]] <= 60 for b in on_card)
    assert [len(batch) for batch in on_card[:2]] == [30, 12] and list(batches([99], is_card=True)) == [[0]]
    assert list(batches([], is_card=True)) == []


def test_a_model_says_where_it_computes(model: Any) -> None:
    class Elsewhere:
        device = torch.device("cuda", 3)

    assert isinstance(model, harness.HasDevice) and not runs_on_card(model)
    assert runs_on_card(Elsewhere()) and not runs_on_card(object())


def test_rows_of_other_batches_agree(model: Any, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    small = harness.capture(model, TEXTS * 6, SITES, context=16)
    n_small = len(sizes)
    monkeypatch.setattr("harness.capturing.capture.runs_on_card", lambda model: True)
    large = harness.capture(model, TEXTS * 6, SITES, context=16)
    assert len(sizes) - n_small < n_small / 2 and max(n for n, _ in sizes) > BATCH_WINDOWS
    pd.testing.assert_frame_equal(small.rows, large.rows)
    for site in SITES:
        error, norm = (small.x[site] - large.x[site]).norm(dim=1), small.x[site].norm(dim=1)
        assert (error <= torch.finfo(torch.float32).eps ** 0.6 * norm).all()


def test_what_does_not_fit_is_halved(model: Any, sizes: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = harness.capture(model, TEXTS * 2, SITES, context=16)
    noted = model.activations
    tried: list[int] = []

    def scarce(ids: torch.Tensor, *rest: Any) -> Any:
        tried.append(len(ids))
        if len(ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return noted(ids, *rest)

    monkeypatch.setattr(model, "activations", scarce)
    found = harness.capture(model, TEXTS * 2, SITES, context=16)
    assert tried[:4] == [16, 8, 4, 4] and max(tried[2:]) == 4  # a batch that did not fit is not tried again
    pd.testing.assert_frame_equal(found.rows, expected.rows)
    for site in SITES:
        torch.testing.assert_close(found.x[site], expected.x[site], rtol=1e-5, atol=1e-5)


def test_a_single_window_that_does_not_fit_is_an_error() -> None:
    def none_fits(part: Any) -> None:
        raise torch.OutOfMemoryError(f"no room for {len(part)}")

    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        list(Halving().run([1, 2, 3], none_fits))
    with pytest.raises(ZeroDivisionError):
        list(Halving().run([0, 0], lambda part: 1 / part[0]))
