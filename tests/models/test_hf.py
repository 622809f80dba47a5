from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import harness
from harness.plugins.models import HFConfig, blocks, hooks, planning
from harness.plugins.models.site_taps import SiteTaps
from tests.support import tiny_models
from tests.support.tiny_models import FAMILIES, TEXTS, save_tiny_model, tiny_model, tiny_tokenizer

# Modules of transformers 5.17 that run torch.jit.script on import, which newer releases of torch deprecate.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

IDS = torch.tensor([tiny_tokenizer()(TEXTS[0])["input_ids"][:24]])
# These list a block's output where others list its input, or attention and MLP add nothing of their own.
STATE_SPACE = {"mamba"}
HYBRID = {"jamba"}
POST_NORM = {
    "bert",
    "roberta",
    "electra",
    "distilbert",
    "albert",
    "mpnet",
    "deberta_v2",
    "longformer",
    "roformer",
    "bart",
    "openai_gpt",
    "opt_post_norm",
    "bloom_post",
}
FINAL_NORMS = {
    "gpt2": "ln_f",
    "gpt_neox": "final_layer_norm",
    "llama": "norm",
    "gemma3": "norm",
    "qwen2": "norm",
    "mistral": "norm",
    "bert": "",
}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Tiny models by family, each made once."""
    loaded: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in loaded:
            folder = save_tiny_model(family, tmp_path_factory.mktemp(family))
            loaded[family] = harness.create("model", "hf", path=str(folder))
        return loaded[family]

    return get


def _all(kinds: str, n_layers: int) -> list[str]:
    return [f"{kind}.{layer}" for kind in kinds.split() for layer in range(n_layers)]


def _read(model: Any, sites: list[str], ids: Tensor = IDS) -> dict[str, Tensor]:
    return model.activations(ids, torch.ones_like(ids).bool(), sites)


def _hidden_states(family: str) -> tuple[Any, tuple[Tensor, ...]]:
    """Hidden states of the unhooked model of transformers."""
    model = tiny_model(family)
    reader = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        return model, reader(input_ids=IDS, output_hidden_states=True).hidden_states


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_stream_is_that_of_the_unhooked_model(family: str, load: Any) -> None:
    model = load(family)
    x = _read(model, _all("resid_pre resid_post", model.n_layers))
    reference, states = _hidden_states(family)
    assert len(states) == model.n_layers + 1
    for layer in range(model.n_layers - 1):  # the last state of most is after the final norm
        state = states[layer] if family in STATE_SPACE else states[layer + 1]
        torch.testing.assert_close(x[f"resid_post.{layer}"], state, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(x[f"resid_pre.{layer + 1}"], state, rtol=1e-5, atol=1e-5)
    if family in FINAL_NORMS:
        final_norm = getattr(reference, FINAL_NORMS[family], nn.Identity())
        last = final_norm(x[f"resid_post.{model.n_layers - 1}"])
        torch.testing.assert_close(last, states[-1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - POST_NORM - STATE_SPACE - HYBRID))
def test_sublayers_add_up_to_the_block(family: str, load: Any) -> None:
    model = load(family)
    x = _read(model, _all("resid_pre resid_post attn_out mlp_out", model.n_layers))
    for layer in range(model.n_layers):
        total = x[f"resid_pre.{layer}"] + x[f"attn_out.{layer}"] + x[f"mlp_out.{layer}"]
        torch.testing.assert_close(total, x[f"resid_post.{layer}"], rtol=1e-5, atol=1e-5)


SUBLAYERS = {
    "bert": ("encoder.layer.1.attention.output.dense", "encoder.layer.1.output.dense"),
    "roberta": ("encoder.layer.1.attention.output.dense", "encoder.layer.1.output.dense"),
    "distilbert": ("transformer.layer.1.attention", "transformer.layer.1.ffn"),
    "gpt2": ("h.1.attn", "h.1.mlp"),
    "gpt_neox": ("layers.1.attention", "layers.1.mlp"),
    "gptj": ("h.1.attn", "h.1.mlp"),
    "phi": ("layers.1.self_attn", "layers.1.mlp"),
    "cohere": ("layers.1.self_attn", "layers.1.mlp"),
    "opt": ("decoder.layers.1.self_attn", "decoder.layers.1.fc2"),
    "bloom": ("h.1.self_attention.dense", "h.1.mlp.dense_4h_to_h"),
    "gemma2": ("layers.1.post_attention_layernorm", "layers.1.post_feedforward_layernorm"),
    "mixtral": ("layers.1.self_attn", "layers.1.mlp"),
    "t5": ("block.1.layer.0.SelfAttention", "block.1.layer.1.DenseReluDense"),
}


@pytest.mark.parametrize("family", SUBLAYERS)
def test_attention_and_mlp_are_not_mixed_up(family: str, load: Any) -> None:
    model = load(family)
    x = _read(model, ["attn_out.1", "mlp_out.1"])
    for site, path in zip(x, SUBLAYERS[family], strict=True):
        outputs: list[Tensor] = []
        handle = model.module.get_submodule(path).register_forward_hook(
            lambda module, args, output, outputs=outputs: outputs.append(
                (output if isinstance(output, Tensor) else output[0]).clone()
            )
        )
        with torch.no_grad():
            model.module(input_ids=IDS)
        handle.remove()
        assert torch.equal(x[site].flatten(), outputs[0].flatten())


def test_post_norm_sublayers_are_read_before_the_sum_is_normed(load: Any) -> None:
    model = load("bert")
    block = model.module.encoder.layer[1]
    x = _read(model, ["resid_pre.1", "attn_out.1", "mlp_out.1", "resid_post.1"])
    middle = block.attention.output.LayerNorm(x["resid_pre.1"] + x["attn_out.1"])
    torch.testing.assert_close(block.output.LayerNorm(middle + x["mlp_out.1"]), x["resid_post.1"])


def test_each_call_of_shared_layers_is_a_block(load: Any) -> None:
    model = load("albert")
    x = _read(model, _all("resid_post attn_out mlp_out", 3))
    layer = model.module.encoder.albert_layer_groups[0].albert_layers[0]
    for i in (1, 2):
        middle = layer.attention.LayerNorm(x[f"resid_post.{i - 1}"] + x[f"attn_out.{i}"])
        last = layer.full_layer_layer_norm(middle + x[f"mlp_out.{i}"])
        torch.testing.assert_close(last, x[f"resid_post.{i}"])
    assert not torch.allclose(x["attn_out.1"], x["attn_out.2"])


@pytest.mark.parametrize(
    ("family", "site", "valid"),
    [
        ("mamba", "attn_out.1", "resid_post.1, resid_pre.1"),
        ("mamba", "mlp_out.1", "resid_post.1, resid_pre.1"),
        ("jamba", "attn_out.0", "resid_post.0, resid_pre.0, mlp_out.0"),
    ],
)
def test_a_sublayer_that_a_block_has_not_got_is_refused(family: str, site: str, valid: str, load: Any) -> None:
    with pytest.raises(harness.ConfigError, match=f"{site}.*This layer has: {valid}"):
        _read(load(family), [site])


def test_neurons_and_heads_are_what_enters_the_last_maps(load: Any) -> None:
    """The input of a plain hook on the module itself, and the sublayer's output made of it by hand."""
    gpt2, llama = load("gpt2"), load("llama")
    for model, path, width in (
        (gpt2, "h.1.mlp.c_proj", 128),
        (gpt2, "h.1.attn.c_proj", 32),
        (llama, "layers.1.mlp.down_proj", 48),
        (llama, "layers.1.self_attn.o_proj", 32),
    ):
        entered: list[Tensor] = []
        module = model.module.get_submodule(path)
        handle = module.register_forward_pre_hook(lambda _, args, entered=entered: entered.append(args[0]))
        kind, out = ("mlp_act", "mlp_out") if "mlp" in path else ("attn_z", "attn_out")
        x = _read(model, [f"{kind}.1", f"{out}.1", "resid_post.2"])
        handle.remove()
        assert torch.equal(x[f"{kind}.1"], entered[-1]) and x[f"{kind}.1"].shape[-1] == width
        assert model.site_width(f"{kind}.1") == width and model.site_width(f"{out}.1") == 32
        torch.testing.assert_close(module(x[f"{kind}.1"]), x[f"{out}.1"], rtol=1e-5, atol=1e-6)
        assert model.site_groups(f"{kind}.1") == (4 if kind == "attn_z" else 1)


@pytest.mark.parametrize(
    ("family", "site", "reason"),
    [
        ("gemma2", "mlp_act.1", "mlp_out is the output of Gemma2RMSNorm, which is not linear in its input, row by row"),
        (
            "gemma2",
            "attn_z.1",
            "attn_out is the output of Gemma2RMSNorm, which is not linear.*mlp_out.1, attn_out.1[.]",
        ),
        ("mixtral", "mlp_act.1", "mlp_out is the output of MixtralExperts, which is not linear.*attn_z.1[.]"),
        ("mamba", "attn_z.1", "no one module of MambaBlock adds attn_out, whose input it would be"),
        ("gpt2", "attn_z.3", "this model has the layers 0 to 2"),
    ],
)
def test_what_is_not_linear_behind_a_site_is_said(family: str, site: str, reason: str, load: Any) -> None:
    with pytest.raises(harness.ConfigError, match=reason):
        _read(load(family), [site])


def test_heads_whose_columns_do_not_add_up_are_refused(load: Any) -> None:
    taps = load("llama")._sites
    for config in ({"num_attention_heads": 4, "head_dim": 16}, {"hidden_size": 32}):
        other = SiteTaps(taps._blocks, config, taps._run)
        with pytest.raises(harness.ConfigError, match="the 32 numbers that Linear is given are not the outputs of"):
            other.of("attn_z.1")
        assert other.of("mlp_act.1").side == "input"


@torch.no_grad()
def test_linear_is_a_matter_of_numbers() -> None:
    """A gate in the last map, a second input and a map across tokens are found out; GPT-2's transposed map passes."""
    x = torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))

    class Gated(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(1e-2 * x)

    class Across(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(dim=1)

    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    cases = [(nn.Linear(8, 3), True), (Conv1D(3, 8), True), (Gated(), False), (Across(), False), (Two(), False)]
    for module, is_linear in cases:
        args = (x, x) if isinstance(module, Two) else (x,)
        (call,) = hooks.watch({module: "0"}, lambda module=module, args=args: module(*args))
        term = blocks._Term(call, 0, call.outputs[0])
        assert blocks._is_linear(term) is is_linear, module


@pytest.mark.parametrize(
    ("site", "called"),
    [("resid_pre.0", []), ("resid_post.1", [0, 1]), ("resid_pre.1", [0]), ("attn_out.1", [0]), ("mlp_out.0", [])],
)
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox_sequential", "llama", "bert"])
def test_the_forward_pass_stops_at_the_deepest_site(family: str, site: str, called: list[int], load: Any) -> None:
    model = load(family)
    model._sites.of(site)
    ended: list[int] = []
    handles = [
        block.call.module.register_forward_hook(lambda *_, layer=layer: ended.append(layer))
        for layer, block in enumerate(model.blocks)
    ]
    _read(model, [site, "resid_pre.0"])
    for handle in handles:
        handle.remove()
    assert ended == called


def test_no_hook_is_left_behind(load: Any) -> None:
    model = load("gpt2")
    _read(model, ["resid_post.1", "attn_out.1"])
    with pytest.raises(harness.ConfigError, match="can't take a window of 170 tokens"):
        _read(model, ["resid_post.1"], IDS.repeat(1, 8)[:, :170])
    for module in model.module.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_changes_nothing(family: str, load: Any) -> None:
    _assert_padding_changes_nothing(load(family))
    assert not load(family)._padding.leaks


def test_models_that_let_padding_leak_run_each_window_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = tiny_models._BERT | {"embedding_size": 32}
    monkeypatch.setitem(FAMILIES, "convbert", ("ConvBertConfig", small))
    model = harness.create("model", "hf", path=str(save_tiny_model("convbert", tmp_path)))
    _assert_padding_changes_nothing(model)
    assert model._padding.leaks


def _assert_padding_changes_nothing(model: Any) -> None:
    sites = _all("resid_post", model.n_layers)
    short = IDS[:, :9]
    ids = torch.cat([IDS, nn.functional.pad(short, (0, IDS.shape[1] - 9), value=7)])
    mask = torch.ones_like(ids).bool()
    mask[1, 9:] = False
    padded, alone = model.activations(ids, mask, sites), _read(model, sites, short)
    for site in sites:
        # Other shapes sum in another order: in float32 some 64 terms of size 10 in each of a few layers.
        torch.testing.assert_close(padded[site][1, :9], alone[site][0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("family", ["gemma2", "granite", "bert"])
def test_half_precision(family: str, tmp_path: Path) -> None:
    folder = save_tiny_model(family, tmp_path)
    model = harness.create("model", "hf", path=str(folder), dtype="bfloat16")
    exact = harness.create("model", "hf", path=str(folder))
    sites = _all("resid_post attn_out mlp_out", 3)
    x, reference = _read(model, sites), _read(exact, sites)
    for site in sites:
        assert x[site].dtype == torch.bfloat16
        assert (x[site].float() - reference[site]).norm() < 0.05 * reference[site].norm()


def test_models_without_blocks_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"emb_dim": 32, "n_layers": 3, "n_heads": 4, "max_position_embeddings": 160}
    monkeypatch.setitem(FAMILIES, "xlm", ("XLMConfig", small))
    with pytest.raises(harness.ConfigError, match="XLMModel: found no blocks"):
        harness.create("model", "hf", path=str(save_tiny_model("xlm", tmp_path)))


# Tokens


@pytest.mark.parametrize("family", ["gpt2", "llama", "bert", "t5"])
@settings(max_examples=30, deadline=None)
@given(text=st.text(max_size=60), context=st.integers(3, 12))
def test_windows_hold_all_tokens_of_a_text_in_order(family: str, load: Any, text: str, context: int) -> None:
    model = load(family)
    windows = model.windows([text], context)[0]
    n_before, n_after = {"gpt2": (0, 0), "llama": (1, 0), "bert": (1, 1), "t5": (0, 1)}[family]
    ids: list[int] = []
    for window in windows:
        assert len({len(window.ids), len(window.special), len(window.start), len(window.end)}) == 1
        assert len(window.ids) <= context
        inner = slice(n_before, len(window.ids) - n_after)
        assert window.start[:n_before] == [None] * n_before and all(window.special[:n_before])
        ids += window.ids[inner]
    assert all(len(window.ids) == context for window in windows[:-1])
    assert ids == model.tokenizer(text, add_special_tokens=False)["input_ids"]


def test_offsets_lead_to_the_text_of_the_token(load: Any) -> None:
    tokenizer = load("gpt2").tokenizer
    for text in TEXTS[:3]:
        for window in load("gpt2").windows([text], 16)[0]:
            for i, start, end in zip(window.ids, window.start, window.end, strict=True):
                assert tokenizer.decode([i]).strip() == text[start:end].strip()


def test_control_tokens_in_a_text_are_special_but_the_unknown_token_is_not(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"<unk>": 0, "<eos>": 1, "a": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tiny_model("gpt2").save_pretrained(tmp_path)
    for unknown, special in [("<unk>", [False, False, True]), ("<eos>", [False, False, True])]:
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=words, unk_token=unknown, eos_token="<eos>"
        ).save_pretrained(tmp_path)
        model = harness.create("model", "hf", path=str(tmp_path))
        window = model.windows(["a b <eos>"], 8)[0][0]
        assert (window.special, window.start) == (special, [0, 2, 4])


def test_without_a_fast_tokenizer_there_are_no_offsets(tmp_path: Path) -> None:
    transformers.ByT5Tokenizer().save_pretrained(tmp_path)
    tiny_model("t5", vocab_size=384).save_pretrained(tmp_path)
    model = harness.create("model", "hf", path=str(tmp_path))
    c = harness.capture(model, ["abc"], ["resid_post.0"], first=True)
    assert c.rows["start"].isna().all() and c.rows["end"].isna().all() and len(c.rows) == 3


def test_long_texts_do_not_warn(load: Any, caplog: pytest.LogCaptureFixture) -> None:
    load("gpt2").tokenizer.model_max_length = 8
    assert len(load("gpt2").windows([" ".join(TEXTS * 20)], 16)[0]) > 100
    assert not caplog.records


def test_tokenizer_hash_is_of_the_tokenizer_alone(tmp_path: Path, load: Any) -> None:
    assert load("gpt2").tokenizer_hash == load("gpt_neox").tokenizer_hash
    assert load("gpt2").tokenizer_hash != load("bert").tokenizer_hash
    assert load("bert").tokenizer_hash == load("roberta").tokenizer_hash


# Loading


def _refused(message: str, **params: Any) -> None:
    with pytest.raises(harness.ConfigError, match=message):
        harness.create("model", "hf", **params)


def test_what_can_not_be_loaded_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    _refused("does not exist", path=str(tmp_path / "nothing"))
    _refused("does not exist", path="./nothing.gguf")
    _refused("no local path, and the hub did not give it", path="nobody/no-such-model")
    tiny_model("gpt2").save_pretrained(tmp_path)
    _refused("has no tokenizer", path=str(tmp_path))
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    _refused("can't load the model", path=str(tmp_path))
    _refused("'int8' is not a choice", path=str(tmp_path), dtype="int8")


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_model("gpt2", tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    _refused("pytorch_model.bin: pickled weights can run code", path=str(folder))


def test_weights_that_the_checkpoint_lacks_are_never_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_tiny_model("bert", tmp_path)
    weights = load_file(folder / "model.safetensors")

    def without(word: str) -> None:
        kept = {name: weight for name, weight in weights.items() if word not in name}
        assert len(kept) < len(weights)
        save_file(kept, folder / "model.safetensors", {"format": "pt"})

    without("pooler")  # activations don't depend on it
    harness.create("model", "hf", path=str(folder))
    without("layer.1.output.dense.weight")
    _refused("lacks weights.*layer.1.output.dense.weight", path=str(folder))


@pytest.mark.parametrize("family", ["gpt2", "gptj", "bloom", "ctrl", "openai_gpt", "codegen", "opt", "falcon", "qwen3"])
def test_a_plan_knows_the_shape_under_other_names(family: str, tmp_path: Path, load: Any) -> None:
    shape = planning.hf_shape(HFConfig(str(save_tiny_model(family, tmp_path))))
    model = load(family)
    assert shape is not None and {"n_layers", "width", "attn_z"} <= shape.keys()
    assert shape["n_layers"] == model.n_layers and shape["width"] == model.width
    assert all(shape[kind] == model.site_width(f"{kind}.1") for kind in ("attn_z", "mlp_act") if kind in shape)


def test_identity_is_of_the_contents_and_the_dtype(tmp_path: Path) -> None:
    one, other = (save_tiny_model("llama", tmp_path / name) for name in ("one", "other"))
    identity = planning.hf_identity(HFConfig(str(one)))
    assert identity == planning.hf_identity(HFConfig(str(other), device="cpu"))
    assert identity != planning.hf_identity(HFConfig(str(one), dtype="bfloat16"))
    expected = {"n_layers": 3, "width": 32, "attn_z": 32, "mlp_act": 48, "n_parameters": 32864}
    assert planning.hf_shape(HFConfig(str(one))) == expected
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))
    assert identity != planning.hf_identity(HFConfig(str(other)))
    hub = planning.hf_identity(HFConfig("org/name", revision="abc"))
    assert hub == {"path": "org/name", "revision": "abc", "dtype": "float32"}
    assert planning.hf_shape(HFConfig("org/name")) is None
