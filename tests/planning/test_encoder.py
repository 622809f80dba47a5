"""The word `judge` as a suite's encoder, however it is written, and as it is kept in `suite.yaml`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import harness
from harness.planning.config import compose, dump_resolved, load_resolved
from harness.planning.plan import build_plan

SCORERS = "scorers=[token_lookup, embedding_intruder]"
JUDGE = "judge={judge: openai_http, model: m, embedding_model: e}"


@pytest.mark.parametrize("is_file", [True, False])
def test_a_suite_names_its_judge_as_encoder(is_file: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    overrides = ["suite=smoke", "encoder=judge"]
    if is_file:
        (tmp_path / "conf" / "suite").mkdir(parents=True)
        of_file = "# @package _global_\ndefaults: [smoke, _self_]\nencoder: judge\n"
        (tmp_path / "conf" / "suite" / "mine.yaml").write_text(of_file)
        overrides = ["suite=mine"]
    suite, _ = compose([*overrides, SCORERS, JUDGE])
    assert suite.encoder is None and suite.judge is not None
    (tmp_path / "suite.yaml").write_text(dump_resolved(suite.config))
    plan, again = build_plan(suite), build_plan(load_resolved(tmp_path / "suite.yaml")[0])
    assert plan.cells.keys() == again.cells.keys()
    judges = {cell.columns["scorer"]: cell.columns["judge"] for cell in plan.of_kind("scoring")}
    assert judges == {"token_lookup": None, "embedding_intruder": "openai_http(model=m, embedding_model=e)"}


def test_a_judge_that_cannot_embed_is_a_problem_of_the_suite() -> None:
    with pytest.raises(harness.ConfigError, match="local lacks 'embed', which embedding_intruder needs"):
        compose(["suite=smoke", "encoder=judge", SCORERS, "judge=local"])


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("judge=lokal", "judge: unknown judge 'lokal'. Did you mean 'local'"),
        ("judge={judge: local, max_tokns: 7}", "judge.max_tokns: unknown key"),
        ("judge.size=3", "judge: {'size': 3}: write NAME, or {judge: NAME, parameter: value, ...}"),
        ("encoder.dtpe=bfloat16", "encoder.dtpe: unknown key. Did you mean 'dtype'"),
    ],
)
def test_what_nothing_asks_is_checked_all_the_same(word: str, message: str) -> None:
    with pytest.raises(harness.ConfigError, match=re.escape(message)):
        compose(["suite=smoke", "scorers=[token_lookup]", word])
