"""Any decoder or encoder that transformers can load, its weights from safetensors or GGUF."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModel

from harness import ConfigError, Undefined, Window
from harness.plugins.models import HFConfig, blocks, hooks
from harness.plugins.models.checkpoint import (
    Loaded,
    check_left_over,
    find_device,
    find_head_class,
    find_named_class,
    load_module,
    load_tokenizer,
)
from harness.plugins.models.loaded_state import LoadedState
from harness.plugins.models.padding import Padding, differ
from harness.plugins.models.placement import Placement
from harness.plugins.models.replay import Replay
from harness.plugins.models.runs import Runs
from harness.plugins.models.site_taps import SiteTaps
from harness.plugins.models.stubs import Stubs
from harness.plugins.models.token_rows import TokenRows
from harness.plugins.models.tokens import Tokens

_PROBE = "The quick brown fox jumps over the lazy dog, 12 times."
_PROBE_TOKENS = 16
_ERRORS_OF_MODELS = (IndexError, RuntimeError, ValueError, AssertionError, AttributeError, TypeError)


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
        self.device = find_device(config.device)
        self.tokenizer = load_tokenizer(config)
        self.tokens = Tokens(self.tokenizer)
        self.tokenizer_hash = self.tokens.hash()
        probe = self.windows([_PROBE], _PROBE_TOKENS)[0][0]
        self._probe, self._is_special = torch.tensor([probe.ids]), torch.tensor(probe.special)
        self._load_body()
        self.n_layers = len(self.blocks)
        self.width = self.blocks[-1].after.shape[-1]
        for name in ("n_layers", "width"):
            stated, found = getattr(config, name), getattr(self, name)
            if stated not in (None, found):
                raise ConfigError(f"model hf: {name} of {config.path!r} is {found}, not {stated}; correct it.")

    def _load_body(self) -> None:
        """Load the model without its head; or, where that can't be read or lacks weights, as the class that the
        checkpoint is of, which may be only a part of the whole, or know which weights are tied or computed.
        """
        try:
            return self._take_up_whole(AutoModel)
        except ConfigError as error:
            named = find_named_class(self._config)
            if named is None:
                raise
            try:
                self._take_up_whole(named)
            except ConfigError:
                raise error from None

    def _take_up_whole(self, auto_class: Any) -> None:
        loaded = self._take_up(auto_class)
        if loaded.missing and self.blocks[-1].after.isnan().any():
            raise ConfigError(
                f"model hf: {self._config.path!r} lacks weights that activations depend on: "
                f"{', '.join(loaded.missing)}. Give a checkpoint of the whole {type(self.module).__name__}."
            )
        check_left_over(loaded, [block.call.module for block in self.blocks], self._config.path)

    def _take_up(self, auto_class: Any) -> Loaded:
        """Load the model as this class and find its blocks."""
        for name in ("module", "blocks", "_state", "_padding", "_rows", "_sites", "_stubs"):
            vars(self).pop(name, None)  # two copies of the weights may not fit
        self._placement = Placement(self._config, self.device.type)
        loaded = load_module(auto_class, self._config, self._placement.options)
        self.module = loaded.module
        if not self._placement.options:
            self.module.to(self.device)
        self._state = LoadedState(self.module)
        self.blocks = self._find_blocks()
        self._padding = Padding(self._try_out, self._text)
        self._rows = TokenRows(self._entering, self._text)
        self._sites = SiteTaps(self.blocks, self.module.config.get_text_config().to_dict(), self._run_probe)
        self._stubs = Stubs(self._logits, self.blocks, self._rows)
        return loaded

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """The consecutive windows of each text."""
        return self.tokens.windows(texts, context)

    @torch.no_grad()
    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        """The activations at every site; the forward pass goes no deeper than needed. False in `mask` is padding."""
        lengths = mask.sum(dim=1)
        is_alone = len(ids) == 1 and bool(mask.all())
        if not is_alone and not self._padding.is_harmless(int(lengths.min()), ids.shape[1]):
            windows = [row[seen][None] for row, seen in zip(ids, mask, strict=True)]
            alone = [self._read(window, torch.ones_like(window).bool(), sites) for window in windows]
            return {site: pad_sequence([x[site][0] for x in alone], batch_first=True) for site in sites}
        return self._read(ids, mask, sites)

    def _read(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        taps = {site: self._sites.of(site) for site in sites}
        found = hooks.read(taps, lambda: self._forward(ids, mask))
        # Some modules see all tokens of a batch in one row, and some models have rows that are no token's.
        rows = {site: x.reshape(len(ids), -1, x.shape[-1]) for site, x in found.items()}
        return {site: self._rows.of(rows[site], ids.shape[1]) for site in sites}

    @torch.no_grad()
    def replay(self, ids: Int[Tensor, "b t"], site: str) -> Replay:
        """Windows of one length, run so that they can be run again from `site` on.

        Raises:
            Undefined: nothing here predicts next tokens; the reason says why.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        return Replay(Runs(self._stubs, self._sites.of, ids, torch.full((len(ids),), ids.shape[1])), site)

    def runs(self, ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Runs:
        """Windows of so many tokens each, to be run with edits.

        Raises:
            Undefined: nothing here predicts next tokens, or padding would change the windows; the reason says which.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        runs, shortest = Runs(self._stubs, self._sites.of, ids, lengths), int(lengths.min())
        if shortest < ids.shape[1] and not self._padding.is_harmless(shortest, ids.shape[1]):
            raise Undefined("padding changes its activations; run windows of one length together")
        return runs

    @torch.no_grad()
    def unembed(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """The logits of rows of the residual stream after the last block: the model's own last norm and head, and
        what else it has there (a projection, scaling, soft-capping), as its forward pass applies them.

        Raises:
            Undefined: nothing here predicts next tokens; the reason says why.
        """
        if self._no_head is not None:
            raise Undefined(self._no_head)
        return self._stubs.head(self._probe, x)

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
        head_class = find_head_class(config)
        if head_class is None or self._sees_ahead():
            return f"{config.model_type} has no language-model head that predicts next tokens"
        missing = self._take_up(head_class).missing
        if missing and self._run_probe().logits.isnan().any():
            return f"{self._config.path!r} lacks the weights of the language-model head: {', '.join(missing)}"
        return None

    def _logits(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t v"]:
        logits: Tensor = self._forward(ids, mask).logits
        return self._rows.of(logits, ids.shape[1])

    def _forward(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Any:
        """One forward pass of the model as it was loaded."""
        ids = ids.masked_fill(~mask, self.tokenizer.pad_token_id or 0)
        self._check_ids(ids)
        self._state.restore()
        try:
            with _same_draws():
                return self.module(input_ids=ids.to(self.device), attention_mask=mask.long().to(self.device))
        except _ERRORS_OF_MODELS as error:
            raise self._explained(error, ids.shape[1]) from error

    def _check_ids(self, ids: Int[Tensor, "b t"]) -> None:
        """Refuse ids without an embedding before an accelerator trips over them, which ends its process."""
        embedding = None
        with suppress(NotImplementedError, AttributeError):
            embedding = self.module.get_input_embeddings()
        if isinstance(embedding, nn.Embedding) and int(ids.max()) >= embedding.num_embeddings:
            raise ConfigError(
                f"model hf: the tokenizer of {self._config.path!r} gives the id {int(ids.max())}, and the model has "
                f"embeddings of {embedding.num_embeddings} tokens: it is another model's. Save the right one there."
            )

    def _explained(self, error: Exception, n_tokens: int) -> Exception:
        """A forward pass' error as one that says what to do."""
        if isinstance(error, torch.OutOfMemoryError) or "alloc" in str(error):
            return error
        if n_tokens > self._probe.shape[1]:
            return ConfigError(f"the model can't take a window of {n_tokens} tokens: {error}. Lower context.")
        return ConfigError(
            f"model hf: {self._config.path!r}, a {type(self.module).__name__}, can't be run in {self._config.dtype} on "
            f"{self.device} on the ids of a text alone: {error}. Only models that need nothing else can be read."
        )

    def site_width(self, site: str) -> int:
        """Dimensions of a row at a site."""
        return self._sites.width(site)

    def site_groups(self, site: str) -> int:
        """The number of heads at `attn_z`, and 1 elsewhere."""
        return self._sites.n_groups(site)

    @torch.no_grad()
    def _find_blocks(self) -> list[blocks.Block]:
        config = self.module.config.get_text_config()
        n_expected = getattr(config, "num_hidden_layers", None)
        if getattr(config, "is_decoder", False) and not config.is_encoder_decoder:
            n_expected = getattr(config, "decoder_layers", n_expected)  # the other number is of the encoder it had
        return blocks.find_blocks(self.module, self._run_probe, self._probe.shape[1], n_expected)

    def _run_probe(self) -> Any:
        return self._forward(self._probe, torch.ones_like(self._probe, dtype=torch.bool))

    @torch.no_grad()
    def _try_out(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> tuple[Float[Tensor, "b t d"], Any]:
        """The last rows of a forward pass, and what it has changed in the model."""
        return self._read_last(ids, mask), self._state.changes()

    def _entering(self, ids: Int[Tensor, "b t"]) -> Float[Tensor, "b r d"]:
        """All that enters the first block, rows that are no token's too."""
        tap = {"entering": self._sites.of("resid_pre.0")}
        found = hooks.read(tap, lambda: self._forward(ids, torch.ones_like(ids).bool()))["entering"]
        return found.reshape(len(ids), -1, self.width)

    def _text(self, n_tokens: int) -> Int[Tensor, " t"]:
        """The ids of a text of so many tokens, over and over if it is long."""
        ids = self._probe[0][~self._is_special]
        return ids.repeat(-(-n_tokens // len(ids)))[:n_tokens]

    def _sees_ahead(self) -> bool:
        """True if later tokens change the rows of earlier ones: such a model does not predict the next token."""
        half = self._probe.shape[1] // 2
        changed = self._probe.clone()
        changed[:, half:] = (changed[:, half:] == 0).long()
        rows, others = (self._read_last(ids, torch.ones_like(ids).bool())[:, :half] for ids in (self._probe, changed))
        return differ(rows, others)

    @torch.no_grad()
    def _read_last(self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        site = f"resid_post.{self.n_layers - 1}"
        return self._read(ids, mask, [site])[site].cpu()


@contextmanager
def _same_draws() -> Iterator[None]:
    """Let a model that draws at random, as some hash tokens into buckets, draw alike each time."""
    with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()):
        torch.manual_seed(0)
        yield
