"""Runs with edits against transformers with plain hooks, a transformer by hand, and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import harness
from harness.plugins.models import blocks
from harness.plugins.models.runs import Runs
from harness.plugins.models.stubs import Stubs
from harness.plugins.models.token_rows import TokenRows
from tests.support.tiny_models import TEXTS, save_tiny_language_model, save_tiny_model, tiny_tokenizer

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

IDS = torch.tensor([tiny_tokenizer()(text)["input_ids"][:16] for text in TEXTS[:3]])
FULL, PADDED = torch.tensor([16, 16, 16]), torch.tensor([9, 16, 12])
# By hand: blocks, their attention, the last norm.
MODULES = {
    "gpt2": ("transformer.h", "attn", "transformer.ln_f"),
    "gpt_neox": ("gpt_neox.layers", "attention", "gpt_neox.final_layer_norm"),
    "llama": ("model.layers", "self_attn", "model.norm"),
    "granite": ("model.layers", "self_attn", "model.norm"),
}


def _mask(lengths: Tensor) -> Tensor:
    return torch.arange(IDS.shape[1]) < lengths[:, None]


def _negated(x: Tensor) -> Tensor:
    """Another stream at some tokens; the others keep theirs."""
    return torch.cat([x[:, :3], -x[:, 3:5], x[:, 5:]], dim=1)


def _swapped(x: Tensor) -> Tensor:
    return 0.5 * x + 0.5 * x.flip(-1)


@contextmanager
def _hooked(module: nn.Module, changes: dict[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Plain hooks on the outputs of modules of transformers."""

    def hook_of(change: Callable[[Tensor], Tensor]) -> Any:
        return lambda _, args, out: change(out) if isinstance(out, Tensor) else (change(out[0]), *out[1:])

    handles = [module.get_submodule(path).register_forward_hook(hook_of(change)) for path, change in changes.items()]
    yield
    for handle in handles:
        handle.remove()


@torch.no_grad()
def _by_hand(reference: Any, family: str, lengths: Tensor, changes: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """The rows that the last block hands on, the logits made of those at the ends by norm and head, and all logits."""
    path, _, norm = MODULES[family]
    last: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        last.append(x)
        return x

    with _hooked(reference, changes), _hooked(reference, {f"{path}.2": keep}):
        everywhere = reference(input_ids=IDS, attention_mask=_mask(lengths).long(), use_cache=False).logits
    rows = last[0][torch.arange(3), lengths - 1][:, None]
    logits = reference.get_output_embeddings()(reference.get_submodule(norm)(rows))[:, 0]
    return last[0], logits / getattr(reference.config, "logits_scaling", 1), everywhere


@pytest.mark.parametrize("lengths", [FULL, PADDED], ids=["full", "padded"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "llama"])
def test_edits_at_two_sites_are_those_of_plain_hooks_bit_for_bit(family: str, lengths: Tensor, load: Any) -> None:
    model, reference = load(family)
    path, attention, _ = MODULES[family]
    edits = {"resid_post.1": _swapped, "attn_out.1": _negated}  # the order of the sites is the model's
    runs = model.runs(IDS, lengths)
    x, logits, everywhere = _by_hand(
        reference, family, lengths, {f"{path}.1.{attention}": _negated, f"{path}.1": _swapped}
    )
    clean, clean_logits, _ = _by_hand(reference, family, lengths, {})
    mask = _mask(lengths)
    assert torch.equal(runs.activations(["resid_post.2"], edits)["resid_post.2"][mask], x[mask])
    assert torch.equal(runs.logits(edits), logits) and torch.equal(runs.logits(), clean_logits)
    assert not torch.allclose(logits, clean_logits, atol=1e-2)
    torch.testing.assert_close(logits, everywhere[torch.arange(3), lengths - 1], rtol=1e-5, atol=1e-5)
    assert torch.equal(runs.activations(["resid_post.2"])["resid_post.2"][mask], clean[mask])
    model._stubs._sound = dict.fromkeys(range(1, 4), False) | {0: True}  # the whole model, each time
    whole = model.runs(IDS, lengths)
    assert torch.equal(whole.activations(["resid_post.2"], edits)["resid_post.2"][mask], x[mask])
    model._stubs._sound = {0: True}


@pytest.mark.parametrize("family", ["gpt2", "llama", "granite", "gemma2"])
def test_what_is_not_edited_stays_bit_for_bit(family: str, load: Any) -> None:
    model, _ = load(family)
    runs, mask = model.runs(IDS, PADDED), _mask(PADDED)
    sites = ["resid_pre.0", "attn_out.1", "mlp_out.1", "resid_post.1", "resid_post.2"]
    clean = runs.activations(sites)
    read = model.activations(IDS, mask, sites)
    assert all(torch.equal(clean[site][mask], read[site][mask]) for site in sites)
    same = dict.fromkeys(sites, lambda x: x.clone())
    again = runs.activations(sites, same)
    assert all(torch.equal(clean[site][mask], again[site][mask]) for site in sites)
    assert torch.equal(runs.logits(same), runs.logits())
    for site in sites:
        assert not torch.equal(runs.logits({site: _swapped}), runs.logits())


def test_a_head_is_taken_out_by_its_columns(load: Any) -> None:
    """As by zeros in the rows of the output map that it goes through."""
    model, reference = load("llama")
    n = model.site_width("attn_z.1") // model.site_groups("attn_z.1")
    assert n == 8

    def without(x: Tensor) -> Tensor:
        return torch.cat([x[..., :n], torch.zeros_like(x[..., n : 2 * n]), x[..., 2 * n :]], dim=-1)

    found = model.runs(IDS, FULL).activations(["attn_out.1", "resid_post.2"], {"attn_z.1": without})
    module = reference.model.layers[1].self_attn.o_proj
    weight = module.weight.clone()
    kept: list[Tensor] = []
    with torch.no_grad():
        module.weight[:, n : 2 * n] = 0
        with _hooked(reference, {"model.layers.1.self_attn": lambda x: kept.append(x) or x}):
            reference(input_ids=IDS, use_cache=False)
        module.weight.copy_(weight)
    torch.testing.assert_close(found["attn_out.1"], kept[0], rtol=1e-5, atol=1e-6)


def test_edits_see_what_earlier_ones_lead_to(load: Any) -> None:
    model, _ = load("llama")
    runs, arrived = model.runs(IDS, FULL), []

    def look(x: Tensor) -> Tensor:
        arrived.append(x)
        return 2 * x

    found = runs.activations(["resid_post.1", "resid_post.2"], {"resid_post.2": look, "resid_post.0": _swapped})
    alone = runs.activations(["resid_post.2"], {"resid_post.0": _swapped})["resid_post.2"]
    assert torch.equal(arrived[0], alone) and torch.equal(found["resid_post.2"], 2 * alone)
    clean = runs.activations(["resid_post.1"])["resid_post.1"]
    assert not torch.equal(found["resid_post.1"], clean)
    # One tensor by two names: both edits apply, the first one first.
    both = runs.activations(["resid_pre.2"], {"resid_pre.2": lambda x: x + 1, "resid_post.1": lambda x: 2 * x})
    assert torch.equal(both["resid_pre.2"], 2 * clean + 1)


# Gradients


@pytest.fixture(scope="module", params=sorted(MODULES))
def in_float64(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_tiny_language_model(request.param, tmp_path_factory.mktemp(request.param))
    model = harness.create("model", "hf", path=str(folder))
    model.runs(IDS, FULL)  # the head is loaded now
    model.module.double()
    return model


def _difference(logits: Tensor) -> Tensor:
    return (logits[:, 7] - logits[:, 40]).sum()


def _measured(runs: Any, site: str, x: Tensor, delta: Tensor) -> float:
    """The change of `_difference` along delta, from central differences of two lengths, without their term of h³."""
    ends = (runs.logits({site: lambda _, y=x + step * delta: y}) for step in (1, -1, 0.5, -0.5))
    up, down, half_up, half_down = (float(_difference(logits)) for logits in ends)
    return (8 * (half_up - half_down) - (up - down)) / 6


def test_gradients_are_differences_at_the_clean_point(in_float64: Any) -> None:
    sites = ["resid_pre.1", "attn_z.1", "attn_out.1", "mlp_act.1", "mlp_out.1", "resid_post.1", "resid_post.2"]
    runs = in_float64.runs(IDS, PADDED)
    clean, gradients = runs.activations(sites), runs.gradients(sites, _difference)
    draw = torch.Generator().manual_seed(0)
    for site in sites:
        x, gradient = clean[site], gradients[site]
        assert gradient.dtype == torch.float64 and not gradient[~_mask(PADDED)].any()
        direction = torch.randn(x.shape, generator=draw, dtype=x.dtype)
        single = torch.zeros_like(x)
        single[0, PADDED[0] - 1, 3] = 1
        # Along the gradient, where a missing part shows, and elsewhere; far enough for norms that round to float32.
        for along in (gradient, direction, single):
            delta = 0.05 * along / along.norm()
            most = float(gradient.norm() * delta.norm())
            assert _measured(runs, site, x, delta) == pytest.approx(float((gradient * delta).sum()), abs=1e-3 * most)


def test_gradients_are_taken_where_edits_lead_to_and_through_them(in_float64: Any) -> None:
    """The whole gradient: what a site does through the edit of a later one counts; a constant there stops it."""
    edits = {"resid_post.0": _swapped, "resid_post.1": _negated}
    runs = in_float64.runs(IDS, FULL)
    gradient = runs.gradients(["resid_post.0"], _difference, edits)["resid_post.0"]
    x = runs.activations(["resid_post.0"], edits)["resid_post.0"]
    delta = 0.02 * gradient / gradient.norm()
    ends = [
        float(_difference(runs.logits({**edits, "resid_post.0": lambda _, y=y: y}))) for y in (x + delta, x - delta)
    ]
    assert (ends[0] - ends[1]) / 2 == pytest.approx(float((gradient * delta).sum()), rel=1e-3)
    clean = runs.activations(["resid_post.1"])["resid_post.1"]
    both = runs.gradients(["resid_post.0", "resid_post.1"], _difference, {"resid_post.1": lambda _: clean})
    assert not both["resid_post.0"].any() and both["resid_post.1"].any()
    alone = runs.gradients(["resid_post.1"], _difference)["resid_post.1"]
    assert torch.equal(both["resid_post.1"], alone)
    assert not runs.gradients(["resid_post.0"], lambda logits: 0 * logits.detach().sum())["resid_post.0"].any()


# By hand


class _Heads(nn.Module):
    """One layer of attention heads without anything else, in float64."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        weights = torch.randn(4, 8, 8, generator=draw, dtype=torch.float64) / 3
        self.q, self.k, self.v, self.o = (nn.Parameter(weight, requires_grad=False) for weight in weights)
        self.inner = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        scores = (x @ self.q) @ (x @ self.k).transpose(1, 2)
        ahead = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        mixed: Tensor = scores.masked_fill(ahead, -torch.inf).softmax(-1) @ (x @ self.v) @ self.o
        return x + self.inner(mixed)


class _ByHand(nn.Module):
    """Attention only: embedding, three layers, head."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.embedding = torch.randn(300, 8, generator=draw, dtype=torch.float64)
        self.layers = nn.ModuleList([_Heads(seed) for seed in range(3)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding[ids]
        for layer in self.layers:
            x = layer(x)
        return x @ self.embedding.T


@pytest.mark.parametrize("lengths", [FULL, PADDED], ids=["full", "padded"])
def test_a_transformer_by_hand(lengths: Tensor) -> None:
    model = _ByHand()
    with torch.no_grad():
        found = blocks.find_blocks(model, lambda: model(IDS[:1]), IDS.shape[1], 3)

    def tap(site: str) -> Any:
        return blocks.find_tap(found, *harness.parse_site(site))

    rows = TokenRows(lambda ids: model.embedding[ids], lambda n_tokens: IDS[0, :n_tokens])
    runs = Runs(Stubs(lambda ids, mask: model(ids), found, rows), tap, IDS, lengths)

    first, second, third = model.layers
    x = first(model.embedding[IDS.masked_fill(~_mask(lengths), 0)])
    edited = _negated(x).requires_grad_()
    later = _swapped(second(edited))
    later.retain_grad()
    rows_at_ends = third(later)[torch.arange(3), lengths - 1]
    logits = rows_at_ends[:, None] @ model.embedding.T
    _difference(logits[:, 0]).backward()
    edits = {"resid_post.0": _negated, "resid_post.1": _swapped}
    assert torch.equal(runs.logits(edits), logits[:, 0].detach())
    gradients = runs.gradients(["resid_post.0", "resid_post.1"], _difference, edits)
    assert torch.equal(gradients["resid_post.0"], edited.grad) and torch.equal(gradients["resid_post.1"], later.grad)
    assert gradients["resid_post.0"].any()


# What a run costs, and what it leaves


def test_the_head_sees_ends_alone_and_blocks_before_the_first_edit_do_not_run(load: Any) -> None:
    model, _ = load("llama")
    runs = model.runs(IDS, PADDED)
    for edited in ("resid_post.1", "attn_out.1"):  # tries whether stubs are sound, and records the streams
        runs.logits({edited: _swapped})
    seen: list[Any] = []
    handles = [model.module.lm_head.register_forward_hook(lambda _, args, out: seen.append(tuple(out.shape)))]
    for layer, block in enumerate(model.blocks):
        handles.append(block.call.module.mlp.register_forward_hook(lambda *_, layer=layer: seen.append(layer)))
    runs.logits({"resid_post.1": _swapped})
    runs.gradients(["resid_post.1"], _difference)
    runs.activations(["resid_post.1"], {"attn_out.1": _swapped})
    for handle in handles:
        handle.remove()
    head = (3, 1, model.module.config.vocab_size)
    assert seen == [2, head, 2, head, 1]


def test_padding_is_without_effect(load: Any) -> None:
    model, _ = load("gpt2")
    others = IDS.where(_mask(PADDED), 299)
    one, other = (model.runs(ids, PADDED) for ids in (IDS, others))
    assert torch.equal(one.logits({"resid_post.0": _swapped}), other.logits({"resid_post.0": _swapped}))
    for i, length in enumerate(PADDED.tolist()):
        alone = model.runs(IDS[i : i + 1, :length], PADDED[i : i + 1])
        torch.testing.assert_close(alone.logits()[0], one.logits()[i], rtol=1e-5, atol=1e-5)
    model._padding.leaks = True
    with pytest.raises(harness.Undefined, match="run windows of one length together"):
        model.runs(IDS, PADDED)
    model.runs(IDS, FULL)
    model._padding.leaks = False


def test_errors_of_edits_are_their_own_and_leave_nothing_behind(load: Any) -> None:
    model, _ = load("gpt2")
    runs = model.runs(IDS, FULL)
    clean = runs.logits()

    def broken(x: Tensor) -> Tensor:
        raise ValueError("of my own")

    with pytest.raises(ValueError, match="of my own"):
        runs.logits({"resid_post.1": broken})
    with pytest.raises(harness.ConfigError, match=r"an edit gave \[3, 16, 5\]; what arrived is \[3, 16, 32\]"):
        runs.gradients(["resid_post.2"], _difference, {"attn_out.1": lambda x: x[..., :5]})
    with pytest.raises(harness.ConfigError, match="attn_outs"):
        runs.activations(["attn_outs.1"])
    for module in model.module.modules():
        assert "forward" not in vars(module)
        assert not module._forward_hooks and not module._forward_pre_hooks
    assert torch.equal(runs.logits(), clean)


@pytest.mark.parametrize("lengths", [[16, 16], [0, 16, 16], [17, 16, 16]])
def test_lengths_that_do_not_fit_are_refused(lengths: list[int], load: Any) -> None:
    with pytest.raises(harness.ConfigError, match="give one each"):
        load("gpt2")[0].runs(IDS, torch.tensor(lengths))


def test_models_without_a_head_say_so(tmp_path: Path) -> None:
    model = harness.create("model", "hf", path=str(save_tiny_model("bert", tmp_path)))
    with pytest.raises(harness.Undefined, match="bert has no language-model head"):
        model.runs(IDS, FULL)


def test_a_head_that_sees_more_than_one_row_is_given_all(tmp_path: Path) -> None:
    save_tiny_language_model("llama", tmp_path)
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path).requires_grad_(False)
    model = harness.create("model", "hf", path=str(tmp_path))
    assert model._no_head is None  # now it is loaded
    for module in (model.module, reference):
        module.lm_head.register_forward_pre_hook(lambda module, args: (args[0].cumsum(dim=1),))
    runs = model.runs(IDS, PADDED)
    expected = reference(input_ids=IDS, attention_mask=_mask(PADDED).long(), use_cache=False).logits
    assert torch.equal(runs.logits(), expected[torch.arange(3), PADDED - 1])
    gradient = runs.gradients(["resid_post.2"], _difference)["resid_post.2"]
    assert gradient[0, 0].any()  # all rows lead to it
