"""Checks that corpora and behaviours share: their items are the same whenever and wherever they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

from harness.contracts.behaviour import Contrast
from harness.testing.checks import Broken
from harness.testing.items import Item, digest, digests_elsewhere
from harness.testing.registration import Registration


def same_items(before: Sequence[Item], after: Sequence[Item], when: str, advice: str) -> None:
    """Raise `Broken`, with the advice, if items are not those of the first time."""
    noun = type(before[0]).__name__.lower()
    for number, (one, other) in enumerate(zip_longest(before, after)):
        if one is None or other is None:
            raise Broken(f"there are {len(after)} {noun}s {when}, and {len(before)} the first time: {advice}")
        if digest(one) != digest(other):
            raise Broken(f"{noun} {number} is another one {when} ({_shown(other)}; not {_shown(one)}): {advice}")


def same_elsewhere(declared: Registration, before: Sequence[Item], advice: str) -> None:
    """Raise `Broken`, with the advice, if another process, whose hash() of texts differs, has other items."""
    own = list(map(digest, before))
    for hash_seed in (1, 2):
        after = digests_elsewhere(declared, hash_seed)
        if after != own:
            what = "order" if Counter(after) == Counter(own) else f"{type(before[0]).__name__.lower()}s or ids"
            raise Broken(f"another process has other {what}: {advice}")


def _shown(item: Item) -> str:
    if isinstance(item, Contrast):
        return f"{item.clean[:30]!r}, group {item.group!r:.40}"
    return f"id {item.id!r:.40}, {item.text[:30]!r}"
