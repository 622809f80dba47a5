"""Texts are cut in a thread ahead of their reader, who can't tell but by the time it takes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from harness.capturing import cutting
from harness.capturing.cutting import cut
from harness.contracts.corpus import Document
from harness.contracts.model import Window


class Cuts:
    """Cuts a text into windows of a letter; notes the texts and the threads that asked."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.threads: set[int] = set()

    def windows(self, texts: list[str], context: int) -> list[list[Window]]:
        self.threads.add(threading.get_ident())
        self.seen += texts
        if "!" in texts[0]:
            raise ValueError(texts[0])
        return [[Window([ord(letter)], [False], [i], [i + 1]) for i, letter in enumerate(text)] for text in texts]

    def activations(self, *_: Any) -> Any: ...


def read(documents: Any, cuts: Cuts) -> Iterator[tuple[str, str]]:
    for document, windows in cut(cuts, documents, 1):
        yield document.id, "".join(chr(window.ids[0]) for window in windows)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LONG_TEXT", 8)
    monkeypatch.setattr(cutting, "_DOCUMENTS_TOGETHER", 2)


def test_documents_come_in_order_whatever_their_length() -> None:
    texts = ["ab", "", "c" * 30, "de", "f" * 9, "ghi", "j"]
    cuts = Cuts()
    found = list(read([Document(str(i), text) for i, text in enumerate(texts)], cuts))
    assert found == [(str(i), text) for i, text in enumerate(texts)]
    assert len(cuts.threads) == 1 and threading.get_ident() not in cuts.threads


def test_errors_come_where_they_would_come_without_a_thread() -> None:
    def corpus() -> Iterator[Document]:
        for i in range(4):
            yield Document(str(i), "ab")
        raise OSError("a file is gone")

    reading, found = read(corpus(), Cuts()), []
    with pytest.raises(OSError, match="a file is gone"):
        for one in reading:
            found.append(one)
    assert [name for name, _ in found] == ["0", "1"]  # the two after them are of the group that was being filled
    reading = read([Document("0", "ab"), Document("1", "cd"), Document("2", "e!")], Cuts())
    assert [next(reading)[0] for _ in range(2)] == ["0", "1"]
    with pytest.raises(ValueError, match="e!"):
        next(reading)


def test_a_few_groups_are_cut_ahead_and_no_more_and_the_thread_ends_with_the_reader() -> None:
    cuts = Cuts()
    endless = (Document(str(i), "ab") for i in range(10**9))
    reading = read(endless, cuts)
    next(reading)
    until = time.monotonic() + 10
    while len(cuts.seen) < 2 * (cutting._GROUPS_AHEAD + 1) and time.monotonic() < until:
        time.sleep(0.001)
    assert len(cuts.seen) == 2 * (cutting._GROUPS_AHEAD + 1)
    (thread,) = (own for own in threading.enumerate() if own.ident in cuts.threads)
    reading.close()
    assert not thread.is_alive()
