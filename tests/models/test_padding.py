"""Rows of windows beside others, against the same window alone in a model that has just been loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import harness
from harness.plugins.models.padding import Padding, differ
from tests.support.tiny_models import TEXTS, randomised, save_model, tiny_tokenizer

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

SMALL: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
ROPE = {"rope_theta": 1e4, "original_max_position_embeddings": 32}
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "longrope": (
        transformers.Phi3Config,
        {
            "original_max_position_embeddings": 32,  # which overrides that of the parameters
            "rope_parameters": ROPE
            | {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0, 8, 16, 32]},
        },
    ),
    "dynamic": (
        transformers.LlamaConfig,
        {"max_position_embeddings": 32, "rope_parameters": {"rope_theta": 1e4, "rope_type": "dynamic", "factor": 4.0}},
    ),
    "sparse_attention": (
        transformers.BigBirdConfig,
        {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1, "max_position_embeddings": 512},
    ),
    "convolution": (transformers.ConvBertConfig, {"embedding_size": 32, "max_position_embeddings": 160}),
    "random_buckets": (
        transformers.ReformerConfig,
        {
            "axial_pos_embds": False,
            "attn_layers": ["lsh", "local", "lsh"],
            "attention_head_size": 8,
            "feed_forward_size": 48,
            "lsh_attn_chunk_length": 8,
            "local_attn_chunk_length": 8,
            "num_buckets": 4,
            "max_position_embeddings": 160,
        },
    ),
}
SIZES_OF_A_SIDE = {"layers": 3, "attention_heads": 4, "ffn_dim": 48, "sparse_step": 1}
LONG = " ".join(TEXTS)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_no_row_depends_on_what_was_or_is_run_beside(name: str, tmp_path: Path) -> None:
    config_class, options = MODELS[name]
    save_model(randomised(transformers.AutoModel.from_config(config_class(**(SMALL | options)))), tmp_path)
    model = harness.create("model", "hf", path=str(tmp_path), device="cpu")
    ids = torch.tensor(tiny_tokenizer()(LONG)["input_ids"][:96])
    lengths, sites = [5, 20, 40, 96], ["resid_post.0", "resid_post.2"]
    alone = {}
    for n in lengths:  # each in a model of its own: no state of another run
        fresh = harness.create("model", "hf", path=str(tmp_path), device="cpu")
        alone[n] = fresh.activations(ids[None, :n], torch.ones(1, n).bool(), sites)
    mask = torch.arange(96)[None] < torch.tensor(lengths)[:, None]
    plain = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    filled = plain(input_ids=ids.where(mask, 7), attention_mask=mask.long()).last_hidden_state
    own = [plain(input_ids=ids[None, :n], attention_mask=torch.ones(1, n).long()).last_hidden_state for n in lengths]
    changed = [n for n, rows, x in zip(lengths, filled, own, strict=True) if differ(rows[None, :n], x)]
    assert changed, "the model minds nothing: this tries nothing"
    for _ in range(2):
        found = model.activations(ids.where(mask, 7), mask, sites)
        for row, n in enumerate(lengths):
            for site in sites:
                assert not differ(found[site][row : row + 1, :n], alone[n][site]), (n, site)
    after_short = model.activations(ids[None], torch.ones(1, 96).bool(), sites)
    assert all(torch.equal(after_short[site], alone[96][site]) for site in sites)


@pytest.mark.parametrize("name", ["longrope", "sparse_attention"])
@torch.no_grad()
def test_long_windows_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    config_class, options = MODELS[name]
    save_model(randomised(transformers.AutoModel.from_config(config_class(**(SMALL | options)))), tmp_path)
    ids = torch.tensor([tiny_tokenizer()(LONG)["input_ids"][:96]])
    fresh = transformers.AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    states = fresh(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True).hidden_states
    capture = harness.capture(
        harness.create("model", "hf", path=str(tmp_path)), [LONG, "No"], ["resid_post.1"], 96, special=True, first=True
    )
    first = capture.rows["window"].eq(0) & capture.rows["document"].eq(0)
    torch.testing.assert_close(capture.x["resid_post.1"][torch.from_numpy(first.to_numpy(copy=True))], states[2][0])


@torch.no_grad()
def test_windows_of_one_length_do_not_compete(tmp_path: Path) -> None:
    """Tokens of all windows of a batch share the places at an expert; those that get none pass it by."""
    sizes = {f"{side}_{name}": n for side in ("encoder", "decoder") for name, n in SIZES_OF_A_SIDE.items()}
    config = transformers.NllbMoeConfig(
        vocab_size=300, d_model=32, num_experts=4, expert_capacity=4, moe_eval_capacity_token_fraction=0.3, **sizes
    )
    save_model(randomised(transformers.AutoModel.from_config(config)), tmp_path)
    model = harness.create("model", "hf", path=str(tmp_path), device="cpu")
    ids = torch.tensor(tiny_tokenizer()(LONG)["input_ids"][:96]).reshape(2, 48)
    ones, site = torch.ones_like(ids), "resid_post.1"
    with torch.no_grad():
        together = model.module(input_ids=ids, attention_mask=ones, output_hidden_states=True).hidden_states[2]
        alone = [model.module(input_ids=row[None], output_hidden_states=True).hidden_states[2] for row in ids]
    assert differ(together, torch.cat(alone)), "the windows share enough: this tries nothing"
    torch.testing.assert_close(model.activations(ids, ones.bool(), [site])[site], torch.cat(alone))


def _switching_at(threshold: int, left: float) -> Padding:
    """Padding of a model whose rows, or else its state, are others from so many tokens on."""

    def run(ids: Tensor, mask: Tensor) -> tuple[Tensor, Any]:
        is_long = ids.shape[1] >= threshold
        return torch.ones(*ids.shape, 1) + left * is_long, is_long if not left else None

    return Padding(run, lambda n_tokens: torch.arange(n_tokens))


@settings(deadline=None, max_examples=50)
@given(
    spans=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)).map(sorted), min_size=1, max_size=6),
    threshold=st.integers(1, 41),
    left=st.sampled_from([0.0, 1.0]),
)
def test_windows_are_never_filled_up_over_a_switch(spans: list[list[int]], threshold: int, left: float) -> None:
    padding = _switching_at(threshold, left)
    for shortest, longest in spans:
        assert not (padding.is_harmless(shortest, longest) and shortest < threshold <= longest)
    lengths = [n for span in spans for n in span]
    if not min(lengths) < threshold <= max(lengths):
        assert not padding.leaks


def test_lengths_that_were_tried_are_not_tried_again() -> None:
    runs: list[int] = []

    def run(ids: Tensor, mask: Tensor) -> tuple[Tensor, Any]:
        runs.append(ids.shape[1])
        return torch.ones(*ids.shape, 1), None

    padding = Padding(run, lambda n_tokens: torch.arange(n_tokens))
    assert padding.is_harmless(10, 64)
    n_runs = len(runs)
    assert padding.is_harmless(10, 64) and padding.is_harmless(20, 50) and len(runs) == n_runs
    assert padding.is_harmless(20, 70) and sorted(runs[n_runs:]) == [64, 70]


@pytest.mark.parametrize(("error", "told"), [(harness.ConfigError("too long"), None), (MemoryError(), MemoryError)])
def test_only_a_model_that_can_not_take_padding_is_read_without(error: Exception, told: Any) -> None:
    """Memory that is short for the trial is not held against padding, for the rest of the run and without a word."""

    def run(ids: Tensor, mask: Tensor) -> tuple[Tensor, Any]:
        if not mask.all():
            raise error
        return torch.ones(*ids.shape, 1), None

    padding = Padding(run, lambda n_tokens: torch.arange(n_tokens))
    if told is None:
        assert not padding.is_harmless(10, 64) and padding.leaks
    else:
        with pytest.raises(told):
            padding.is_harmless(10, 64)
        assert not padding.leaks
