"""The folders that SAELens keeps SAEs in: where their files are, and what their configs say. Imports no torch.

A folder has `cfg.json` and `sae_weights.safetensors`: `W_enc` [d, m], `W_dec` [m, d], `b_dec` [d] and what the
architecture adds. Before 6.0 configs had other names and defaults, and no version where these look for one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import harness
from harness.plugins.methods.sae import PretrainedSAEConfig, hub
from harness.plugins.methods.sae.hub import CONFIG_FILE, WEIGHTS_FILE

FORMAT_VERSION = "6.0.0"
"""The first version of SAELens that reads what `export_saelens` writes; it takes a config without one for an older."""

_OTHER_FORMS = {"sae.safetensors": "sparsify", "ae.pt": "dictionary_learning", "params.npz": "Gemma Scope"}
"""Libraries by a file that their folders have."""
_WITHOUT_MEAN = re.compile(r"llama|gemma|mistral|mixtral|qwen|olmo-?2|deepseek|yi-|smollm|phi-?[34]")
"""Models whose norms are RMS norms: the mean over features counts there, and TransformerLens leaves it."""
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
    takes_centred_rows: bool | None
    """True if the mean over features was taken from the rows that it was trained on; None if that is likely, as it was
    with the versions of SAELens whose configs do not say."""


def identity(config: PretrainedSAEConfig) -> dict[str, Any]:
    """The contents of the two files; those of the hub are fetched, since what has a name there may change."""
    folder = find_folder(config, newest=True)
    return {"files": {name: harness.file_digest(folder / name) for name in (CONFIG_FILE, WEIGHTS_FILE)}}


def find_folder(config: PretrainedSAEConfig, newest: bool = False) -> Path:
    """The local folder, its two files there.

    Args:
        config: names the folder, or one on the hub.
        newest: ask the hub whether its files have changed; without it those that the plan was made of are taken.
    """
    folder = hub.folder_of(config, newest) if config.path is None else Path(config.path).expanduser()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            other = next((form for file, form in _OTHER_FORMS.items() if (folder / file).is_file()), None)
            what = f"; its files are in the form of {other}, which SAELens can load and save again" if other else ""
            raise harness.ConfigError(
                f"pretrained_sae: no {name} in {str(folder)!r} (working folder: {Path.cwd()}){what}. Give a folder "
                "that SAELens has saved, or that export_saelens has written."
            )
    return folder


def read_config(folder: Path) -> SAELensConfig:
    """Read the config of an SAE in a folder, with SAELens's defaults filled in.

    Raises:
        Undefined: no decomposition with a linear decoder encodes and decodes as this SAE does; the reason says why.
    """
    try:
        config = _modern(_read(folder))
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
            takes_centred_rows=_takes_centred_rows(config),
        )
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise _not_a_config(folder, error) from error


def stated(folder: Path) -> Callable[..., Any]:
    """Read the config of a folder, and return a function that looks up what it states under any of several names."""
    try:
        return partial(_stated, _read(folder))
    except (ValueError, TypeError) as error:
        raise _not_a_config(folder, error) from error


def _read(folder: Path) -> dict[str, Any]:
    config = dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8-sig")))
    if not isinstance(config.get("metadata") or {}, dict):
        raise TypeError("metadata is no object")
    return config


def _not_a_config(folder: Path, error: Exception) -> harness.ConfigError:
    told = f"{type(error).__name__}: {error}"
    return harness.ConfigError(
        f"pretrained_sae: {folder / CONFIG_FILE} is not a config of SAELens: {told}. Save or download it again."
    )


def _modern(config: dict[str, Any]) -> dict[str, Any]:
    """A config in the names of version 6."""
    if _is_modern(config):
        return config
    config["architecture"] = config.get("architecture") or "standard"
    activation = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
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
    if _stated(config, "hook_head_index", "hook_point_head_index") is not None:
        return "it reads a single attention head, which no site here gives"
    normalisation = _stated(config, "normalize_activations") or "none"
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
    is_scaled = _stated(config, "normalize_activations") == _SCALED
    return _stated(config, "norm_scaling_factor") if is_scaled else None


def _takes_centred_rows(config: dict[str, Any]) -> bool | None:
    """True if the model's writing weights were centred, which TransformerLens does only where norms take the mean.

    It does so unless told otherwise. Since SAELens does tell it, the configs hold what it was told.
    """
    loading, model = _stated(config, "model_from_pretrained_kwargs"), str(_stated(config, "model_name") or "").lower()
    if _WITHOUT_MEAN.search(model):
        return False
    if loading is None and model and not _is_modern(config):
        return None
    return bool((loading or {}).get("center_writing_weights"))


def _is_modern(config: dict[str, Any]) -> bool:
    version = _stated(config, "sae_lens_version")
    return bool(version) and int(str(version).split(".")[0]) >= 6


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


def _stated(config: dict[str, Any], *names: str) -> Any:
    """The value under the first of the names that is in the config, or in its metadata; None if none is."""
    places = (config, config.get("metadata") or {})
    found = (place[name] for name in names for place in places if place.get(name) is not None)
    return next(found, None)
