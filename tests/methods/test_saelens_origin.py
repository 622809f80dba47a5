"""Pretrained SAEs at the place that their config states, at others, and the files of the hub as parts of keys."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.planning.config import compose
from harness.planning.plan import Plan, build_plan
from harness.plugins.methods.sae import PretrainedSAEConfig, origin, saelens
from tests.methods.test_saelens import D, random_weights, rows, write

PYTHIA = {"model_name": "pythia-70m", "hook_name": "blocks.4.hook_mlp_out"}


def of(metadata: dict[str, Any], folder: Path, **params: Any) -> Any:
    """The origin of an SAE with such metadata."""
    config = {"architecture": "standard", "metadata": {"sae_lens_version": "6.20.0", **metadata}}
    return origin.of_config(PretrainedSAEConfig(path=str(write(folder, config)), **params))


def place(site: str = "mlp_out.4", label: str = "mine", model: str = "hf", **parameters: Any) -> harness.Place:
    return harness.Place(site, label, model, parameters)


@pytest.mark.parametrize(
    ("hook", "expected"),
    [
        ("blocks.4.hook_mlp_out", {"mlp_out.4"}),
        ("blocks.0.hook_attn_out", {"attn_out.0"}),
        ("blocks.0.hook_resid_pre", {"resid_pre.0"}),
        ("blocks.3.hook_resid_pre", {"resid_pre.3", "resid_post.2"}),  # one stream, between two blocks
        ("blocks.2.hook_resid_post", {"resid_post.2", "resid_pre.3"}),
        ("blocks.3.hook_resid_mid", set()),
        ("blocks.3.ln2.hook_normalized", set()),
        ("blocks.3.attn.hook_z", set()),
        ("blocks.3.mlp.hook_post", set()),
        ("layers.12", {"resid_post.12", "resid_pre.13"}),
        ("model.layers.12.output", {"resid_post.12", "resid_pre.13"}),
        ("gpt_neox.layers.3", {"resid_post.3", "resid_pre.4"}),
        ("transformer.h.5.mlp", {"mlp_out.5"}),
        ("model.layers.5.self_attn", {"attn_out.5"}),
        ("model.layers.5.input_layernorm", set()),
        ("model.embed_tokens", set()),
    ],
)
def test_hooks_and_modules_are_sites(hook: str, expected: set[str]) -> None:
    assert origin.sites(hook, "pythia-70m") == expected


def test_an_output_that_is_normalised_before_it_is_added_is_no_site() -> None:
    assert origin.sites("model.layers.5.mlp", "google/gemma-2-2b") == set()
    assert origin.sites("blocks.5.hook_mlp_out", "gemma-2-2b") == {"mlp_out.5"}


def test_another_site_is_refused_unless_asked_for(tmp_path: Path) -> None:
    at = of(PYTHIA, tmp_path)
    assert at.words == "pythia-70m blocks.4.hook_mlp_out"
    own = {"path": "EleutherAI/pythia-70m"}
    assert at.against(place(**own)) is None
    reason = at.against(place("resid_post.4", **own))
    assert "trained at pythia-70m blocks.4.hook_mlp_out, and this is resid_post.4" in reason and "elsewhere" in reason
    assert of(PYTHIA, tmp_path, elsewhere=True).against(place("resid_post.4", path="gpt2")) is None


@pytest.mark.parametrize(
    ("stated", "here", "is_its_own"),
    [
        ("pythia-70m", {"path": "EleutherAI/pythia-70m"}, True),
        ("EleutherAI/pythia-70m", {"path": "/data/models/pythia-70m"}, True),
        ("pythia-70m", {"path": "/c/models--EleutherAI--pythia-70m/snapshots/0123abc"}, True),
        ("pythia-70m", {"path": "/data/x", "label": "pythia-70m"}, True),
        ("gpt2-small", {"path": "openai-community/gpt2"}, True),
        ("tiny-stories-33M", {"path": "roneneldan/TinyStories-33M"}, True),
        ("random_weights", {"model": "random_weights"}, True),
        ("smollm2-135m", {"model": "packaged", "name": "smollm2-135m"}, True),
        ("pythia-70m", {"path": "EleutherAI/pythia-70m", "revision": "main"}, True),
        ("pythia-70m", {"path": "EleutherAI/pythia-70m", "revision": "a39f36b100fe8a5377810d56c3f4789b9c53ac42"}, True),
        ("pythia-70m", {"path": "EleutherAI/pythia-70m-deduped"}, False),
        ("pythia-1.4b", {"path": "EleutherAI/pythia-14b"}, False),
        ("gemma-2b", {"path": "google/gemma-2-2b"}, False),
        ("pythia-70m", {"path": "EleutherAI/pythia-70m", "revision": "step1000"}, False),
        ("pythia-70m", {"path": "EleutherAI/pythia-70m", "weights_seed": 0}, False),
        ("pythia-70m", {"model": "stored", "path": "rows"}, False),
    ],
)
def test_a_model_goes_by_several_names(stated: str, here: dict[str, Any], is_its_own: bool, tmp_path: Path) -> None:
    reason = of({**PYTHIA, "model_name": stated}, tmp_path).against(place(**here))
    assert (reason is None) == is_its_own


@pytest.mark.parametrize(
    ("kwargs", "revision", "is_its_own"),
    [
        ({"revision": "step1000"}, "step1000", True),
        ({"checkpoint_value": 1000}, "step1000", True),
        ({"revision": "main", "fold_ln": True, "center_unembed": True, "dtype": "bfloat16"}, None, True),
        ({"revision": "step1000"}, None, False),
        ({"checkpoint_index": 7}, None, False),
        ({"load_in_8bit": True}, None, False),
    ],
)
def test_the_weights_are_part_of_the_place(
    kwargs: dict[str, Any], revision: str | None, is_its_own: bool, tmp_path: Path
) -> None:
    at = of({**PYTHIA, "model_from_pretrained_kwargs": kwargs}, tmp_path)
    assert (at.against(place(path="pythia-70m", revision=revision)) is None) == is_its_own


def test_old_configs_state_their_place_too(tmp_path: Path) -> None:
    old = {"metadata": None, "model_name": "gpt2-small", "hook_point": "blocks.{layer}.hook_resid_pre"}
    write(tmp_path, {**old, "hook_point_layer": 0, "context_size": 1024, "prepend_bos": True})
    at = origin.of_config(PretrainedSAEConfig(path=str(tmp_path)))
    assert at.words == "gpt2-small blocks.0.hook_resid_pre, contexts of 1024 tokens, BOS"
    assert at.against(place("resid_pre.0", path="gpt2")) is None and at.against(place("resid_pre.1", path="gpt2"))
    write(tmp_path, {**old, "hook_point_layer": 3, "hook_head_index": 0})
    assert origin.of_config(PretrainedSAEConfig(path=str(tmp_path))).against(place("resid_pre.3", path="gpt2"))
    with pytest.raises(harness.Undefined, match="a single attention head"):
        harness.fit(harness.create("method", "pretrained_sae", path=str(tmp_path)), rows(10))


def test_what_is_not_stated_is_not_guessed(tmp_path: Path) -> None:
    at = of({}, tmp_path)
    assert at.words == "not stated" and at.against(place()) is None
    assert of({"model_name": "gpt2"}, tmp_path).against(place("attn_out.1", path="gpt2")) is None


def _plan(*methods: dict[str, Any]) -> Plan:
    lists = ["evaluations=[reconstruction]", "similarities=[]", "scorers=[]"]
    listed = ",".join(f"{{method: pretrained_sae, {', '.join(f'{k}: {v}' for k, v in m.items())}}}" for m in methods)
    return build_plan(compose(["suite=smoke", f"methods=[mean,{listed}]", *lists])[0])


def test_a_plan_skips_other_places_and_tables_name_the_own_one(tmp_path: Path) -> None:
    stated = {"model_name": "random_weights", "hook_name": "blocks.1.hook_resid_post"}
    write(tmp_path, {"architecture": "standard", "d_in": 64, "metadata": {"sae_lens_version": "6.0.0", **stated}})
    plan, freed = _plan({"path": tmp_path}), _plan({"path": tmp_path, "elsewhere": True})
    skipped = {cell.columns["site"] for cell in plan.of_kind("fit") if cell.skipped}
    assert skipped == {"resid_post.2"} and not any(cell.skipped for cell in freed.of_kind("fit"))
    (told,) = {cell.skipped for cell in plan.of_kind("evaluation") if cell.skipped}
    assert "trained at random_weights blocks.1.hook_resid_post, and this is resid_post.2" in told
    columns = {(cell.columns["method"], cell.columns["trained_at"]) for cell in plan.of_kind("fit")}
    assert columns == {("mean", None), ("pretrained_sae", "random_weights blocks.1.hook_resid_post")}
    assert set(plan.cells) == set(freed.cells)  # nothing is computed otherwise


@pytest.mark.parametrize("where", ["config", "metadata"])
def test_rows_that_were_to_be_centred_are_or_are_refused(where: str, tmp_path: Path) -> None:
    x = rows()
    centred = x - x.mean(dim=1, keepdim=True)

    def fit(x: torch.Tensor, model: str = "gpt2-small") -> None:
        asked = {"model_from_pretrained_kwargs": {"center_writing_weights": True}, "model_name": model}
        version = {"sae_lens_version": "6.20.0"}
        own = asked | {"metadata": version} if where == "config" else {"metadata": asked | version}
        folder = write(tmp_path, {"architecture": "standard", **own}, random_weights("standard"))
        harness.fit(harness.create("method", "pretrained_sae", path=str(folder)), x)

    with pytest.raises(harness.Undefined, match="rows less their mean over features"):
        fit(x)
    for rounded in (centred, centred.bfloat16().float()):
        fit(rounded)
    fit(x, "gemma-2-2b")  # whose norms take no mean, so that TransformerLens leaves its weights


def test_configs_that_do_not_say_whether_rows_were_centred(tmp_path: Path) -> None:
    """The most used SAEs of GPT-2 are such ones; SAELens knows by their names that they were."""
    old = {"metadata": {}, "hook_point": "blocks.1.hook_resid_pre"}
    centred = rows() - rows().mean(dim=1, keepdim=True)

    def said(x: torch.Tensor, **own: Any) -> list[str]:
        folder = write(tmp_path, old | own, random_weights("standard"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            harness.fit(harness.create("method", "pretrained_sae", path=str(folder)), x)
        return [str(warning.message) for warning in caught]

    (told,) = said(rows(), model_name="gpt2-small")
    assert "took the mean over features" in told and "% of their squares" in told
    assert not said(centred, model_name="gpt2-small")
    assert not said(rows(), model_name="gemma-2b")
    assert not said(rows(), model_name="gpt2-small", model_from_pretrained_kwargs={})
    assert not said(rows(), model_name="gpt2", metadata={"sae_lens_version": "6.1.0"}, architecture="standard")
    assert not said(rows())


def test_folders_of_other_libraries_are_told_apart(tmp_path: Path) -> None:
    for name, library in (("sae.safetensors", "sparsify"), ("ae.pt", "dictionary_learning")):
        folder = tmp_path / library
        folder.mkdir()
        (folder / name).touch()
        with pytest.raises(harness.ConfigError, match=f"in the form of {library}"):
            saelens.identity(PretrainedSAEConfig(path=str(folder)))


def test_files_of_the_hub_enter_keys_by_their_content(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A branch that moves changes the key, under the same name; a commit with the same files does not."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--saes"

    def publish(commit: str, config: dict[str, Any]) -> None:
        folder = repository / "snapshots" / commit / "layer_3"
        folder.mkdir(parents=True)
        write(folder, config)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(commit)

    def identity() -> Any:
        return saelens.identity(PretrainedSAEConfig(release="someone/saes", sae_id="layer_3"))

    publish("a" * 40, {"architecture": "standard"})
    first = identity()
    assert json.dumps(first).count("cfg.json") == 1 and "someone" not in json.dumps(first)
    local = PretrainedSAEConfig(path=str(repository / "snapshots" / ("a" * 40) / "layer_3"))
    assert saelens.identity(local) == first
    publish("b" * 40, {"architecture": "standard"})
    assert identity() == first
    publish("c" * 40, {"architecture": "standard", "apply_b_dec_to_input": False})
    assert identity() != first
    learner = harness.create("method", "pretrained_sae", release="someone/saes", sae_id="layer_3")
    assert harness.fit(learner, rows(10)).dictionary.shape[1] == D
