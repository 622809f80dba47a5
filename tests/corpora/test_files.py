"""Texts in the user's own files."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness
from harness.registry.plugin_manager import load_catalog


def documents(*paths: Path | str, **params: Any) -> list[harness.Document]:
    return list(harness.create("corpus", "files", paths=[str(path) for path in paths], **params).documents())


def texts(*paths: Path | str, **params: Any) -> list[str]:
    return [document.text for document in documents(*paths, **params)]


def identity(*paths: Path | str, **params: Any) -> Any:
    catalog = load_catalog()
    config = catalog.config("corpus", "files", {"paths": [str(path) for path in paths], **params})
    return catalog.identity("corpus", "files", config)


def write_jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def error_of(*paths: Path | str, **params: Any) -> str:
    with pytest.raises(harness.ConfigError) as caught:
        documents(*paths, **params)
    return str(caught.value)


def test_a_txt_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffcafé\nau lait".encode())  # with a byte order mark
    (document,) = documents(tmp_path / "a.txt")
    assert document == harness.Document(harness.document_id("café\nau lait"), "café\nau lait", {})


def test_jsonl_lines_are_documents_with_labels(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "a.jsonl",
        {"body": "one", "topic": "x", "year": 1999},
        {"body": "two", "topic": None, "year": 2000},
    )
    found = documents(path, text_field="body", label_fields=["topic", "year"])
    assert [document.text for document in found] == ["one", "two"]
    assert [document.labels for document in found] == [{"topic": "x", "year": "1999"}, {"year": "2000"}]


def test_parquet_rows_are_documents_whatever_the_row_groups(tmp_path: Path) -> None:
    words = [f"text {i}" for i in range(2_500)]
    table = pa.table({"text": words, "topic": pa.array(["a", "b"] * 1_250).dictionary_encode(), "unused": words})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=700)
    found = documents(tmp_path / "a.parquet", label_fields=["topic"])
    assert [document.text for document in found] == words
    assert [document.labels["topic"] for document in found] == ["a", "b"] * 1_250


def test_blank_and_repeated_texts_are_dropped_across_files(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "1.jsonl", {"text": "same"}, {"text": " \n"}, {"text": None}, {"text": "other"})
    (tmp_path / "2.txt").write_text("same")
    assert texts(first, tmp_path / "2.txt") == ["same", "other"]


def test_folders_and_globs_are_sorted_and_a_file_comes_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "deep/c.txt"):
        (tmp_path / name).write_text(name)
    assert texts(tmp_path) == ["a.txt", "b.txt", "deep/c.txt"]
    assert texts(tmp_path / "*.txt") == ["a.txt", "b.txt"]
    assert texts(tmp_path / "**" / "*.txt") == ["a.txt", "b.txt", "deep/c.txt"]
    assert texts(tmp_path / "b.txt", tmp_path) == ["b.txt", "a.txt", "deep/c.txt"]


def test_paths_are_relative_to_the_working_folder_and_know_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd[1].txt").write_text("named like a glob")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert texts("odd[1].txt") == texts("~/odd[1].txt") == ["named like a glob"]


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    """The first document of a 64 MB file costs no more memory than a line of it."""
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for i in range(64):
            file.write(json.dumps({"text": f"{i}" + "x" * 1_000_000}) + "\n")
    corpus = harness.create("corpus", "files", paths=[str(path)])
    assert harness.Document  # imported now, so that its own memory does not count
    tracemalloc.start()
    assert next(corpus.documents()).text.startswith("0x")
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


def test_identity_follows_contents_and_order_and_not_places(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("one")
        (tmp_path / folder / "b.txt").write_text("two")
    here, there = tmp_path / "here", tmp_path / "there"
    assert identity(here) == identity(there / "*.txt") == identity(there / "a.txt", there / "b.txt")
    assert identity(here) != identity(here / "b.txt", here / "a.txt")
    assert identity(here) != identity(here, text_field="body")
    (there / "a.txt").rename(there / "a.jsonl")  # the same bytes, read in another way
    assert identity(here) != identity(there)
    (here / "b.txt").write_text("two!")
    assert identity(here) != identity(there)


def test_nothing_found_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    message = error_of("no/*.txt", "nowhere")
    assert "corpus/files.paths[0]: 'no/*.txt' matches no file that ends in .txt, .jsonl, .parquet" in message
    assert f"paths[1]: 'nowhere' matches no file that ends in .txt, .jsonl, .parquet (working folder: {tmp_path})" in (
        message
    )
    assert "paths is empty" in error_of()
    (tmp_path / "a.txt").write_text("another project's")
    assert "has an entry without a name; the working folder is '.'" in error_of("")


def test_what_a_folder_hides_is_no_text_and_named(tmp_path: Path) -> None:
    for name in ("a.txt", "._a.txt", ".ipynb_checkpoints/a-checkpoint.txt", "deep/.git/b.txt", "table.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "lost.txt").symlink_to(tmp_path / "nowhere")
    with pytest.warns(UserWarning, match="corpus/files: Not read, as hidden, no file, or of another") as said:
        assert texts(tmp_path) == ["a.txt"]
    unread = (".ipynb_checkpoints", "._a.txt", "deep/.git", "lost.txt", "table.csv")
    assert str(said[0].message).endswith(": " + ", ".join(str(tmp_path / name) for name in sorted(unread)) + ".")
    assert identity(tmp_path) == identity(tmp_path / "a.txt")
    assert texts(tmp_path / "._a.txt", tmp_path / "deep" / ".git") == ["._a.txt", "deep/.git/b.txt"]  # asked for


def test_folders_behind_links_and_in_globs_are_searched(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "top" / "inner").mkdir(parents=True)
    (tmp_path / "real" / "b.txt").write_text("behind a link")
    (tmp_path / "top" / "a.txt").write_text("beside it")
    (tmp_path / "top" / "inner" / "c.TXT").write_text("upper case")
    (tmp_path / "top" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "top")  # a circle
    assert texts(tmp_path / "top") == ["beside it", "upper case", "behind a link"]
    assert texts(tmp_path / "t*") == texts(tmp_path / "top" / "*") == texts(tmp_path / "top")
    (tmp_path / "real" / "b.txt").write_text("changed")
    assert identity(tmp_path / "top") != identity(tmp_path / "top" / "a.txt", tmp_path / "top" / "inner" / "c.TXT")


@pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst", "b.txt.BZ2", "b.zip", "b.tar.gz"])
def test_packed_files_are_refused_in_folders_as_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.txt").write_text("plain")
    (tmp_path / name).write_bytes(b"packed")
    for path in (tmp_path, tmp_path / name, tmp_path / "*"):
        assert f"{name}' is packed. Unpack it, or name the files beside it alone." in error_of(path)


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\none\n")
    assert "a.csv' ends in none of .txt, .jsonl, .parquet. Convert or rename it." in error_of(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"text": "caf\xe9"}', "a.jsonl line 2: not UTF-8 (byte 0xe9 at 13). Convert it"),
        (b'{"text": }', "a.jsonl line 2: not JSON: Expecting value at column 10."),
        (b'["one"]', "a.jsonl line 2: a JSON list; each line must hold an object."),
        (b'{"body": "x", "id": 1}', "a.jsonl line 2: no field 'text'. Fields: body, id."),
        (b'{"text": 3}', "a.jsonl line 2: field 'text' holds int 3, not text. Set text_field."),
    ],
)
def test_a_broken_line_is_named_with_its_number(line: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    assert expected in error_of(path)


def test_a_whole_number_is_one_label_however_it_is_stored(tmp_path: Path) -> None:
    """As where a label is missing in one of two shards, which pandas then writes as floating-point numbers."""
    pq.write_table(pa.table({"text": ["one", "two"], "year": [1, 2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["three", "four", "five"], "year": [1.0, None, 2.5]}), tmp_path / "b.parquet")
    found = documents(tmp_path, label_fields=["year"])
    assert [document.labels.get("year") for document in found] == ["1", "2", "1", None, "2.5"]
    assert "labels_version" in identity(tmp_path, label_fields=["year"])
    assert identity(tmp_path).keys() == {"files", "text_field", "label_fields"}


def test_labels_must_be_there_and_simple(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", {"text": "one", "tags": ["a"]})
    assert "line 1: no field 'topic'. Fields: text, tags." in error_of(path, label_fields=["topic"])
    assert "line 1: field 'tags' holds list ['a'], which can't be a label." in error_of(path, label_fields=["tags"])


def test_broken_txt_and_parquet_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"ol\xe9")
    assert "a.txt: not UTF-8 (byte 0xe9 at 2)" in error_of(tmp_path / "a.txt")
    (tmp_path / "a.parquet").write_bytes(b"no parquet at all")
    assert "a.parquet: not a parquet file, or a damaged one" in error_of(tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["x"], "id": [1]}), tmp_path / "b.parquet")
    assert "b.parquet: no column 'text'. Columns: body, id." in error_of(tmp_path / "b.parquet")
    assert "b.parquet row 1: field 'id' holds int 1, not text" in error_of(tmp_path / "b.parquet", text_field="id")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters())))  # surrogates too: half an emoji is legal JSON
def test_any_text_survives_jsonl(tmp_path: Path, written: list[str]) -> None:
    path = write_jsonl(tmp_path / "any.jsonl", *({"text": text} for text in written))
    found = documents(path)
    assert [document.text for document in found] == list(dict.fromkeys(text for text in written if text.strip()))
    assert all(len(document.id) == 16 for document in found)
