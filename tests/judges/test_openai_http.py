"""The judge behind an endpoint, on a server that does what servers do at their worst."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from math import exp, log
from pathlib import Path
from typing import Any, ClassVar

import pytest

import harness
from harness.asking.judging import Judging
from harness.asking.response_cache import ResponseCache
from harness.plugins.judges import answers
from harness.plugins.judges.endpoint import _seconds
from harness.registry.parameters import describe_changed
from harness.registry.plugin_manager import load_catalog
from harness.testing import check_judge, raise_problems
from tests.support.loopback import serving

KEY = "a-secret-of-the-test"
TRIAL = "Is water wet?"
TRIAL_TEXT = "The cat sat on the mat."
TOP = [{"token": token, "logprob": log(p)} for token, p in (("Yes", 0.5), (" Yes", 0.25), ("No", 0.125))]


def _likeliest(logprobs: dict[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in logprobs.items()]
    return {"content": [{"top_logprobs": top}]}


class Hostile(BaseHTTPRequestHandler):
    """An endpoint that does what the user's text says, the first time at least."""

    seen: ClassVar[list[tuple[str, float]]] = []
    bodies: ClassVar[list[dict[str, Any]]] = []
    lacks: ClassVar[str] = ""

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.bodies.append(asked)
        text = asked["messages"][1]["content"] if "messages" in asked else asked.get("prompt", asked.get("input"))
        is_first = text not in [seen for seen, _ in self.seen]
        self.seen.append((text, time.monotonic()))
        answer: dict[str, Any] = {
            "message": {"content": f"about {text}"},
            "logprobs": {"content": [{"top_logprobs": TOP}]},
        }
        if "prompt" in asked:
            answer = _echo(asked)
        status, headers = 200, {}
        if self.lacks.isdecimal() or text in ("400", "401", "404", "422"):
            status = int(self.lacks if self.lacks.isdecimal() else text)
        if is_first and text in ("429", "500"):
            status, headers = int(text), {"Retry-After": "0.3"} if text == "429" else {}
        if text == "stall" and is_first:
            time.sleep(1)
        if text == "no logprobs" or self.lacks == "logprobs":
            answer["logprobs"] = None
        if text == "NaN":
            answer["logprobs"] = {"content": [{"top_logprobs": [{"token": "Yes", "logprob": float("nan")}]}]}
        if (self.lacks == "schema" and "response_format" in asked) or (
            self.lacks == "no tokens" and _wants_none(asked)
        ):
            status = 400
        if text == "no choice":
            answer["logprobs"] = _likeliest({"Well": -0.1})
        answers = {"no answers": [], "two answers": [answer] * 2}.get(text, [answer])
        usage = None if text == "no usage" else {"prompt_tokens": 100, "completion_tokens": 10}
        found: dict[str, Any] = {"choices": answers, "usage": usage}
        if self.path.endswith("/embeddings"):
            found = _embedded(text, self.lacks)
        body = json.dumps(found | {"you sent": self.headers["Authorization"]}).encode()
        if text == "truncated" or (text == "truncated once" and is_first):
            body = body[:40]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # nobody waited
            self.wfile.write(body)


def _embedded(text: str, lacks: str) -> dict[str, Any]:
    """Embeddings of as many numbers whatever the text; but what it says may happen."""
    numbers: Any = [float(len(text)), -0.5, 1]
    own = {
        "NaN": [1.0, float("nan")],
        "infinite": [1.0, float("inf")],
        "beyond floats": [1.0, 10**400],
        "base64": "AACAPw==",
        "no numbers": [],
        "nothing": None,
        "a word": [1.0, "2.0"],
        "true": [True, 1.0],
    }.get(text, numbers)
    data: Any = [{"object": "embedding", "index": 0, "embedding": own}]
    data = {"no answers": [], "two answers": data * 2, "no data": None, "no embedding": [{}]}.get(text, data)
    found = {"data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    return {"error": "no such model"} if lacks == "embeddings" else found if text != "no usage" else {"data": data}


def _wants_none(asked: dict[str, Any]) -> bool:
    return bool(asked.get("echo")) and asked["max_tokens"] == 0


def _echo(asked: dict[str, Any]) -> dict[str, Any]:
    """Each word with the space before it is a token, of log-probability -1, -2, ...; the first has none."""
    prompt: str = asked["prompt"]
    tokens = re.findall(r"\s?\S+|\s", prompt) + [" more"] * asked["max_tokens"]
    tokens = ["<s>", *tokens] if "start" in prompt else tokens
    offsets = list(itertools.accumulate(map(len, tokens), initial=0))[:-1]
    logprobs = [None, *(-float(place) for place in range(1, len(tokens)))]
    if "short list" in prompt:
        logprobs.pop()
    text = "something else" if "no echo" in prompt else prompt + " more" * asked["max_tokens"]
    return {"text": text, "logprobs": {"tokens": tokens, "token_logprobs": logprobs, "text_offset": offsets}}


@pytest.fixture
def url() -> Iterator[str]:
    Hostile.seen.clear()
    Hostile.bodies.clear()
    Hostile.lacks = ""
    with serving(Hostile) as base_url:
        yield base_url


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
    badly = ("401", "truncated", "no logprobs", "no choice", "no answers", "two answers", "NaN")
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
    assert (
        "lacks what was asked for" in reasons[2].reason
        and "none of 'Yes', 'No' is among the 1 likeliest" in reasons[3].reason
    )
    assert "0 answers" in reasons[4].reason and "2 answers" in reasons[5].reason and "nan" in reasons[6].reason
    assert not any(KEY in reason.reason for reason in reasons)
    counts = Counter(text for text, _ in Hostile.seen)
    assert counts == {"fine": 1, **dict.fromkeys(("429", "500", "stall", "truncated", "truncated once"), 2)} | {
        **dict.fromkeys((*(set(badly) - {"truncated"}), TRIAL), 1)
    }
    first, second = (at for text, at in Hostile.seen if text == "429")
    assert second - first >= 0.3
    warm = judging()
    assert [warm.response(request) for request in requests[: len(well)]] == [
        cold.response(request) for request in requests[: len(well)]
    ]
    assert Counter(text for text, _ in Hostile.seen) == counts  # nothing was asked twice
    file = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in file


def test_what_is_refused_for_what_it_says_is_so_for_good(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And all else may pass: a key or an address may be set right, a server get well."""
    final = {"400", "422", "no logprobs", "no choice", "no answers", "NaN"}
    texts = [*final, "401", "404", "truncated"]
    found = list(_judge(url, monkeypatch).choose(_choose(*texts)))
    failures = [answer.response if isinstance(answer, harness.Metered) else answer for answer in found]
    assert {text for text, failure in zip(texts, failures, strict=True) if not failure.transient} == final


@pytest.mark.parametrize("status", ["400", "401", "404"])
def test_where_not_even_a_trial_is_answered_nothing_is_asked(
    status: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hostile.lacks = status
    judge = _judge(url, monkeypatch)
    for ask in (lambda: judge.choose(_choose("a")), lambda: judge.generate([harness.Generate("s", "a", 5)])):
        with pytest.raises(harness.PluginError, match=f"can't be asked to .*HTTP {status}"):
            list(ask())
    assert "a" not in [text for text, _ in Hostile.seen]


def test_a_judge_that_thinks_first_is_tried_with_room_for_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    list(_judge(url, monkeypatch).generate([harness.Generate("s", text, n) for text, n in (("a", 5), ("b", 4000))]))
    assert [body["max_tokens"] for body in Hostile.bodies if body["messages"][1]["content"] == TRIAL] == [4000]


def test_many_refusals_in_a_row_are_none_of_the_endpoint_while_it_answers_its_trial(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = _judge(url, monkeypatch, n_at_once=1)
    found = list(judge.choose(_choose(*["400"] * 25, "fine")))
    assert not any("not sent" in failure.reason for failure in found[:-1]) and isinstance(found[-1], harness.Metered)
    assert Counter(text for text, _ in Hostile.seen) == {"400": 25, "fine": 1, TRIAL: 3}
    Hostile.lacks = "400"
    found = list(judge.choose(_choose(*["400"] * 25)))
    assert [("not sent" in failure.reason, failure.transient) for failure in found] == [
        *[(False, False)] * 10,
        *[(True, True)] * 15,
    ]
    assert Counter(text for text, _ in Hostile.seen) == {"400": 35, "fine": 1, TRIAL: 4}


def test_after_many_failures_in_a_row_the_rest_is_not_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = _judge(url, monkeypatch, n_at_once=1)
    found = list(judge.choose(_choose(*["401"] * 30)))
    assert len(Hostile.seen) == 11 and "not sent" in found[-1].reason and len(found) == 30
    assert "HTTP 401" in found[-1].reason  # and why


def test_texts(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = _judge(url, monkeypatch)
    texts = [f"text {i}" for i in range(10)]
    found = list(judge.generate([harness.Generate("s", text, 5) for text in texts]))
    assert found == [harness.Metered(f"about {text}", 100, 10) for text in texts]
    assert list(judge.generate([harness.Generate("s", "no usage", 5)])) == ["about no usage"]


def test_an_answer_in_parts_is_its_text_without_its_thoughts() -> None:
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}, {"type": "text", "text": "[1, 0]"}]
    assert answers.text({"message": {"content": parts}}) == "[1, 0]"
    assert answers.text({"message": {"content": "[1]"}}) == "[1]"
    for content in (None, parts[:1], ["[1]"]):
        found = answers.read({"choices": [{"message": {"content": content}}]}, answers.text)
        assert isinstance(found, harness.Failure) and not found.transient


LIKELY = [harness.Likelihood("The river", " is long"), harness.Likelihood("start of it", " is long")]


@pytest.mark.parametrize("lacks", ["", "no tokens"])
def test_likelihood_is_that_of_the_tokens_that_begin_in_the_text(
    lacks: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the endpoint writes a token more, and one in front of the prompt."""
    Hostile.lacks = lacks
    judge = _judge(url, monkeypatch)
    crossing = harness.Likelihood("The riv", "er is long")
    found = [answer.response for answer in judge.likelihood([*LIKELY, crossing])]
    assert found == [(-2.0 - 3.0, 2), (-4.0 - 5.0, 2), (-2.0 - 3.0, 2)]
    assert len(Hostile.bodies) == 3 + (2 if lacks else 1)  # tried once, or again with a token
    assert list(judge.likelihood([harness.Likelihood("a context", "")])) == [(0.0, 0)]


@pytest.mark.parametrize(
    ("context", "text", "reason"),
    [
        ("", "The river", "no log-probability"),
        ("The riv", "er", "no token begins"),
        ("There is no echo", " here", "does not echo"),
        ("There is a short list", " here", "lacks what was asked for"),
    ],
)
def test_no_likelihood_is_made_up(
    context: str, text: str, reason: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = _judge(url, monkeypatch).likelihood([harness.Likelihood(context, text)])
    assert isinstance(found.response, harness.Failure) and reason in found.response.reason


def test_what_an_endpoint_cannot_do_is_one_error_before_anything_is_asked(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Hostile.lacks = "logprobs"
    judge = _judge(url, monkeypatch)
    for ask in (lambda: judge.choose(_choose(*"abcdefgh")), lambda: judge.likelihood(LIKELY)):
        for _ in range(2):
            with pytest.raises(harness.PluginError, match=rf"{url} \(m\) can't be asked to") as caught:
                list(ask())
            assert KEY not in str(caught.value)
    assert len(Hostile.bodies) == 4  # two of each, and never again


def test_an_endpoint_that_takes_no_schema_is_asked_without(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = [harness.Generate("s", text, 5, '{"type": "object"}') for text in "abc"]
    sent = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"type": "object"}}}
    list(_judge(url, monkeypatch).generate(requests))
    assert [body.get("response_format") for body in Hostile.bodies[1:]] == [sent] * 3
    Hostile.lacks, judge = "schema", _judge(url, monkeypatch)
    with pytest.warns(RuntimeWarning, match="takes no `response_format`"):
        found = list(judge.generate(requests))
    assert [answer.response for answer in found] == ["about a", "about b", "about c"]
    assert list(judge.generate(requests)) == found  # and says so once
    assert not any("response_format" in body for body in Hostile.bodies[-6:])


def _embed(*texts: str) -> list[harness.EmbedText]:
    return [harness.EmbedText(text) for text in texts]


def test_each_text_is_embedded_by_itself(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = list(_judge(url, monkeypatch).embed(_embed("a", "429", "stall", "no usage", "é")))
    assert found[:3] == [harness.Metered((float(n), -0.5, 1.0), 7, 0) for n in (1, 3, 5)]
    assert found[3:] == [(8.0, -0.5, 1.0), harness.Metered((1.0, -0.5, 1.0), 7, 0)]
    assert Hostile.seen[0][0] == TRIAL_TEXT and {body["model"] for body in Hostile.bodies} == {"m"}
    assert Counter(text for text, _ in Hostile.seen) == {
        **dict.fromkeys((TRIAL_TEXT, "a", "no usage", "é"), 1),
        **dict.fromkeys(("429", "stall"), 2),
    }
    list(_judge(url, monkeypatch, embedding_model="e").embed(_embed("b")))
    assert [body["model"] for body in Hostile.bodies[-2:]] == ["e", "e"]


def test_no_embedding_is_made_up(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = {
        "NaN": "nan is not a finite number",
        "infinite": "inf is not a finite number",
        "beyond floats": "lacks what was asked for",
        "base64": "not a list of numbers",
        "no numbers": "not a list of numbers",
        "nothing": "not a list of numbers",
        "a word": "'2.0' is not a finite number",
        "true": "True is not a finite number",
        "no answers": "0 answers",
        "two answers": "2 answers",
        "no data": "lacks what was asked for",
        "no embedding": "lacks what was asked for",
        "401": "HTTP 401",
        "truncated": "JSON",
    }
    judging = Judging(lambda: _judge(url, monkeypatch), ResponseCache(tmp_path, {"judge": "m"}))
    judging.ask(_embed("fine", *reasons))
    assert judging.response(harness.EmbedText("fine")) == (4.0, -0.5, 1.0)
    for text, reason in reasons.items():
        found = judging.response(harness.EmbedText(text))
        assert isinstance(found, harness.Failure) and reason in found.reason, text


def test_an_endpoint_that_embeds_nothing_is_one_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Hostile.lacks = "embeddings"
    judge = _judge(url, monkeypatch)
    for _ in range(2):
        with pytest.raises(harness.PluginError, match="can't be asked to embed: no embedding from /embeddings"):
            list(judge.embed(_embed(*"abcdefgh")))
    assert len(Hostile.bodies) == 2  # and never again
    assert list(judge.embed([])) == []


def test_answers_are_kept_under_the_model_that_embeds(url: str) -> None:
    catalog = load_catalog()

    def identity(**changes: Any) -> Any:
        config = catalog.config("judge", "openai_http", {"model": "m", "base_url": url} | changes)
        return catalog.identity("judge", "openai_http", config)

    own = {"base_url": url, "model": "m", "Choose": {"version": 4}}
    assert identity() == identity(embedding_model="m") == own
    assert identity(embedding_model="e") == own | {"EmbedText": {"model": "e"}}


ASKING = """
import sys
from pathlib import Path
import harness
from harness.asking.judging import Judging
from harness.asking.response_cache import ResponseCache

url, folder = sys.argv[1:]
make = lambda: harness.create("judge", "openai_http", model="m", base_url=url, key_variable=None)
judging = Judging(make, ResponseCache(Path(folder), {"judge": "m"}))
judging.ask([harness.Choose("s", text, ("Yes", "No")) for text in "abcdef"])
"""


def test_another_process_asks_nothing_twice(url: str, tmp_path: Path, warm_popen: type[subprocess.Popen]) -> None:
    for _ in range(2):
        assert warm_popen([sys.executable, "-P", "-c", ASKING, url, str(tmp_path)]).wait() == 0
    assert Counter(text for text, _ in Hostile.seen) == Counter(("a", "b", "c", "d", "e", "f", TRIAL))


def test_it_conforms(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = check_judge(lambda: _judge(url, monkeypatch))
    raise_problems(findings)
    assert all(finding.outcome == "holds" for finding in findings)


def test_prices_are_no_part_of_what_answers_depend_on(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    priced = {"model": "m", "base_url": url, "usd_per_million_prompt_tokens": 2.0, "usd_per_million_answer_tokens": 8.0}
    plain = {"model": "m", "base_url": url}
    catalog = load_catalog()
    configs = [catalog.config("judge", "openai_http", params) for params in (plain, priced)]
    assert len({str(catalog.identity("judge", "openai_http", config)) for config in configs}) == 1
    assert len({describe_changed(config) for config in configs}) == 1
    with pytest.raises(harness.ConfigError, match="at least 0"):
        catalog.config("judge", "openai_http", plain | {"usd_per_million_prompt_tokens": -1.0})


def test_a_missing_key_and_secrets_in_an_address_are_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(harness.ConfigError, match=r"\$OPENAI_API_KEY is not set"):
        harness.create("judge", "openai_http", model="m")
    with pytest.raises(harness.ConfigError, match="holds a user, a password, a query") as caught:
        harness.create("judge", "openai_http", model="m", base_url="http://user:hush@host/v1")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("7", 7),
        ("0.5", 0.5),
        ("-3", 0),
        ("Sun, 06 Nov 1994 08:49:37", None),
        ("soon", None),
        ("inf", None),
        ("", None),
    ],
)
def test_how_long_an_endpoint_asks_for(retry_after: str, seconds: object) -> None:
    assert _seconds(retry_after) == seconds


@pytest.mark.parametrize(("hours", "seconds"), [(1, pytest.approx(3600, abs=60)), (-1, 0)])
def test_an_endpoint_may_name_a_date(hours: int, seconds: object) -> None:
    assert _seconds(format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)) == seconds


DIGITS = tuple("9876543210")
OTHERS = {f"w{i}": -14 - 0.1 * i for i in range(17)}


def _chosen(choices: tuple[str, ...], logprobs: dict[str, float]) -> Any:
    return answers.choices(harness.Choose("s", "u", choices), {"logprobs": _likeliest(logprobs)})


def test_a_choice_that_is_not_listed_has_the_most_that_it_can_have() -> None:
    """The surer a judge, the fewer of the choices are among the likeliest tokens."""
    found = _chosen(DIGITS, {"9": log(0.96), "8": log(0.03), "7": log(0.009)} | OTHERS)
    assert found == pytest.approx((log(0.96), log(0.03), log(0.009), *[-15.6] * 7))
    assert isinstance(found, harness.Bounded) and found.at_most == tuple(i for i in range(10) if DIGITS[i] not in "987")
    found = _chosen(("Yes", "No"), {"\u2581Yes": -1e-5, " Yes": -12.0, "yes": -13.0} | OTHERS)
    assert found == pytest.approx((log(exp(-1e-5) + exp(-12) + exp(-13)), -15.6))
    assert isinstance(found, harness.Bounded) and found.at_most == (1,)
    assert _chosen(("Yes", "No"), {"Yes": log(0.9), "yes": log(0.09)}) == pytest.approx((log(0.99), log(0.01)))
    assert _chosen(("Yes", "No"), {"Yes": log(0.5), "Well": log(0.2)}) == pytest.approx((log(0.5), log(0.2)))
    assert _chosen(("Yes", "No"), {" No": log(0.5), "No": log(0.25), "Yes": log(0.25)}) == pytest.approx(
        (log(0.25), log(0.75))
    )


def test_a_choice_may_be_spelt_with_other_capitals() -> None:
    """A judge that says no in small letters says no."""
    found = _chosen(("Yes", "No"), {"no": log(0.6), "Yes": log(0.2), " NO": log(0.1), "yes": log(0.05)})
    assert found == pytest.approx((log(0.25), log(0.7))) and not isinstance(found, harness.Bounded)
    assert _chosen(("a", "A"), {"a": log(0.6), "A": log(0.3)}) == pytest.approx((log(0.6), log(0.3)))


@pytest.mark.parametrize("impossible", [-9999.0, -float("inf")])
def test_a_token_that_cannot_come_bounds_nothing(impossible: float) -> None:
    listed = {"Yes": -1e-7, "Well": -16.0, "No": impossible, "w": impossible}
    assert _chosen(("Yes", "No"), listed) == pytest.approx((-1e-7, -16.0))


def test_what_the_listed_choices_do_not_decide_is_no_answer() -> None:
    """Nine digits, each as likely as the one that is listed, could outweigh it."""
    found = _chosen(DIGITS, {"9": log(0.02)} | {f"w{i}": log(0.019) for i in range(19)})
    assert isinstance(found, harness.Failure) and "may be likelier" in found.reason and not found.transient
    assert isinstance(_chosen(("Yes", "No"), {"Well": -0.1} | OTHERS), harness.Failure)
