"""Models that are larger than memory: the same numbers, their weights on disk."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import harness
from harness.plugins.models import HFConfig, planning
from tests.support.tiny_models import TEXTS, save_tiny_model, tiny_tokenizer

IDS = torch.tensor([tiny_tokenizer()(TEXTS[0])["input_ids"][:24]])
ON_DISK: dict[str, Any] = {"device_map": "auto", "max_memory_gb": 2e-5, "device": "cpu"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def load(folder: Path, **params: Any) -> Any:
    return harness.create("model", "hf", path=str(folder), **params)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["gpt2", "gemma3", "t5", "mixtral"])
def test_activations_are_equal(family: str, dtype: str, tmp_path: Path) -> None:
    folder = save_tiny_model(family, tmp_path / family)
    model, on_disk = load(folder, dtype=dtype), load(folder, dtype=dtype, **ON_DISK)
    assert sum(weight.is_meta for weight in on_disk.module.parameters()) > 20
    lacking = {"gemma3": ("mlp_act", "attn_z"), "mixtral": ("mlp_act",)}.get(family, ())
    kinds = [kind for kind in harness.SITE_KINDS if kind not in lacking]
    sites = [f"{kind}.{layer}" for kind in kinds for layer in range(model.n_layers)]
    for mask in (torch.ones_like(IDS).bool(), torch.arange(IDS.shape[1])[None] < 20):
        expected, found = (m.activations(IDS, mask, sites) for m in (model, on_disk))
        for site in sites:
            # Weights lie in memory at other offsets than without a disk, so that sums may round otherwise.
            torch.testing.assert_close(found[site], expected[site], rtol=1e-5, atol=1e-5)


def test_replays_are_those_of_a_model_in_memory(tmp_path: Path) -> None:
    folder = save_tiny_model("gpt2", tmp_path / "gpt2")
    clean, on_disk = (load(folder, **params).replay(IDS, "resid_post.1") for params in ({}, ON_DISK))
    torch.testing.assert_close(on_disk.logits(), clean.logits(), rtol=1e-5, atol=1e-5)
    changed = clean.patched(clean.x.flip(1))
    torch.testing.assert_close(on_disk.patched(clean.x.flip(1)), changed, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(changed, clean.logits(), atol=1e-2)


def test_what_had_to_be_written_goes_with_the_model(tmp_path: Path, cache: Path) -> None:
    """The experts of a checkpoint are merged, and so can't be read from it each time."""
    model = load(save_tiny_model("mixtral", tmp_path / "mixtral"), **ON_DISK)
    assert list(cache.glob("offload/*/*"))
    with pytest.raises(harness.Undefined, match=r"lacks .* lm_head\.weight"):  # that loads the model once more
        model.replay(IDS, "resid_post.1")
    assert len(list(cache.glob("offload/*/"))) == 1
    del model
    gc.collect()
    assert not list(cache.glob("offload/*/"))


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(
    tmp_path: Path, cache: Path, warm_popen: type[subprocess.Popen]
) -> None:
    folder = save_tiny_model("mixtral", tmp_path / "mixtral")
    code = f"import os, harness; harness.create('model', 'hf', path={str(folder)!r}, **{ON_DISK}); os._exit(0)"
    assert warm_popen([sys.executable, "-P", "-c", code]).wait() == 0
    (left,) = cache.glob("offload/*/")
    in_use = [load(folder, **ON_DISK), load(folder, **ON_DISK)]
    assert not left.exists()
    assert len(list(cache.glob("offload/*/"))) == 2
    x, other = (model.activations(IDS, torch.ones_like(IDS).bool(), ["resid_post.2"]) for model in in_use)
    torch.testing.assert_close(x["resid_post.2"], other["resid_post.2"], rtol=1e-5, atol=1e-5)


def test_what_stands_in_the_place_of_a_lock_is_set_aside(tmp_path: Path, cache: Path) -> None:
    (cache / "offload" / "old.lock").mkdir(parents=True)
    (cache / "offload" / "making").symlink_to("nowhere/at/all")
    assert load(save_tiny_model("gpt2", tmp_path / "gpt2"), **ON_DISK)
    assert len(list(cache.glob("offload/making.damaged-*"))) == len(list(cache.glob("offload/old.lock.damaged-*"))) == 1


def test_a_cache_where_nothing_can_be_made_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(harness.StoreError, match=rf"go to {cache}/offload, where nothing can be made: .*HARNESS_CACHE"):
        load(save_tiny_model("gpt2", tmp_path / "gpt2"), **ON_DISK)


def test_missing_weights_are_refused_and_not_random(tmp_path: Path) -> None:
    folder = save_tiny_model("llama", tmp_path / "llama")
    weights = load_file(folder / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(harness.ConfigError, match=r"lacks weights .*: layers\.1\.mlp\.up_proj\.weight"):
        load(folder, **ON_DISK)


def test_no_result_depends_on_where_weights_lie(tmp_path: Path) -> None:
    folder = str(save_tiny_model("gpt2", tmp_path / "gpt2"))
    for path in (folder, "openai-community/gpt2"):
        stated = HFConfig(path, device_map="auto", max_memory_gb=3, n_layers=12, width=768)
        assert planning.hf_identity(stated) == planning.hf_identity(HFConfig(path))


def test_the_stated_shape_is_for_planning_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_model("llama", tmp_path / "llama")
    assert planning.hf_shape(HFConfig("meta-llama/Llama-3.2-1B")) is None
    assert planning.hf_shape(HFConfig("meta-llama/Llama-3.2-1B", n_layers=16, width=2048)) == {
        "n_layers": 16,
        "width": 2048,
    }
    assert planning.hf_shape(HFConfig(str(folder), n_layers=16, width=2048)) == {
        **{"n_layers": 3, "width": 32, "attn_z": 32, "mlp_act": 48, "n_parameters": 32864}
    }
    assert load(folder, n_layers=3, width=32).width == 32
    with pytest.raises(harness.ConfigError, match=r"n_layers of .* is 3, not 16"):
        load(folder, n_layers=16)
    with pytest.raises(harness.ConfigError, match=r"width of .* is 32, not 2048"):
        load(folder, width=2048)


@pytest.mark.parametrize("wrong", [{"max_memory_gb": 1}, {"max_memory_gb": 0, "device_map": "auto"}])
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match="max_memory_gb"):
        harness.create("model", "hf", path="a/b", **wrong)
