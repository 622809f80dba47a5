"""Sizes that the config of a transformers model states, by the usual names. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LAYERS = ("num_hidden_layers", "n_layer")
_WIDTH = ("hidden_size", "n_embd")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads", "attention_heads", "encoder_attention_heads")
_HEAD_WIDTH = ("v_head_dim", "head_dim", "d_kv")
_NEURONS = ("ffn_hidden_size", "n_inner", "ffn_dim", "intermediate_size")


def shape_of(described: Mapping[str, Any]) -> dict[str, int] | None:
    """Layers and width; and as far as they are stated the widths at `mlp_act` and `attn_z`. None without the first two.

    Args:
        described: the config; what a wrapper says of its text model is in `text_config`.
    """
    described = described.get("text_config") or described
    n_layers, width = (_first(described, names) for names in (_LAYERS, _WIDTH))
    if described.get("is_encoder_decoder") or n_layers is None or width is None:
        return None
    shape = {"n_layers": n_layers, "width": width, "attn_z": width_of_heads(described, width)}
    if any(name in described for name in _NEURONS):
        shape["mlp_act"] = _first(described, _NEURONS) or 4 * width  # GPT-2's null
    return shape


def n_heads(described: Mapping[str, Any]) -> int | None:
    """The number of attention heads, if there is one for all layers."""
    found = _first(described, _HEADS)
    return found if isinstance(found, int) else None


def width_of_heads(described: Mapping[str, Any], width: int) -> int:
    """The dimensions of what all heads give, side by side; 0 where there are none."""
    n = n_heads(described)
    own: int | None = _first(described, _HEAD_WIDTH)
    return 0 if n is None else n * own if own is not None else width


def _first(described: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((described[name] for name in names if described.get(name) is not None), None)
