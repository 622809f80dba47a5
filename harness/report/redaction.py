"""Redaction of all that leaves the machine: keys, passwords and the home folder are taken out of every text."""

from __future__ import annotations

import functools
import hashlib
import html.entities
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = "[hidden]"
_TEXT_FILES = (".html", ".css", ".js", ".json", ".svg", ".csv", ".txt", ".md")
_SECRET_NAME = re.compile(  # as a word of the name: STRIPE_API_KEY_PROD, apiKeyProd, but not TOKENIZERS or keyboard
    r"(?i:key|token|secret|passw(or)?d|passphrase|credentials)(?![a-z])(?!(?<=[A-Z])[A-Z])"
)
_MIN_LENGTH = 8  # shorter values are choices (`key: end`), which texts are full of
_SECRET_FORMS = re.compile(  # one look behind for several forms: a page is long, and each look is at every character
    r"(?<=[/ ])(?:(?<=://)[^\s/@:]+:[^\s/@]+(?=@)|(?<=\b[Bb]earer )[\w.~+/=-]{8,})"  # user:password in an address
    r"|\b(?:[rs]k_(?:live|test)_\w{8,}|(?:hf_|gh[pousr]_)[A-Za-z0-9]{30,}|sk-[\w-]{20,}"
    r"|(?:github_pat|wandb_v1)_\w{20,}|AKIA[0-9A-Z]{16}\b)"
)

_SECRET_QUERIES = re.compile(  # in an address, as it is or escaped for HTML or a script
    r"((?:[?&]|&amp;|\\u0026)[\w.-]*(?:key|token|secret|passw(?:or)?d|signature|sig)=)[^\s&#\"'<>\\]+", re.IGNORECASE
)


# One part that every form has: a search for a few short texts is ten times as fast as that for all the forms, and
# nearly no text has any of them.
_PARTS_OF_FORMS = (
    *("://", "earer ", "k_live_", "k_test_", "hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_"),
    *("sk-", "github_pat_", "wandb_v1_", "AKIA"),
)


class Redaction:
    """Hides the secrets of the environment and of a config, known by their names, and others, known by their form."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        secrets = sorted({*_secrets(os.environ), *_secrets(config)}, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(_in_any_form, secrets))) if secrets else None
        self._home_folder = home = str(Path.home())
        self._home = re.compile(rf"(?<!\w){re.escape(home)}(?!\w)") if home != "/" else None

    @property
    def digest(self) -> str:
        """A name that is equal for redactions which hide the same; it does not tell what."""
        secrets = self._secrets.pattern if self._secrets else ""
        return hashlib.sha256(f"{secrets} {self._home_folder}".encode("utf-8", "surrogatepass")).hexdigest()

    def text(self, text: str) -> str:
        """The text without secrets, and with `~` for the home folder."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        if self._home and self._home_folder in text:
            text = self._home.sub("~", text)
        if any(part in text for part in _PARTS_OF_FORMS):
            text = _SECRET_FORMS.sub(HIDDEN, text)
        return _SECRET_QUERIES.sub(rf"\1{HIDDEN}", text) if "=" in text else text

    def value(self, value: Any) -> Any:
        """A copy of a value with every text in it redacted."""
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return self.text(value) if isinstance(value, str) else value

    def files(self, folder: Path) -> None:
        """Redact every text file in a folder where it lies."""
        for path in sorted(folder.rglob("*")):
            if path.suffix in _TEXT_FILES and path.is_file():
                path.write_text(self.text(path.read_text(encoding="utf-8")), encoding="utf-8")

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """A copy of a table with every text in it redacted; types of columns stay."""
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


def _in_any_form(secret: str) -> str:
    """A pattern for a secret as it is, and as JSON, Python, YAML, HTML or an address writes it, one inside another too.

    Letters and digits have no other form; every other character gets a pattern of its own.
    """
    return "".join(c if c.isascii() and c.isalnum() else _escaped(c) for c in secret)


def _escaped(character: str) -> str:
    """A pattern for every form that a character may take; each layer of quoting adds backslashes."""
    number = ord(character)
    names = [name for name, code in html.entities.name2codepoint.items() if code == number]
    as_json = json.dumps(character)[1:-1]
    units = re.findall(r"\\u([0-9a-f]{4})", as_json) or [f"{number:04x}"]  # two where one unit can't hold it
    forms = [
        rf"(?:&|u0026)(?:amp;)*(?i:#0*{number}|#x0*{number:x}{''.join(f'|{name}' for name in names)});",
        r"\\+".join(f"(?i:u{unit})" for unit in units),
        rf"(?i:x{number:02x}|U{number:08x})",
        quote(character, safe="").replace("%", "%(?:25)*"),
        re.escape(character),
    ]
    if re.fullmatch(r"\\[a-z]", as_json):  # a new line, say
        forms.append(as_json[1])
    if character.isspace():
        forms += [r"[\s\\]+", r"\+"]  # YAML folds lines
    elif character == "'":
        forms.append("''")  # YAML
    return rf"\\*(?:{'|'.join(forms)})"
