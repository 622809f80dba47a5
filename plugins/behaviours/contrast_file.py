"""Contrasts in jsonl files, of the harness's own format and of three that others publish.

Invariant: contrasts depend on the content of the file, not on where it lies.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import harness
from harness.plugins.behaviours import ContrastFileConfig

_COUNTERFACTUAL = "_counterfactual"


class _Line(NamedTuple):
    where: str
    fields: Mapping[str, Any]

    def text(self, *path: str) -> str:
        """The text, or number as text, in a field, or in a field of a field."""
        value: Any = self.fields
        for name in path:
            if not isinstance(value, Mapping) or name not in value:
                raise harness.ConfigError(f"{self.where}: no field {'.'.join(path)!r}, as others of its format have.")
            value = value[name]
        if not isinstance(value, str | int) or not str(value).strip():
            raise harness.ConfigError(f"{self.where}: field {'.'.join(path)!r} holds {value!r:.40}, not a text.")
        return str(value)


class ContrastFile:
    """The contrasts of a file, in its order."""

    def __init__(self, config: ContrastFileConfig) -> None:
        self.config = config
        _existing(config)

    def contrasts(self) -> Iterator[harness.Contrast]:
        """Each once; the format is that of the first line."""
        found = itertools.islice(self._distinct(), self.config.n_contrasts)
        return harness.shuffled_answers(found, self.config.seed) if self.config.shuffled else found

    def _distinct(self) -> Iterator[harness.Contrast]:
        lines = _lines(Path(self.config.path).expanduser())
        first = next(lines, None)
        if first is None:
            raise harness.ConfigError(f"{self.config.path} has no lines; give one contrast in each.")
        read = _format_of(first)
        seen: set[harness.Contrast] = set()
        for contrast in read(itertools.chain([first], lines), self.config):
            if contrast not in seen:
                seen.add(contrast)
                yield contrast
        if not seen:
            raise harness.ConfigError(f"{self.config.path} has no two lines that make a contrast of each other.")


def identity(config: ContrastFileConfig) -> dict[str, Any]:
    """The checksum of the file, with what decides how it is read."""
    read = {"counterfactual": config.counterfactual, "n_contrasts": config.n_contrasts}
    control = {"shuffled": True, "seed": config.seed} if config.shuffled else {}
    return {"sha256": harness.file_digest(_existing(config)), **read, **control}


def _existing(config: ContrastFileConfig) -> Path:
    path = Path(config.path).expanduser()
    if not path.is_file():
        raise harness.ConfigError(f"behaviour/contrast_file: there is no file {config.path!r} (in {Path.cwd()}).")
    return path


def _lines(path: Path) -> Iterator[_Line]:
    with path.open("rb") as file:  # in bytes, so that a line that is not UTF-8 can be named
        for number, content in enumerate(file, start=1):
            where = f"{path} line {number}"
            if not content.strip():
                continue
            try:
                fields = json.loads(content.decode("utf-8-sig"))
            except (ValueError, RecursionError) as error:
                raise harness.ConfigError(f"{where}: not JSON in UTF-8: {error}.") from error
            if not isinstance(fields, dict):
                raise harness.ConfigError(f"{where}: a JSON {type(fields).__name__}; each line must hold an object.")
            yield _Line(where, fields)


def _format_of(line: _Line) -> _Reader:
    """The reader of the format that has the fields of a line."""
    has = {*line.fields, *([_COUNTERFACTUAL] if _counterfactuals(line) else [])}
    for needed, read in _FORMATS.items():
        if has >= set(needed):
            return read
    formats = "; or ".join(", ".join(needed) for needed in _FORMATS)
    fields = ", ".join(map(str, line.fields)) or "none"
    raise harness.ConfigError(f"{line.where}: of no known format. Fields: {fields}. Known: {formats}.")


def _own(lines: Iterable[_Line], config: ContrastFileConfig) -> Iterator[harness.Contrast]:
    for line in lines:
        parts = [line.text(name) for name in ("clean", "patch", "right", "wrong")]
        yield _contrast(line, *parts)


def _feature_circuits(lines: Iterable[_Line], config: ContrastFileConfig) -> Iterator[harness.Contrast]:
    for line in lines:
        parts = [line.text(name) for name in ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer")]
        yield _contrast(line, *parts)


def _mib(lines: Iterable[_Line], config: ContrastFileConfig) -> Iterator[harness.Contrast]:
    """Contrasts whose wrong answer is the subject if an indirect object is asked for, else the counterfactual's own."""
    for line in lines:
        names = _counterfactuals(line)
        name = config.counterfactual or (names[0] if names else _COUNTERFACTUAL)
        if config.counterfactual is None and not names:  # some lines of MIB have none
            continue
        patch = line.text(name, "prompt")
        metadata = line.fields.get("metadata")
        if isinstance(metadata, Mapping) and {"indirect_object", "subject"} <= metadata.keys():
            right, wrong = (f" {line.text('metadata', role)}" for role in ("indirect_object", "subject"))
        else:
            right, wrong = _answer(line), _answer(_Line(f"{line.where}, {name}", line.fields[name]))
        yield _contrast(line, line.text("prompt"), patch, right, wrong)


def _counterfactuals(line: _Line) -> list[str]:
    return [
        name
        for name, value in line.fields.items()
        if str(name).endswith(_COUNTERFACTUAL) and isinstance(value, Mapping) and value.get("prompt")
    ]


def _answer(line: _Line) -> str:
    """The answer of a line of MIB: its `label`, or the label of its right choice."""
    if "choices" not in line.fields:
        return line.text("label")
    choices, key = line.fields["choices"], line.fields.get("answerKey")
    labels = choices.get("label") if isinstance(choices, Mapping) else choices
    if not isinstance(labels, list) or not isinstance(key, int) or not 0 <= key < len(labels):
        raise harness.ConfigError(f"{line.where}: answerKey {key!r:.20} is none of the choices {labels!r:.60}.")
    return str(labels[key])


def _blimp(lines: Iterable[_Line], config: ContrastFileConfig) -> Iterator[harness.Contrast]:
    """Two lines each of which has the other's words exchanged, and a prefix of as many words: each is the other's
    patch. Lines without a partner are left out.
    """
    waiting: dict[tuple[str, str, int], deque[tuple[_Line, str]]] = defaultdict(deque)
    for line in lines:
        prefix = line.text("one_prefix_prefix").strip()
        good, bad = (line.text(f"one_prefix_word_{which}").strip() for which in ("good", "bad"))
        n_words = len(prefix.split())
        partners = waiting[bad, good, n_words]
        if not partners or partners[0][1] == prefix:
            waiting[good, bad, n_words].append((line, prefix))
            continue
        _, other = partners.popleft()
        yield _contrast(line, other, prefix, f" {bad}", f" {good}")
        yield _contrast(line, prefix, other, f" {good}", f" {bad}")


def _contrast(line: _Line, clean: str, patch: str, right: str, wrong: str) -> harness.Contrast:
    if right == wrong or clean == patch:
        raise harness.ConfigError(f"{line.where}: clean and patch, and right and wrong, must differ.")
    group = line.text("group") if "group" in line.fields else _differing_words(clean, patch)
    return harness.Contrast(clean, patch, right, wrong, group)


def _differing_words(clean: str, patch: str) -> str:
    """The words that differ between two texts, in an order that does not depend on which is which."""
    pairs = itertools.zip_longest(clean.split(), patch.split(), fillvalue="")
    return ", ".join(" / ".join(sorted(pair)) for pair in pairs if pair[0] != pair[1])


_Reader = Callable[[Iterable[_Line], ContrastFileConfig], Iterator[harness.Contrast]]
_FORMATS: dict[tuple[str, ...], _Reader] = {
    ("clean", "patch", "right", "wrong"): _own,
    ("clean_prefix", "patch_prefix", "clean_answer", "patch_answer"): _feature_circuits,
    ("one_prefix_prefix", "one_prefix_word_good", "one_prefix_word_bad"): _blimp,
    ("prompt", _COUNTERFACTUAL): _mib,
}
