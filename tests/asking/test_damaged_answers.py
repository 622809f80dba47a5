"""Damage to the store of answers: nothing is answered wrongly, nothing is stuck, no budget is exceeded."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.asking.answer_rows import DamagedAnswer, packed, unpacked
from harness.asking.judging import Judging
from harness.asking.reservations import Reservations
from harness.asking.response_cache import FILE, ResponseCache
from harness.contracts.spending import Prices, Usage
from harness.errors import BudgetReached, StoreError
from harness.planning.suite import JudgeBudget

JUDGE = {"name": "scripted", "version": 1}
REQUESTS = [harness.Choose("s", f"user {i} " + "x" * 400, ("Yes", "No")) for i in range(60)]
BUDGET = JudgeBudget(usd=100.0)


class Scripted:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.n_asked = 0

    def choose(self, requests: Any) -> Any:
        for request in requests:
            self.n_asked += 1
            yield harness.Metered((-0.1 * len(request.user), float(request.user.split()[1])), 90, 10)


def _asked(folder: Path, told: list[str], budget: JudgeBudget = BUDGET) -> tuple[list[Any], int]:
    """The answers to all requests, and how many had to be asked."""
    judge = Scripted()
    cache = ResponseCache(folder, JUDGE, "suite", told.append)
    judging = Judging(lambda: judge, cache, warn=told.append, prices=Prices(1000.0, 1000.0), budget=budget)
    judging.ask(REQUESTS)
    cache.close()
    return [judging.response(request) for request in REQUESTS], judge.n_asked


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    assert _asked(folder, [])[1] == len(REQUESTS)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "judges"))


WHOLE = [(-0.1 * len(request.user), float(i)) for i, request in enumerate(REQUESTS)]


def _cut(data: bytearray) -> None:
    del data[len(data) // 2 + 77 :]


def _page(data: bytearray) -> None:
    data[5 * 4096 : 6 * 4096] = bytes(range(256)) * 16


def _root(data: bytearray) -> None:
    data[4096 : 2 * 4096] = bytes(4096)


def _head(data: bytearray) -> None:
    data[:60] = bytes(60)


def _page_size(data: bytearray) -> None:
    data[16:18] = b"\x02\x00"


def _schema(data: bytearray) -> None:
    place = data.index(b"CREATE TABLE responses")
    data[place + 13 : place + 22] = b"responsEz"


def _name(data: bytearray) -> None:
    place = data.index(b"tableresponsesresponses")
    data[place + 5 : place + 14] = b"rfsponses"


def _format(data: bytearray) -> None:
    data[44:48] = b"\x00\x00\x00\x0c"


def _versions(data: bytearray) -> None:
    data[18:20] = b"\x05\x01"


def _words(data: bytearray) -> None:
    data[data.index(b"CREATE TABLE ledger") + 3] = 0xFE


def _swapped(data: bytearray) -> None:
    data[8 * 4096 : 9 * 4096] = data[9 * 4096 : 10 * 4096]


def _noise(data: bytearray) -> None:
    data[:] = random.Random(0).randbytes(len(data))


@pytest.mark.parametrize(
    ("damage", "most_asked"),
    [
        (_cut, 60),
        (_page, 15),
        (_root, 60),
        (_head, 0),
        (_page_size, 0),
        (_schema, 60),
        (_name, 60),
        (_format, 0),
        (_versions, 0),
        (_words, 60),
        (_swapped, 15),
        (_noise, 60),
    ],
)
def test_a_damaged_file_is_set_aside_with_what_could_be_saved(
    damage: Callable[[bytearray], None], most_asked: int, folder: Path
) -> None:
    data = bytearray((folder / FILE).read_bytes())
    damage(data)
    (folder / FILE).write_bytes(data)
    told: list[str] = []
    answers, n_asked = _asked(folder, told)
    assert answers == WHOLE and n_asked <= most_asked
    assert any("are damaged" in text and FILE in text for text in told), told
    (aside,) = (path for path in folder.glob(f"{FILE}.damaged-*") if not path.name.endswith(("-wal", "-shm")))
    assert any(aside.name in text for text in told)
    told.clear()
    assert _asked(folder, told) == (WHOLE, 0) and not told  # and all is well
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [f".{FILE}.lock"]


def test_an_empty_file_is_begun_anew(folder: Path) -> None:
    (folder / FILE).write_bytes(b"")
    assert _asked(folder, []) == (WHOLE, len(REQUESTS))


@pytest.mark.parametrize("seed", range(25))
def test_no_flip_changes_an_answer_or_a_sum_or_stops_a_run(seed: int, folder: Path) -> None:
    rng = random.Random(seed)
    data = bytearray((folder / FILE).read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    (folder / FILE).write_bytes(data)
    told: list[str] = []
    answers, n_asked = _asked(folder, told)
    assert answers == WHOLE
    cache = ResponseCache(folder, JUDGE, "suite", told.append)
    spent, usd = cache.ledger.spent(BUDGET)
    assert spent.n_tokens >= 100 * (len(REQUESTS) + n_asked) and usd >= 0.1 * (len(REQUESTS) + n_asked) - 1e-9
    assert told or n_asked <= 1  # an answer whose key has changed is another request's


@pytest.mark.parametrize("response", [[-0.1, -2.5], "a text", harness.Failure("no", transient=False)])
def test_no_flip_of_a_response_goes_unseen(response: Any) -> None:
    key = "0" * 64
    stored = packed(key, response)
    assert unpacked(key, stored) == response
    for place in range(len(stored)):
        for bit in range(7):
            flipped = f"{stored[:place]}{chr(ord(stored[place]) ^ 1 << bit)}{stored[place + 1 :]}"
            with pytest.raises(DamagedAnswer):
                unpacked(key, flipped)
    with pytest.raises(DamagedAnswer):
        unpacked("1" + key[1:], stored)  # another request's


@pytest.mark.parametrize(
    "stored",
    ["", "[", "[NaN]", '{"refused": "a", "b": 1}', '{"log_probabilities": [1]}', "[[1]]", None, 7, "{}", "[" * 9999],
)
def test_what_no_version_has_stored_is_damaged(stored: Any) -> None:
    with pytest.raises(DamagedAnswer):
        unpacked("key", stored)


def test_answers_from_before_there_were_checksums_are_read(folder: Path) -> None:
    with closing(sqlite3.connect(folder / FILE)) as file:
        file.execute("update responses set response = substr(response, 34)")
        file.execute("alter table ledger drop column cell")
        file.commit()
    assert _asked(folder, []) == (WHOLE, 0)


def _update(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / FILE)) as file:
        file.execute(statement)
        file.commit()


def test_a_changed_answer_is_asked_again_and_named(folder: Path) -> None:
    _update(folder, "update responses set response = replace(response, ',7.0', ',9.0')")
    told: list[str] = []
    assert _asked(folder, told) == (WHOLE, 1)
    assert told == ["1 stored answers of the judge are damaged: they are asked for again."]
    assert _asked(folder, told) == (WHOLE, 0)


def test_a_recording_that_is_damaged_says_so(folder: Path) -> None:
    _update(folder, "update responses set response = replace(response, ',7.0', ',9.0')")
    _update(folder, "update responses set judge = replace(judge, 'scripted', 'scripter') where response like '%,8.0]'")
    recording = harness.Recording(str(folder / FILE))  # though one row names another judge
    assert list(recording.find(REQUESTS[6])) == list(WHOLE[6])
    with pytest.raises(StoreError, match=r"responses.sqlite' is damaged .*another copy"):
        recording.find(REQUESTS[7])
    data = bytearray((folder / FILE).read_bytes())
    _cut(data)
    (folder / FILE).write_bytes(data)
    with pytest.raises(harness.HarnessError, match=r"damaged|can't be read"):
        for request in REQUESTS:
            recording.find(request)


def _copy_of(folder: Path) -> Path:
    (path,) = (folder / "spent").iterdir()
    return path


def _spent(folder: Path, told: list[str], budget: JudgeBudget = BUDGET) -> tuple[Usage, float]:
    cache = ResponseCache(folder, JUDGE, "suite", told.append)
    found = cache.ledger.spent(budget)
    cache.close()
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "update ledger set n_prompt_tokens = 1, usd = 0.0",
        "update ledger set n_prompt_tokens = -9000000000000000000, usd = -1e300",
        "update ledger set suite = 'suitf'",
        "update ledger set n_prompt_tokens = 'a word', usd = 'another'",
        "delete from ledger",
        "drop table ledger",
    ],
)
def test_a_ledger_that_lost_sums_has_a_copy(statement: str, folder: Path) -> None:
    _update(folder, statement)
    told: list[str] = []
    spent, usd = _spent(folder, told)
    assert (spent.n_tokens, usd) == (6000, pytest.approx(6.0)) and "differ" in told[0]


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"spent": [0, 0, 0, 0, 0.0], "checksum": "wrong"}', "[]"])
def test_a_copy_that_lost_sums_has_a_ledger(content: str, folder: Path) -> None:
    _copy_of(folder).write_text(content)
    assert _spent(folder, [])[0].n_tokens == 6000
    _copy_of(folder).unlink()
    assert _spent(folder, [])[0].n_tokens == 6000


def test_what_is_not_known_any_more_counts_as_spent(folder: Path) -> None:
    """And who raises the budget may spend the difference."""
    data = bytearray((folder / FILE).read_bytes())
    _noise(data)
    (folder / FILE).write_bytes(data)
    _copy_of(folder).write_text("no JSON")
    told: list[str] = []
    with pytest.raises(BudgetReached, match="60 requests were not sent"):
        _asked(folder, told, JudgeBudget(usd=7.0, tokens=7_000))
    assert "counts as spent: raise it" in told[-1] and _copy_of(folder).name in told[-1]
    with pytest.raises(BudgetReached):
        _asked(folder, told, JudgeBudget(usd=8.0, tokens=8_000))
    assert _spent(folder, told)[0].n_tokens == 8_000  # ten requests


def test_damaged_reservations_hold_for_a_while(tmp_path: Path) -> None:
    cache, now = ResponseCache(tmp_path, JUDGE, "a"), 0.0
    for owner in ("", "{}", "[]", "no JSON"):
        cache._file.execute("insert into reservations values (?, 'a', 10, 1, 0)", [owner])
    cache._file.execute("insert into reservations values ('x', 'a', -1e9, -1e9, 0)")
    reservations = Reservations(cache._file, "a", lambda: now)
    assert reservations.of_others() == (40.0, 4.0)
    now = 1_000.0
    assert reservations.of_others() == (0.0, 0.0)


def _write(folder: Path, first: int) -> None:
    cache = ResponseCache(folder, JUDGE, "suite")
    for i in range(first, first + 100):
        cache.keep(harness.Likelihood("", str(i)), [float(i), 1], Usage(1, 1, 1, 0), 0.5)


@pytest.mark.parametrize("damage", [_head, _page])
def test_several_processes_go_on_where_a_file_is_damaged_under_them(
    damage: Callable[[bytearray], None], folder: Path
) -> None:
    """All that they have spent is known, and nothing that they say is wrong."""
    data = bytearray((folder / FILE).read_bytes())
    damage(data)
    with (folder / FILE).open("r+b") as file:
        file.write(data)
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_write, args=(folder, first)) for first in (100, 200)]
    for other in others:
        other.start()
    _write(folder, 0)
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    cache = ResponseCache(folder, JUDGE, "suite")
    found = [cache.find(harness.Likelihood("", str(i))) for i in range(300)]
    assert found == [[float(i), 1] for i in range(300)]
    assert cache.ledger.spent(BUDGET)[0].n_tokens == 6000 + 600


def test_damage_is_met_while_the_file_is_open(folder: Path) -> None:
    told: list[str] = []
    cache = ResponseCache(folder, JUDGE, "suite", told.append)
    assert cache.find(REQUESTS[0])
    data = bytearray((folder / FILE).read_bytes())
    _head(data)
    (folder / FILE).write_bytes(data)  # in place
    cache.keep(harness.Likelihood("", "new"), [1.0, 1])
    other = ResponseCache(folder, JUDGE, "suite", told.append)
    assert other.find(harness.Likelihood("", "new")) == [1.0, 1]
    assert [tuple(other.find(request) or ()) for request in REQUESTS] == WHOLE


def test_another_file_in_its_place_is_taken_up(folder: Path) -> None:
    cache = ResponseCache(folder, JUDGE, "suite")
    assert cache.find(REQUESTS[0])
    for path in folder.glob(f"{FILE}*"):
        path.unlink()
    assert cache.find(REQUESTS[0]) is None  # deleted by hand: begun anew, not written into nowhere
    cache.keep(REQUESTS[0], [0.0, 0.0])
    assert ResponseCache(folder, JUDGE, "suite").find(REQUESTS[0]) == [0.0, 0.0]


def test_what_is_no_damage_is_named_and_left(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(StoreError, match=rf"{FILE} can't be read or written: unable to open"):
        ResponseCache(tmp_path, JUDGE).find(REQUESTS[0])
    with suppress(StoreError):
        ResponseCache(tmp_path, JUDGE).keep(REQUESTS[0], [0.0, 0.0])
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == [FILE]


def test_a_link_that_leads_to_itself_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / FILE).symlink_to(FILE)
    cache = ResponseCache(tmp_path, JUDGE)
    cache.keep(REQUESTS[0], [0.0, 0.0])
    assert cache.find(REQUESTS[0]) and len(list(tmp_path.glob(f"{FILE}.damaged-*"))) == 1


def test_what_is_answered_beside_a_plugin_file_is_kept_apart(tmp_path: Path) -> None:
    """Code of the file may have changed what a judge computes in its process: others ask for themselves."""
    plain, beside, other = (ResponseCache(tmp_path, JUDGE, beside=files) for files in ((), ("acme.py",), ("b.py",)))
    plain.keep(REQUESTS[0], [0.5, 1.0])
    beside.keep(REQUESTS[1], [0.25, 1.0])
    assert [cache.find(REQUESTS[0]) for cache in (plain, beside, other)] == [[0.5, 1.0]] * 3
    assert [cache.find(REQUESTS[1]) for cache in (plain, beside, other)] == [None, [0.25, 1.0], None]
    plain.keep(REQUESTS[1], [0.75, 1.0])
    assert [cache.find(REQUESTS[1]) for cache in (plain, beside, other)] == [[0.75, 1.0], [0.25, 1.0], [0.75, 1.0]]
    beside.keep(REQUESTS[2], [0.125, 1.0])
    recording = harness.Recording(str(tmp_path / FILE))
    assert [recording.find(request) for request in REQUESTS[:4]] == [[0.5, 1.0], [0.75, 1.0], [0.125, 1.0], None]


def test_the_file_has_the_permissions_that_the_umask_says_also_once_it_was_set_aside(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        cache = ResponseCache(tmp_path, JUDGE, warn=lambda _: None)
        cache.keep(REQUESTS[0], [0.5, 1.0])
        modes = [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob(f"{FILE}*")]
        cache.close()
        (tmp_path / FILE).write_bytes(b"no database" * 100)
        assert cache.find(REQUESTS[0]) is None
        modes += [stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob(f"{FILE}*")]
    finally:
        os.umask(before)
    assert set(modes) == {0o664} and len(modes) > 4
