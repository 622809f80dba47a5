"""Placement of a model that is larger than memory: weights on accelerators first, then in memory, then on disk."""

from __future__ import annotations

import shutil
import uuid
import warnings
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import remove_hook_from_module
from accelerate.utils import get_max_memory
from filelock import BaseFileLock, Timeout
from torch import nn

from harness import StoreError, cache_folder, file_lock, owned_lock
from harness.plugins.models import HFConfig


class Placement:
    """Options of `from_pretrained`, none for a model that lies in one place. Its files on disk are deleted with it.

    Weights are read from the checkpoint whenever they are used. Only those are written anew that are not there as the
    model wants them, such as experts that it keeps merged.
    """

    def __init__(self, config: HFConfig, device_type: str) -> None:
        self.options: dict[str, Any] = {}
        if config.device_map is None:
            return
        max_memory = get_max_memory()
        if device_type == "cpu":
            max_memory = {"cpu": max_memory["cpu"]}
        if config.max_memory_gb is not None:
            max_memory["cpu"] = int(config.max_memory_gb * 1e9)
        root = cache_folder() / "offload"
        try:
            folder, lock = _make_folder(root)
        except OSError as error:
            raise StoreError(
                f"weights that do not fit into memory go to {root}, where nothing can be made: {error.strerror}. Give "
                "another cache, $HARNESS_CACHE, or no device_map."
            ) from error
        weakref.finalize(self, _delete, folder, lock)
        self.options = {"device_map": config.device_map, "max_memory": max_memory, "offload_folder": str(folder)}


def load_as_nan(module: nn.Module) -> None:
    """Bring a module's own weights in from disk as NaN: where one of them is missing, it can't be read when used."""
    hook: Any = module._hf_hook  # accelerate puts it there
    device = hook.execution_device
    for name, weight in list(module.named_parameters(recurse=False)):
        setattr(module, name, nn.Parameter(torch.full_like(weight, torch.nan, device=device), requires_grad=False))
    remove_hook_from_module(module)


def _make_folder(root: Path) -> tuple[Path, BaseFileLock]:
    """Make a folder and hold its lock. Folders that killed processes left, whose lock nobody holds, are deleted."""
    root.mkdir(parents=True, exist_ok=True)
    with owned_lock(root / "making", warnings.warn):
        for path in root.glob("*.lock"):
            with suppress(Timeout, OSError), file_lock(path).acquire(timeout=0):  # in use, or another user's
                shutil.rmtree(path.with_suffix(""), ignore_errors=True)
                path.unlink()
        folder = root / uuid.uuid4().hex
        lock = file_lock(folder.with_suffix(".lock"))
        lock.acquire()
    folder.mkdir()
    return folder, lock


def _delete(folder: Path, lock: BaseFileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
