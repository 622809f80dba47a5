from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import harness
from harness.contracts.rows import COLUMNS
from harness.plugins.models import StoredConfig, planning

X = torch.arange(24.0).reshape(6, 4)
ROWS = pd.DataFrame({"document": ["a", "a", "a", "b", "b", "b"]})


def _save(folder: Path, rows: pd.DataFrame = ROWS, x: Any = X) -> Any:
    folder.mkdir(exist_ok=True)
    save_file({"x": x}, folder / "resid_post.3.safetensors")
    np.save(folder / "mlp_out.1.npy", 2 * X.numpy())
    rows.to_csv(folder / "rows.csv", index=False)
    return harness.create("model", "stored", path=str(folder))


def test_rows_come_back_with_their_identity(tmp_path: Path) -> None:
    model = _save(tmp_path)
    assert (model.n_layers, model.width) == (4, 4)
    c = model.stored_capture(["resid_post.3", "mlp_out.1"])
    assert torch.equal(c.x["resid_post.3"], X) and torch.equal(c.x["mlp_out.1"], 2 * X)
    assert tuple(c.rows.columns) == COLUMNS
    assert c.rows["document"].tolist() == ROWS["document"].tolist()
    assert c.rows["position"].tolist() == [0, 1, 2, 0, 1, 2]
    assert c.rows["end"].isna().all()


def test_all_columns_are_taken_and_special_rows_left_out(tmp_path: Path) -> None:
    _save(tmp_path)
    table = ROWS.assign(window=1, position=range(6), start=[None, 1, 2, 3, 4, 5], end=range(1, 7), special=False)
    table.loc[1, "special"] = True
    (tmp_path / "rows.csv").unlink()
    table.astype({"start": "Int64"}).to_parquet(tmp_path / "rows.parquet")
    c = harness.create("model", "stored", path=str(tmp_path)).stored_capture(["resid_post.3"])
    assert torch.equal(c.x["resid_post.3"], X[[0, 2, 3, 4, 5]])
    assert c.rows["position"].tolist() == [0, 2, 3, 4, 5] and (c.rows["window"] == 1).all()
    assert c.rows["start"].isna().tolist() == [True] + [False] * 4
    assert not c.rows["special"].any()


def test_what_comes_back_can_be_fitted_and_written_to(tmp_path: Path) -> None:
    model = _save(tmp_path)
    model.stored_capture(["mlp_out.1"]).x["mlp_out.1"].zero_()
    assert model.stored_capture(["mlp_out.1"]).x["mlp_out.1"].any()


def test_description_says_what_the_files_can_not(tmp_path: Path) -> None:
    unknown = _save(tmp_path).tokenizer_hash
    assert unknown.startswith("unknown-")
    (tmp_path / "stored.json").write_text(json.dumps({"n_layers": 12, "tokenizer_hash": "abc"}))
    model = harness.create("model", "stored", path=str(tmp_path))
    assert (model.n_layers, model.tokenizer_hash) == (12, "abc")


def test_errors_say_what_is_wrong_and_where(tmp_path: Path) -> None:
    def refused(message: str, sites: list[str] | None = None) -> None:
        with pytest.raises(harness.ConfigError, match=message):
            harness.create("model", "stored", path=str(tmp_path)).stored_capture(sites or ["resid_post.3"])

    with pytest.raises(harness.ConfigError, match="no folder"):
        harness.create("model", "stored", path=str(tmp_path / "nothing"))
    refused("no activations")
    model = _save(tmp_path)
    refused("no activations at resid_post.9.*It has: mlp_out.1, resid_post.3", ["resid_post.9"])
    with pytest.raises(harness.ConfigError, match="stored_capture"):
        harness.capture(model, ["text"], ["resid_post.3"])
    _save(tmp_path, rows=ROWS[:5])
    refused(r"is \[6, 4\], but .* ask for \[5, 4\]")
    _save(tmp_path, rows=ROWS.rename(columns={"document": "doc"}))
    refused("no column 'document'")
    (tmp_path / "rows.csv").unlink()
    refused("no rows table")
    _save(tmp_path, x=X[0])
    refused(r"must be floating point, \[n, d\]")
    np.save(tmp_path / "resid_post.3.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "resid_post.3.safetensors").unlink()
    refused("can't read")


def test_identity_is_of_the_contents(tmp_path: Path) -> None:
    for name in ("one", "other"):
        _save(tmp_path / name)
    one, other = (planning.stored_identity(StoredConfig(str(tmp_path / name))) for name in ("one", "other"))
    assert one == other
    _save(tmp_path / "other", x=X + 1)
    assert one != planning.stored_identity(StoredConfig(str(tmp_path / "other")))
