"""State of a model besides its weights: as it was loaded, and given back before every forward pass.

Some models change as they run: rotary tables are made anew for a long window, attention goes over to another kind at a
short one and stays there. A window's rows are to be those of a model that was just loaded, whatever ran before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Change: TypeAlias = tuple[int, str, Any]
"""Number of an owner of attributes, name of one of them, and the value that differs from the loaded one."""

# Hooks are put on and taken off again by whoever runs the model; its calls may be stubbed meanwhile.
_NOT_STATE = vars(nn.Module()).keys() | {"forward"}
_ABSENT = object()


class LoadedState:
    """Attributes, buffers, submodules and settings of all modules of a model, as they are when this is made."""

    def __init__(self, model: nn.Module) -> None:
        owners = [values for module in model.modules() for values in _owners(module)]
        distinct = {id(values): values for values in owners}
        self._loaded = [(values, _state_of(values)) for values in distinct.values()]
        tensors = [value for _, loaded in self._loaded for value in loaded.values() if isinstance(value, Tensor)]
        self._written = {id(tensor): (tensor._version, tensor.clone()) for tensor in tensors if not tensor.is_meta}

    def restore(self) -> None:
        """Undo all changes."""
        for values, loaded in self._loaded:
            for name, value in loaded.items():
                if values.get(name, _ABSENT) is not value:
                    values[name] = value
                if isinstance(value, Tensor) and self._is_written(value):
                    value.copy_(self._written[id(value)][1])
                    self._written[id(value)] = value._version, self._written[id(value)][1]
            for name in _state_of(values).keys() - loaded.keys():
                del values[name]

    def changes(self) -> list[Change]:
        """All that differs from the loaded state, in an order of its own; tensors as lists of numbers."""
        return [
            (number, name, _plain(value))
            for number, (values, loaded) in enumerate(self._loaded)
            for name, value in sorted(_state_of(values).items())
            if loaded.get(name, _ABSENT) is not value or (isinstance(value, Tensor) and self._is_written(value))
        ]

    def _is_written(self, tensor: Tensor) -> bool:
        """True if a loaded tensor holds other numbers than when it was loaded."""
        if id(tensor) not in self._written:
            return False
        version, values = self._written[id(tensor)]
        return tensor._version != version and not torch.equal(tensor, values)


def _owners(module: nn.Module) -> Iterator[dict[str, Any]]:
    """The dictionaries that hold a module's state."""
    yield vars(module)
    yield module._buffers
    yield module._modules
    config = getattr(module, "config", None)
    if config is not None and hasattr(config, "__dict__"):
        yield vars(config)


def _state_of(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in _NOT_STATE}


def _plain(value: Any) -> Any:
    """A value that equal states share: numbers, or the class of what is no number."""
    if isinstance(value, Tensor):
        return value.tolist()
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__
