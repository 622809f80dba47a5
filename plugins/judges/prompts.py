"""Prompts of a local judge as tokens: the beginning that many requests share, and the rest."""

from __future__ import annotations

import itertools
import re
from typing import Any

from jinja2 import TemplateError

import harness

Ids = tuple[int, ...]
_BLANK_LINE = "\n\n"


class Prompts:
    """The prompts of one tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.is_fast:
            raise harness.ConfigError(
                f"judge local: {type(tokenizer).__name__} gives no offsets. Take a model with a fast tokenizer."
            )
        self._tokenizer = tokenizer
        self._special = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)) or r"(?!)")
        known = [token for token in (tokenizer.bos_token_id, tokenizer.eos_token_id) if token is not None]
        self._start: int = next(iter(known), 0)
        self.padding: int = self._start if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def choices(self, request: harness.Choose) -> tuple[tuple[Ids, Ids], list[Ids]]:
        """The prompt, and each choice as its continuation."""
        space = "" if self._tokenizer.chat_template else " "
        choices = [self._ids(space + choice) for choice in request.choices]
        if not all(choices):
            raise harness.PluginError(f"choices {request.choices}: an empty text has no probability.")
        return self.of(request.system, request.user), choices

    def continuation(self, request: harness.Likelihood) -> tuple[tuple[Ids, Ids], Ids]:
        """The context, and the text as its continuation. A context of less than two tokens is led by the start."""
        context = self._tokenizer(self._plain(request.context))["input_ids"]
        context = [*[self._start] * (2 - len(context)), *context]
        return _cut(tuple(context), len(context) - 1), self._ids(self._plain(request.text))

    def of(self, system: str, user: str) -> tuple[Ids, Ids]:
        """A prompt that the answer follows."""
        user = self._plain(user).strip()
        text, added = self._rendered(system, user)
        encoded = self._tokenizer(text, add_special_tokens=added, return_offsets_mapping=True)
        head, blank, _ = user.rpartition(_BLANK_LINE)
        shared = text.rfind(user) + len(head) + len(blank) if user in text else 0
        in_head = itertools.takewhile(lambda offsets: offsets[1] <= shared, encoded["offset_mapping"])
        return _cut(tuple(encoded["input_ids"]), len(list(in_head)))

    def text(self, ids: list[int]) -> str:
        """An answer's text."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def _rendered(self, system: str, user: str) -> tuple[str, bool]:
        """The prompt's text, and whether the tokenizer's own special tokens are still to be added."""
        if not self._tokenizer.chat_template:
            return f"{system}\n\n{user}\nAnswer:", True
        try:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            return self._from_template(messages), False
        except TemplateError:  # some know no system role
            return self._from_template([{"role": "user", "content": f"{system}\n\n{user}"}]), False

    def _from_template(self, messages: list[dict[str, str]]) -> str:
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> Ids:
        return tuple(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _plain(self, text: str) -> str:
        """Take special tokens in a text apart, so that it can't end its own turn."""
        return self._special.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _cut(ids: Ids, n: int) -> tuple[Ids, Ids]:
    """Cut ids in two at n; neither part is empty, unless there is only one token."""
    n = max(1, min(n, len(ids) - 1))
    return ids[:n], ids[n:]
