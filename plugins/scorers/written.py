"""Written answers of a judge: 1, 0 or null for each of n texts, perhaps amid some reasoning.

What stands between <think> and </think>, or before the latter alone, is reasoning and no part of the answer; where it
breaks off after <think> there is none. Models also write [THINK], <thinking>, <thought> and <reasoning>. The answer is
read where it was asked for, which is the first of these that there is:

1. The value of the key "answers", where it is a list or an object; or one answer, if n is 1.
2. A list or an object that has lines to itself, perhaps after a label such as `Answer:`, in a code fence or not.
3. Answers that are all there is, perhaps after a label, with commas between them.
4. Lines that are numbered from 1 to n and begin with an answer, or n lines that are answers.
5. A list or an object in running text.

Of several of one kind the last counts. An object has one key for each text, with its number. 1, 1.0, true and "yes" are
one answer, and so on, also as the value of the key "answer" of an object for each text; a list of them may end in a
comma, and have comments after // or #. What is labelled as something else, such as `Confidence:`, is no answer. Where
anything else is in the place of an answer, their number is not n, a later list of answers has another number, or the
text breaks off in a later list, all of the answer is unreadable. A list of one number in running text may name a text,
as `text [1]` does: it is an answer if it is the only one and n is 1. (delphi reads the first brackets that it finds,
and drops every last prompt since it has fewer texts.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

YES, NO = "yes", "no"
ABSTAINED, UNREADABLE = "the judge abstained", "the answer could not be read"
_WORDS = {YES: ("1", "1.0", "true", "yes"), NO: ("0", "0.0", "false", "no"), ABSTAINED: ("null", "none")}
_MEANT = {word: meaning for meaning, words in _WORDS.items() for word in words}
_ANY_WORD = "|".join(map(re.escape, sorted(_MEANT, key=len, reverse=True)))
_TAG = r"(?:<{0}(?:think|thinking|thought|reasoning)>|\[{0}THINK\])"
_OPENED, _CLOSED = (re.compile(_TAG.format(slash), re.IGNORECASE) for slash in ("", "/"))
_REASONING = re.compile(f"{_OPENED.pattern}.*?{_CLOSED.pattern}", re.IGNORECASE | re.DOTALL)
_KEY = re.compile(r"""["']answers?["']\s*:\s*(?=[\[{])""", re.IGNORECASE)
_KEY_OF_ONE = re.compile(rf"""["']answers?["']\s*:\s*["']?({_ANY_WORD})["']?\s*(?=[,}}]|$)""", re.IGNORECASE)
_UNCLOSED = re.compile(r"\[[^\[\]]*$")
# What JSON has not and judges write: comments, constants as in Python, text between ' and ', a comma after the last.
_TEXT = r'"(?:[^"\\]|\\.)*"'
_COMMENT = re.compile(rf"({_TEXT})|(?://|#)[^\n]*")
_BRACKETS = re.compile(rf"{_COMMENT.pattern}|[\[\]{{}}]")
_NOT_JSON = re.compile(rf"""({_TEXT})|'([^'"]*)'|\b(None|True|False)\b|,(?=\s*[\]}}])""")
_LABEL = re.compile(r"[\W_]*(?:\w[\w ]*\W*[:=])?[\W_]*")
_LABEL_OF_ELSE = re.compile(
    "confiden|certainty|probabilit|likelihood|score|rating|weight|strength|example", re.IGNORECASE
)
_MARKS = " \t\r\n`*_.\"'"
_LABEL_OF_ANSWERS = re.compile(
    r"(?:json\s+)?(?:[a-z ]{0,40}answer[a-z ]{0,20}(?:[\s*_`]*[:=]| is\b| are\b)[\s*_`:]*)?",
    re.IGNORECASE,
)  # at the beginning, perhaps empty
_LONGEST_LABEL = 40
_NEAR = 200
"""Characters beside a list that tell what it is."""
_OF_A_TEXT = re.compile(r"\btexts?\s*$", re.IGNORECASE)
_LINE = re.compile(
    r"""^\s*(?:[-*•>]\s+)?["'`*_]*(?:"""
    rf"""({_ANY_WORD}))["'`*_]*[,;]?[ \t]*$""",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"[-*•]\s+")
_NOTHING = re.compile(r"[\s.;*`]*")
_NUMBER = re.compile(r"\D*(\d+)\D*")
_DEEPEST = 16
"""Most brackets within brackets that are read: else each of many that never close would be followed to the end."""
_KEYS_OF_NUMBERS = ("text", "number", "id", "index")
_NUMBERED = re.compile(
    r"""^[\s>*_-]*(?:text\s*)?\[?(\d+)\]?\s*(?:[):=-]|\.(?!\d))+[\s*"'`]*"""
    rf"""({_ANY_WORD})"""
    r"""["'`*]*(?:\s*[,.;:](?:\s.*)?|\s+[(—–-].*|\s*)$""",
    re.IGNORECASE | re.MULTILINE,
)


def schema_of(n: int) -> str:
    """The JSON schema of n answers: an object, since endpoints that enforce a schema want one."""
    items = {"type": "array", "items": {"enum": [0, 1, None]}, "minItems": n, "maxItems": n}
    found = {"type": "object", "properties": {"answers": items}, "required": ["answers"], "additionalProperties": False}
    return json.dumps(found)


def spoken(answer: str) -> str | None:
    """The answer without the reasoning before it; None if it breaks off within the reasoning."""
    closed = max((match.end() for match in _CLOSED.finditer(answer)), default=0)
    # Behind the last end no reasoning ends: looking for its end from each beginning would take ever longer.
    rest = _CLOSED.split(_REASONING.sub("", answer[:closed]))[-1] + answer[closed:]
    return None if _OPENED.search(rest) else rest


def read_answers(answer: str, n: int) -> list[str]:
    """The answers about n texts in what a judge wrote; all are unreadable if they are not n."""
    text = spoken(answer) or ""
    lists = list(_lists(text))
    if (keyed := _keyed(text, n)) or (lists and not lists[-1].answers):
        return keyed or [UNREADABLE] * n
    alone = [own for own in lists if own.is_alone]
    in_lines = _plain(text, n) or _lines(text, n) or _numbered(text, n)
    return _last(alone, n) or in_lines or _last([] if alone else lists, n) or [UNREADABLE] * n


class _Found(NamedTuple):
    """A list or an object of answers in a text; of no answers where it breaks off."""

    answers: list[str]
    is_alone: bool
    """True if its lines have nothing else but a label."""


def _keyed(text: str, n: int) -> list[str] | None:
    """The answers under the last key; all are unreadable if these are not n. None without the key."""
    places = [match.end() for match in _KEY.finditer(text)]
    if not places:
        of_one = _KEY_OF_ONE.findall(text)
        return [_MEANT[of_one[-1].casefold()]] if of_one and n == 1 else None
    answers = _answers(_parsed(text, places[-1])[0])
    return answers if answers and len(answers) == n else [UNREADABLE] * n


def _last(lists: list[_Found], n: int) -> list[str] | None:
    """The answers of the last list; all are unreadable if they are not n, or if lists of one number may name texts."""
    own = [found for found in lists if n == 1 or len(found.answers) > 1]
    if not own:
        return None
    is_unsure = n == 1 and len(own) > 1 and not own[-1].is_alone
    return own[-1].answers if len(own[-1].answers) == n and not is_unsure else [UNREADABLE] * n


def _plain(text: str, n: int) -> list[str] | None:
    """The answers where there is nothing else, with commas between them or a line for each; None otherwise."""
    parts = re.split("[,;\n]", _LABEL_OF_ANSWERS.sub("", text.strip(_MARKS), count=1))
    words = [_BULLET.sub("", part.strip(), count=1).strip(_MARKS).casefold() for part in parts if part.strip()]
    found = [_MEANT[word] for word in words if word in _MEANT]
    return found if len(found) == len(words) == n else None


def _numbered(text: str, n: int) -> list[str] | None:
    """The answers that lines begin with; None unless these are numbered from 1 to n."""
    lines = _NUMBERED.findall(text)
    if [int(number) for number, _ in lines] != list(range(1, n + 1)):
        return None
    return [_MEANT[item.casefold()] for _, item in lines]


def _lines(text: str, n: int) -> list[str] | None:
    """The answers that have lines to themselves; None unless these are n."""
    lines = _LINE.findall(text)
    return [_MEANT[item.casefold()] for item in lines] if len(lines) == n else None


def _lists(text: str) -> Iterator[_Found]:
    """The outermost lists and objects of answers, in their order, without those that are called something else."""
    place = 0
    while match := re.compile(r"[\[{]").search(text, place):
        value, end = _parsed(text, match.start())
        answers = _answers(value)
        # Of what is no list of lists, such as a text in brackets or an object with reasons, a part may be an answer.
        place = end if answers is not None or isinstance(value, list) else match.start() + 1
        if answers is not None:
            near = text[max(0, match.start() - _NEAR) : match.start()]
            if not _is_called_something_else(near, len(answers)):
                before, after = near.rpartition("\n")[2], text[end : end + _NEAR].partition("\n")[0]
                is_alone = len(before) < _NEAR and _LABEL.fullmatch(before) and _NOTHING.fullmatch(after)
                yield _Found(answers, bool(is_alone))
    if _UNCLOSED.search(text):
        yield _Found([], is_alone=False)


def _is_called_something_else(before: str, n: int) -> bool:
    """True if what stands before a list of n is a label such as `Confidence:`, on its line or the one above; or, if n
    is 1, the word text, so that the number is that of a text.
    """
    if n == 1 and _OF_A_TEXT.search(before):
        return True
    label = before.rstrip(_MARKS).rpartition("\n")[2]
    return label.endswith((":", "=")) and len(label) <= _LONGEST_LABEL and bool(_LABEL_OF_ELSE.search(label))


def _parsed(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at a bracket, and its end; None where there is none."""
    depth = 0
    for match in _BRACKETS.finditer(text, start):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match[0], 0)
        if depth > _DEEPEST:
            break
        if depth == 0:
            try:
                written = _COMMENT.sub(r"\1", text[start : match.end()])
                return json.loads(_NOT_JSON.sub(_as_json, written)), match.end()
            except (ValueError, RecursionError):
                break
    return None, start


def _as_json(match: re.Match[str]) -> str:
    text, quoted, constant = match.groups()
    if text is not None:
        return str(text)
    if quoted is not None:
        return json.dumps(quoted)
    return {"None": "null", "True": "true", "False": "false"}.get(constant, "")


def _answers(value: Any) -> list[str] | None:
    """The answers that a list or an object gives; None if it gives anything else, or none."""
    if isinstance(value, dict):
        numbers = [int(match[1]) if (match := _NUMBER.fullmatch(key)) else 0 for key in value]
        if sorted(numbers) != list(range(1, len(value) + 1)):
            return None
        value = [item for _, item in sorted(zip(numbers, value.values(), strict=True), key=lambda pair: pair[0])]
    if not isinstance(value, list):
        return None
    if len(value) == 1 and isinstance(value[0], list):
        return _answers(value[0])
    found = [_meaning(item, number) for number, item in enumerate(value, start=1)]
    return [item for item in found if item is not None] if found and None not in found else None


def _meaning(item: Any, number: int) -> str | None:
    """The answer that a value stands for as that about the text of this number; None if it stands for none."""
    if isinstance(item, list) and len(item) == 1:
        return _meaning(item[0], number)
    if isinstance(item, dict):
        named = {key.casefold(): value for key, value in item.items()}
        numbers = [str(named[key]) for key in _KEYS_OF_NUMBERS if key in named]
        is_of_another = any(own.isdecimal() and int(own) != number for own in numbers)
        return None if is_of_another or "answer" not in named else _meaning(named["answer"], number)
    return _MEANT.get(("null" if item is None else str(item)).strip().casefold())
