"""How judges are asked: each thing once, whatever happens in between; failures are told, and not kept."""

from __future__ import annotations

import copy
import hashlib
import json
import multiprocessing
import sqlite3
import time
import tracemalloc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
from harness.asking import answer_file, response_cache
from harness.asking.judging import Judging, usage_rows
from harness.asking.reservations import Reservations
from harness.asking.respondents import Respondents
from harness.asking.response_cache import ResponseCache
from harness.contracts.spending import Prices, Usage
from harness.errors import BudgetReached
from harness.planning.suite import UNLIMITED, JudgeBudget
from harness.registry.plugin_manager import load_catalog
from harness.running.session import Session
from harness.storage.processes import Process
from harness.storage.store import Store

JUDGE = {"name": "scripted", "version": 1}
CHOICES = [harness.Choose("s", f"user {i}", ("Yes", "No")) for i in range(10)]
OTHERS = [harness.Generate("s", "u", 5), harness.Likelihood("a", "b"), harness.EmbedText("abcdefgh")]


PASSING, FINAL = harness.Failure("no"), harness.Failure("never", transient=False)


class Scripted:
    """Remembers what it was asked; may break off after so many answers, or fail on some."""

    def __init__(
        self, breaks_after: int | None = None, fails: Sequence[str] = (), failure: harness.Failure = PASSING
    ) -> None:
        self.asked: list[Any] = []
        self._breaks_after = breaks_after
        self._fails = fails
        self._failure = failure

    def choose(self, requests: Any) -> Iterator[Any]:
        for request in requests:
            if len(self.asked) == self._breaks_after:
                raise KeyboardInterrupt
            self.asked.append(request)
            yield self._failure if request.user in self._fails else (-0.1 * len(request.user), -1 / 3)

    def generate(self, requests: Any) -> list[str]:
        self.asked += requests
        return ["é\n"] * len(requests)

    def likelihood(self, requests: Any) -> list[Any]:
        self.asked += requests
        return [(-1.5, 3)] * len(requests)

    def embed(self, requests: Any) -> list[Any]:
        self.asked += requests
        return [(-1 / 3, 0, 2e-300)] * len(requests)


def _judging(folder: Path, judge: Any, identity: Any = JUDGE) -> Judging:
    return Judging(lambda: judge, ResponseCache(folder, identity))


def test_nothing_is_asked_twice(tmp_path: Path) -> None:
    judge, never = Scripted(), Scripted(breaks_after=0)
    cold = _judging(tmp_path, judge)
    cold.ask([*CHOICES, *OTHERS, *CHOICES])
    assert sorted(map(str, judge.asked)) == sorted(map(str, [*CHOICES, *OTHERS]))
    warm = _judging(tmp_path, never)
    assert [warm.response(r) for r in (*CHOICES, *OTHERS)] == [cold.response(r) for r in (*CHOICES, *OTHERS)]
    assert warm.response(OTHERS[0]) == "é\n" and warm.response(OTHERS[1]) == (-1.5, 3)
    assert warm.response(OTHERS[2]) == (-1 / 3, 0, 2e-300)
    assert not never.asked


class Bounding(Scripted):
    """Lists the first of two choices alone."""

    def choose(self, requests: Any) -> Iterator[Any]:
        return (harness.Bounded(answer, [1]) for answer in super().choose(requests))


def test_a_bound_is_known_as_one_whoever_asks_again(tmp_path: Path) -> None:
    cold, warm = _judging(tmp_path, Bounding()), _judging(tmp_path, Scripted(breaks_after=0))
    cold.ask(CHOICES[:1])
    replay = harness.create("judge", "replay", path=str(tmp_path / "responses.sqlite"))
    found = cold.response(CHOICES[0]), warm.response(CHOICES[0]), *replay.choose(CHOICES[:1])
    for one in (*found, copy.deepcopy(found[1])):
        assert isinstance(one, harness.Bounded) and one.at_most == (1,) and one == (-0.1 * len("user 0"), -1 / 3)


def test_what_was_answered_before_an_interruption_is_kept(tmp_path: Path) -> None:
    first, second = Scripted(breaks_after=4), Scripted()
    with pytest.raises(KeyboardInterrupt):
        _judging(tmp_path, first).ask(CHOICES)
    _judging(tmp_path, second).ask(CHOICES)
    assert len(first.asked) == 4 and not set(first.asked) & set(second.asked)
    assert set(first.asked) | set(second.asked) == set(CHOICES)


def test_another_judge_is_asked_anew(tmp_path: Path) -> None:
    for identity in (JUDGE, JUDGE | {"version": 2}):
        judge = Scripted()
        _judging(tmp_path, judge, identity).ask(CHOICES)
        assert len(judge.asked) == len(CHOICES)


def test_embeddings_take_eight_bytes_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, n_numbers = Scripted(), 1500

    def embed(requests: Sequence[harness.EmbedText]) -> Iterator[tuple[float, ...]]:
        return (tuple(number + place / 7 for place in range(n_numbers)) for number, _ in enumerate(requests))

    monkeypatch.setattr(judge, "embed", embed)
    requests = [harness.EmbedText(f"text {number}") for number in range(40)]
    for judging in (_judging(tmp_path, judge), _judging(tmp_path, None)):  # as they come, and from the file
        tracemalloc.start()
        judging.ask(requests)
        n_bytes, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert n_bytes < 1.5 * 8 * n_numbers * len(requests)
        assert judging.response(requests[3])[:2] == (3.0, 3 + 1 / 7)


def test_answers_depend_on_what_concerns_their_kind_alone(tmp_path: Path) -> None:
    """Known to a judge of two models are the answers of either; and a recording has both."""
    plain, other, both = (
        JUDGE | {"parameters": parameters}
        for parameters in ({"model": "m"}, {"model": "e"}, {"model": "m", "EmbedText": {"model": "e"}})
    )
    _judging(tmp_path, Scripted(), plain).ask([*CHOICES, *OTHERS])
    judge = Scripted()
    judging = _judging(tmp_path, judge, both)
    judging.ask([*CHOICES, *OTHERS])
    assert judge.asked == OTHERS[2:]
    _judging(tmp_path, Scripted(breaks_after=0), both).ask([*CHOICES, *OTHERS])
    embeds = Scripted()
    _judging(tmp_path, embeds, other).ask([*CHOICES, *OTHERS])
    assert sorted(map(str, embeds.asked)) == sorted(map(str, [*CHOICES, *OTHERS[:2]]))
    replayed = harness.create("judge", "replay", path=f"{tmp_path}/responses.sqlite", of="EmbedText")
    assert list(replayed.embed(OTHERS[2:])) == [judging.response(OTHERS[2])]
    assert list(replayed.choose(CHOICES)) == [judging.response(request) for request in CHOICES]


def test_keys_of_stored_answers_stay(tmp_path: Path) -> None:
    identity = {"kind": "judge", "name": "openai_http", "parameters": {"base_url": "u", "model": "m"}, "version": 1}
    _judging(tmp_path, Scripted(), identity).ask(CHOICES[:1])
    with closing(sqlite3.connect(tmp_path / "responses.sqlite")) as file:
        ((key,),) = file.execute("select key from responses")
    spelt = '{"choices":["Yes","No"],"kind":"Choose","system":"s","user":"user 0"}'
    told = '{"kind":"judge","name":"openai_http","parameters":{"base_url":"u","model":"m"},"version":1}'
    assert key == hashlib.sha256(f"{told}\n{spelt}".encode()).hexdigest()


def test_a_failure_is_a_response_and_may_pass(tmp_path: Path) -> None:
    judging = _judging(tmp_path, Scripted(fails=["user 3"]))
    judging.ask(CHOICES)
    assert judging.response(CHOICES[3]) == harness.Failure("no")
    mended = Scripted()
    assert _judging(tmp_path, mended).response(CHOICES[3]) == (-0.6000000000000001, -1 / 3)
    assert mended.asked == [CHOICES[3]]


def test_what_is_refused_for_good_is_kept(tmp_path: Path) -> None:
    """Also where nothing else is asked; and in a recording."""
    judge = Scripted(fails=["user 3", "user 4"], failure=FINAL)
    _judging(tmp_path, judge).ask(CHOICES[3:5])
    again = _judging(tmp_path, judge)
    again.ask(CHOICES[3:5])
    assert again.response(CHOICES[3]) == FINAL and len(judge.asked) == 2
    with closing(sqlite3.connect(tmp_path / "responses.sqlite")) as file:
        file.execute(f"vacuum into '{tmp_path}/recording.sqlite'")
    replayed = harness.create("judge", "replay", path=f"{tmp_path}/recording.sqlite")
    assert list(replayed.choose(CHOICES[3:5])) == [FINAL, FINAL]


def test_what_fails_where_others_were_answered_before_is_no_error(tmp_path: Path) -> None:
    _judging(tmp_path, Scripted()).ask(CHOICES[:2])
    judging = _judging(tmp_path, Scripted(fails=["user 2"]))
    judging.ask(CHOICES[:3])
    assert judging.response(CHOICES[2]) == PASSING


def test_a_judge_that_answers_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(harness.PluginError, match="answered none of 10 requests: no"):
        _judging(tmp_path, Scripted(fails=[request.user for request in CHOICES])).ask(CHOICES)


@pytest.mark.parametrize("answer", [None, (1.0,), (float("nan"), 0.0), "Yes", [0.0, 0.0]])
def test_amiss_answers_are_errors(tmp_path: Path, answer: Any) -> None:
    judge = Scripted()
    judge.choose = lambda requests: [answer] * len(requests)  # type: ignore[method-assign]
    with pytest.raises(harness.PluginError, match=r"Scripted.choose\(\) answered Choose with"):
        _judging(tmp_path, judge).ask(CHOICES)


@pytest.mark.parametrize("answer", [None, (), [1.0], (1.0, float("inf")), "AACAPw==", ((1.0,),)])
def test_amiss_embeddings_are_errors(tmp_path: Path, answer: Any) -> None:
    judge = Scripted()
    judge.embed = lambda requests: [answer] * len(requests)  # type: ignore[method-assign]
    with pytest.raises(harness.PluginError, match=r"Scripted.embed\(\) answered EmbedText with"):
        _judging(tmp_path, judge).ask(OTHERS[2:])


def _write(folder: Path, first: int) -> None:
    cache = ResponseCache(folder, JUDGE)
    for i in range(first, first + 200):
        cache.keep(harness.Likelihood("", str(i)), [float(i), 1])


def test_two_processes_write_at_once(tmp_path: Path) -> None:
    other = multiprocessing.get_context("fork").Process(target=_write, args=(tmp_path, 100))
    other.start()
    _write(tmp_path, 0)
    other.join()
    assert other.exitcode == 0
    cache = ResponseCache(tmp_path, JUDGE)
    assert [cache.find(harness.Likelihood("", str(i))) for i in range(300)] == [[float(i), 1] for i in range(300)]


class Priced(Scripted):
    """Tells what its answers take: 90 and 10 tokens, failures too."""

    def choose(self, requests: Any) -> Iterator[Any]:
        return (harness.Metered(response, 90, 10) for response in super().choose(requests))


PRICES = Prices(prompt=1000.0, answer=10_000.0)  # 0.19 dollars a request


def _priced(folder: Path, judge: Any, suite: str = "a", **budget: Any) -> Judging:
    return Judging(lambda: judge, ResponseCache(folder, JUDGE, suite), prices=PRICES, budget=JudgeBudget(**budget))


@pytest.mark.parametrize(
    ("budget", "n_asked"),
    [({"tokens": 350}, 4), ({"tokens": 400}, 4), ({"tokens": 450}, 5), ({"tokens": 601}, 7), ({"usd": 0.58}, 4)],
)
def test_a_budget_stops_before_the_next_request(budget: dict[str, Any], n_asked: int, tmp_path: Path) -> None:
    judge = Priced(fails=["user 3"])
    told = rf"took {n_asked * 100} tokens, \${n_asked * 0.19:.2f}. {10 - n_asked} requests were not sent"
    with pytest.raises(BudgetReached, match=f"requests of this suite {told}"):
        _priced(tmp_path, judge, **budget).ask(CHOICES)
    assert len(judge.asked) == n_asked
    again, other = Priced(), Priced()
    with pytest.raises(BudgetReached):
        _priced(tmp_path, again, **budget).ask(CHOICES)
    assert not again.asked  # runs of one suite share what it may spend
    known = _priced(tmp_path, again, **budget)
    known.ask([request for request in CHOICES[:n_asked] if request.user != "user 3"])  # what is known costs nothing
    _priced(tmp_path, other, suite="b", tokens=10_000).ask(CHOICES)
    assert len(other.asked) == 11 - n_asked  # of another suite: asked is what failed, and what was not sent
    raised = Priced()
    _priced(tmp_path, raised, tokens=10_000).ask(CHOICES)
    assert not raised.asked


class Slow(Priced):
    """Takes a while, so that others ask meanwhile."""

    def choose(self, requests: Any) -> Iterator[Any]:
        for answer in super().choose(requests):
            time.sleep(0.002)
            yield answer


def _spend(folder: Path, number: int) -> None:
    requests = [harness.Choose("s", f"{number} {i}", ("Yes", "No")) for i in range(30)]
    with suppress(BudgetReached):
        _priced(folder, Slow(), tokens=5_000).ask(requests)


def test_eight_workers_keep_one_budget(tmp_path: Path) -> None:
    """Each of 240 requests takes 100 tokens, and 50 of them may be sent."""
    processes = [multiprocessing.get_context("fork").Process(target=_spend, args=(tmp_path, i)) for i in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8
    cache = ResponseCache(tmp_path, JUDGE, "a")
    assert cache.ledger.spent(UNLIMITED)[0].n_tokens == 5_000
    assert cache.reservations.of_others() == (0.0, 0.0)


def test_what_the_dead_have_set_aside_is_free_again(tmp_path: Path) -> None:
    """So it is at once on this machine, and after a while where it can't be asked for."""
    cache, now = ResponseCache(tmp_path, JUDGE, "a"), 0.0
    file = cache._file
    dead = asdict(replace(Process.current(), pid=2**22 + 1))
    rows = [dead, dead | {"machine": "elsewhere"}, asdict(Process.current()) | {"asker": 1}]
    for owner in rows:
        file.execute("insert into reservations values (?, 'a', 10, 1, 0)", [json.dumps(owner)])
    file.execute("insert into reservations values (?, 'b', 10, 1, 0)", [json.dumps(rows[-1])])
    reservations = Reservations(file, "a", lambda: now)
    assert reservations.of_others() == (20.0, 2.0)
    now = 1_000.0
    assert reservations.of_others() == (10.0, 1.0)


def test_on_a_network_disk_the_answers_are_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index of SQLite's log is memory, which machines don't share; a file that had one loses it."""
    ResponseCache(tmp_path, JUDGE).find(CHOICES[0])
    monkeypatch.setattr(answer_file, "is_shared", lambda folder: True)
    cache = ResponseCache(tmp_path, JUDGE)
    cache.keep(CHOICES[0], [0.0, 1.0])
    assert not list(tmp_path.glob(f"{response_cache.FILE}-*[!l]"))
    cache.close()
    assert sorted(path.name for path in tmp_path.iterdir() if path.stat().st_size) == [response_cache.FILE]


def test_what_was_used_is_told(tmp_path: Path) -> None:
    judging = _priced(tmp_path, Priced(fails=["user 3"]))
    judging.cell = "cell"
    judging.ask([*CHOICES, *OTHERS])
    rows = {row["metric"]: (row["value"], row["reason"]) for row in usage_rows("x", *judging.taken())}
    said = "3 of 13 requests estimated from their characters"
    assert rows["judge_requests_x"] == (13, None)
    assert rows["judge_prompt_tokens_x"] == (900 + 1 + 1 + 2, said) and rows["judge_answer_tokens_x"] == (101, said)
    assert rows["judge_usd_x"] == (pytest.approx((904 * 1000 + 101 * 10_000) / 1e6), None)
    warm = _priced(tmp_path, Priced())
    warm.ask([*CHOICES[:3], *OTHERS])
    assert warm.usage.n_requests == 0


def test_a_cell_is_told_what_all_its_runs_have_paid(tmp_path: Path) -> None:
    """Also for answers that it has from its earlier runs; and nothing that was paid for another, or another suite."""
    for cell, suite, n_sent in (("a", "s", 4), ("a", "s", 10), ("b", "s", 0), ("a", "t", 0)):
        judging = _priced(tmp_path, Priced(), suite)
        judging.cell = cell
        judging.ask(CHOICES[:4] if n_sent == 4 else CHOICES)
        assert judging.taken() == (Usage(n_sent, 90 * n_sent, 10 * n_sent, 0), pytest.approx(0.19 * n_sent))
    judging = Judging(Priced, ResponseCache(tmp_path, JUDGE, "s"), prices=Prices(None, 1.0))
    judging.cell = "c"
    judging.ask(OTHERS[:1])
    assert usage_rows("x", *judging.taken())[-1]["reason"] == "unknown price"


def test_warnings_of_a_judge_reach_the_user(tmp_path: Path) -> None:
    class Warns(Scripted):
        def generate(self, requests: Any) -> list[str]:
            warnings.warn("no schemas here", RuntimeWarning, stacklevel=2)
            return super().generate(requests)

    told: list[str] = []
    Judging(Warns, ResponseCache(tmp_path, JUDGE), warn=told.append).ask(OTHERS)
    assert told == ["no schemas here"]


def test_a_file_without_a_ledger_goes_on_working(tmp_path: Path) -> None:
    _judging(tmp_path, Scripted()).ask(CHOICES)
    with closing(sqlite3.connect(tmp_path / "responses.sqlite")) as file:
        file.execute("drop table ledger")
    _judging(tmp_path, Scripted(breaks_after=0)).ask(CHOICES)


def _recorded(folder: Path, *judges: Any) -> str:
    for judge in judges:
        _judging(folder, Scripted(), judge).ask([*CHOICES, *OTHERS])
    with closing(sqlite3.connect(folder / "responses.sqlite")) as file:
        file.execute(f"vacuum into '{folder}/recording.sqlite'")
    return f"{folder}/recording.sqlite"


def test_a_recording_answers_as_the_judge_did_and_nothing_else(tmp_path: Path) -> None:
    path = _recorded(tmp_path, JUDGE, JUDGE | {"name": "another"})
    replayed = Judging(
        lambda: harness.create("judge", "replay", path=path, of="scripted"), ResponseCache(tmp_path / "own", {})
    )
    judging = _judging(tmp_path, Scripted(breaks_after=0))
    for request in (*CHOICES, *OTHERS):
        assert replayed.response(request) == judging.response(request)
    with pytest.raises(harness.PluginError, match="no answer to a Generate request"):
        replayed.response(harness.Generate("s", "u", 6))
    catalog = load_catalog()
    params = {"path": path, "of": "scripted"}
    assert catalog.identity("judge", "replay", catalog.config("judge", "replay", params)) == JUDGE


def test_a_recording_must_be_one_of_one_judge(tmp_path: Path) -> None:
    path = _recorded(tmp_path, JUDGE, JUDGE | {"name": "another"})
    (tmp_path / "text").write_text("no database, though it is long enough to be one" * 100)
    for params, message in (
        ({"path": path}, "2 judges"),
        ({"path": path, "of": "nobody"}, "0 judges .* There are: .*another"),
        ({"path": str(tmp_path / "nothing")}, "there is no file"),
        ({"path": str(tmp_path / "text")}, "can't be read"),
    ):
        with pytest.raises(harness.ConfigError, match=message):
            harness.create("judge", "replay", **params)


_PLUGIN = """
import harness

@harness.hookimpl
def harness_specs():
    return [harness.Spec("{kind}", "replayed", 1, "asks or answers", "acme:Replayed", None, **{more})]

class Replayed:
    def __init__(self, config): ...
    def choose(self, requests):
        return [(-1.0, -2.0)] * len(requests)
"""


@pytest.mark.parametrize(
    ("kind", "more", "judge", "kept_beside"),
    [("scorer", {}, "replay", ["acme.py"]), ("judge", {"provides": ("choose",)}, "replayed", None)],
)
def test_a_judge_of_the_harness_beside_a_plugin_file_has_its_answers_kept_apart(
    kind: str, more: dict[str, Any], judge: str, kept_beside: list[str] | None, tmp_path: Path
) -> None:
    """One that the file itself brings is named in all that it answers."""
    _judging(tmp_path / "recorded", Scripted()).ask(CHOICES)
    (tmp_path / "acme.py").write_text(_PLUGIN.format(kind=kind, more=more))
    params = {"path": str(tmp_path / "recorded" / "responses.sqlite"), "of": None} if judge == "replay" else {}
    call = {"name": judge, "params": params, "inputs": JUDGE}
    catalog = load_catalog((str(tmp_path / "acme.py"),))
    store = Store(tmp_path / "results", tmp_path / "cache")
    session = Session(store, catalog, torch.device("cpu"), "log", lambda event: None)
    respondents = Respondents({"fit": "", "encoder": None, "judge": call}, session)
    latent = harness.Latent(0, 1, 0.0, (), ())
    respondents.prepare([(latent, request) for request in CHOICES])
    with closing(sqlite3.connect(tmp_path / "cache" / "judges" / "responses.sqlite")) as file:
        stored = [json.loads(request) for (request,) in file.execute("select request from responses")]
    assert len(stored) == len(CHOICES) and all(request.get("beside") == kept_beside for request in stored)
