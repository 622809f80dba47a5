"""Checks of how models cut texts into windows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from harness.contracts.model import HasUnembedding, Window
from harness.testing.checks import Broken, Check, NotChecked
from harness.testing.model_trials import CONTEXT, TEXTS, ModelUnderTest


def cuts_texts_into_windows(under_test: ModelUnderTest) -> None:
    """windows(texts, context) gives each text a list of Windows of 1 to `context` tokens, every token described."""
    for texts in (list(TEXTS), [], [""]):
        found = under_test.reader.windows(texts, CONTEXT)
        if len(found) != len(texts):
            raise Broken(f"windows() gave {len(found)} lists for {len(texts)} texts; an empty text has an empty list.")
        for window in (window for windows in found for window in windows):
            _check_window(window)


def _check_window(window: Any) -> None:
    if not isinstance(window, Window):
        raise Broken(f"windows() gave a {type(window).__name__}; give harness.Window(ids, special, start, end).")
    sizes = [len(part) for part in (window.ids, window.special, window.start, window.end)]
    if len(set(sizes)) > 1:
        raise Broken(f"a Window has {sizes} ids, special, start and end; give one of each for every token.")
    if not 1 <= sizes[0] <= CONTEXT:
        raise Broken(f"a Window has {sizes[0]} tokens with a context of {CONTEXT}; give 1 to {CONTEXT}, no empty one.")
    if not all(isinstance(token, int) and token >= 0 for token in window.ids):
        raise Broken(f"a Window's ids are {list(window.ids)!r:.60}; give whole numbers from 0 on.")


def covers_each_text(under_test: ModelUnderTest) -> None:
    """Consecutive windows hold every token of a text once, whatever the context."""
    for text, small, large in zip(TEXTS, *(_windows(under_test, context) for context in (CONTEXT, 400)), strict=True):
        if _content(small) != _content(large):
            raise Broken(
                f"the tokens of {text[:30]!r} are others with a context of {CONTEXT} than with 400, special ones left "
                "out: cut the whole text into tokens first, then those into windows, and drop none."
            )


def cuts_each_text_alone(under_test: ModelUnderTest) -> None:
    """The windows of a text do not depend on the texts beside it."""
    for text, together in zip(TEXTS, _windows(under_test, CONTEXT), strict=True):
        if under_test.reader.windows([text], CONTEXT)[0] != together:
            raise Broken(f"{text[:30]!r} has other windows when cut alone: pad and truncate nothing here.")


def points_at_the_text(under_test: ModelUnderTest) -> None:
    """The start and end of tokens are character offsets in the whole text, which grow and leave no letter out."""
    known = 0
    for text, windows in zip(TEXTS, _windows(under_test, CONTEXT), strict=True):
        offsets = [
            (start, end)
            for window in windows
            for start, end in zip(window.start, window.end, strict=True)
            if start is not None and end is not None
        ]
        known += len(offsets)
        if any(not 0 <= start <= end <= len(text) for start, end in offsets):
            raise Broken(f"offsets of {text[:30]!r} lie outside its {len(text)} characters, or end before they start.")
        if any(later < start for (start, _), (later, _) in pairwise(offsets)):
            raise Broken(f"offsets of {text[:30]!r} go back: count from the text's start, not from the window's.")
        covered = {place for start, end in offsets for place in range(start, end)}
        missed = [place for place, letter in enumerate(text) if letter.isalnum() and place not in covered]
        if offsets and missed:
            raise Broken(
                f"no token's offsets hold the {text[missed[0]]!r} at {missed[0]} of {text[:30]!r}: start is the first "
                "character, end the one after the last."
            )
    if not known:
        raise NotChecked("it knows no offsets")


def flags_the_tokens_it_adds(under_test: ModelUnderTest) -> None:
    """A token that stands first in all windows, or last, is special: the tokenizer has put it there."""
    windows = [window for windows in _windows(under_test, CONTEXT) for window in windows]
    for place, where in ((0, "first"), (-1, "last")):
        if len({window.ids[place] for window in windows}) == 1 and not all(w.special[place] for w in windows):
            raise Broken(
                f"every window's {where} token is {windows[0].ids[place]}, but it is not flagged as special: its rows "
                "would count as text."
            )
    for text, own in zip(TEXTS, _windows(under_test, CONTEXT), strict=True):
        if not any(_content(own)):
            raise Broken(f"all tokens of {text[:30]!r} are special: special is True for those that are no text.")


def has_one_token_in_front(under_test: ModelUnderTest) -> None:
    """The token that is put in front is there once, or a warning says otherwise: a text may begin with it already."""
    windows = [window for windows in _windows(under_test, CONTEXT) for window in windows]
    first = windows[0].ids[0]
    if not windows[0].special[0] or any(window.ids[0] != first for window in windows):
        raise NotChecked("it puts no token in front")
    if any(list(window.ids[:2]) == [first, first] for window in windows):
        raise Broken(f"windows begin with two tokens {first}: the model has been trained with one.")
    model: Any = under_test.reader
    if not isinstance(under_test.reader, HasUnembedding):
        return
    text = model.token_texts([first])[0].strip()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        ids = model.windows([f"{text}{TEXTS[0]}"], CONTEXT)[0][0].ids
    if list(ids[:2]) == [first, first] and not said:
        raise Broken(
            f"a text that begins with {text!r} already, as rendered chats do, gets a second one in front without a "
            "word: leave one out, or warn."
        )


def names_its_tokenizer(under_test: ModelUnderTest) -> None:
    """tokenizer_hash is the same for a fresh instance, and after texts have been cut."""
    before = under_test.model.tokenizer_hash
    _windows(under_test, CONTEXT)
    for when, after in (
        ("after texts were cut", under_test.model.tokenizer_hash),
        ("of a fresh instance", under_test.make().tokenizer_hash),
    ):
        if after != before:
            raise Broken(
                f"tokenizer_hash is {before!r}, and {after!r} {when}: hash what decides how texts are cut, by hashlib; "
                "hash() and id() differ between processes."
            )


def _windows(under_test: ModelUnderTest, context: int) -> list[list[Window]]:
    windows: list[list[Window]] = under_test.reader.windows(list(TEXTS), context)
    return windows


def _content(windows: Sequence[Window]) -> list[int]:
    return [
        token for window in windows for token, special in zip(window.ids, window.special, strict=True) if not special
    ]


CHECKS: list[Check] = [
    cuts_texts_into_windows,
    covers_each_text,
    cuts_each_text_alone,
    points_at_the_text,
    flags_the_tokens_it_adds,
    has_one_token_in_front,
    names_its_tokenizer,
]
