"""Trained SAEs that can be written in the form that SAELens reads."""

from __future__ import annotations

import json
from abc import abstractmethod
from pathlib import Path
from typing import Any

from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor

import harness
from harness.plugins.methods.sae import hub, saelens


class ExportableSAE(harness.SAEDecomposition):
    """An SAE of an architecture that SAELens also has."""

    @abstractmethod
    def in_saelens(self, encoder_bias: Float[Tensor, " m"]) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Entries of SAELens's config and weights for this kind, beside the encoder, the dictionary and the bias, or
        in place of these.

        The pre-activations are (x − bias)·encoderᵀ + `encoder_bias`, with the bias in the precision of the encoder.
        """
        ...

    def export_saelens(self, folder: str | Path, **metadata: Any) -> None:
        """Write an SAE with the same codes and reconstructions, for `SAE.load_from_disk(folder)` of SAELens.

        Args:
            folder: made if it is not there.
            metadata: what SAELens keeps about the place of an SAE, such as `model_name` and `hook_name`.
        """
        folder, dtype = Path(folder), self.encoder.dtype
        bias = self.bias.to(dtype)
        # The bias is in float64. Encoding must not lose what it has beyond `dtype`: the encoder's bias takes it.
        beyond = self.encoder.double() @ (self.bias - bias.double())
        config, tensors = self.in_saelens(self.encoder_bias.double() - beyond)
        tensors = {"W_enc": self.encoder.T, "W_dec": self.dictionary, "b_dec": bias} | tensors
        config |= {
            "d_in": self.encoder.shape[1],
            "d_sae": self.encoder.shape[0],
            "dtype": str(dtype).removeprefix("torch."),
            "device": "cpu",
            "apply_b_dec_to_input": True,
            "normalize_activations": "none",
            "reshape_activations": "none",
            "metadata": {"sae_lens_version": saelens.FORMAT_VERSION, **metadata},
        }
        folder.mkdir(parents=True, exist_ok=True)
        stored = {name: tensor.detach().to("cpu", dtype, copy=True).contiguous() for name, tensor in tensors.items()}
        save_file(stored, folder / hub.WEIGHTS_FILE)
        (folder / hub.CONFIG_FILE).write_text(json.dumps(config, indent=1), encoding="utf-8")
