"""Corpora that each break one promise."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.testing import check_corpus
from harness.testing.checks import run_check
from harness.testing.corpora import CHECKS, CorpusUnderTest
from harness.testing.registration import Registration

TEXTS = [f"document number {number} of forty" for number in range(40)]


class Good:
    def documents(self) -> Iterator[harness.Document]:
        return (harness.Document(self.id(number, text), text, self.labels(number)) for number, text in self.texts())

    def texts(self) -> Iterator[tuple[int, str]]:
        return iter(enumerate(TEXTS))

    def id(self, number: int, text: str) -> str:
        return harness.document_id(text)

    def labels(self, number: int) -> Any:
        return {"parity": "odd" if number % 2 else "even"}


class NumbersForIds(Good):
    def id(self, number: int, text: str) -> Any:
        return number


class NumbersForLabels(Good):
    def labels(self, number: int) -> Any:
        return {"number": number}


class Empty(Good):
    def texts(self) -> Iterator[tuple[int, str]]:
        return iter(())


class BlankTexts(Good):
    def texts(self) -> Iterator[tuple[int, str]]:
        return iter([*enumerate(TEXTS), (len(TEXTS), " \n")])


class OneIdForTwo(Good):
    def id(self, number: int, text: str) -> str:
        return str(number // 2)


class SaysThingsTwice(Good):
    def id(self, number: int, text: str) -> str:
        return str(number)

    def texts(self) -> Iterator[tuple[int, str]]:
        return iter(enumerate([*TEXTS, TEXTS[3]]))


class Shuffles(Good):
    def texts(self) -> Iterator[tuple[int, str]]:
        return iter(random.sample(list(enumerate(TEXTS)), len(TEXTS)))


class CountsUp(Good):
    """Ids go on from walk to walk."""

    def __init__(self) -> None:
        self.n = 0

    def id(self, number: int, text: str) -> str:
        self.n += 1
        return str(self.n)


class NumbersItself(Good):
    """Another instance, other ids."""

    numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(NumbersItself.numbers)

    def id(self, number: int, text: str) -> str:
        return f"{self.number}-{number}"


class IsUsedUp(Good):
    def __init__(self) -> None:
        self.left = list(enumerate(TEXTS))

    def texts(self) -> Iterator[tuple[int, str]]:
        self.left = list(enumerate(TEXTS))
        while self.left:
            yield self.left.pop(0)


BROKEN: dict[type, tuple[str, str]] = {
    NumbersForIds: ("gives_documents", "the id of document 0 is 0"),
    NumbersForLabels: ("gives_documents", r"str\(value\) of a number"),
    Empty: ("gives_documents", "gives none"),
    BlankTexts: ("gives_documents", "text of document 40 is"),
    OneIdForTwo: ("gives_each_document_once", "2 documents have the id '0'"),
    SaysThingsTwice: ("gives_each_document_once", "2 documents have the text 'document number 3"),
    Shuffles: ("repeats_itself", "the second time"),
    CountsUp: ("repeats_itself", "document 0 is another one the second time"),
    NumbersItself: ("repeats_itself", "from a fresh instance"),
    IsUsedUp: ("can_be_walked_twice_at_once", "beside another walk.*begins anew each time"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Any) -> None:
    _assert_found(CorpusUnderTest(make), *BROKEN[make])


def test_what_conforms_passes() -> None:
    outcomes = {finding.check: finding.outcome for finding in check_corpus(Good)}
    assert {name for name, outcome in outcomes.items() if outcome != "holds"} == {
        *("is_the_same_in_another_process", "follows_its_files_in_its_identity"),
    }
    assert "fails" not in outcomes.values()


FILE = """
from pathlib import Path
from dataclasses import dataclass
import harness

@dataclass
class Config:
    path: str = ""

@harness.hookimpl
def harness_specs():
    return [harness.CorpusSpec("filed", 1, "Lines", Lines, Config{identity})]

class Lines:
    def __init__(self, config):
        self.path = config.path

    def documents(self):
        for line in {lines}:
            yield harness.Document({own_id}, line)
"""
_IN_ORDER = "Path(self.path).read_text().splitlines()"


def filed(
    folder: Path, own_id: str = "harness.document_id(line)", lines: str = _IN_ORDER, identity: str = ""
) -> Registration:
    """A registered corpus of the lines of a file."""
    name = f"filed_{len(list(folder.iterdir()))}"
    (folder / f"{name}.py").write_text(FILE.format(own_id=own_id, lines=lines, identity=identity))
    (folder / "texts.txt").write_text("\n".join(TEXTS))
    return Registration("corpus", "filed", {"path": str(folder / "texts.txt")}, (str(folder / f"{name}.py"),))


_DIGEST = ", identity=lambda config: {'sha256': harness.file_digest(Path(config.path))}"
_SIZE = ", identity=lambda config: [Path(config.path).stat().st_size, Path(config.path).stat().st_mtime_ns]"


@pytest.mark.parametrize(
    ("parts", "check", "message"),
    [
        (
            {"own_id": "str(hash(line))"},
            "is_the_same_in_another_process",
            r"other documents or ids: use harness.document_id",
        ),
        ({"lines": f"set({_IN_ORDER})"}, "is_the_same_in_another_process", "another process has other order"),
        ({}, "follows_its_files_in_its_identity", "Give the Spec an identity"),
        ({"identity": _SIZE}, "follows_its_files_in_its_identity", "a letter in its files was changed"),
    ],
    ids=["hash", "set", "no identity", "size and date"],
)
def test_a_registered_one_is_found(parts: dict[str, str], check: str, message: str, tmp_path: Path) -> None:
    declared = filed(tmp_path, **parts)
    _assert_found(CorpusUnderTest(declared.create, declared), check, message)
    assert (tmp_path / "texts.txt").read_text() == "\n".join(TEXTS)


def test_a_registered_one_that_conforms_passes(tmp_path: Path) -> None:
    declared = filed(tmp_path, identity=_DIGEST)
    under_test = CorpusUnderTest(declared.create, declared)
    assert [run_check(check, under_test).outcome for check in CHECKS] == ["holds"] * len(CHECKS)


def test_one_that_cannot_be_made_is_told_once() -> None:
    def make() -> Any:
        raise harness.ConfigError("no such file")

    findings = check_corpus(make)
    (failed,) = [finding for finding in findings if finding.outcome == "fails"]
    assert failed == findings[0] and "no such file" in failed.message


def _assert_found(under_test: CorpusUnderTest, name: str, message: str) -> None:
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, under_test)
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem
