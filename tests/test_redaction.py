"""Secrets and the home folder leave every text; all else stays."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.redaction import HIDDEN, Redaction


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("SOME_SERVICE_TOKEN", "opensesame-42")
    monkeypatch.setenv("STAGE_KEY", "end")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("token opensesame-42!", f"token {HIDDEN}!"),
        ("/home/ann/models/x and file:///home/ann", "~/models/x and file://~"),
        ("/home/anna/x, /data/home/ann2", "/home/anna/x, /data/home/ann2"),
        ("https://ann:pass@host/x and https://host/x", f"https://{HIDDEN}@host/x and https://host/x"),
        (f"hf_{'a' * 34} AKIA{'A' * 16}", f"{HIDDEN} {HIDDEN}"),
        (f"sk-ant-{'a1' * 20}", HIDDEN),
        ("the end of sk-learn", "the end of sk-learn"),
        ("explained_variance 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c", None),
    ],
)
def test_texts(text: str, redacted: str | None) -> None:
    assert Redaction({}).text(text) == (text if redacted is None else redacted)


def test_secrets_of_a_config_are_found_by_name_and_hidden_everywhere() -> None:
    config = {"methods": [{"method": "acme", "api_key": "correct horse", "key": "end", "k": 4}], "name": "x"}
    redaction = Redaction(config)
    hidden = {"methods": [{"method": "acme", "api_key": HIDDEN, "key": "end", "k": 4}], "name": "x"}
    assert redaction.value(config) == hidden
    assert redaction.text('{"api_key":"correct horse"}') == f'{{"api_key":"{HIDDEN}"}}'


def test_tables_keep_their_types_and_nulls() -> None:
    table = pd.DataFrame({"error": ["/home/ann/x", None], "n": [1, None], "mixed": [1.5, "/home/ann"]})
    table = table.astype({"error": "string", "n": "Int64"})
    redacted = Redaction({}).table(table)
    expected = table.assign(error=pd.array(["~/x", None], dtype="string"), mixed=[1.5, "~"])
    pd.testing.assert_frame_equal(redacted, expected)


@given(st.text(), st.text())
def test_a_secret_is_gone_wherever_it_stands(before: str, after: str) -> None:
    secret = "s3cret.*[value]"
    assert secret not in Redaction({"password": secret}).text(before + secret + after)


def test_the_home_folder_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Redaction({}).text(f"{tmp_path}/x") == "~/x"
