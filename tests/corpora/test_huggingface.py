"""Hugging Face datasets, from local folders: there is no hub in tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import harness
from harness.registry.plugin_manager import load_catalog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of one split, whose last text repeats the first."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    lines = [json.dumps({"text": f"document {i}", "topic": i % 3}) + "\n" for i in range(200)]
    (folder / "train.jsonl").write_text("".join(lines) + lines[0])
    return folder


def texts(path: Path | str, **params: Any) -> list[str]:
    return [document.text for document in harness.create("corpus", "huggingface", path=str(path), **params).documents()]


def error_of(path: Path | str, **params: Any) -> str:
    with pytest.raises(harness.ConfigError) as caught:
        texts(path, **params)
    return str(caught.value)


def test_a_split_is_read_with_labels_and_without_repeats(folder: Path) -> None:
    corpus = harness.create("corpus", "huggingface", path=str(folder), label_fields=["topic"], shuffle_buffer=0)
    found = list(corpus.documents())
    assert [document.text for document in found] == [f"document {i}" for i in range(200)]
    assert [document.labels["topic"] for document in found] == [str(i % 3) for i in range(200)]
    assert found[7].id == harness.document_id("document 7")


def test_parquet_folders_work_too(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"body": ["one", "two"]}), tmp_path / "data" / "test.parquet")
    assert texts(tmp_path / "data", split="test", text_field="body", shuffle_buffer=0) == ["one", "two"]


def test_the_order_depends_on_the_seed_alone(folder: Path) -> None:
    shuffled = texts(folder, seed=1)
    assert shuffled == texts(folder, seed=1)
    assert shuffled != texts(folder, seed=2)
    assert shuffled != texts(folder, shuffle_buffer=0)
    assert sorted(shuffled) == sorted(texts(folder, shuffle_buffer=0))


def test_what_is_not_there_is_named_with_what_is(folder: Path, tmp_path: Path) -> None:
    assert "split 'train': no field 'body'. Fields: text, topic." in error_of(folder, text_field="body")
    assert "field 'topic' holds int" in error_of(folder, text_field="topic")
    assert "Bad split: validation. Available splits: ['train']" in error_of(folder, split="validation")
    assert "BuilderConfig 'english' not found. Available: ['default']" in error_of(folder, name="english")
    assert "cannot open" in error_of(tmp_path / "nowhere")
    assert "path is empty" in error_of("")
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / "script.py").write_text("raise SystemExit")
    assert "Dataset scripts are no longer supported" in error_of(tmp_path / "script")


def test_without_network_the_error_names_the_alternatives() -> None:
    code = (
        "import harness\n"
        "try:\n    next(harness.create('corpus', 'huggingface', path='acme/texts').documents())\n"
        "except harness.ConfigError as error:\n    print(error)\n"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    finished = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert "corpus/huggingface: cannot open 'acme/texts'" in finished.stdout, finished.stderr
    assert "use corpus/files or corpus/packaged" in finished.stdout


def test_identity_is_the_contents_of_a_folder_and_the_parameters_of_a_hub_dataset(folder: Path) -> None:
    catalog = load_catalog()

    def identity(path: Path | str, **params: Any) -> Any:
        config = catalog.config("corpus", "huggingface", {"path": str(path), **params})
        return catalog.identity("corpus", "huggingface", config)

    elsewhere = folder.rename(folder.with_name("moved"))
    before = identity(elsewhere)
    assert before == identity(elsewhere.rename(folder))
    assert before != identity(folder, seed=1)
    with (folder / "train.jsonl").open("a") as file:
        file.write('{"text": "one more", "topic": 0}\n')
    assert before != identity(folder)
    assert identity("acme/texts", revision="abc")["path"] == "acme/texts"


def test_a_negative_buffer_is_refused() -> None:
    with pytest.raises(harness.ConfigError, match="shuffle_buffer is -1; give 0"):
        harness.create("corpus", "huggingface", path="acme/texts", shuffle_buffer=-1)


# Before version 3 pandas leaves a file that it has read in parts to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_cells_of_csv_are_texts_as_they_stand(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('text,id,year\nNA,007,2\n"one, two",1e5,1\n1.50,NA,\n,9,9\n')
    corpus = harness.create("corpus", "huggingface", path=str(tmp_path), label_fields=["id", "year"], shuffle_buffer=0)
    found = [(document.text, dict(document.labels)) for document in corpus.documents()]
    assert found == [
        ("NA", {"id": "007", "year": "2"}),
        ("one, two", {"id": "1e5", "year": "1"}),
        ("1.50", {"id": "NA"}),
    ]


def test_files_that_are_not_read_are_named(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "more.jsonl").write_text('{"text": "more", "topic": 1}\n')
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "README.md").write_text("a card")
    with pytest.warns(UserWarning, match=r"not read by datasets: \S+/linked/more\.jsonl\."):
        assert len(texts(folder)) == 200
