"""Servers at their worst: whatever they send, each request ends, says why, and the next one is asked."""

from __future__ import annotations

import gzip
import itertools
import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import harness
from harness.plugins.judges import endpoint, exchange
from tests.support.loopback import answering

KEY = "a-secret-of-the-test"
Answer = Callable[[socket.socket, threading.Event], None]


def _ask(url: str, monkeypatch: pytest.MonkeyPatch, n: int = 1, **changes: Any) -> Any:
    """The response to one request, or the first of several."""
    monkeypatch.setenv("JUDGE_KEY", KEY)
    quick = {"timeout_seconds": 0.05, "attempts": 2, "wait_seconds": 0.0, "n_at_once": 1}
    params = {"model": "m", "base_url": url, "key_variable": "JUDGE_KEY"} | quick | changes
    judge = harness.create("judge", "openai_http", **params)
    judge._problems["generate"] = ""  # no trial
    return next(iter(judge.generate([harness.Generate("s", "u", 5)] * n)))


def _headers(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()


def _whole(content: bytes, *lines: str) -> bytes:
    return _headers(f"Content-Length: {len(content)}", *lines) + content


def _sends(*parts: bytes) -> Answer:
    def answer(connection: socket.socket, over: threading.Event) -> None:
        for part in parts:
            connection.sendall(part)

    return answer


def _drips(head: bytes, piece: bytes, seconds: float = 0.01) -> Answer:
    """Sends a piece now and then, or without end."""

    def answer(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head)
        while not over.wait(seconds):
            connection.sendall(piece)

    return answer


def _hangs(connection: socket.socket, over: threading.Event) -> None:
    over.wait()


def _resets(connection: socket.socket, over: threading.Event) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _half_closes(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(_headers("Content-Length: 100") + b"{")
    connection.shutdown(socket.SHUT_WR)
    over.wait()


def _text(content: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}}]}).encode()


CHUNKED, PACKED = _headers("Transfer-Encoding: chunked"), "Content-Encoding: gzip"
BOMB = gzip.compress(bytes(exchange.MAX_BYTES * 8))
WORST: dict[str, tuple[Answer, str]] = {
    "headers that drip": (_drips(_headers()[:-2] + b"X: ", b"x"), "no whole answer within 0.25 s"),
    "headers without end": (_drips(_headers()[:-2], b"X: y\r\n" * 1000, 0), "RemoteProtocolError|no whole answer"),
    "going on without end": (_drips(b"", _headers(status="103 Early Hints"), 0), "no whole answer"),
    "a drip": (_drips(_headers("Content-Length: 100000"), b" "), "no whole answer within 0.25 s"),
    "a flood of small chunks": (_drips(CHUNKED, b"1\r\n \r\n" * 5000, 0), "larger than|no whole answer"),
    "a flood": (_drips(_headers(), b" " * 2**20, 0), "larger than 8,388,608 bytes"),
    "a bomb": (_sends(_whole(BOMB, PACKED)), "larger than"),
    "a bomb in a bomb": (_sends(_whole(gzip.compress(BOMB), "Content-Encoding: gzip, gzip")), "packed as 'gzip, gzip'"),
    "no gzip at all": (_sends(_whole(b"{}", PACKED)), "incorrect header"),
    "half an answer": (_half_closes, "RemoteProtocolError|ReadTimeout"),
    "nothing": (_hangs, "ReadTimeout"),
    "a reset": (_resets, "ReadError|RemoteProtocolError"),
    "no HTTP": (_sends(b"\x00\xff" * 100), "RemoteProtocolError"),
    "a length below nothing": (_sends(_headers("Content-Length: -1")), "RemoteProtocolError"),
    "no UTF-8": (_sends(_whole(b'{"choices": "\xff\xfe\xfa"}')), "UnicodeDecodeError"),
    "deep": (_sends(_whole(b"[" * 1_000_000)), "RecursionError"),
    "deep and well formed": (_sends(_whole(b'{"choices": ' + b"[" * 900 + b"]" * 900 + b"}")), "lacks what was asked"),
    "a long number": (_sends(_whole(b"9" * 5000)), "ValueError"),
    "a large number": (_sends(_whole(b'{"choices": 1e999}')), "lacks what was asked for"),
    "long words": (_sends(_whole(b'{"choices": [{"message": {"content": [{"type": "' + b"x" * 10**6)), "JSON"),
    "elsewhere": (_sends(_headers("Location: http://169.254.169.254/", status="307 T")), "points to 'http://169"),
    "a file": (_sends(_headers("Location: file:///etc/passwd", status="302 F")), "points to 'file:///etc/passwd'"),
    "nowhere": (_sends(_headers(status="304 N")), "points to ''"),
}


@pytest.mark.parametrize("name", WORST)
def test_every_request_ends_and_says_why(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answer, reason = WORST[name]
    with answering(answer) as url:
        found = _ask(url, monkeypatch)
    assert isinstance(found, harness.Failure) and re.search(reason, found.reason), found
    assert len(found.reason) < 400


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_connections_and_no_more_costs_its_time(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that never greets, as TLS does."""
    with answering(_hangs) as url:
        found = _ask(url.replace("http", scheme), monkeypatch)
    assert "Timeout" in found.reason and found.transient


def test_what_takes_too_long_or_is_too_large_is_not_asked_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = itertools.count()

    def counting(connection: socket.socket, over: threading.Event) -> None:
        next(counted)
        WORST["a flood"][0](connection, over)

    with answering(counting) as url:
        assert _ask(url, monkeypatch, attempts=5).transient  # but by the next run
    assert next(counted) == 1


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_what_is_packed_unasked_is_read(pack: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    with answering(_sends(_whole(pack(_text("well")), f"Content-Encoding: {encoding}"))) as url:
        assert _ask(url, monkeypatch) == "well"


def test_a_key_in_an_answer_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    spelt = _text(f"it is {KEY}").replace(b"secret", b"s\\u0065cret")
    for answer in (_text(f"it is {KEY}"), spelt):
        with answering(_sends(_whole(answer))) as url:
            assert _ask(url, monkeypatch) == "it is [hidden]"
    refusal = b"x" * 190 + KEY.encode()  # across the end of what is shown
    with answering(_sends(_headers(status="400 B"), refusal)) as url:
        assert KEY[:5] not in _ask(url, monkeypatch).reason


def test_half_a_character_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(_sends(_whole(_text("a \ud800 b \U0001f600")))) as url:
        assert _ask(url, monkeypatch) == "a \ufffd b \U0001f600"


@pytest.mark.parametrize("tokens", ["1" + "0" * 30, "-1", "1.5", '"7"', "null"])
def test_absurd_numbers_of_tokens_are_not_believed(tokens: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = b'{"usage": {"prompt_tokens": ' + tokens.encode() + b', "completion_tokens": 1}, '
    with answering(_sends(_whole(usage + _text("well")[1:]))) as url:
        assert _ask(url, monkeypatch) == "well"  # and what it took is estimated


@pytest.mark.parametrize(
    ("after", "hours"), [("1e9", "277,777.8 hours"), ("Fri, 31 Dec 9999 23:59:59 GMT", "hours"), ("301", "0.1 hours")]
)
def test_who_asks_for_hours_is_left_to_the_next_run(after: str, hours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(_sends(_headers(f"Retry-After: {after}", "Content-Length: 0", status="429 T"))) as url:
        found = _ask(url, monkeypatch, attempts=9)
    assert found.transient and "HTTP 429" in found.reason and f"asks to wait {hours}"[:12] in found.reason
    assert hours in found.reason


def test_waiting_is_told_with_who_is_waited_for_and_how_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "_SECONDS_BEFORE_WORDS", 0.0)
    busy = _headers("Retry-After: 0.001", "Content-Length: 0", status="429 T")
    with answering(_sends(busy)) as url, pytest.warns(RuntimeWarning) as said:
        _ask(url, monkeypatch, attempts=4)
    (one,) = said  # of three pauses
    assert f"{url} (m): HTTP 429" in str(one.message) and "Asked again in 0 s, for the 2. of 4 times" in str(
        one.message
    )


def test_cookies_are_not_sent_back(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[bytes] = []

    def hears(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(_whole(_text("a"), "Set-Cookie: a=b; Path=/"))
        heard.append(connection.recv(2**16))
        connection.sendall(_whole(_text("b")))

    with answering(hears) as url:
        monkeypatch.setenv("JUDGE_KEY", KEY)
        judge = harness.create("judge", "openai_http", model="m", base_url=url, key_variable="JUDGE_KEY")
        judge._problems["generate"] = ""
        assert list(judge.generate([harness.Generate("s", "u", 5)])) == ["a"]
        assert list(judge.generate([harness.Generate("s", "u", 5)])) == ["b"]
    assert b"POST" in heard[0] and b"ookie" not in heard[0]


@pytest.mark.parametrize("key", ["line\nbreak-of-a-key", "clé-of-the-test"])
def test_a_key_that_is_none_is_said_and_not_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", key)
    with pytest.raises(harness.ConfigError, match=r"\$JUDGE_KEY has characters") as caught:
        harness.create("judge", "openai_http", model="m", key_variable="JUDGE_KEY")
    assert key[5:] not in str(caught.value)


@pytest.mark.parametrize("variable", ["ALL_PROXY", "SSL_CERT_FILE"])
def test_an_environment_that_no_client_takes_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv(variable, "nonsense://nowhere")
    with pytest.raises(harness.ConfigError, match=variable):
        harness.create("judge", "openai_http", model="m", key_variable="JUDGE_KEY")


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "http://host:99999/v1"},
        {"base_url": "http://[::1/v1"},
        {"base_url": "http://host/v1#x"},
        {"timeout_seconds": float("nan")},
        {"timeout_seconds": float("inf")},
        {"wait_seconds": float("nan")},
        {"n_at_once": 10**9},
    ],
)
def test_parameters_that_no_client_takes_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match="judge/openai_http"):
        harness.create("judge", "openai_http", **{"model": "m", "key_variable": None} | wrong)


def test_what_hung_once_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = threading.Event()

    def answer(connection: socket.socket, over: threading.Event) -> None:
        if not first.is_set():
            first.set()
            over.wait()
        connection.sendall(_whole(_text("well")))

    with answering(answer) as url:
        assert _ask(url, monkeypatch) == "well"
