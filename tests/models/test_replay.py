"""Replays against the whole model of transformers, unhooked and with a plain hook."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
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
from tests.support.tiny_models import (
    FAMILIES,
    TEXTS,
    save_tiny_language_model,
    save_tiny_model,
    tiny_model,
    tiny_tokenizer,
)

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

HEADLESS = {
    *("bert", "roberta", "electra", "distilbert", "modernbert", "albert", "mpnet", "deberta_v2", "longformer"),
    *("roformer", "t5", "t5_shallow", "bart", "pegasus"),
}
IDS = torch.tensor([tiny_tokenizer()(text)["input_ids"][:24] for text in TEXTS[:3]])
# Where a plain hook has to go, by hand: the block and its two sublayers.
MODULES = {
    "gpt2": ("transformer.h.1", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers.1", "attention", "mlp"),
    "llama": ("model.layers.1", "self_attn", "mlp"),
    "gemma2": ("model.layers.1", "post_attention_layernorm", "post_feedforward_layernorm"),
    "granite": ("model.layers.1", "self_attn", "mlp"),
    "mixtral": ("model.layers.1", "self_attn", "mlp"),
    "opt": ("model.decoder.layers.1", "self_attn", "fc2"),
    "falcon_new": ("transformer.h.1", "self_attention", "mlp"),
}


@torch.no_grad()
def _hooked(module: nn.Module, path: str, change: Callable[[Tensor], Tensor], before: bool) -> Tensor:
    """The logits of a model of transformers with `change` at one module's first input or output."""

    def hook(module: nn.Module, args: Any, output: Any) -> Any:
        return change(output) if isinstance(output, Tensor) else (change(output[0]), *output[1:])

    place = module.get_submodule(path)
    if before:
        handle = place.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
    else:
        handle = place.register_forward_hook(hook)
    logits: Tensor = module(input_ids=IDS, use_cache=False).logits
    handle.remove()
    return logits


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - HEADLESS))
def test_a_replay_is_the_whole_model_bit_for_bit(family: str, load: Any) -> None:
    model, reference = load(family)
    with torch.no_grad():
        clean = reference(input_ids=IDS, use_cache=False).logits
    sites = ["resid_pre.0", "attn_out.1", "mlp_out.1", f"resid_post.{model.n_layers - 1}"]
    if family in MODULES:  # sites between blocks, which are found and stubbed alike wherever they are
        sites += ["resid_pre.1", "resid_post.0"]
    for site in sites:
        try:
            replay = model.replay(IDS, site)
        except harness.ConfigError:
            assert family == "mamba" and site in ("attn_out.1", "mlp_out.1")
            continue
        kind, layer = harness.parse_site(site)
        assert torch.equal(replay.logits(), clean) and torch.equal(replay.patched(replay.x), clean)
        others = replay.x.flip(0)
        changed = replay.patched(others)
        assert not torch.allclose(changed, clean, atol=1e-3)
        assert all(model._stubs._sound[n] for n in (0, layer + (kind == "resid_post"), model.n_layers))
        model._stubs._sound = dict.fromkeys(range(model.n_layers + 1), False)
        assert torch.equal(replay.patched(others), changed) and torch.equal(replay.logits(), clean)
        model._stubs._sound = {0: True}


@pytest.mark.parametrize("family", MODULES)
@pytest.mark.parametrize("site", ["resid_pre.1", "attn_out.1", "mlp_out.1", "resid_post.1"])
def test_what_is_patched_is_what_a_plain_hook_patches(family: str, site: str, load: Any) -> None:
    model, reference = load(family)
    block, attention, mlp = MODULES[family]
    kind = site.split(".")[0]
    path = {"attn_out": f"{block}.{attention}", "mlp_out": f"{block}.{mlp}"}.get(kind, block)
    replay = model.replay(IDS, site)
    scale = 0.22 if family == "granite" and kind.endswith("_out") else 1.0

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        tokens = x.view(*IDS.shape, -1)
        torch.testing.assert_close(tokens * scale, replay.x)
        tokens[0, 3], tokens[2, 5:] = 0.0, 0.5 * tokens[2, 5:]
        return x

    x = replay.x.clone()
    x[0, 3], x[2, 5:] = 0.0, 0.5 * x[2, 5:]
    expected = _hooked(reference, path, change, before=kind == "resid_pre")
    torch.testing.assert_close(replay.patched(x), expected, rtol=1e-5, atol=1e-5)
    if scale == 1:
        assert torch.equal(replay.patched(x), expected)


def test_only_the_blocks_after_the_site_run(load: Any) -> None:
    model, _ = load("llama")
    run: list[int] = []
    replay = model.replay(IDS, "resid_post.1")
    for layer, block in enumerate(model.blocks):
        block.call.module.mlp.register_forward_hook(lambda *_, layer=layer: run.append(layer))
    replay.patched(replay.x)
    replay.logits()
    assert run == [2]
    model.replay(IDS, "attn_out.1").patched(replay.x)
    assert run[-2:] == [1, 2]


def test_the_model_is_left_as_it_was(load: Any) -> None:
    model, _ = load("gpt2")
    replay = model.replay(IDS, "mlp_out.1")
    for broken in (replay.x[:, :, :3], replay.x[:2]):
        with pytest.raises(harness.ConfigError, match="the activations have"):
            replay.patched(broken)
    for module in model.module.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert torch.equal(replay.logits(), replay.patched(replay.x))


def test_a_forward_that_the_instance_had_comes_back(load: Any) -> None:
    """Accelerate puts one there to bring weights in from disk."""
    model, _ = load("gpt_neox")
    module = model.module.gpt_neox.layers[0]
    own = module.forward
    wrapped = module.forward = lambda *args, **kwargs: own(*args, **kwargs)
    replay = model.replay(IDS, "resid_post.0")
    assert torch.equal(replay.patched(replay.x), replay.logits()) and module.forward is wrapped
    del module.forward


class _Layer(nn.Module):
    def __init__(self, left: dict[str, Tensor], reads: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.left, self.reads = left, reads

    def forward(self, x: Tensor) -> Tensor:
        if self.reads:
            return x + self.left["x"]
        self.left["x"] = self.linear(x)
        return x + torch.tanh(self.linear(x)).cumsum(1)


class _Shared(nn.Module):
    """One layer called three times, then another, which may read what the calls before it have left behind."""

    def __init__(self, reads: bool, forgets: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.left: dict[str, Tensor] = {}
        self.forgets = forgets
        self.embed, self.head = nn.Embedding(300, 8), nn.Linear(8, 300)
        self.layers = nn.ModuleList([_Layer(self.left, False), _Layer(self.left, reads)])

    def forward(self, ids: Tensor) -> Tensor:
        if self.forgets:
            self.left.clear()
        x = self.embed(ids)
        for i in (0, 0, 0, 1):
            x = self.layers[i](x)
        logits: Tensor = self.head(x)
        return logits


@pytest.mark.parametrize(
    ("reads", "forgets", "kind", "layer", "is_sound"),
    [
        (False, False, "resid_post", 1, True),
        (False, False, "resid_pre", 1, True),
        (True, True, "resid_post", 1, True),  # what the last layer reads was left by one that is not stubbed
        (True, True, "resid_post", 2, False),
        (True, False, "resid_post", 2, False),  # what it reads is there, but from other windows
    ],
)
@torch.no_grad()
def test_stubs_are_used_where_blocks_see_the_residual_stream_alone(
    reads: bool, forgets: bool, kind: str, layer: int, is_sound: bool
) -> None:
    model = _Shared(reads, forgets)
    found = blocks.find_blocks(model, lambda: model(IDS[:1]), IDS.shape[1], 4)
    assert [block.call.number for block in found] == [0, 1, 2, 0]
    tap = blocks.find_tap(found, kind, layer)
    assert tap is not None
    rows = TokenRows(model.embed, lambda n_tokens: IDS[0, :n_tokens])
    stubs = Stubs(lambda ids, mask: model(ids), found, rows)
    runs = Runs(stubs, lambda site: tap, IDS, torch.full((3,), IDS.shape[1]))
    clean, replay = model(IDS), Replay(runs, f"{kind}.{layer}")
    model(IDS.flip(0))
    assert stubs.are_sound(layer + (kind == "resid_post"), IDS) is is_sound
    assert torch.equal(replay.logits(), clean) and torch.equal(replay.patched(replay.x), clean)

    others, x = replay.x.flip(0), model.embed(IDS)
    for i in range(4):
        at_site = i == layer if kind == "resid_pre" else i == layer + 1
        x = model.layers[int(i == 3)](others if at_site else x)
    assert torch.equal(replay.patched(others), model.head(x))


# Heads


@pytest.mark.parametrize("family", sorted(HEADLESS))
def test_encoders_have_no_head_and_say_so(family: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = harness.create("model", "hf", path=str(save_tiny_model(family, Path(folder))))
        before = model.module
        name = model.module.config.model_type
        with pytest.raises(harness.Undefined, match=f"{name} has no language-model head that predicts next tokens"):
            model.replay(IDS, "resid_post.0")
        assert model.module is before


def test_a_head_that_the_checkpoint_lacks_is_never_made_up(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("llama", tmp_path)))
    for _ in range(2):
        with pytest.raises(harness.Undefined, match=r"lacks the weights of the language-model head: lm_head\.weight"):
            model.replay(IDS, "resid_post.0")
    x = model.activations(IDS, torch.ones_like(IDS).bool(), ["resid_post.1"])
    assert x["resid_post.1"].isfinite().all()


def test_a_body_with_tied_embeddings_has_its_head(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("gpt2", tmp_path)))
    body = tiny_model("gpt2")
    with torch.no_grad():
        expected = body(input_ids=IDS).last_hidden_state @ body.wte.weight.T
    torch.testing.assert_close(model.replay(IDS, "resid_post.0").logits(), expected, rtol=1e-5, atol=1e-5)


def test_loading_the_head_changes_nothing_that_is_read(tmp_path: Path) -> None:
    save_tiny_language_model("gemma2", tmp_path)
    model = harness.create("model", "hf", path=str(tmp_path))
    assert not hasattr(model.module, "lm_head")
    sites = ["resid_pre.1", "attn_out.1", "mlp_out.1", "resid_post.2"]
    before = model.activations(IDS, torch.ones_like(IDS).bool(), sites)
    model.replay(IDS, "resid_post.0")
    assert hasattr(model.module, "lm_head")
    after = model.activations(IDS, torch.ones_like(IDS).bool(), sites)
    assert all(torch.equal(before[site], after[site]) for site in sites)


def test_half_precision(tmp_path: Path) -> None:
    save_tiny_language_model("granite", tmp_path)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16)
    model = harness.create("model", "hf", path=str(tmp_path), dtype="bfloat16")
    replay = model.replay(IDS, "attn_out.1")
    assert replay.x.dtype == torch.bfloat16
    with torch.no_grad():
        clean = reference(input_ids=IDS, use_cache=False).logits
    assert torch.equal(replay.logits(), clean)
    assert torch.equal(replay.patched(replay.x.float()), clean)
