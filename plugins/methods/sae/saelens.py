"""The folders that SAELens keeps SAEs in: where their files are, and what their configs say. Imports no torch.

A folder has `cfg.json` and `sae_weights.safetensors`: `W_enc` [d, m], `W_dec` [m, d], `b_dec` [d] and what the
architecture adds. Before 6.0 configs had other names and defaults, and no version where these look for one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import harness
from harness.plugins.methods.sae import PretrainedSAEConfig

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
FORMAT_VERSION = "6.0.0"
"""The first version of SAELens that reads what `export_saelens` writes; it takes a config without one for an older."""

_ARCHITECTURES = ("standard", "topk", "jumprelu", "gated")
_SCALED = "expected_average_only_in"
_EACH_ROW = "decoding needs the mean or the norm of each row, which codes do not hold: no dictionary of directions"
_REFUSED_NORMALISATIONS = {
    "layer_norm": _EACH_ROW,
    "constant_norm_rescale": _EACH_ROW,
    "covariance_whitening": "the whitening is not in these files; save it with SAELens's save_inference_model",
}


@dataclass(frozen=True)
class SAELensConfig:
    """The parts of a SAELens config on which codes and reconstructions depend."""

    architecture: str
    width: int
    n_latents: int
    k: int | None
    """Number of codes per row of a topk SAE."""
    subtracts_decoder_bias: bool
    """True if the decoder's bias is subtracted from rows before they are encoded."""
    is_scaled_by_decoder_norm: bool
    """True if topk multiplies pre-activations by the norms of their decoder rows before the largest are chosen."""
    activation_scale: float
    """The factor by which rows are multiplied before encoding, and reconstructions divided."""


def identity(config: PretrainedSAEConfig) -> dict[str, Any]:
    """The contents of a folder; for the hub repository, folder and revision."""
    if config.path is None:
        return {"release": config.release, "sae_id": config.sae_id, "revision": config.revision}
    folder = find_folder(config)
    return {"files": {name: harness.file_digest(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)}}


def find_folder(config: PretrainedSAEConfig) -> Path:
    """The local folder, its two files there; those of the hub are fetched."""
    folder = _from_hub(config) if config.path is None else Path(config.path).expanduser()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise harness.ConfigError(
                f"pretrained_sae: no {name} in {str(folder)!r} (working folder: {Path.cwd()}). Give a folder that "
                "SAELens has saved, or that export_saelens has written."
            )
    return folder


def read_config(folder: Path) -> SAELensConfig:
    """Read the config of an SAE in a folder, with SAELens's defaults filled in.

    Raises:
        Undefined: no decomposition with a linear decoder encodes and decodes as this SAE does; the reason says why.
    """
    try:
        config = _modern(dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))))
        reason = _reason_against(config)
        if reason is not None:
            raise harness.Undefined(f"pretrained_sae: {folder}: {reason}.")
        architecture, n_latents = config["architecture"], _count(config, "d_sae")
        return SAELensConfig(
            architecture=architecture,
            width=_count(config, "d_in"),
            n_latents=n_latents,
            k=_count(config, "k", at_most=n_latents) if architecture == "topk" else None,
            subtracts_decoder_bias=bool(config.get("apply_b_dec_to_input", True)),
            is_scaled_by_decoder_norm=architecture == "topk" and bool(config.get("rescale_acts_by_decoder_norm")),
            activation_scale=_factor(_activation_scale(config) or 1),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise harness.ConfigError(
            f"pretrained_sae: {folder / CONFIG_FILE} is not a config of SAELens: {type(error).__name__}: {error}. "
            "Save or download it again."
        ) from error


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """A config in the names of version 6."""
    version = _stated(config, "sae_lens_version")
    if version and int(str(version).split(".")[0]) >= 6:
        return config
    config.setdefault("architecture", "standard")
    activation = config.get("activation_fn", config.get("activation_fn_str", "relu"))
    kwargs = config.get("activation_fn_kwargs") or {}
    if activation == "topk":
        config |= {"architecture": "topk", "k": kwargs["k"]}
    elif activation != "relu":
        config["architecture"] += f" with activation {activation}"
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = _SCALED if config["normalize_activations"] else "none"
    if "hook_z" in str(config.get("hook_name", config.get("hook_point"))):
        config.setdefault("reshape_activations", "hook_z")
    return config


def _reason_against(config: dict[str, Any]) -> str | None:
    """Say why the SAE does not decode rows as they are by a dictionary and a bias; None if it does."""
    architecture = config["architecture"]
    if "transcoder" in architecture or config.get("d_out", config["d_in"]) != config["d_in"] or _has_own_target(config):
        return "it is a transcoder: it predicts other activations than it reads"
    if architecture not in _ARCHITECTURES:
        return (
            f"its architecture is {architecture!r}; known are {', '.join(_ARCHITECTURES)}. BatchTopK and Matryoshka "
            "SAEs are jumprelu once SAELens's save_inference_model has saved them"
        )
    if config.get("reshape_activations", "none") != "none":
        return "it reads the outputs of attention heads side by side (hook_z), which are not what a site here gives"
    normalisation = config.get("normalize_activations") or "none"
    if normalisation in _REFUSED_NORMALISATIONS:
        return f"normalize_activations is {normalisation!r}: {_REFUSED_NORMALISATIONS[normalisation]}"
    if normalisation not in ("none", _SCALED):
        return f"normalize_activations is {normalisation!r}, which is not known here"
    if normalisation == _SCALED and not _activation_scale(config):
        return (
            f"normalize_activations is {_SCALED!r}, but {CONFIG_FILE} lacks the factor that rows are multiplied by. "
            "Add it as norm_scaling_factor, or fold it into the weights with SAELens's "
            "fold_activation_norm_scaling_factor and save them again"
        )
    return None


def _has_own_target(config: dict[str, Any]) -> bool:
    reads, writes = (_stated(config, name) for name in ("hook_name", "hook_name_out"))
    return writes is not None and writes != reads


def _activation_scale(config: dict[str, Any]) -> float | None:
    """The factor that rows are multiplied by, if they are and it was kept."""
    return _stated(config, "norm_scaling_factor") if config.get("normalize_activations") == _SCALED else None


def _stated(config: dict[str, Any], name: str) -> Any:
    return config.get(name) or (config.get("metadata") or {}).get(name)


def _count(config: dict[str, Any], name: str, at_most: int | None = None) -> int:
    """A number of things: whole, from 1 on."""
    value = config[name]
    if int(value) != value or value < 1 or value > (at_most or value):
        raise ValueError(
            f"{name} is {value!r}; it is to be a whole number from 1 {f'to {at_most}' if at_most else 'on'}"
        )
    return int(value)


def _factor(value: Any) -> float:
    factor = float(value)
    if not 0 < factor < float("inf"):
        raise ValueError(f"norm_scaling_factor is {value!r}; it is to be a number above 0")
    return factor


def _from_hub(config: PretrainedSAEConfig) -> Path:
    try:
        from huggingface_hub import hf_hub_download  # here, so that a machine without it can do all else
    except ImportError as error:
        raise harness.ConfigError(f"pretrained_sae: {error}. Run: pip install huggingface_hub") from error

    def fetch(name: str) -> Path:
        path = f"{config.sae_id}/{name}"
        return Path(hf_hub_download(str(config.release), path, revision=config.revision))

    try:
        folder = fetch(CONFIG_FILE).parent
        fetch(WEIGHTS_FILE)
    except (OSError, ValueError) as error:  # no network, no such repository, folder or revision
        raise harness.ConfigError(
            f"pretrained_sae: the hub did not give {config.sae_id!r} of {config.release!r}: {error}\n"
            "Check release (a repository such as owner/name, not a name from SAELens's own list), sae_id and revision, "
            "and the connection or HF_HUB_OFFLINE; or give the folder of the SAE as path."
        ) from error
    return folder
