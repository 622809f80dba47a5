"""Identities and shapes of models, which a plan needs without loading them. Imports no torch.

Results depend on contents, not on paths, and never on the device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from harness import ConfigError, file_digest
from harness.plugins.corpora import PackagedConfig as PackagedCorpusConfig
from harness.plugins.corpora.packaged import identity as corpus_identity
from harness.plugins.models import (
    SEEDLING_VERSION,
    HFConfig,
    PackagedConfig,
    RandomWeightsConfig,
    SeedlingConfig,
    StoredConfig,
    SuperpositionConfig,
)
from harness.plugins.models.packages import PACKAGES
from harness.plugins.models.parameter_counts import random_weights_numbers, seedling_numbers, stored_numbers
from harness.plugins.models.sizes import shape_of

_MODEL_FILES = (".safetensors", ".json", ".txt", ".model")
ADAPTER_CONFIG = "adapter_config.json"
_STORED_FILES = (".safetensors", ".npy", ".parquet", ".csv", ".json")


def hf_identity(config: HFConfig) -> dict[str, Any]:
    """The contents of a folder or file; for a model on the hub its id and revision."""
    path = find_local(config.path)
    read: dict[str, Any] = {"dtype": config.dtype, **_drawn(config)}
    if path is None:
        return {"path": config.path, "revision": config.revision, **read}
    if path.is_file():
        return {"file": file_digest(path), **read}
    base = find_base(config)
    # The control of an encoder beside a decoder was once the decoder.
    is_other = config.weights_seed is not None and _has_encoder_and_decoder(path if base is None else Path(base.path))
    read |= {"drawn": 2} if is_other else {}
    return {"files": _digests(path, _MODEL_FILES), **({"base": hf_identity(base)} if base else {}), **read}


def _has_encoder_and_decoder(folder: Path) -> bool:
    file = folder.expanduser() / "config.json"
    return file.is_file() and bool(_read_json(file).get("is_encoder_decoder"))


def find_base(config: HFConfig) -> HFConfig | None:
    """The checkpoint that an adapter's folder names as its base; None where its weights lie in the folder itself."""
    folder = Path(config.path).expanduser()
    if not (folder / ADAPTER_CONFIG).is_file() or _has_weights(folder):
        return None
    adapter = _read_json(folder / ADAPTER_CONFIG)
    path = adapter.get("base_model_name_or_path")
    if not isinstance(path, str) or Path(path).expanduser().resolve() == folder.resolve():
        raise ConfigError(
            f"model hf: {folder / ADAPTER_CONFIG} names no base: base_model_name_or_path is {path!r}. Give the path or "
            "hub id of the model that the adapter belongs to."
        )
    return replace(config, path=path, revision=adapter.get("revision"))


def _has_weights(folder: Path) -> bool:
    """True if there are a model's own weights: a trainer may save its config, too, beside an adapter alone."""
    return any(not path.name.startswith("adapter_") for path in folder.glob("*.safetensors"))


def hf_shape(config: HFConfig) -> dict[str, int] | None:
    """Layers and widths, as the config of a local folder states them under the usual names; else the parameters."""
    path = find_local(config.path)
    base = None if path is None else find_base(config)
    if base is not None:
        return hf_shape(base)
    if path is None or not (path / "config.json").is_file():
        if config.n_layers is None or config.width is None:
            return None
        return {"n_layers": config.n_layers, "width": config.width}
    described = _read_json(path / "config.json")
    # In a wrapper of a text model other towers are stored too.
    shape, n_parameters = shape_of(described), None if "text_config" in described else stored_numbers(path)
    return shape if shape is None or n_parameters is None else {**shape, "n_parameters": n_parameters}


def packaged_identity(config: PackagedConfig) -> dict[str, Any]:
    """The package with the only version that is accepted."""
    package = PACKAGES[config.name]
    rows = {} if package.rows_version == 1 else {"rows_version": package.rows_version}
    return {"package": package.requirement, "dtype": config.dtype, **_drawn(config), **rows}


def _drawn(config: HFConfig | PackagedConfig) -> dict[str, int]:
    return {} if config.weights_seed is None else {"weights_seed": config.weights_seed}


def packaged_shape(config: PackagedConfig) -> dict[str, int]:
    """Layers, widths and number of parameters."""
    package = PACKAGES[config.name]
    return _shape(package.n_layers, package.width, package.n_neurons, package.n_parameters)


def random_weights(config: RandomWeightsConfig) -> dict[str, Any]:
    """All parameters but the device."""
    return {name: value for name, value in asdict(config).items() if name != "device"}


def random_weights_shape(config: RandomWeightsConfig) -> dict[str, int]:
    """Layers, widths and number of parameters."""
    return _shape(config.n_layers, config.width, 4 * config.width, random_weights_numbers(config))


def _shape(n_layers: int, width: int, n_neurons: int, n_parameters: int) -> dict[str, int]:
    """The shape of a model whose heads share the width."""
    return {
        "n_layers": n_layers,
        "width": width,
        "attn_z": width,
        "mlp_act": n_neurons,
        "n_parameters": n_parameters,
    }


def seedling_recipe(config: SeedlingConfig) -> dict[str, Any]:
    """All that the training depends on: every parameter but those of reading, and the contents of the texts."""
    recipe = {name: value for name, value in asdict(config).items() if name not in ("step", "dtype", "device")}
    corpus = corpus_identity(PackagedCorpusConfig(config.corpus))
    return recipe | {"corpus": corpus, "version": SEEDLING_VERSION}


def seedling_identity(config: SeedlingConfig) -> dict[str, Any]:
    """The recipe of the training, and the step and precision of the weights that are read."""
    return seedling_recipe(config) | {"step": config.read_step, "dtype": config.dtype}


def seedling_shape(config: SeedlingConfig) -> dict[str, int]:
    """Layers, widths and number of parameters."""
    return _shape(config.n_layers, config.width, config.n_neurons, seedling_numbers(config))


def superposition_shape(config: SuperpositionConfig) -> dict[str, int]:
    """One layer of the given width, with nothing in it; its parameters are those of the features."""
    n_parameters = config.n_features * config.width
    return {"n_layers": 1, "width": config.width, "attn_z": 0, "mlp_act": 0, "n_parameters": n_parameters}


def stored_identity(config: StoredConfig) -> dict[str, Any]:
    """The contents of the folder."""
    folder = Path(config.path).expanduser()
    if not folder.is_dir():
        raise ConfigError(f"model stored: no folder {config.path!r} (working folder: {Path.cwd()}).")
    files = [path for path in visible_files(folder) if path.suffix.lower() in _STORED_FILES]
    return {"files": {path.name: file_digest(path) for path in files}}


def visible_files(folder: Path) -> list[Path]:
    """The files of a folder without those that file systems and editors hide."""
    return [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]


def find_local(path: str) -> Path | None:
    """The folder or file that `path` names, or None if it is the id of a model on the hub."""
    local = Path(path).expanduser()
    if local.is_file() and local.suffix != ".gguf":
        raise ConfigError(f"model hf: {path!r} is a file, and no .gguf. Give the folder of the whole checkpoint.")
    if local.exists():
        return local
    n_parts = 3 if path.endswith(".gguf") else 2
    if local.is_absolute() or path.startswith((".", "~")) or len(local.parts) > n_parts:
        raise ConfigError(f"model hf: {path!r} does not exist (working folder: {Path.cwd()}).")
    return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"model hf: {path} is not JSON: {error}. Save the model anew.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"model hf: {path} holds no JSON object. Save the model anew.")
    return found


def _digests(folder: Path, suffixes: tuple[str, ...]) -> dict[str, str]:
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.suffix in suffixes}
