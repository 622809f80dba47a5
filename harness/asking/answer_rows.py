"""Rows of the store of answers: their keys, and their responses with a checksum each."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from harness.contracts.requests import Bounded, Choose, EmbedText, Failure, Generate, Likelihood
from harness.planning.keys import canonical_json

_KINDS = {kind.__name__ for kind in (Choose, EmbedText, Generate, Likelihood)}
_REFUSED = "refused"
"""The key of the reason in what is stored of a failure; answers are texts or lists."""
_BOUNDED, _AT_MOST = "log_probabilities", "at_most"
"""Keys of what is stored of log-probabilities some of which are bounds."""


class DamagedAnswer(ValueError):
    """A stored response that does not fit its checksum, or can't be read."""


def key_of(judge: str, request: Any, beside: Sequence[str] = ()) -> str:
    """The key of an answer: all that it depends on, and the plugin files beside whose code it was computed."""
    return _key(judge, type(request).__name__, spelt(request, beside))


def spelt(request: Any, beside: Sequence[str] = ()) -> str:
    """A request of any kind as JSON, with the plugin files beside whose code it is answered, if there are any."""
    apart = {"beside": list(beside)} if beside else {}
    return canonical_json({"kind": type(request).__name__, **asdict(request), **apart})


def packed(key: str, response: Any) -> str:
    """A response as it is stored: a checksum, which goes for the key too, and its JSON."""
    kept = response
    if isinstance(response, Failure):
        kept = {_REFUSED: response.reason}
    elif isinstance(response, Bounded):
        kept = {_BOUNDED: list(response), _AT_MOST: list(response.at_most)}
    text = canonical_json(kept)
    return f"{_checksum(key, text)} {text}"


def unpacked(key: str, stored: Any) -> Any:
    """A response: as JSON, Bounded, or the Failure that was final.

    What was stored before there were checksums is JSON alone. Nothing that begins with a checksum is JSON, whatever
    becomes of its first character.

    Raises:
        DamagedAnswer: the stored text is not as it was.
    """
    if not isinstance(stored, str):
        raise DamagedAnswer("no text")
    text = stored
    if not stored.startswith(('"', "[", "{")):
        checksum, _, text = stored.partition(" ")
        if checksum != _checksum(key, text):
            raise DamagedAnswer("another checksum")
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise DamagedAnswer(str(error)) from None


def is_whole(key: Any, judge: Any, request: Any, response: Any) -> bool:
    """True for a row whose response can be read, and whose key is that of its judge and request."""
    try:
        unpacked(key, response)
        return bool(_key(judge, json.loads(request)["kind"], request) == key)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return False


def _read(found: Any) -> Any:
    if isinstance(found, dict):
        if found.keys() == {_REFUSED}:
            return Failure(str(found[_REFUSED]), transient=False)
        return Bounded(_numbers(found[_BOUNDED]), found[_AT_MOST])
    return found if isinstance(found, str) else _numbers(found)


def _numbers(found: Any) -> list[float]:
    if not isinstance(found, list) or not all(isinstance(n, int | float) and math.isfinite(n) for n in found):
        raise DamagedAnswer("no finite numbers")
    return found


def _checksum(key: str, text: str) -> str:
    return hashlib.sha256(f"{key}\n{text}".encode()).hexdigest()[:32]


def _key(judge: str, kind: str, request: str) -> str:
    return hashlib.sha256(f"{_asked(judge, kind)}\n{request}".encode()).hexdigest()


@functools.lru_cache
def _asked(judge: str, kind: str) -> str:
    """Everything that the answers to one kind of request depend on, as JSON."""
    whole = json.loads(judge)
    parameters = whole.get("parameters") if isinstance(whole, dict) else None
    if not isinstance(parameters, dict) or not parameters.keys() & _KINDS:
        return judge
    common = {name: value for name, value in parameters.items() if name not in _KINDS}
    return canonical_json(whole | {"parameters": common | parameters.get(kind, {})})
