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


def _rows(folder: Path, name: str, content: str | bytes | pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows table as it is read, beside `n` activations."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "resid_post.0.npy", np.ones((n, 4), np.float32))
    if isinstance(content, pd.DataFrame):
        content.to_parquet(folder / name)
    else:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    model = harness.create("model", "stored", path=str(folder))
    rows: pd.DataFrame = model.stored_capture(["resid_post.0"]).rows
    return rows


@pytest.mark.parametrize(
    "ids",
    [
        ["007", "7", "07", "7.0"],
        ["1e5", "100000", "1E5", "0x10"],
        ["NA", "null", "None", "nan", "N/A", "<NA>", "inf"],
        ["True", "true", "False", "TRUE"],
        ["12345678901234567890", "12345678901234567891"],
        [" a", "a", "a,b", 'a"b', "a\nb", "é"],
    ],
    ids=lambda ids: ids[0],
)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_ids_are_texts_as_they_stand(tmp_path: Path, ids: list[str], suffix: str) -> None:
    table = pd.DataFrame({"document": ids})
    written = table.to_csv(index=False, lineterminator="\r\n") if suffix == "csv" else table
    for mark in ("", "\ufeff") if isinstance(written, str) else ("",):
        content = mark + written if isinstance(written, str) else written
        assert _rows(tmp_path, f"rows.{suffix}", content, len(ids))["document"].tolist() == ids


def test_ids_of_parquet_may_be_whole_numbers_but_not_rounded_ones(tmp_path: Path) -> None:
    large = [2**62, 2**62 + 1, 7]
    rows = _rows(tmp_path, "rows.parquet", pd.DataFrame({"document": large}), 3)
    assert rows["document"].tolist() == [str(number) for number in large]
    with pytest.raises(harness.ConfigError, match=r"documents are floating-point numbers. Save them as texts"):
        _rows(tmp_path, "rows.parquet", pd.DataFrame({"document": [1.0, 2.0]}), 2)


def test_rows_that_are_left_out_need_no_place_of_their_own(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "rows.csv", "document,position,special\na,0,yes\na,0,no\na,0,yes\nb,0,no\n", 4)
    assert rows["document"].tolist() == ["a", "b"]


def test_parquet_is_read_as_it_is_stored(tmp_path: Path) -> None:
    """Not as pandas would have it: with the documents as its index, and whole numbers beside a null as inexact ones."""
    table = pd.DataFrame({"document": ["a", "b"], "position": [2**31 - 1, 0]}).set_index("document")
    rows = _rows(tmp_path, "rows.parquet", table, 2)
    assert rows["document"].tolist() == ["a", "b"] and rows["position"].tolist() == [2**31 - 1, 0]
    with pytest.raises(harness.ConfigError, match="rows without a document"):
        _rows(tmp_path, "rows.parquet", pd.DataFrame({"document": pd.array([2**62, None], dtype="Int64")}), 2)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["false", "0", "no", "False", "n", "0.0"], [False] * 6),
        (["True", "1", "yes", "FALSE", "Y", "1.0"], [True, True, True, False, True, True]),
    ],
)
def test_flags_are_read_by_their_meaning(tmp_path: Path, flags: list[str], expected: list[bool]) -> None:
    n = len(flags)
    table = pd.DataFrame({"document": [f"d{i}" for i in range(n)], "special": flags})
    kept = [f"d{i}" for i in range(n) if not expected[i]]
    assert _rows(tmp_path, "rows.csv", table.to_csv(index=False), n)["document"].tolist() == kept
    (tmp_path / "rows.csv").unlink()
    for typed in (flags, expected, [int(flag) for flag in expected], [float(flag) for flag in expected]):
        assert _rows(tmp_path, "rows.parquet", table.assign(special=typed), n)["document"].tolist() == kept


def test_numbers_may_be_written_in_any_way_but_must_be_whole(tmp_path: Path) -> None:
    rows = _rows(tmp_path, "rows.csv", "document,position,start,end\na,3,NA,4.0\nb,1.0,,\nNA,0,2,nan\n", 3)
    assert rows["position"].tolist() == [3, 1, 0] and rows["document"].tolist() == ["a", "b", "NA"]
    assert rows["start"].tolist() == [pd.NA, pd.NA, 2] and rows["end"].tolist() == [4, pd.NA, pd.NA]


def test_headings_count_however_they_are_spaced(tmp_path: Path) -> None:
    """Else a column is passed over, and positions are counted instead."""
    rows = _rows(tmp_path, "rows.csv", "Document, position, START\na, 3, 1\na, 5, 2\n", 2)
    assert rows["position"].tolist() == [3, 5] and rows["start"].tolist() == [1, 2]
    (tmp_path / "rows.csv").unlink()
    rows = _rows(tmp_path, "rows.parquet", pd.DataFrame({"document ": ["a", "a"], "Position": [3, 5]}), 2)
    assert rows["position"].tolist() == [3, 5]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('document\na\n""\n', "rows without a document"),
        ("document,special\na,no\nb,maybe\n", r"rows.csv row 2: special is 'maybe'; it must be true or false"),
        ("document,special\na,no\nb,\n", r"row 2: special is ''; it must be true or false"),
        ("document,position\na,1.5\nb,0\n", r"row 1: position is '1.5'; it must be a whole number from 0 on"),
        ("document,window\na,0\nb,\n", r"row 2: window is ''; it must be a whole number"),
        ("document,start\na,-1\nb,0\n", r"row 1: start is '-1'; it must be a whole number"),
        ("document,position\na,4294967297\nb,0\n", r"row 1: position is '4294967297'"),
        ("document,window\na,0,\nb,0,\n", r"rows.csv line 2: 3 values for 2 columns"),  # pandas would shift them
        ("document,window\na\nb,0\n", r"rows.csv line 2: 1 values for 2 columns"),
        ("document,document\na,b\n", "two columns 'document'"),
        ("document,Document \na,b\n", "two columns 'document'"),
        ("document;window\na;0\nb;0\n", "no column 'document'. It has: document;window"),
        (
            "document,position\na,0\na,0\n",
            r"rows.csv rows 1 and 2 are both position 0 in window 0 of document 'a'. Number the windows in a column",
        ),
        ("", "no column 'document'"),
        (b"document\n\xe9\nb\n", "rows.csv line 0: 'utf-8' codec"),
    ],
)
def test_what_a_table_can_not_mean_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(harness.ConfigError, match=message.replace("rows.csv", r"rows\.csv")):
        _rows(tmp_path, "rows.csv", content, 2)


def test_files_as_people_have_them_are_read_or_named(tmp_path: Path) -> None:
    def refused(message: str, sites: list[str]) -> None:
        with pytest.raises(harness.ConfigError, match=message):
            harness.create("model", "stored", path=str(tmp_path)).stored_capture(sites)

    rows = _rows(tmp_path, "ROWS.CSV", "document\na\nb\n", 2)
    (tmp_path / "resid_post.0.npy").rename(tmp_path / "resid_post.0.NPY")
    (tmp_path / "._resid_post.1.npy").write_bytes(b"\0\5\26\7")
    model = harness.create("model", "stored", path=str(tmp_path))
    assert model.stored_capture(["resid_post.0"]).rows.equals(rows) and model.n_layers == 1
    identity = planning.stored_identity(StoredConfig(str(tmp_path)))
    assert list(identity["files"]) == ["ROWS.CSV", "resid_post.0.NPY"]
    (tmp_path / "resid_post.1.npy.gz").write_bytes(b"")
    refused(r"no activations at resid_post.1 .*Not read: resid_post.1.npy.gz; unpack or convert", ["resid_post.1"])
    np.save(tmp_path / "resid_post.0.npy", np.ones((2, 4), np.float32))
    refused(r"has resid_post.0.NPY, resid_post.0.npy. Keep one file for each site", ["resid_post.0"])
    (tmp_path / "resid_post.0.npy").unlink()
    pd.DataFrame({"document": ["a", "b"]}).to_parquet(tmp_path / "rows.parquet")
    refused(r"has ROWS.CSV and rows.parquet; keep one", ["resid_post.0"])
    (tmp_path / "rows.parquet").unlink()
    (tmp_path / "ROWS.CSV").rename(tmp_path / "rows.csv.zip")
    refused(r"has no rows table. .*Not read: rows.csv.zip", ["resid_post.0"])


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ('{"n_layers": "12"}', "n_layers is '12'; it must be a whole number"),
        ('{"tokenizer_hash": 123}', "tokenizer_hash is 123; it must be a text"),
        ('{"n_layers": 3}', "n_layers is 3, and there are rows of layer 3"),
        ("[1]", "holds no object"),
    ],
)
def test_a_description_that_says_something_else_is_refused(tmp_path: Path, description: str, message: str) -> None:
    _save(tmp_path)
    (tmp_path / "stored.json").write_text('{"n_layers": 12}', encoding="utf-8-sig")
    assert harness.create("model", "stored", path=str(tmp_path)).n_layers == 12
    (tmp_path / "stored.json").write_text(description)
    with pytest.raises(harness.ConfigError, match=message):
        harness.create("model", "stored", path=str(tmp_path))
