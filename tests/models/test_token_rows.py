"""Rows of a residual stream that has more of them than a window has tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import harness
from harness.plugins.models import blocks
from harness.plugins.models.replay import Replay
from harness.plugins.models.runs import Runs
from harness.plugins.models.stubs import Stubs
from harness.plugins.models.token_rows import TokenRows
from tests.support.tiny_models import TEXTS, randomised, save_model, tiny_tokenizer

IDS = torch.tensor([tiny_tokenizer()(text)["input_ids"][:20] for text in TEXTS[:3]])
EMBEDDING = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def test_rows_behind_a_prompt_are_those_of_the_tokens(tmp_path: Path) -> None:
    config = transformers.CpmAntConfig(
        vocab_size=300,
        hidden_size=32,
        num_attention_heads=4,
        dim_head=8,
        dim_ff=48,
        num_hidden_layers=3,
        prompt_length=5,
        prompt_types=4,
    )
    reference = save_model(randomised(transformers.CpmAntModel(config)), tmp_path)
    model = harness.create("model", "hf", path=str(tmp_path))
    found: dict[str, Tensor] = {}
    for layer, block in enumerate(reference.encoder.layers):
        block.register_forward_hook(lambda _, args, out, layer=layer: found.__setitem__(f"resid_post.{layer}", out[0]))
    reference(input_ids=IDS, use_cache=False)
    for site, x in model.activations(IDS, torch.ones_like(IDS).bool(), list(found)).items():
        assert found[site].shape[1] == IDS.shape[1] + 5
        torch.testing.assert_close(x, found[site][:, 5:], rtol=1e-5, atol=1e-5)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.inner(x).cumsum(dim=1)
        return x + 0.1 * mixed


class _WithPrompt(nn.Module):
    """A language model with two rows in front of those of its tokens, and one behind."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([_Block(), _Block(), _Block()])

    def entering(self, ids: Tensor) -> Tensor:
        b = len(ids)
        return torch.cat([torch.ones(b, 2, 8), EMBEDDING[ids], torch.zeros(b, 1, 8)], dim=1)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.entering(ids)
        for layer in self.layers:
            x = layer(x)
        return x[:, 2:-1] @ EMBEDDING.T


@torch.no_grad()
def test_replays_put_rows_where_the_tokens_are() -> None:
    model = _WithPrompt()
    found = blocks.find_blocks(model, lambda: model(IDS[:1]), IDS.shape[1], 3)
    tap = blocks.find_tap(found, "resid_post", 0)
    assert tap is not None
    rows = TokenRows(model.entering, lambda n_tokens: IDS.flatten()[:n_tokens])
    stubs = Stubs(lambda ids, mask: model(ids), found, rows)
    replay = Replay(Runs(stubs, lambda site: tap, IDS, torch.full((3,), IDS.shape[1])), "resid_post.0")
    first = model.layers[0](model.entering(IDS))
    assert torch.equal(replay.x, first[:, 2:-1]) and stubs.are_sound(1, IDS)
    assert torch.equal(replay.patched(replay.x), model(IDS))
    first[:, 2:-1] = replay.x.flip(0)
    changed = model.layers[2](model.layers[1](first))[:, 2:-1] @ EMBEDDING.T
    assert torch.equal(replay.patched(replay.x.flip(0)), changed)
    with pytest.raises(harness.Undefined, match="can't be run alone"):
        stubs.head(IDS[:1], replay.x[0])


@pytest.mark.parametrize(("n_before", "n_after"), [(0, 0), (3, 0), (0, 4), (2, 5)])
def test_tokens_are_found_wherever_they_are(n_before: int, n_after: int) -> None:
    def entering(ids: Tensor) -> Tensor:
        b = len(ids)
        return torch.cat([torch.ones(b, n_before, 8), EMBEDDING[ids], torch.zeros(b, n_after, 8)], dim=1)

    rows = TokenRows(entering, lambda n_tokens: IDS.flatten()[:n_tokens])
    x = entering(IDS)
    assert torch.equal(rows.of(x, IDS.shape[1]), EMBEDDING[IDS])
    assert rows.first(1, 1 + n_before + n_after) == n_before


@pytest.mark.parametrize("mixes", [lambda x: x.cumsum(dim=1), lambda x: x.flip(1), torch.zeros_like])
def test_tokens_that_are_nowhere_are_refused(mixes: Any) -> None:
    def entering(ids: Tensor) -> Tensor:
        return torch.cat([torch.ones(len(ids), 2, 8), mixes(EMBEDDING[ids])], dim=1)

    rows = TokenRows(entering, lambda n_tokens: IDS.flatten()[:n_tokens])
    with pytest.raises(harness.ConfigError, match=r"22 rows for a window of 20 tokens.*can't be told"):
        rows.of(entering(IDS), IDS.shape[1])
