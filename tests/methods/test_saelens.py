"""SAEs in the form of SAELens: read, written, and by SAELens itself where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import harness
from harness.plugins.methods.sae.jumprelu import JumpReLUDecomposition
from tests.support import literal

D, M = 16, 40
CONFIGS: dict[str, dict[str, Any]] = {
    "standard": {"architecture": "standard"},
    "uncentred": {"architecture": "standard", "apply_b_dec_to_input": False},
    "topk": {"architecture": "topk", "k": 5},
    "rescaled": {"architecture": "topk", "k": 5, "rescale_acts_by_decoder_norm": True, "apply_b_dec_to_input": False},
    "jumprelu": {"architecture": "jumprelu"},
    "gated": {"architecture": "gated"},
    "gated_uncentred": {"architecture": "gated", "apply_b_dec_to_input": False},
}
SCALED = {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": 0.25}
NO_PEER = "sae-lens is not installed: pip install -e '.[peers]'"
TRAINED: list[dict[str, Any]] = [
    {"method": "topk_sae", "k": 6},
    {"method": "batch_topk_sae", "k": 6},
    {"method": "matryoshka_sae", "k": 6, "group_shares": [0.25, 0.75]},
    {"method": "relu_sae", "l1": 0.05},
    {"method": "jumprelu_sae", "l0_penalty": 0.001},
    {"method": "gated_sae", "l1": 0.05},
    {"method": "untrained_sae", "k": 6},
]
kinds = pytest.mark.parametrize("kind", [pytest.param(kind, id=kind["method"]) for kind in TRAINED])


def random_weights(architecture: str) -> dict[str, torch.Tensor]:
    """Decoder rows with norms from 1 to 3, and thresholds of which some are below 0."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    directions = torch.nn.functional.normalize(draw(M, D))
    own: dict[str, dict[str, torch.Tensor]] = {
        "gated": {"b_gate": draw(M), "b_mag": draw(M), "r_mag": draw(M) / 2},
        "jumprelu": {"b_enc": draw(M), "threshold": draw(M)},
    }
    return {
        "W_enc": directions.T.contiguous(),
        "W_dec": directions * torch.linspace(1, 3, M)[:, None],
        "b_dec": 5 + draw(D),
        **own.get(architecture, {"b_enc": draw(M)}),
    }


def write(folder: Path, config: dict[str, Any], weights: dict[str, torch.Tensor] | None = None) -> Path:
    weights = random_weights(config.get("architecture", "standard")) if weights is None else weights
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / "sae_weights.safetensors")
    whole = {"d_in": D, "d_sae": M, "dtype": "float32", "metadata": {"sae_lens_version": "6.54.12"}} | config
    (folder / "cfg.json").write_text(json.dumps(whole))
    return folder


def rows(n: int = 300, seed: int = 0) -> torch.Tensor:
    return 5 + 2 * torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def read(folder: Path, x: torch.Tensor | None = None) -> Any:
    return harness.fit(harness.create("method", "pretrained_sae", path=str(folder)), rows(10) if x is None else x)


def trained(kind: dict[str, Any], x: torch.Tensor) -> Any:
    parameters = {"n_latents": M, **kind}
    if kind["method"] != "untrained_sae":
        parameters["passes"] = 2
    return harness.fit(harness.create("method", parameters.pop("method"), **parameters), x)


def definition(x: torch.Tensor, config: dict[str, Any], weights: dict[str, torch.Tensor]) -> Any:
    """Codes of SAELens in the rows' own units, in which decoder rows have norm 1, and its reconstructions."""
    codes, decoded = literal.saelens(x, config, weights)
    norms = 1 if config.get("rescale_acts_by_decoder_norm") else weights["W_dec"].double().norm(dim=1)
    return codes * norms / config.get("norm_scaling_factor", 1), decoded


def assert_same(sae: Any, x: torch.Tensor, codes: torch.Tensor, decoded: torch.Tensor, atol: float) -> None:
    ours = sae.encode(x)
    assert codes.any()
    assert torch.allclose(ours.to_dense().double(), codes.double(), atol=atol)
    assert torch.allclose(sae.decode(ours).double(), decoded.double(), atol=atol)


@pytest.mark.parametrize("scale", [{}, SCALED], ids=["plain", "scaled"])
@pytest.mark.parametrize("name", CONFIGS)
def test_codes_and_reconstructions_are_those_of_the_definition(
    name: str, scale: dict[str, Any], tmp_path: Path
) -> None:
    config, x = CONFIGS[name] | scale, rows()
    weights = random_weights(config["architecture"])
    sae = read(write(tmp_path, config, weights))
    codes, decoded = definition(x, config, weights)
    assert_same(sae, x, codes, decoded, atol=8e-4)  # float32: M terms of numbers up to 700
    assert (codes == 0).any() and not sae.signed
    assert torch.allclose(sae.dictionary.norm(dim=1), torch.ones(M))
    sae.save(tmp_path / "saved")
    loaded = harness.load(tmp_path / "saved")
    loaded.export_saelens(tmp_path / "again")
    for other in (loaded, read(tmp_path / "again")):
        assert_same(other, x, codes, decoded, atol=8e-4)


def test_float16_is_read_and_saved_again_as_a_decomposition(tmp_path: Path) -> None:
    weights = {name: weight.half() for name, weight in random_weights("jumprelu").items()}
    sae, x = read(write(tmp_path / "theirs", CONFIGS["jumprelu"], weights)), rows()
    assert_same(sae, x, *definition(x, CONFIGS["jumprelu"], weights), atol=5e-5)
    sae.save(tmp_path / "ours")
    assert torch.equal(harness.load(tmp_path / "ours").encode(x).values, sae.encode(x).values)


@pytest.mark.parametrize(
    ("old", "meant"),
    [
        ({}, {"architecture": "standard"}),
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}, CONFIGS["topk"]),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 5}, "normalize_activations": False}, CONFIGS["topk"]),
        ({"activation_fn": None, "activation_fn_str": "topk", "activation_fn_kwargs": {"k": 5}}, CONFIGS["topk"]),
        ({"architecture": None, "activation_fn": None, "activation_fn_kwargs": None}, {"architecture": "standard"}),
    ],
)
def test_configs_from_before_version_6(old: dict[str, Any], meant: dict[str, Any], tmp_path: Path) -> None:
    x, weights = rows(), random_weights(meant["architecture"])
    ones = {"scaling_factor": torch.ones(M)}
    sae = read(write(tmp_path, {"metadata": {}, "hook_point": "blocks.1.hook_resid_pre", **old}, weights | ones))
    assert_same(sae, x, *definition(x, meant, weights), atol=5e-5)


def test_a_config_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, CONFIGS["standard"])
    (tmp_path / "cfg.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "cfg.json").read_bytes())
    assert read(tmp_path).n_latents == M


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"architecture": "transcoder", "d_out": D}, "transcoder"),
        ({"architecture": "standard", "d_out": D + 1}, "transcoder"),
        ({"architecture": "standard", "hook_name": "a", "hook_name_out": "b"}, "transcoder"),
        ({"architecture": "temporal"}, "architecture is 'temporal'; known are standard, topk"),
        ({"architecture": "matryoshka_batchtopk"}, "save_inference_model"),
        ({"metadata": {}, "activation_fn": "tanh-relu"}, "'standard with activation tanh-relu'"),
        ({"architecture": "standard", "reshape_activations": "hook_z"}, "hook_z"),
        ({"metadata": {}, "hook_name": "blocks.1.attn.hook_z"}, "hook_z"),
        ({"architecture": "standard", "normalize_activations": "layer_norm"}, "mean or the norm of each row"),
        ({"architecture": "standard", "normalize_activations": "constant_norm_rescale"}, "norm of each row"),
        ({"architecture": "standard", "normalize_activations": "covariance_whitening"}, "whitening is not in these"),
        ({"architecture": "standard", "normalize_activations": "new"}, "'new', which is not known"),
        ({"architecture": "standard", "normalize_activations": "expected_average_only_in"}, "norm_scaling_factor"),
        ({"metadata": {}, "normalize_activations": True}, "norm_scaling_factor"),
        ({"architecture": "standard", "d_in": D + 1}, f"width {D + 1}, but those here have width {D}"),
    ],
)
def test_what_has_no_linear_decoder_of_these_rows_is_refused(
    config: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(harness.Undefined, match=reason):
        read(write(tmp_path, config, random_weights("standard")))


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match=r"no cfg.json in .*nowhere"):
        read(tmp_path / "nowhere")
    weights = random_weights("standard")
    with pytest.raises(harness.ConfigError, match=r"a gated SAE of its config has .*'b_gate': \[40\]"):
        read(write(tmp_path, {"architecture": "gated"}, weights))
    with pytest.raises(harness.ConfigError, match="not a config of SAELens: KeyError: 'k'"):
        read(write(tmp_path, {"architecture": "topk"}, weights))
    modern = {"metadata": {"sae_lens_version": "6.20.0"}}
    for config, reason in (
        ({"architecture": "topk", "k": M + 1}, f"k is {M + 1}; it is to be a whole number from 1 to {M}"),
        ({"architecture": "topk", "k": 0}, "k is 0"),
        ({"architecture": "topk", "k": 2.5}, "k is 2.5"),
        ({"architecture": "topk", "k": None}, "TypeError"),
        ({"architecture": "standard", "d_sae": -1}, "d_sae is -1"),
        ({"architecture": "standard", "d_in": float("inf")}, "OverflowError"),
        ({"architecture": "standard", "metadata": ["6.20.0"]}, "metadata is no object"),
        (
            {"normalize_activations": "expected_average_only_in", "norm_scaling_factor": -1.0},
            "norm_scaling_factor is -1.0; it is to be a number above 0",
        ),
    ):
        with pytest.raises(harness.ConfigError, match=rf"cfg\.json is not a config of SAELens: .*{reason}"):
            read(write(tmp_path, {"architecture": "standard"} | modern | config, weights))
    read(write(tmp_path, {"architecture": "standard", "metadata": None}, weights))  # as versions before 6 have none
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        read(write(tmp_path, {"metadata": {}}, weights | {name: torch.ones(M)}))
        with pytest.raises(harness.Undefined, match="fine-tuning scaled"):
            read(write(tmp_path, {"metadata": {}}, weights | {name: torch.full((M,), 2.0)}))
    (tmp_path / "sae_weights.safetensors").write_bytes(b"no weights")
    with pytest.raises(harness.ConfigError, match="can't be read"):
        read(tmp_path)
    (tmp_path / "cfg.json").write_text("[")
    with pytest.raises(harness.ConfigError, match="not a config of SAELens: JSONDecodeError"):
        read(tmp_path)


def test_the_hub_out_of_reach_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    learner = harness.create("method", "pretrained_sae", release="someone/saes", sae_id="layer_3")
    with pytest.raises(harness.ConfigError, match=r"(?s)did not give 'layer_3' of 'someone/saes'.*HF_HUB_OFFLINE"):
        harness.fit(learner, rows())


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"path": "a", "sae_id": "b"},
        {"release": "a/b"},
        {"sae_id": "a"},
        {"path": "a", "revision": "main"},
        {"release": "gpt2-small-res-jb", "sae_id": "b"},
    ],
)
def test_bad_parameters_are_named(wrong: dict[str, str]) -> None:
    with pytest.raises(harness.ConfigError, match=r"give either path|give a repository"):
        harness.create("method", "pretrained_sae", **wrong)


@kinds
def test_what_is_exported_comes_back(kind: dict[str, Any], tmp_path: Path) -> None:
    x = rows(2000)
    sae = trained(kind, x)
    sae.save(tmp_path / "saved")
    harness.load(tmp_path / "saved").export_saelens(tmp_path / "exported", model_name="mine", hook_name="here")
    config = json.loads((tmp_path / "exported" / "cfg.json").read_text())
    assert config["metadata"]["hook_name"] == "here"
    weights = load_file(tmp_path / "exported" / "sae_weights.safetensors")
    new, codes = rows(200, seed=1), sae.encode(rows(200, seed=1))
    assert_same(sae, new, *literal.saelens(new, config, weights), atol=5e-6)
    back = read(tmp_path / "exported", x)
    assert type(back) is type(sae)
    assert_same(back, new, codes.to_dense(), sae.decode(codes), atol=5e-6)


@kinds
def test_float64_comes_back_bit_for_bit_where_biases_are_kept(kind: dict[str, Any], tmp_path: Path) -> None:
    x = rows(1000).double()
    sae = trained(kind, x)
    sae.export_saelens(tmp_path)
    back = read(tmp_path, x)
    exact = 1e-12 if kind["method"] == "gated_sae" else 0.0  # whose magnitudes are written in another form
    assert torch.allclose(back.encode(x).to_dense(), sae.encode(x).to_dense(), atol=exact, rtol=0)


def test_a_bias_with_more_digits_than_float32_loses_none_in_the_codes(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    encoder = torch.nn.functional.normalize(torch.randn(M, D, generator=generator))
    bias = 3000 + torch.rand(D, generator=generator, dtype=torch.float64)
    weights = harness.SAEWeights(encoder, torch.zeros(M), encoder, bias)
    sae = JumpReLUDecomposition(weights, {}, torch.tensor(0.1))
    sae.export_saelens(tmp_path)
    x = 3000 + torch.randn(200, D, generator=generator)
    codes, decoded = sae.encode(x), sae.decode(sae.encode(x))
    for other, atol in ((read(tmp_path), 1e-6), (sae, 1e-6)):  # rounding the bias alone is off by 3e-4
        assert torch.allclose(other.encode(x).values, codes.values, atol=atol)
        assert torch.allclose(other.decode(other.encode(x)), decoded, atol=5e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of what SAELens depends on
@pytest.mark.parametrize("name", CONFIGS)
def test_saelens_gives_the_same_for_what_it_saved(name: str, tmp_path: Path) -> None:
    lens = pytest.importorskip("sae_lens", reason=NO_PEER)
    x = rows()
    theirs = lens.SAE.load_from_disk(write(tmp_path / "written", CONFIGS[name]))
    theirs.save_model(tmp_path / "saved")
    norms = 1 if CONFIGS[name].get("rescale_acts_by_decoder_norm") else theirs.W_dec.detach().norm(dim=1)
    codes = theirs.encode(x).detach()
    assert_same(read(tmp_path / "saved"), x, codes * norms, theirs.decode(codes).detach(), atol=5e-5)
    scaled = lens.SAE.load_from_disk(write(tmp_path / "scaled", CONFIGS[name] | SCALED))
    scaled.fold_activation_norm_scaling_factor(SCALED["norm_scaling_factor"])
    norms = 1 if CONFIGS[name].get("rescale_acts_by_decoder_norm") else scaled.W_dec.detach().norm(dim=1)
    codes = scaled.encode(x).detach()
    assert_same(read(tmp_path / "scaled"), x, codes * norms, scaled.decode(codes).detach(), atol=5e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", ["BatchTopK", "MatryoshkaBatchTopK"])
def test_saelens_saves_these_as_jumprelu(kind: str, tmp_path: Path) -> None:
    saes = pytest.importorskip("sae_lens", reason=NO_PEER).saes
    own = {"matryoshka_widths": [10, M]} if kind == "MatryoshkaBatchTopK" else {}
    config = getattr(saes, f"{kind}TrainingSAEConfig")(d_in=D, d_sae=M, k=5, **own)
    training = getattr(saes, f"{kind}TrainingSAE")(config)
    training.topk_threshold.fill_(0.05)
    training.save_inference_model(tmp_path)
    x, theirs = rows(), saes.JumpReLUSAE.load_from_disk(tmp_path)
    codes = theirs.encode(x).detach()
    assert_same(read(tmp_path), x, codes * theirs.W_dec.detach().norm(dim=1), theirs.decode(codes).detach(), atol=2e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@kinds
def test_saelens_loads_what_is_exported(kind: dict[str, Any], tmp_path: Path) -> None:
    lens = pytest.importorskip("sae_lens", reason=NO_PEER)
    x, new = rows(1000), rows(200, seed=1)
    sae = trained(kind, x)
    sae.export_saelens(tmp_path, model_name="gpt2", hook_name="blocks.3.hook_resid_post")
    theirs = lens.SAE.load_from_disk(tmp_path)
    assert theirs.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    codes = theirs.encode(new).detach()
    assert_same(sae, new, codes, theirs.decode(codes).detach(), atol=5e-6)
