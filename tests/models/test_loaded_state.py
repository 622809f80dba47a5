from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from harness.plugins.models.loaded_state import LoadedState


class _Config:
    attention = "sparse"


class _Changing(nn.Module):
    """A module that changes all that a forward pass can."""

    table: Tensor
    other: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.config = _Config()
        self.config.__dict__["attention"] = "sparse"
        self.kind, self.cache = "sparse", None
        self.inner = nn.Linear(2, 2)
        self.register_buffer("table", torch.arange(3.0))
        self.register_buffer("other", torch.arange(3.0))

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[1]
        self.kind = self.config.__dict__["attention"] = "full"
        self.cache, self.n_seen = torch.ones(n), n
        self.inner = nn.Identity()
        self.table.mul_(n)
        self.register_buffer("other", torch.zeros(n))
        self.register_buffer("late", torch.zeros(n))
        return x


def test_all_that_a_pass_changed_is_undone() -> None:
    model: Any = _Changing()
    weight, table, other, inner = model.inner.weight, model.table, model.other, model.inner
    state = LoadedState(model)
    assert state.changes() == []
    for n in (2, 5):
        model(torch.zeros(1, n))
        changed = state.changes()
        assert {name for _, name, _ in changed} == {
            *("attention", "kind", "cache", "n_seen", "inner", "table", "other", "late")
        }
        assert [value for _, name, value in changed if name == "table"] == [[0.0, float(n), 2.0 * n]]
        state.restore()
        assert state.changes() == []
        assert (model.kind, model.cache, model.config.attention) == ("sparse", None, "sparse")
        assert model.inner is inner and model.inner.weight is weight and model.table is table and model.other is other
        assert table.tolist() == [0, 1, 2] and not hasattr(model, "n_seen") and not hasattr(model, "late")


def test_hooks_and_weights_are_no_state() -> None:
    model = _Changing()
    state = LoadedState(model)
    handle = model.register_forward_hook(lambda *_: None)
    with torch.no_grad():
        model.inner.weight.fill_(7)
    state.restore()
    assert len(model._forward_hooks) == 1 and (model.inner.weight == 7).all()
    handle.remove()
