"""What leaves the machine leaves without secrets: keys, passwords and the home folder are taken out of every text."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"(key|token|secret|passw(or)?d|passphrase|credentials)$", re.IGNORECASE)
_MIN_LENGTH = 8  # shorter values are choices (`key: end`), which texts are full of
_SECRET_FORMS = re.compile(
    r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"  # user:password in an address
    r"|\b(?:hf_|gh[pousr]_)[A-Za-z0-9]{30,}|\bsk-[\w-]{20,}|\b(?:github_pat|wandb_v1)_\w{20,}|\bAKIA[0-9A-Z]{16}\b"
)


class Redaction:
    """Knows the secrets of the environment and of a config, by their names, and finds others by their form."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        secrets = sorted({*_secrets(os.environ), *_secrets(config)}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, secrets))) if secrets else None
        home = str(Path.home())
        self._home = re.compile(rf"(?<!\w){re.escape(home)}(?!\w)") if home != "/" else None

    def text(self, text: str) -> str:
        """The same without secrets, and with `~` for the home folder."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        if self._home:
            text = self._home.sub("~", text)
        return _SECRET_FORMS.sub(HIDDEN, text)

    def value(self, value: Any) -> Any:
        """The same with every text in it redacted."""
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """The same with every text in it redacted; types of columns stay."""
        texts = table.select_dtypes(["string", "object"])
        redacted = functools.cache(self.value)  # columns repeat themselves
        return table.assign(**{str(name): texts[name].map(redacted).astype(texts[name].dtype) for name in texts})


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    """The values of all keys, however deep, that are named like secrets."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item, name)
    elif isinstance(value, str) and len(value) >= _MIN_LENGTH and _SECRET_NAME.search(name):
        yield value
