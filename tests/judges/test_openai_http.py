"""The judge behind an endpoint, on a server that does what servers do at their worst."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import log
from pathlib import Path
from typing import Any, ClassVar

import pytest

import harness
from harness.judges import Judging
from harness.response_cache import ResponseCache

KEY = "a-secret-of-the-test"
TOP = [{"token": token, "logprob": log(p)} for token, p in (("Yes", 0.5), (" Yes", 0.25), ("No", 0.125))]


class Hostile(BaseHTTPRequestHandler):
    """What the user's text says is what happens, the first time at least."""

    seen: ClassVar[list[tuple[str, float]]] = []

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = asked["messages"][1]["content"]
        is_first = text not in [seen for seen, _ in self.seen]
        self.seen.append((text, time.monotonic()))
        answer: dict[str, Any] = {
            "message": {"content": f"about {text}"},
            "logprobs": {"content": [{"top_logprobs": TOP}]},
        }
        status, headers = 200, {}
        if text == "401" or (is_first and text in ("429", "500")):
            status, headers = int(text), {"Retry-After": "0.3"} if text == "429" else {}
        if text == "stall" and is_first:
            time.sleep(1)
        if text == "no logprobs":
            answer["logprobs"] = None
        if text == "no No":
            answer["logprobs"] = {"content": [{"top_logprobs": TOP[:2]}]}
        body = json.dumps({"choices": [answer], "you sent": self.headers["Authorization"]}).encode()
        if text == "truncated" or (text == "truncated once" and is_first):
            body = body[:40]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # nobody waited
            self.wfile.write(body)


@pytest.fixture
def url() -> Iterator[str]:
    Hostile.seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def _judge(url: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    quick = {"timeout_seconds": 0.5, "attempts": 2, "wait_seconds": 0.01, "n_at_once": 3}
    return harness.create("judge", "openai_http", model="m", base_url=url, key_variable="JUDGE_KEY", **quick | changes)


def _choose(*texts: str) -> list[harness.Choose]:
    return [harness.Choose("s", text, ("Yes", "No")) for text in texts]


def test_what_passes_is_tried_again_and_what_does_not_is_told(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = ("fine", "429", "500", "stall", "truncated once")
    badly = ("401", "truncated", "no logprobs", "no No")
    requests = _choose(*well, *badly)

    def judging() -> Judging:
        return Judging(lambda: _judge(url, monkeypatch), ResponseCache(tmp_path, {"judge": "m"}))

    cold = judging()
    cold.ask(requests)
    for request in requests[: len(well)]:
        assert cold.response(request) == pytest.approx((log(0.75), log(0.125)))
    reasons = [cold.response(request) for request in requests[len(well) :]]
    assert all(isinstance(reason, harness.Failure) for reason in reasons)
    assert "HTTP 401" in reasons[0].reason and "JSON" in reasons[1].reason
    assert "lacks what was asked for" in reasons[2].reason and "'No' is none of the 2" in reasons[3].reason
    assert not any(KEY in reason.reason for reason in reasons)
    counts = Counter(text for text, _ in Hostile.seen)
    assert counts == {"fine": 1, **dict.fromkeys(("429", "500", "stall", "truncated", "truncated once"), 2)} | {
        **dict.fromkeys(("401", "no logprobs", "no No"), 1)
    }
    first, second = (at for text, at in Hostile.seen if text == "429")
    assert second - first >= 0.3
    warm = judging()
    assert [warm.response(request) for request in requests[: len(well)]] == [
        cold.response(request) for request in requests[: len(well)]
    ]
    assert Counter(text for text, _ in Hostile.seen) == counts  # nothing was asked twice
    file = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert KEY.encode() not in file


def test_after_many_failures_in_a_row_the_rest_is_not_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = _judge(url, monkeypatch, n_at_once=1)
    found = list(judge.choose(_choose(*["401"] * 30)))
    assert len(Hostile.seen) == 10 and "not sent" in found[-1].reason and len(found) == 30
    assert "HTTP 401" in found[-1].reason  # and why
    assert "HTTP 401" in found[-1].reason  # and why


def test_texts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = _judge(url, monkeypatch)
    texts = [f"text {i}" for i in range(10)]
    assert list(judge.generate([harness.Generate("s", text, 5) for text in texts])) == [f"about {t}" for t in texts]


def test_a_missing_key_and_secrets_in_an_address_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(harness.ConfigError, match=r"\$OPENAI_API_KEY is not set"):
        harness.create("judge", "openai_http", model="m")
    with pytest.raises(harness.ConfigError, match="holds a secret") as caught:
        harness.create("judge", "openai_http", model="m", base_url="http://user:hush@host/v1")
    assert "hush" not in str(caught.value)
