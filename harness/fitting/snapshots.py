"""The state of a learner at one moment, from which another, freshly started, can go on with the same results.

A snapshot follows attributes through objects, lists and dicts. Numbers, strings and tensors are taken; of anything
that has `state_dict` and `load_state_dict` (an optimiser), that; and the state of random generators. The rest, such as
devices and functions, is left as `start` made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from harness.errors import PluginError


@runtime_checkable
class _HasState(Protocol):
    """An object that takes and gives its own state: an optimiser, say."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Any, /) -> object: ...


@dataclass
class Snapshot:
    """A learner's state: its tensors by name, and a JSON `skeleton` that holds all else and names the tensors."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    skeleton: Any = None

    @classmethod
    def of(cls, learner: object) -> Snapshot:
        snapshot = cls()
        snapshot.skeleton = snapshot._take(learner, "", [])
        return snapshot

    def restore(self, learner: object) -> None:
        """Give a learner that has just been started what this one held.

        Raises:
            PluginError: it is no snapshot of such a learner, which has to be started again: its attributes are as
                before, but tensors in them may hold other numbers.
        """
        before = dict(vars(learner))
        try:
            self._give(self.skeleton, learner)
        except Exception as error:  # whatever a skeleton of something else leads to, or a plugin's load_state_dict
            vars(learner).clear()
            vars(learner).update(before)
            if isinstance(error, PluginError):
                raise
            raise PluginError(f"it does not fit a {type(learner).__name__}: {error!r}") from error

    def _take(self, value: Any, path: str, parents: list[object]) -> Any:
        if isinstance(value, (type(None), bool, int, float, str)):
            return {"value": value}
        if isinstance(value, torch.Generator):
            return {"generator": self._keep(value.get_state(), path)}
        if isinstance(value, Tensor):
            return {"tensor": self._keep(value.detach(), path)}
        if any(value is parent for parent in parents):
            return {"kept": None}
        parents = [*parents, value]
        if isinstance(value, (list, tuple)):
            items = [self._take(item, f"{path}.{i}", parents) for i, item in enumerate(value)]
            return {"tuple" if isinstance(value, tuple) else "list": items}
        if isinstance(value, Mapping):
            return {"dict": [[key, self._take(item, f"{path}.{key}", parents)] for key, item in value.items()]}
        if isinstance(value, _HasState):
            return {"state": self._take(value.state_dict(), path, parents)}
        if hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
            attributes = vars(value).items()
            return {"object": {name: self._take(item, f"{path}.{name}", parents) for name, item in attributes}}
        return {"kept": None}

    def _keep(self, tensor: Tensor, path: str) -> str:
        self.tensors[path] = tensor
        return path

    def _give(self, skeleton: Mapping[str, Any], current: Any) -> Any:
        """Give what takes the place of `current`. Tensors of the same shape are written into: others may share them."""
        ((kind, content),) = skeleton.items()
        if kind == "value":
            return content
        if kind == "tensor":
            return _write(self.tensors[content], current)
        if kind in ("list", "tuple"):
            has_items = isinstance(current, (list, tuple)) and len(current) == len(content)
            items = list(map(self._give, content, current if has_items else [None] * len(content)))
            return tuple(items) if kind == "tuple" else items
        if kind == "dict":
            return {key: self._give(item, None) for key, item in content}
        if kind == "generator":
            current.set_state(self.tensors[content])
        elif kind == "state":
            current.load_state_dict(self._give(content, None))
        elif kind == "object":
            if not hasattr(current, "__dict__"):
                raise PluginError(f"a resumable learner makes all its objects in start(), but had {current!r} there.")
            vars(current).update({name: self._give(item, vars(current).get(name)) for name, item in content.items()})
        elif kind != "kept":
            raise PluginError(f"it holds something of the kind {kind!r}, of which no snapshot knows.")
        return current


def _write(stored: Tensor, current: Any) -> Tensor:
    if isinstance(current, Tensor) and current.shape == stored.shape and current.dtype == stored.dtype:
        with torch.no_grad():
            return current.copy_(stored)
    return stored.clone()
