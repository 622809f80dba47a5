"""Any decoder or encoder that transformers can load, its weights from safetensors or GGUF."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, GgufConfig

from harness import SITE_KINDS, ConfigError, Window, parse_site
from plugins.models import HFConfig, blocks
from plugins.models.tokens import Tokens

_PROBE = "The quick brown fox jumps over the lazy dog, 12 times."
_PROBE_TOKENS = 16
_HUB_HINT = (
    " It is no local path, and the hub did not give it: check the id, and the connection or HF_HUB_OFFLINE, or give "
    "the path of a folder or GGUF file."
)


class HF:
    """A transformers model, read without its head."""

    def __init__(self, config: HFConfig) -> None:
        self.device = torch.device(_find_device() if config.device == "auto" else config.device)
        self.tokenizer = _load(AutoTokenizer, config)
        self.tokens = Tokens(self.tokenizer)
        self.tokenizer_hash = self.tokens.hash()
        self.module = _load_module(config).to(self.device)
        ids = torch.tensor(self.windows([_PROBE], _PROBE_TOKENS)[0][0].ids)[None]
        n_expected = getattr(self.module.config.get_text_config(), "num_hidden_layers", None)
        with torch.no_grad():
            self.blocks = blocks.find_blocks(
                self.module, self._forward(ids, torch.ones_like(ids).bool()), ids.shape[1], n_expected
            )
        self.n_layers = len(self.blocks)
        self.width = self.blocks[0].after.shape[-1]
        self._tap = cache(self._find_tap)

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """For each text, its consecutive windows."""
        return self.tokens.windows(texts, context)

    @torch.no_grad()
    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        """The activations at every site; the forward pass goes no deeper than needed. False in `mask` is padding."""
        found = blocks.read({site: self._tap(site) for site in sites}, self._forward(ids, mask))
        n, n_tokens = ids.shape
        # Some modules see all tokens of a batch in one row, and some models pad further.
        return {site: found[site].reshape(n, -1, self.width)[:, :n_tokens] for site in sites}

    def _forward(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Callable[[], Any]:
        ids = ids.masked_fill(~mask, self.tokenizer.pad_token_id or 0).to(self.device)
        return lambda: self.module(input_ids=ids, attention_mask=mask.long().to(self.device))

    def _find_tap(self, site: str) -> blocks.Tap:
        kind, layer = parse_site(site)
        if layer >= self.n_layers:
            raise ConfigError(f"site {site!r}: this model has the layers 0 to {self.n_layers - 1}.")
        with torch.no_grad():
            block = self.blocks[layer]
            tap = block.tap(kind)
            valid = [f"{other}.{layer}" for other in SITE_KINDS if tap is None and block.tap(other)]
        if tap is None:
            raise ConfigError(
                f"site {site!r}: no module of {type(block.call.module).__name__} adds this to the residual stream. "
                f"This layer has: {', '.join(valid)}."
            )
        return tap


def _find_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _load_module(config: HFConfig) -> nn.Module:
    """The model's body, or its encoder. Weights that the checkpoint lacks are NaN, never random."""
    module, info = _load(
        AutoModel, config, dtype=getattr(torch, config.dtype), use_safetensors=True, output_loading_info=True
    )
    for name in info["missing_keys"]:
        module.get_parameter(name).data.fill_(torch.nan)
    module.config.use_cache = False
    if module.config.is_encoder_decoder:
        module = module.get_encoder()
    return module.eval().requires_grad_(False)


def _load(auto_class: Any, config: HFConfig, **options: Any) -> Any:
    """`from_pretrained`, with errors that say what to do."""
    path = Path(config.path).expanduser()
    is_local = path.exists()
    if not is_local and (path.is_absolute() or config.path.startswith((".", "~")) or len(path.parts) > 3):
        raise ConfigError(f"model hf: {config.path!r} does not exist (working folder: {Path.cwd()}).")
    where = str(path) if is_local else config.path
    if where.endswith(".gguf"):
        # A file in a folder or in a repository of the hub; without dequantize its weights would stay packed.
        where, options["gguf_file"] = where.rsplit("/", 1) if "/" in where else (".", where)
        if auto_class is AutoModel:
            options["quantization_config"] = GgufConfig(dequantize=True)
    elif path.is_dir() and auto_class is AutoModel:
        _check_weights(path)
    try:
        return auto_class.from_pretrained(where, revision=config.revision, trust_remote_code=False, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        what = "the tokenizer" if auto_class is AutoTokenizer else "the model"
        hint = "" if is_local else _HUB_HINT
        raise ConfigError(f"model hf: can't load {what} of {config.path!r}.{hint}\n{error}") from error


def _check_weights(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        found = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern))
        pickled = f" {', '.join(found)}: pickled weights can run code and are not read." if found else ""
        raise ConfigError(
            f"model hf: {folder} holds no *.safetensors.{pickled} Convert a model that you trust with "
            "model.save_pretrained(folder), which writes safetensors."
        )
