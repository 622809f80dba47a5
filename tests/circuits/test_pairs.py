"""Contrasts as token ids: what can't be compared place by place is left out, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from harness.circuits.pairs import Pairs, tokenised
from harness.contracts.behaviour import Contrast
from harness.contracts.model import Window
from harness.errors import Undefined

GOOD = [Contrast(f"The {word}s near", f"The {word} near", " are", " is", word) for word in ("key", "dog", "car", "cat")]


def windows(texts: Sequence[str], context: int) -> list[list[Window]]:
    """A word is a token by its length and first letter, `key-s` two; a special token stands before and after each."""
    cut = []
    for text in texts:
        words = [part for word in text.split() for part in word.split("-")]
        ids = [0, *(100 * len(word) + ord(word[0]) for word in words), 1]
        special = [True, *[False] * len(words), True]
        pieces = range(0, len(ids), context)
        cut.append([Window(ids[i : i + context], special[i : i + context], [], []) for i in pieces])
    return cut


def test_answers_are_the_tokens_that_follow() -> None:
    pairs, left_out = tokenised(GOOD, windows, 16)
    assert not left_out and pairs.groups == ("key", "dog", "car", "cat")
    assert pairs.lengths.tolist() == [4] * 4 and pairs.clean.shape == (4, 4)
    assert pairs.is_open.tolist() == [[False, True, True, True]] * 4
    assert pairs.right.tolist() == [397] * 4 and pairs.wrong.tolist() == [305] * 4  # are, is
    logits = torch.zeros(4, 500)
    logits[:, 397], logits[:, 305] = 3.0, 1.0
    assert pairs.measure(logits).tolist() == [2.0] * 4


@pytest.mark.parametrize(
    ("contrast", "reason"),
    [
        (Contrast("The key-s near", "The key near", " are", " is", "key"), "other numbers of tokens"),
        (Contrast("The key near", "The keys near", " is", " isn", "key"), None),
        (Contrast("The key near", "The keys near", " is", " it", "key"), "begin with the same token"),
        (Contrast("The key near", "The keys near", "ly", " is", "key"), "a token of its own"),
        (Contrast("The key " + "near " * 20, "The keys " + "near " * 20, " is", " are", "key"), "longer than context"),
        (Contrast(" ", " ", " is", " are", "key"), "no tokens"),
    ],
)
def test_what_cannot_be_compared_is_left_out(contrast: Contrast, reason: str | None) -> None:
    pairs, left_out = tokenised([*GOOD, contrast], windows, 16)
    assert len(pairs) == (5 if reason is None else 4)
    assert reason is None or [reason in own for own in left_out] == [True]


def test_first_tokens_must_agree() -> None:
    def without_special(texts: Sequence[str], context: int) -> list[list[Window]]:
        return [[Window(w.ids[1:-1], w.special[1:-1], [], [])] for (w,) in windows(texts, context)]

    turned = [Contrast(f"{c.clean[4:]}", f"{c.patch[4:]}", c.right, c.wrong, c.group) for c in GOOD]
    with pytest.raises(Undefined, match=r"0 contrasts .* begin with other tokens, .* \(4\)"):
        tokenised(turned, without_special, 16)


def test_groups_are_split_and_not_pairs() -> None:
    names = [name for name in "abcdefgh" for _ in range(3)]
    n = len(names)
    pairs = Pairs(*[torch.zeros(n, 2, dtype=torch.long)] * 2, torch.full((n,), 2), torch.ones(n, 2).bool(),
                  *[torch.arange(n)] * 2, tuple(names))  # fmt: skip
    find, judge = pairs.halves()
    groups = [{names[i] for i in half.tolist()} for half in (find, judge)]
    assert len(find) == len(judge) == 12 and not groups[0] & groups[1]
    backwards = pairs.take(torch.arange(n).flip(0))
    assert {backwards.groups[i] for i in backwards.halves()[0].tolist()} == groups[0]  # whatever their order
    assert pairs.by_group(torch.ones(n)).tolist() == [3.0] * 8
