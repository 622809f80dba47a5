"""Contrasts as token ids: what a model is run on, and the measure of its behaviour."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.contracts.behaviour import Contrast
from harness.contracts.model import Window
from harness.errors import Undefined

BATCH_PAIRS = 32
_CUTS_OTHERWISE = "clean and patch have other numbers of tokens"
_FIRST_DIFFERS = "clean and patch begin with other tokens, which decompositions don't learn"
_NO_ANSWER = "an answer does not begin with a token of its own"
_SAME_ANSWER = "right and wrong begin with the same token"
_TOO_LONG = "a text is longer than context"
_EMPTY = "a text has no tokens"


@dataclass(frozen=True)
class Pairs:
    """Pairs of windows, filled up on the right, whose ends ask for one of two tokens each."""

    clean: Int[Tensor, "b t"]
    patch: Int[Tensor, "b t"]
    lengths: Int[Tensor, " b"]
    """Tokens of a window, the same for both of a pair."""
    is_open: Bool[Tensor, "b t"]
    """True for tokens whose activations decompositions learn: neither padding, special nor the first of a window."""
    right: Int[Tensor, " b"]
    wrong: Int[Tensor, " b"]
    groups: tuple[str, ...]
    """The lexical item of each pair."""

    def __len__(self) -> int:
        return len(self.groups)

    def measure(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, " b"]:
        """The logit of the right token less that of the wrong one, of each pair: m."""
        logits = logits.double()
        right, wrong = (logits.gather(1, ids.to(logits.device)[:, None])[:, 0] for ids in (self.right, self.wrong))
        return right - wrong

    @property
    def from_end(self) -> Int[Tensor, "b t"]:
        """Places of tokens counted from the end, from 0 on; 0 in padding."""
        return (self.lengths[:, None] - 1 - torch.arange(self.clean.shape[1])).clamp(min=0)

    def take(self, index: Int[Tensor, " n"]) -> Pairs:
        """Some of the pairs, as long as the longest of them."""
        n_tokens = int(self.lengths[index].max())
        taken = {own.name: getattr(self, own.name)[index] for own in fields(self) if own.name != "groups"}
        taken |= {name: taken[name][:, :n_tokens] for name in ("clean", "patch", "is_open")}
        return replace(self, **taken, groups=tuple(self.groups[i] for i in index.tolist()))

    def batches(self) -> list[Int[Tensor, " n"]]:
        """The numbers of the pairs that are run together: of one length, for padding changes some models' numbers."""
        by_length = [(self.lengths == n).nonzero()[:, 0] for n in self.lengths.unique()]
        return [batch for alike in by_length for batch in alike.split(BATCH_PAIRS)]

    @cached_property
    def group_of(self) -> Int[Tensor, " b"]:
        """The number of each pair's group, groups being sorted by name."""
        names = {name: number for number, name in enumerate(sorted(set(self.groups)))}
        return torch.tensor([names[group] for group in self.groups], dtype=torch.long)

    @property
    def n_groups(self) -> int:
        return len(set(self.groups))

    def by_group(self, values: Float[Tensor, " b"]) -> Float[Tensor, " g"]:
        """Sums over the pairs of each group, in float64."""
        sums = torch.zeros(self.n_groups, dtype=torch.float64)
        return sums.index_add_(0, self.group_of, values.double().cpu())

    def halves(self) -> tuple[Int[Tensor, " f"], Int[Tensor, " j"]]:
        """The numbers of the pairs that circuits are found on, and of those that judge them: every second group.

        Groups are taken in the order of a hash of their name, so that it does not matter in which they come.
        """
        ordered = sorted(set(self.groups), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
        is_found_on = torch.tensor([ordered.index(group) % 2 == 0 for group in self.groups])
        return is_found_on.nonzero()[:, 0], (~is_found_on).nonzero()[:, 0]


Windows = Callable[[Sequence[str], int], Sequence[Sequence[Window]]]


def tokenised(contrasts: Iterable[Contrast], windows: Windows, context: int) -> tuple[Pairs, Counter[str]]:
    """The contrasts that a tokenizer cuts alike, and how many others there are by the reason.

    Raises:
        Undefined: too few are left to have groups in both halves.
    """
    left_out: Counter[str] = Counter()
    found = []
    for contrast in contrasts:
        cut = _cut(contrast, windows, context)
        if isinstance(cut, str):
            left_out[cut] += 1
        else:
            found.append((contrast, *cut))
    if len({contrast.group for contrast, *_ in found}) < 4:  # two to find, two to judge
        reasons = "; ".join(f"{reason} ({n})" for reason, n in left_out.most_common()) or "there are no others"
        raise Undefined(f"{len(found)} contrasts of the behaviour can be used, in fewer than 4 groups: {reasons}")
    n_tokens = max(len(clean) for _, clean, *_ in found)

    def filled(rows: Iterable[Sequence[int]]) -> Tensor:
        return torch.tensor([[*row, *[0] * (n_tokens - len(row))] for row in rows])

    return Pairs(
        clean=filled(clean.ids for _, clean, *_ in found),
        patch=filled(patch.ids for _, _, patch, *_ in found),
        lengths=torch.tensor([len(clean) for _, clean, *_ in found]),
        is_open=filled(clean.is_open for _, clean, *_ in found).bool(),
        right=torch.tensor([right for *_, right, _ in found]),
        wrong=torch.tensor([wrong for *_, wrong in found]),
        groups=tuple(contrast.group for contrast, *_ in found),
    ), left_out


@dataclass(frozen=True)
class _Text:
    ids: tuple[int, ...]
    is_open: tuple[bool, ...]

    def __len__(self) -> int:
        return len(self.ids)


def _cut(contrast: Contrast, windows: Windows, context: int) -> tuple[_Text, _Text, int, int] | str:
    """Both texts of a contrast and the first tokens of its answers; or the reason why it can't be used."""
    if not (contrast.clean.strip() and contrast.patch.strip()):
        return _EMPTY
    answered = [contrast.clean + answer for answer in (contrast.right, contrast.wrong)]
    texts = [_text(found) for found in windows([contrast.clean, contrast.patch, *answered], context)]
    clean, patch, *ends = texts
    if any(len(text) == 0 for text in texts):
        return _TOO_LONG
    if len(clean) != len(patch) or clean.is_open != patch.is_open:
        return _CUTS_OTHERWISE
    if any(a != b and not is_open for a, b, is_open in zip(clean.ids, patch.ids, clean.is_open, strict=True)):
        return _FIRST_DIFFERS
    if any(len(end) <= len(clean) or end.ids[: len(clean)] != clean.ids for end in ends):
        return _NO_ANSWER
    right, wrong = (end.ids[len(clean)] for end in ends)
    return _SAME_ANSWER if right == wrong else (clean, patch, right, wrong)


def _text(found: Sequence[Window]) -> _Text:
    """A text without the special tokens behind it; empty if it does not fit into one window."""
    if len(found) != 1:
        return _Text((), ())
    (window,) = found
    n = max((place + 1 for place, is_special in enumerate(window.special) if not is_special), default=0)
    is_open = (place > 0 and not is_special for place, is_special in enumerate(window.special[:n]))
    return _Text(tuple(window.ids[:n]), tuple(is_open))
