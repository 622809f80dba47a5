"""A learner for which a card has no room fails with what would fit, and leaves the room to the others."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.rows import bare_rows
from harness.errors import OutOfMemory
from harness.fitting import feed
from harness.fitting.room import Memory, explained, memory_of
from harness.fitting.together import fit_together

GB = 10**9
SCARCE = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.50 GiB. GPU 0 has ...")


@pytest.mark.parametrize(
    ("memory", "fits"),
    [
        (Memory(80 * GB, 40 * GB, 120 * GB), "batch_rows of 2048 or fewer would fit"),
        (Memory(80 * GB, 40 * GB, 121 * GB), "batch_rows of 1024 or fewer would fit"),
        (Memory(80 * GB, 40 * GB, 79 * GB), "batch_rows of 2048 or fewer would fit"),  # so much fits, but did not
        (Memory(80 * GB, 80 * GB, 81 * GB), "No batch would fit: it takes fewer latents"),
    ],
)
def test_what_would_fit_is_told(memory: Memory, fits: str) -> None:
    told = explained(SCARCE, "TopKSAE", 4096, memory)
    assert isinstance(told, OutOfMemory) and told.__cause__ is SCARCE
    assert str(told).startswith(f"TopKSAE: a batch of 4096 rows needs {memory.wanted / GB:.3g} GB or more")
    assert fits in str(told)


def test_memory_is_read_from_the_card_and_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = {"memory_reserved": 50, "memory_allocated": 30, "max_memory_allocated": 45}
    for name, value in numbers.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (7, 999))
    assert memory_of(torch.device("cuda"), SCARCE) == Memory(57, 30, 45 + 3 * 2**29)
    assert memory_of(torch.device("cuda"), torch.OutOfMemoryError("no words")).wanted == 45


class Large:
    """Holds a tensor in a local variable when memory ends."""

    passes, batch_rows = 1, 8
    held: Any = None

    def start(self, info: harness.Info) -> None: ...

    def partial_fit(self, batch: harness.Batch) -> None:
        large = torch.zeros(1000)
        Large.held = weakref.ref(large)
        raise SCARCE

    def finish(self) -> harness.Decomposition:
        raise AssertionError


def test_a_learner_without_room_fails_alone_and_holds_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "memory_of", lambda device, error: Memory(8 * GB, 2 * GB, 14 * GB))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    x = torch.randn(64, 4)
    stream = Stream(TensorActivations(x, bare_rows(64)), torch.arange(64), 0)
    fitted = fit_together({"large": Large(), "mean": harness.create("method", "mean")}, stream, torch.device("cpu"))
    told = fitted["large"].error
    assert isinstance(told, OutOfMemory) and "Large: a batch of 8 rows needs 14 GB or more" in str(told)
    assert "batch_rows of 4 or fewer would fit" in str(told) and "raise SCARCE" in fitted["large"].traceback
    assert Large.held() is None
    assert fitted["mean"].decomposition is not None and fitted["mean"].rows_seen == 64
