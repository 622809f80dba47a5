"""Any decoder or encoder that transformers can load, its weights from safetensors or GGUF."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
)

from harness import SITE_KINDS, ConfigError, Undefined, Window, parse_site
from harness.plugins.models import HFConfig, blocks, hooks
from harness.plugins.models.checkpoint import find_device, load_module, load_tokenizer
from harness.plugins.models.placement import Placement
from harness.plugins.models.replay import Replay, Replayer
from harness.plugins.models.tokens import Tokens

_PROBE = "The quick brown fox jumps over the lazy dog, 12 times."
_PROBE_TOKENS = 16


def load(config: HFConfig) -> HF:
    """The model as it was trained, or with its weights drawn anew."""
    if config.weights_seed is None:
        return HF(config)
    from harness.plugins.models.reinitialised import reinitialised

    return HF(reinitialised(config))


class HF:
    """A transformers model, read without its head; that is loaded when windows are first replayed."""

    def __init__(self, config: HFConfig) -> None:
        self._config = config
        self.device = torch.device(find_device() if config.device == "auto" else config.device)
        self.tokenizer = load_tokenizer(config)
        self.tokens = Tokens(self.tokenizer)
        self.tokenizer_hash = self.tokens.hash()
        self._probe = torch.tensor([self.windows([_PROBE], _PROBE_TOKENS)[0][0].ids])
        missing_weights = self._take_up(AutoModel)
        self.n_layers = len(self.blocks)
        last = self.blocks[-1].after[:, : self._probe.shape[1]]
        self.width = last.shape[-1]
        if missing_weights and last.isnan().any():
            raise ConfigError(
                f"model hf: {config.path!r} lacks weights that activations depend on: {', '.join(missing_weights)}. "
                f"Give a checkpoint of the whole {type(self.module).__name__}."
            )
        for name in ("n_layers", "width"):
            stated, found = getattr(config, name), getattr(self, name)
            if stated not in (None, found):
                raise ConfigError(f"model hf: {name} of {config.path!r} is {found}, not {stated}; correct it.")
        self._padding_leaks = self._does_padding_leak(last)

    def _take_up(self, auto_class: Any) -> list[str]:
        """Load the model as this class and find its blocks; returns the weights that the checkpoint lacks."""
        self._placement = Placement(self._config, self.device.type)
        self.module, missing_weights = load_module(auto_class, self._config, self._placement.options)
        if not self._placement.options:
            self.module.to(self.device)
        self.blocks = self._find_blocks()
        self._tap = cache(self._find_tap)
        self._replayer = cache(self._make_replayer)
        return missing_weights

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """The consecutive windows of each text."""
        return self.tokens.windows(texts, context)

    @torch.no_grad()
    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        """The activations at every site; the forward pass goes no deeper than needed. False in `mask` is padding."""
        if self._padding_leaks and not mask.all():
            windows = [row[seen][None] for row, seen in zip(ids, mask, strict=True)]
            alone = [self._read(window, torch.ones_like(window).bool(), sites) for window in windows]
            return {site: pad_sequence([x[site][0] for x in alone], batch_first=True) for site in sites}
        return self._read(ids, mask, sites)

    def _read(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        n, n_tokens = ids.shape
        taps = {site: self._tap(site) for site in sites}
        try:
            found = hooks.read(taps, lambda: self._forward(ids, mask))
        except IndexError as error:  # learned positions end somewhere
            raise ConfigError(f"the model can't take a window of {n_tokens} tokens: {error}. Lower context.") from error
        # Some modules see all tokens of a batch in one row, and some models pad further.
        return {site: found[site].reshape(n, -1, self.width)[:, :n_tokens] for site in sites}

    @torch.no_grad()
    def replay(self, ids: Int[Tensor, "b t"], site: str) -> Replay:
        """Windows of one length, run so that they can be run again from `site` on.

        Raises:
            Undefined: nothing here predicts next tokens; the reason says why.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        return self._replayer(site).run(ids)

    @torch.no_grad()
    def unembed(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """The logits of rows of the residual stream after the last block: the model's own last norm and head, and
        what else it has there (a projection, scaling, soft-capping), as its forward pass applies them.

        Raises:
            Undefined: nothing here predicts next tokens; the reason says why.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        return self._replayer(f"resid_post.{self.n_layers - 1}").unembed(self._probe, x)

    @torch.no_grad()
    def unembedding(self, ids: Int[Tensor, " t"]) -> Float[Tensor, "t e"]:
        """The rows of the head's matrix that make the logits of these tokens.

        Raises:
            Undefined: nothing here predicts next tokens, or by no such matrix.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        head = self.module.get_output_embeddings()
        if head is None or head.weight.is_meta:
            raise Undefined("the rows of its unembedding can't be read")
        rows: Tensor = head.weight[ids.to(head.weight.device)].float().cpu()
        return rows

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each token, with the space before it if it has one."""
        return self.tokens.texts(ids)

    @cached_property
    def _no_head(self) -> str | None:
        """Why there is no head that predicts next tokens; None once it is loaded."""
        config = self.module.config
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or self._sees_ahead():
            return f"{config.model_type} has no language-model head that predicts next tokens"
        del self.module, self.blocks, self._tap, self._replayer  # two copies of the weights may not fit
        missing_weights = self._take_up(AutoModelForCausalLM)
        if missing_weights and self._logits(self._probe).isnan().any():
            return f"{self._config.path!r} lacks the weights of the language-model head: {', '.join(missing_weights)}"
        return None

    def _make_replayer(self, site: str) -> Replayer:
        kind, layer = parse_site(site)
        return Replayer(self._logits, self.blocks, self._tap(site), layer + (kind == "resid_post"), self.width)

    def _logits(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        logits: Tensor = self._forward(ids, torch.ones_like(ids, dtype=torch.bool)).logits
        return logits[:, : ids.shape[1]]

    def _forward(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Any:
        ids = ids.masked_fill(~mask, self.tokenizer.pad_token_id or 0)
        return self.module(input_ids=ids.to(self.device), attention_mask=mask.long().to(self.device))

    @torch.no_grad()
    def _find_blocks(self) -> list[blocks.Block]:
        n_expected = getattr(self.module.config.get_text_config(), "num_hidden_layers", None)
        mask = torch.ones_like(self._probe, dtype=torch.bool)
        return blocks.find_blocks(self.module, lambda: self._forward(self._probe, mask), mask.shape[1], n_expected)

    @torch.no_grad()
    def _find_tap(self, site: str) -> hooks.Tap:
        wanted, layer = parse_site(site)
        tap = blocks.find_tap(self.blocks, wanted, layer)
        if tap is None:
            valid = [f"{kind}.{layer}" for kind in SITE_KINDS if blocks.find_tap(self.blocks, kind, layer)]
            raise ConfigError(
                f"site {site!r}: no one module of {type(self.blocks[layer].call.module).__name__} adds this to the "
                f"residual stream. This layer has: {', '.join(valid)}."
            )
        return tap

    def _does_padding_leak(self, alone: Float[Tensor, "1 t d"]) -> bool:
        """True if padding changes the rows beside it: not all models that mix tokens obey the mask."""
        n_tokens = self._probe.shape[1]
        mask = torch.arange(n_tokens + 2)[None] < n_tokens
        return _differ(self._read_last(nn.functional.pad(self._probe, (0, 2)), mask)[:, :n_tokens], alone)

    def _sees_ahead(self) -> bool:
        """True if later tokens change the rows of earlier ones: such a model does not predict the next token."""
        half = self._probe.shape[1] // 2
        changed = self._probe.clone()
        changed[:, half:] = (changed[:, half:] == 0).long()
        rows, others = (self._read_last(ids, torch.ones_like(ids).bool())[:, :half] for ids in (self._probe, changed))
        return _differ(rows, others)

    @torch.no_grad()
    def _read_last(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        site = f"resid_post.{self.n_layers - 1}"
        return self._read(ids, mask, [site])[site].cpu()


def _differ(x: Float[Tensor, "1 t d"], other: Float[Tensor, "1 t d"]) -> bool:
    """True if any row differs by more than rounding."""
    error = (x - other).float().norm(dim=-1) / other.float().norm(dim=-1)
    return bool((error > torch.finfo(other.dtype).eps ** 0.5).any())
