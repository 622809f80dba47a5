"""Windows that a model reads, made of a tokenizer's output."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

from harness import ConfigError, Window
from harness.plugins.models.tokenizer_rules import rules

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_PROBES = ("a", "the", "1", ".")

Encoded: TypeAlias = tuple[list[int], list[tuple[int | None, int | None]]]
"""The ids of a text's tokens, with the start and end of each."""


class Tokens:
    """Cuts texts into windows, each a valid input: with the special tokens that the tokenizer adds by default."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        # Texts are cut in a thread, beside the model: a fast tokenizer refuses two callers at a time.
        self._one_at_a_time = threading.Lock()
        self.prefix, self.suffix = _added_tokens(tokenizer)
        # Where one token serves as unknown and as end of text (GPT-2), it is a control token.
        only_unknown = {tokenizer.unk_token_id} - _ids_of_other_special_tokens(tokenizer)
        self._control = frozenset(tokenizer.all_special_ids) - only_unknown

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """The windows of each text, of up to `context` tokens including the special ones that are added."""
        n_content = context - len(self.prefix) - len(self.suffix)
        if n_content < 1:
            raise ConfigError(
                f"context is {context}, but this tokenizer puts {len(self.prefix) + len(self.suffix)} special tokens "
                "around each window. Raise context."
            )
        with self._one_at_a_time:
            return [self._cut(ids, offsets, n_content) for ids, offsets in self._encode(texts)]

    def _cut(self, ids: list[int], offsets: list[tuple[int | None, int | None]], n_content: int) -> list[Window]:
        # Of all tokens at once: in each window by itself it would take twice as long.
        special = [token in self._control for token in ids]
        starts, ends = zip(*offsets, strict=True) if offsets else ((), ())
        parts = [slice(first, first + n_content) for first in range(0, len(ids), n_content)]
        return [self._window(ids[part], special[part], starts[part], ends[part]) for part in parts]

    def _warn_of_doubles(self, ids: list[int]) -> None:
        """Warn where tokens of a text stand beside the same ones that the tokenizer adds."""
        doubles = {"begins": (ids[:1], self.prefix, "in front"), "ends": (ids[-1:], self.suffix, "behind")}
        for verb, (own, added, side) in doubles.items():
            if set(own) & set(added):
                warnings.warn(
                    f"a text {verb} with {self._decode(own)!r}, which the tokenizer puts {side} too: the model sees it "
                    "twice. Take it out of the texts.",
                    stacklevel=3,
                )

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        if not texts:
            return []
        is_fast = self._tokenizer.is_fast
        # Windows are cut later: neither the tokenizer's limit nor a warning about it matters here.
        encoded = self._tokenizer(
            [_LONE_SURROGATE.sub("\ufffd", text) for text in texts],  # no tokenizer takes them; one for one, so
            # that offsets stay right
            add_special_tokens=False,
            truncation=False,
            padding=False,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=is_fast,
        )
        if not is_fast:
            return [(ids, [(None, None)] * len(ids)) for ids in encoded["input_ids"]]
        offsets = map(_with_marks, texts, encoded["offset_mapping"])
        return list(zip(encoded["input_ids"], offsets, strict=True))

    def _window(
        self, ids: list[int], special: list[bool], start: Sequence[int | None], end: Sequence[int | None]
    ) -> Window:
        self._warn_of_doubles(ids)
        before, after = [None] * len(self.prefix), [None] * len(self.suffix)
        return Window(
            ids=[*self.prefix, *ids, *self.suffix],
            special=[*(True for _ in before), *special, *(True for _ in after)],
            start=[*before, *start, *after],
            end=[*before, *end, *after],
        )

    def texts(self, ids: Sequence[int]) -> list[str]:
        """The text that each token adds to another; "\ufffd" for parts of a character."""
        with self._one_at_a_time:
            # Alone, a token would lose its leading space in many tokenizers.
            anchor = self._tokenizer("a", add_special_tokens=False)["input_ids"]
            start = self._decode(anchor)
            texts = [self._decode([*anchor, token]) for token in ids]
        return [text.removeprefix(start) for text in texts]

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def hash(self) -> str:
        """A hash that is equal for tokenizers that cut every text alike, wherever they were loaded from."""
        slow = {"class": type(self._tokenizer).__name__, "vocabulary": self._tokenizer.get_vocab()}
        behaviour = [rules(self._tokenizer) or slow, self.prefix, self.suffix, sorted(self._control)]
        return hashlib.sha256(json.dumps(behaviour, sort_keys=True).encode()).hexdigest()[:16]


def _with_marks(text: str, offsets: Sequence[tuple[int, int]]) -> list[tuple[int | None, int | None]]:
    """The offsets, with the marks that a tokenizer composed with a character, or dropped, as part of its token.

    One that composes `e` and an accent gives the end of the `e`; but the token is both, and of a tokenizer that does
    not compose it ends behind both.
    """
    if text.isascii():
        return list(offsets)
    covered = bytearray(len(text))
    for start, end in offsets:
        covered[start:end] = b"\1" * (end - start)

    def reach(end: int) -> int:
        while end < len(text) and not covered[end] and _continues(text[end]):
            end += 1
        return end

    return [(start, reach(end) if end > start else end) for start, end in offsets]


def _continues(character: str) -> bool:
    """True for what can only follow: combining marks, and vowels and finals of Korean syllables in parts."""
    return unicodedata.category(character).startswith("M") or "\u1160" <= character <= "\u11ff"


def _added_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer puts before and after a text by default."""
    for probe in _PROBES:
        bare = tokenizer(probe, add_special_tokens=False)["input_ids"]
        whole = tokenizer(probe)["input_ids"]
        for first in range(len(whole) - len(bare) + 1):
            if bare and whole[first : first + len(bare)] == bare:
                return whole[:first], whole[first + len(bare) :]
    raise ConfigError(f"{type(tokenizer).__name__}: encodes none of {_PROBES}, so its special tokens can't be told.")


def _ids_of_other_special_tokens(tokenizer: Any) -> set[int]:
    """Ids of all special tokens but the unknown one."""
    tokens: list[Any] = []
    for name, value in tokenizer.special_tokens_map.items():
        if name != "unk_token":
            tokens += value if isinstance(value, (list, tuple)) else [value]
    return {tokenizer.convert_tokens_to_ids(str(token)) for token in tokens}
