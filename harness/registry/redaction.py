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
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote

if TYPE_CHECKING:
    import pandas as pd

HIDDEN = "[hidden]"
_TEXT_FILES = (".html", ".css", ".js", ".json", ".svg", ".csv", ".txt", ".md")
_SECRET_NAME = re.compile(  # as a word of the name: STRIPE_API_KEY_PROD, apiKeyProd, but not TOKENIZERS or keyboard
    r"(?:(?i:key|token|secret|passw(or)?d|passphrase|credentials?|connection_?string|webhook)"
    r"|(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))(?i:pwd|pass|jwt|dsn|cookie|auth|private))(?![a-z])(?!(?<=[A-Z])[A-Z])"
)
_FOLDERS = ("PWD", "OLDPWD")
"""Names of the environment's that only sound like a secret's: the folder where one stands, and the one before."""
_LONG = 4096
"""Characters of a text in which it pays to find out first what may be in it."""
_MIN_LENGTH = 8  # shorter values are choices (`key: end`), which texts are full of
_WHOLE_FORMS = {
    **dict.fromkeys(("sk-", "xai-", "pplx-", "glpat-", "gldt-", "glrt-", "glsa_", "dckr_pat_", "hvs."), r"[\w-]{20,}"),
    **dict.fromkeys(("github_pat_", "wandb_v1_", "whsec_", "lin_api_"), r"\w{20,}"),
    **dict.fromkeys(("hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "npm_", "r8_", "gsk_"), r"[A-Za-z0-9]{30,}"),
    **dict.fromkeys(("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"\w{8,}"),
    **dict.fromkeys(("AKIA", "ASIA"), r"[0-9A-Z]{16}\b"),
    **dict.fromkeys(("xoxa-", "xoxb-", "xoxe-", "xoxe.", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), r"[\w.-]{10,}"),
    **dict.fromkeys(("dop_v1_", "doo_v1_", "dor_v1_"), r"[0-9a-f]{64}"),
    **dict.fromkeys(("shpat_", "shpca_", "shppa_", "shpss_", "dapi", "SK"), r"[0-9a-f]{32}\b"),
    "AIza": r"[\w-]{35}",
    "ya29.": r"[\w-]{20,}",
    "GOCSPX-": r"[\w-]{20,}",
    "pypi-": r"AgE[\w-]{20,}",
    "SG.": r"[\w-]{16,}\.[\w-]{16,}",
    "eyJ": r"[\w-]{10,}\.[\w.-]{10,}",  # a JSON web token: `{"` in base64
    "-----BEGIN ": r"[A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?:[\s\S]{0,10000}?-----END [A-Z0-9 ]+-----|[A-Za-z0-9+/=\s\\]*)",
}
"""Begins of keys, none inside a word, and the rest of each."""
_ENDS_OF_FORMS = {
    "://": r"(?:[^\s/@:]+:[^\s/@]+|[\w-]{16,})(?=@)",  # user:password in an address, or a key in its place
    **dict.fromkeys(("Bearer ", "bearer "), r"[\w.~+/=-]{8,}"),
    **dict.fromkeys(("Authorization: Basic ", "authorization: Basic "), r"[\w+/=-]{8,}"),
    **dict.fromkeys(("Cookie: ", "cookie: "), r"[^\r\n\\\"'<]{8,}"),
    **dict.fromkeys(
        ("hooks.slack.com/services/", "hooks.slack.com/workflows/", "hooks.slack.com/triggers/"), r"[\w/-]+"
    ),
    **dict.fromkeys(("discord.com/api/", "discordapp.com/api/"), r"(?:v\d+/)?webhooks/[\w/-]+"),
    "webhook.office.com/": r"[^\s\"'<>\\]+",
    **dict.fromkeys(("AccountKey=", "SharedAccessKey="), r"[\w+/=-]{20,}"),
    ":AA": r"(?<=\d{8}:AA)[\w-]{33}",  # a bot of Telegram's
    "8Q~": r"[\w~.-]{34}",  # a client secret of Azure's
}
"""Texts before secrets, which stay, and the secrets."""
_Form: TypeAlias = tuple[str, re.Pattern[str], str]
_FORMS: list[_Form] = [
    *(
        (part, re.compile(rf"{re.escape(part)}(?<!\w{re.escape(part)}){rest}"), HIDDEN)
        for part, rest in _WHOLE_FORMS.items()
    ),
    *((part, re.compile(f"({re.escape(part)}){rest}"), rf"\1{HIDDEN}") for part, rest in _ENDS_OF_FORMS.items()),
]
"""A text that every form begins with comes first: to look for all of these takes a tenth of the time of the forms."""
_SECRET_QUERIES = re.compile(  # in an address, as it is or escaped for HTML or a script
    r"((?:[?&]|&amp;|\\u0026)[\w.-]*(?:key|token|secret|passw(?:or)?d|pwd|auth|jwt|signature|sig)=)[^\s&#\"'<>\\]+",
    re.IGNORECASE,
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
        hidden = [secrets, self._home_folder, *(form.pattern for _, form, _ in _FORMS), _SECRET_QUERIES.pattern]
        return hashlib.sha256(" ".join(hidden).encode("utf-8", "surrogatepass")).hexdigest()

    def text(self, text: str) -> str:
        """The text without secrets, and with `~` for the home folder."""
        text = self.without_secrets(text)
        return self._home.sub("~", text) if self._home and self._home_folder in text else text

    def without_secrets(self, text: str) -> str:
        """The text without secrets; folders stay, for what does not leave the machine."""
        if self._secrets:
            text = self._secrets.sub(HIDDEN, text)
        for part, form, put in _forms_perhaps_in(text):
            if part in text:
                text = form.sub(put, text)
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


def _forms_perhaps_in(text: str) -> list[_Form]:
    """The forms of whose beginning two characters stand in a text side by side.

    To look for all beginnings one after another takes ten times as long in a long text, such as a card.
    """
    if len(text) < _LONG:
        return _FORMS
    import numpy as np

    units = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.uint16)
    pairs = units[:-1] << 8 | units[1:]
    is_sought = np.zeros(1 << 16, bool)
    sought = [_rarest_pair(part) for part, _, _ in _FORMS]
    is_sought[sought] = True
    found = set(pairs[is_sought[pairs]].tolist())
    return [form for form, pair in zip(_FORMS, sought, strict=True) if pair in found]


@functools.cache
def _rarest_pair(part: str) -> int:
    """The two characters in a text, side by side, of which most are no small letters, as a number."""
    pairs = [part[i : i + 2] for i in range(len(part) - 1)]
    first, second = max(pairs, key=lambda pair: sum(not ("a" <= c <= "z") for c in pair)).encode("ascii")
    return first << 8 | second


def is_secret_name(name: str) -> bool:
    """True if what has this name, such as a variable of the environment, is a secret."""
    return name not in _FOLDERS and _SECRET_NAME.search(name) is not None


def _secrets(value: Any, name: str = "") -> Iterator[str]:
    """The values of all keys, however deep, that are named like secrets."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets(item, str(key))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets(item, name)
    elif isinstance(value, str) and len(value) >= _MIN_LENGTH and is_secret_name(name):
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
