"""SAEs that others have trained, as SAELens saves them."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import harness
from harness.plugins.methods.sae import PretrainedSAEConfig, hub, saelens
from harness.plugins.methods.sae.gated import GatedDecomposition
from harness.plugins.methods.sae.jumprelu import JumpReLUDecomposition
from harness.plugins.methods.sae.relu import ReLUDecomposition
from harness.plugins.methods.sae.topk import TopKDecomposition

_ROUNDING = 1e-12
_CENTRED = 1e-6
"""Share of the squares of centred rows that their mean over features may have by rounding, in bfloat16 too."""
_OF_FINE_TUNING = ("scaling_factor", "finetuning_scaling_factor")
_SHAPES = {"W_enc": "dm", "W_dec": "md", "b_dec": "d"}
_OWN_SHAPES = {
    "standard": {"b_enc": "m"},
    "topk": {"b_enc": "m"},
    "jumprelu": {"b_enc": "m", "threshold": "m"},
    "gated": {"b_gate": "m", "b_mag": "m", "r_mag": "m"},
}


class PretrainedSAE:
    """A pretrained SAE, which learns nothing: its reconstructions are those of SAELens.

    Its codes are those of SAELens times the norms of their decoder rows, which become 1 as in SAEs that are trained
    here: two files of one function, with the norms folded or not, are one decomposition.
    """

    passes = 1
    batch_rows = 4096

    def __init__(self, config: PretrainedSAEConfig) -> None:
        self.config = config

    def start(self, info: harness.Info) -> None:
        folder = saelens.find_folder(self.config)
        config = saelens.read_config(folder)
        if config.width != info.width:
            raise harness.Undefined(
                f"pretrained_sae: {folder} is for activations of width {config.width}, but those here have width "
                f"{info.width}. Give the SAE of this model and site."
            )
        self._sae = _decomposition(config, _read_weights(folder, config), info.dtype).to(info.device)
        self._takes_centred_rows = config.takes_centred_rows
        self._squares, self._squares_of_mean = 0.0, 0.0

    def partial_fit(self, batch: harness.Batch) -> None:
        if self._takes_centred_rows is not False:
            x = batch.x.double()
            self._squares += float(x.square().sum())
            self._squares_of_mean += float(x.mean(dim=1).square().sum()) * x.shape[1]

    def finish(self) -> harness.Decomposition:
        if self._squares_of_mean > _CENTRED * self._squares:
            share = f"{self._squares_of_mean / self._squares:.2%} of their squares"
            if self._takes_centred_rows:
                raise harness.Undefined(
                    "pretrained_sae: its config asks for rows less their mean over features (center_writing_weights), "
                    f"and these have one, with {share}. Decoding would need the mean of each row, which codes do not "
                    "hold. Give rows without it, as a model stored"
                )
            warnings.warn(
                "pretrained_sae: its config is of a time when SAELens took the mean over features from rows without "
                f"saying so, and these have one, with {share}. If it is of those SAEs, its numbers here are too low: "
                "compare with rows less their mean, as a model stored.",
                RuntimeWarning,
                stacklevel=2,
            )
        return self._sae


def _read_weights(folder: Path, config: saelens.SAELensConfig) -> dict[str, Tensor]:
    """Read all weights in float64, which represents every stored precision exactly."""
    where = f"pretrained_sae: {folder / hub.WEIGHTS_FILE}"
    try:
        weights = {name: tensor.double() for name, tensor in load_file(folder / hub.WEIGHTS_FILE).items()}
    except SafetensorError as error:
        raise harness.ConfigError(f"{where} can't be read: {error}. Save or download it again.") from error
    for name in _OF_FINE_TUNING:
        ones = weights.pop(name, None)  # versions before 6 saved them unused
        if ones is not None and not torch.allclose(ones, torch.ones_like(ones)):
            raise harness.Undefined(
                f"{where}: a fine-tuning scaled its codes, which SAELens no longer knows how to do."
            )
    sizes = {"d": config.width, "m": config.n_latents}
    expected = {name: [sizes[size] for size in shape] for name, shape in _shapes(config.architecture).items()}
    found = {name: list(weight.shape) for name, weight in weights.items()}
    if found != expected:
        raise harness.ConfigError(f"{where} has {found}; a {config.architecture} SAE of its config has {expected}.")
    return weights


def _shapes(architecture: str) -> dict[str, str]:
    return _SHAPES | _OWN_SHAPES[architecture]


def _decomposition(
    config: saelens.SAELensConfig, given: dict[str, Tensor], dtype: torch.dtype
) -> harness.SAEDecomposition:
    """Make an SAE with the reconstructions of SAELens, from raw rows, its decoder rows of unit norm.

    SAELens encodes c·x − a·b_dec and divides what it decodes by c, with c the activations' scale and a 0 or 1; here
    always x − b_dec/c is encoded. Where a is 0, the encoder's bias takes what is missing. The norms r of W_dec/c go
    into the encoder and all else that is in units of codes; only where topk chooses the largest codes as they
    are saved, they are applied after the choice.
    """
    encoder, decoder = given["W_enc"].T * config.activation_scale, given["W_dec"] / config.activation_scale
    bias = given["b_dec"] / config.activation_scale
    shift = torch.zeros(()) if config.subtracts_decoder_bias else encoder @ bias
    encoder_bias = given["b_gate" if config.architecture == "gated" else "b_enc"] + shift
    norms = _norms(decoder)
    decoder = decoder / norms[:, None]
    gain = norms if config.architecture == "topk" and not config.is_scaled_by_decoder_norm else None
    if gain is None:
        encoder, encoder_bias = encoder * norms[:, None], encoder_bias * norms
    encoder, encoder_bias, decoder = (tensor.to(dtype).contiguous() for tensor in (encoder, encoder_bias, decoder))
    weights = harness.SAEWeights(encoder, encoder_bias, decoder, bias)
    if config.architecture == "topk":
        assert config.k is not None  # the config of a topk SAE has one
        return TopKDecomposition(weights, {}, config.k, gain if gain is None else gain.to(dtype))
    if config.architecture == "jumprelu":
        # SAELens applies a ReLU as well, as if no threshold were below 0.
        return JumpReLUDecomposition(weights, {}, (given["threshold"].clamp(min=0) * norms).to(dtype))
    if config.architecture == "gated":
        gain = given["r_mag"].exp()
        offset = norms * (given["b_mag"] - gain * given["b_gate"])  # `shift` is in the gate, and so in both
        return GatedDecomposition(weights, {}, gain.to(dtype), offset.to(dtype))
    return ReLUDecomposition(weights, {})


def _norms(decoder: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
    """The norms of decoder rows; 1 where rounding alone makes it differ, and for rows of 0, which have no direction."""
    norms = torch.linalg.vector_norm(decoder, dim=1)
    return torch.where((norms == 0) | ((norms - 1).abs() < _ROUNDING), 1.0, norms)
