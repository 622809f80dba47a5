"""Written answers of a judge: a list of 1, 0 and null, perhaps after some reasoning.

What stands before </think>, as some models mark their reasoning, is no part of the answer; where it breaks off after
<think> there is none. What counts is the last list of nothing else; where it has too few items or too many, or where
the text breaks off in a later list, all of the answer is unreadable. (delphi reads the first brackets that it finds,
and drops every last prompt since it has fewer texts.)
"""

from __future__ import annotations

import json
import re

YES, NO = "yes", "no"
ABSTAINED, UNREADABLE = "the judge abstained", "the answer could not be read"
_MEANT = {"1": YES, "0": NO, "null": ABSTAINED}
_OPENED, _CLOSED = "<think>", "</think>"
_BRACKETS = re.compile(r"\[([^\[\]]*)(\]|$)")


def schema_of(n: int) -> str:
    """The JSON schema of n answers: an object, since endpoints that enforce a schema want one."""
    items = {"type": "array", "items": {"enum": [0, 1, None]}, "minItems": n, "maxItems": n}
    found = {"type": "object", "properties": {"answers": items}, "required": ["answers"], "additionalProperties": False}
    return json.dumps(found)


def spoken(answer: str) -> str | None:
    """The answer without the reasoning before it; None if it breaks off within the reasoning."""
    rest = answer.rpartition(_CLOSED)[2]
    return None if _OPENED in rest else rest


def read_answers(answer: str, n: int) -> list[str]:
    """The answers about n texts in what a judge wrote; all are unreadable if their number is not n.

    The last list of nothing but 0, 1 and null counts, unless a later one is cut off.
    """
    lists = [
        ([_MEANT.get(item.strip()) for item in found[1].split(",")], bool(found[2]))
        for found in _BRACKETS.finditer(spoken(answer) or "")
    ]
    lists = [(items, is_whole) for items, is_whole in lists if not is_whole or None not in items]
    if lists and lists[-1][1] and len(lists[-1][0]) == n:
        return [str(item) for item in lists[-1][0]]
    return [UNREADABLE] * n
