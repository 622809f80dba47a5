"""A judge that fails, for the time being or for good: what a suite comes to, and what its next run asks."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from harness.cli import main as cli
from harness.storage.cache import cache_folder
from tests.support.loopback import serving
from tests.support.result_tables import read_tables, states

Cli = Callable[..., tuple[int, str, str]]
TRIAL = "Is water wet?"


class Moody(BaseHTTPRequestHandler):
    """Says of all texts that the pattern holds; what it is told to it does not answer."""

    asked: ClassVar[list[str]] = []
    refused: ClassVar[set[str]] = set()
    """Prompts, with HTTP 400."""
    ill: ClassVar[set[str]] = set()
    """Prompts, with HTTP 500."""
    is_down: ClassVar[bool] = False

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt: str = body["messages"][1]["content"]
        self.asked.append(prompt)
        status = 500 if self.is_down or prompt in self.ill else 400 if prompt in self.refused else 200
        answer = json.dumps(
            {"choices": [{"message": {"content": _said(prompt)}}]} if status == 200 else {"error": "no"}
        )
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())


def _said(prompt: str) -> str:
    return '{"answers": [1, 1, 1, 1, 1]}' if prompt.startswith("Pattern: ") else f"words of kind {len(prompt)}"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(Moody) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def prompts(
    server: str, shared_cache: Path, warm_popen: type[subprocess.Popen], tmp_path_factory: pytest.TempPathFactory
) -> list[str]:
    """All that the suite asks, to choose from: asked of a judge of another name, which is another judge."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("first"))
        patch.setattr(subprocess, "Popen", warm_popen)
        patch.setenv("WANDB_MODE", "disabled")
        patch.setenv("HARNESS_CACHE", str(shared_cache))
        assert cli.main(["run", *_suite("first", _http(server, "n"))]) == 0
    return list(_asked())


@pytest.fixture
def url(server: str, prompts: list[str]) -> str:
    for told in (Moody.asked, Moody.refused, Moody.ill):
        told.clear()
    return server


def _suite(name: str, judge: str, scorers: str = "[detection]") -> list[str]:
    return [
        *("suite=smoke", f"name={name}", f"judge={judge}", f"scorers={scorers}", "explainers=[judge_written]"),
        *("sites=[resid_post.1]", "models=[{model: random_weights, family: toy}]", "evaluations=[]", "similarities=[]"),
        *("methods=[{method: topk_sae, n_latents: 64, k: 8}]", "seeds=[0]", "latents=4", "tokens.interp=6000"),
    ]


def _http(url: str, model: str = "m") -> str:
    return f'{{judge: openai_http, model: {model}, base_url: "{url}", key_variable: null, attempts: 1, n_at_once: 1}}'


def _asked() -> Counter[str]:
    """Since the last call, trials aside."""
    found = Counter(prompt for prompt in Moody.asked if TRIAL not in prompt)
    Moody.asked.clear()
    return found


def _interp(folder: Path, name: str) -> pd.DataFrame:
    table = read_tables(folder / "results" / name)["interp"]
    return table.set_index(["scorer", "latent", "sign", "metric"])[["value", "error", "note"]]


def test_what_may_pass_is_asked_again_and_what_may_not_is_a_result(
    url: str, prompts: list[str], harness_cli: Cli, tmp_path: Path
) -> None:
    written = [prompt for prompt in prompts if not prompt.startswith("Pattern: ")]
    detected = [prompt for prompt in prompts if prompt.startswith(f"Pattern: {_said(written[2])}\n")]
    Moody.ill.add(written[0])
    Moody.refused |= {written[1], *detected}

    code, output, errors = harness_cli("run", *_suite("moody", _http(url)))
    assert code == 1 and "failed" not in errors, errors
    assert (
        "2 to do" in output and "1 answers of the judge are missing, the first of them because of: HTTP 500" in errors
    )
    partly = _interp(tmp_path, "moody")
    reasons = partly["error"].dropna()
    assert reasons[reasons.str.contains("HTTP 500")].size and reasons[reasons.str.contains("HTTP 400")].size
    assert partly["note"].dropna().str.contains("Run again").all() and partly["note"].notna().any()
    first = _asked()
    assert set(first) <= set(prompts) and set(first.values()) == {1}

    Moody.is_down = True  # which takes nothing away
    code, _, errors = harness_cli("run", *_suite("moody", _http(url)))
    Moody.is_down = False
    _asked()
    assert code == 1 and "failed judge_written" in errors and "HTTP 500" in errors, errors
    pd.testing.assert_frame_equal(_interp(tmp_path, "moody").drop(columns="note"), partly.drop(columns="note"))

    Moody.ill.clear()
    assert Counter(states(harness_cli("status", "name=moody", "--json")[1]).values())["to do"] == 2
    code, _, errors = harness_cli("run", *_suite("moody", _http(url)))
    assert code == 0, errors
    second = _asked()
    assert second[written[0]] == 1 and not second.keys() & (first.keys() - {written[0]})
    whole = _interp(tmp_path, "moody")
    assert whole["note"].dropna().empty
    reasons = whole["error"].dropna()
    assert reasons.str.contains("HTTP 400").any() and not reasons.str.contains("HTTP 500").any()
    answered = whole.xs("answered", level="metric")["value"]
    assert (answered == 0).sum() == 1 and (answered == 1).any()
    assert harness_cli("run", *_suite("moody", _http(url)))[0] == 0 and not _asked()

    recording = tmp_path / "recording.sqlite"
    with closing(sqlite3.connect(cache_folder() / "judges" / "responses.sqlite")) as file:
        file.execute(f"vacuum into '{recording}'")
    replay = f'{{judge: replay, path: "{recording}", of: \'"model":"m"\'}}'
    code, _, errors = harness_cli("run", *_suite("replayed", replay))
    assert code == 0 and not _asked(), errors
    pd.testing.assert_frame_equal(_interp(tmp_path, "replayed"), whole)


def test_where_all_that_is_asked_is_refused_each_latent_has_the_reason(
    url: str, prompts: list[str], harness_cli: Cli, tmp_path: Path
) -> None:
    """Though nothing was answered: nothing has failed."""
    Moody.refused |= set(prompts)
    code, _, errors = harness_cli("run", *_suite("refused", _http(url, "o")))
    assert code == 0, errors
    found = _interp(tmp_path, "refused").xs("balanced_accuracy", level="metric")
    assert len(found) and found["error"].str.contains("no explanation: the judge did not answer: HTTP 400").all()
