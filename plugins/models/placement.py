"""Where the weights of a model lie that is larger than memory: on accelerators first, then in memory, then on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from typing import Any

from accelerate.utils import get_max_memory

from harness import cache_folder
from plugins.models import HFConfig


def place(config: HFConfig, device_type: str, owner: object) -> dict[str, Any]:
    """Options of `from_pretrained`; what it must write to disk is deleted together with `owner`."""
    if config.device_map is None:
        return {}
    max_memory = get_max_memory()
    if device_type == "cpu":
        max_memory = {"cpu": max_memory["cpu"]}
    if config.max_memory_gb is not None:
        max_memory["cpu"] = int(config.max_memory_gb * 1e9)
    cache_folder().mkdir(parents=True, exist_ok=True)
    folder = tempfile.mkdtemp(prefix="offload-", dir=cache_folder())
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return {"device_map": config.device_map, "max_memory": max_memory, "offload_folder": folder}
