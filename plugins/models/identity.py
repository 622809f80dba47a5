"""What a model's results depend on, for keys: contents, not paths, and never the device. Imports no torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import file_digest
from plugins.models import HFConfig, PackagedConfig, RandomWeightsConfig, StoredConfig
from plugins.models.packages import PACKAGES

_MODEL_FILES = (".safetensors", ".json", ".txt", ".model")


def hf(config: HFConfig) -> dict[str, Any]:
    """The contents of a folder or file; for a model on the hub its id and revision."""
    path = Path(config.path).expanduser()
    if path.is_file():
        return {"file": file_digest(path), "dtype": config.dtype}
    if path.is_dir():
        return {"files": _digests(path, _MODEL_FILES), "dtype": config.dtype}
    return {"path": config.path, "revision": config.revision, "dtype": config.dtype}


def packaged(config: PackagedConfig) -> dict[str, Any]:
    """The package and the version that is asked for."""
    return {"package": PACKAGES[config.name].requirement, "dtype": config.dtype}


def stored(config: StoredConfig) -> dict[str, Any]:
    """The contents of the folder."""
    return {"files": _digests(Path(config.path).expanduser(), (".safetensors", ".npy", ".parquet", ".csv", ".json"))}


def random_weights(config: RandomWeightsConfig) -> dict[str, Any]:
    """All parameters but the device; they give the shape too."""
    return {name: value for name, value in asdict(config).items() if name != "device"}


def _digests(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.glob("*")) if path.suffix in suffixes}
