"""Texts cut into windows, in a thread that is ahead of the model which runs them: tokenizers work outside of Python.

Invariant: documents and their windows come in order, and an error where it would have come without a thread. One thread
alone asks for windows: the tokenizers of transformers can't be used by two at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from harness.contracts.corpus import Document
from harness.contracts.model import RunsTexts, Window
from harness.errors import ConfigError

LONG_TEXT = 1 << 16
"""Characters of a text above which it is cut into tokens as far as its windows are asked for."""
_DOCUMENTS_TOGETHER = 64
_GROUPS_AHEAD = 4

Cut: TypeAlias = Future[Sequence[Sequence[Window]]]
"""The windows of each text of a group, once they are there."""
_Begun: TypeAlias = tuple[list[Document] | Exception, Cut | None]


def cut(model: RunsTexts, documents: Iterable[Document], context: int) -> Iterator[tuple[Document, Iterable[Window]]]:
    """Each document with its windows."""
    thread = ThreadPoolExecutor(1)

    def submit(texts: list[str]) -> Cut:
        return thread.submit(model.windows, texts, context)

    def begun(group: list[Document] | Exception) -> _Begun:
        if isinstance(group, Exception) or len(group[0].text) > LONG_TEXT:
            return group, None
        return group, submit([document.text for document in group])

    def given(group: list[Document] | Exception, own: Cut | None) -> Iterator[tuple[Document, Iterable[Window]]]:
        if isinstance(group, Exception):
            raise group
        yield from [(group[0], _cut_long(submit, group[0]))] if own is None else zip(group, own.result(), strict=True)

    waiting: deque[_Begun] = deque()
    try:
        for group in _groups(documents):
            waiting.append(begun(group))
            if len(waiting) > _GROUPS_AHEAD:
                yield from given(*waiting.popleft())
        while waiting:
            yield from given(*waiting.popleft())
    finally:
        thread.shutdown(wait=True, cancel_futures=True)


def _groups(documents: Iterable[Document]) -> Iterator[list[Document] | Exception]:
    """The groups of documents; what the corpus raises is the last of them, and waits for its turn."""
    try:
        yield from _grouped(documents)
    except Exception as error:
        yield error


def _grouped(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Documents that are cut into tokens together, of about a long text's size in all; a long one is alone."""
    group: list[Document] = []
    for document in documents:
        n_characters = sum(len(other.text) for other in group) + len(document.text)
        if group and (n_characters > LONG_TEXT or len(group) == _DOCUMENTS_TOGETHER):
            yield group
            group = []
        group.append(document)
    if group:
        yield group


def _cut_long(submit: Callable[[list[str]], Cut], document: Document) -> Iterator[Window]:
    """The windows of a long text, of which ever longer beginnings are cut: what is not asked for costs nothing.

    Tokens depend on the text after them only for some characters, so all but the last windows of a beginning are the
    whole text's.
    """
    last: Window | None = None
    n_given, n_characters = 0, LONG_TEXT
    while True:
        windows = submit([document.text[:n_characters]]).result()[0]
        is_whole = n_characters >= len(document.text)
        settled = windows[n_given : None if is_whole else len(windows) * 3 // 4]
        if last is not None and windows[n_given - 1] != last:
            raise ConfigError(
                f"document {document.id}: the model's tokenizer cuts the first {n_characters} characters otherwise "
                "than fewer of them. Split the document."
            )
        yield from settled
        if is_whole:
            return
        if settled:
            last, n_given = settled[-1], n_given + len(settled)
        n_characters *= 4
