"""Files of tensors that a later run takes up, such as checkpoints: each with a checksum of all that is read of it."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from harness.errors import StoreError
from harness.files import follow_umask, set_aside, writing

_ABOUT, _CHECKSUM = "about", "sha256"


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Any) -> None:
    """Write tensors, and JSON about them, to a file that appears whole; `take_up_tensors` reads it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    # Clones: names may share memory, which safetensors refuses.
    held = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    described = json.dumps(about)
    with writing(path):
        save_file(held, partial, {_ABOUT: described, _CHECKSUM: _checksum(path.name, held, described)})
        follow_umask(partial)
        partial.replace(path)


def take_up_tensors(path: Path, otherwise: str) -> tuple[dict[str, Tensor], Any] | None:
    """The tensors of a file, and what is known about them; None where there is none.

    One that is damaged, or was written under another name, is of no use to anybody: a warning says so, and it is
    removed.

    Args:
        path: of the file.
        otherwise: what happens without it, for the warning.
    """
    try:
        return _read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, StoreError) as error:
        warnings.warn(f"{path} {error}, and is removed. {otherwise}", stacklevel=2)
        with suppress(OSError):  # another user's
            set_aside(path) if path.is_dir() else path.unlink()
        return None


def tensors_damages(path: Path) -> Iterator[str]:
    """The damage to a file of tensors, naming it, if there is one."""
    try:
        _read(path)
    except (OSError, StoreError) as error:
        yield f"{path} {error}"


def _read(path: Path) -> tuple[dict[str, Tensor], Any]:
    try:
        with safe_open(path, framework="pt") as file:
            known = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except SafetensorError as error:
        raise StoreError(f"is corrupt ({error})") from error
    if _CHECKSUM not in known:
        raise StoreError("has no checksum, as an earlier version wrote it")
    described = known.get(_ABOUT, "")
    if known[_CHECKSUM] != _checksum(path.name, tensors, described):
        raise StoreError("is corrupt, or was written under another name (its checksum differs)")
    return tensors, json.loads(described)


def _checksum(name: str, tensors: Mapping[str, Tensor], described: str) -> str:
    """The sha256 of all that is read of a file, and of its name."""
    found = hashlib.sha256(f"{name}\n{described}\n".encode())
    for key in sorted(tensors):
        tensor = tensors[key]
        found.update(f"{key} {tensor.dtype} {list(tensor.shape)}\n".encode())
        if tensor.numel():  # without entries there may be no stride to view bytes by
            found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
