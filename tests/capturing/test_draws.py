"""Draws of documents by a seed: random samples of a split, which the documents' ids and the seed alone decide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest

from harness.capturing import draws
from harness.capturing.draws import Draw
from harness.contracts.corpus import Document


def _documents(n: int, length: int = 100) -> list[Document]:
    return [Document(f"{i:04d}", "x" * length) for i in range(n)]


def _ids(n: int, seed: int, n_rows: int) -> list[str]:
    return [document.id for document in Draw(_documents(n), seed, n_rows)]


def test_a_draw_is_a_sample_of_all_documents_in_an_order_of_its_own() -> None:
    """With rows enough for all of them; whichever order the corpus has them in."""
    one, other = _ids(300, 0, 10_000), _ids(300, 1, 10_000)
    assert sorted(one) == sorted(other) == [document.id for document in _documents(300)] and one != other
    assert [document.id for document in Draw(_documents(300)[::-1], 0, 10_000)] == one
    places = np.array([one.index(f"{i:04d}") for i in range(300)])
    assert abs(np.corrcoef(places, np.arange(300))[0, 1]) < 0.2  # early documents come no earlier
    assert abs(np.corrcoef([one.index(name) for name in other], np.arange(300))[0, 1]) < 0.2


def test_the_first_of_the_order_are_the_same_however_few_are_kept() -> None:
    whole, few = _ids(1000, 3, 10_000), _ids(1000, 3, 1000)
    assert 200 <= len(few) < 210 and few == whole[: len(few)]  # 20 characters for each of 1,000 rows


def test_two_draws_have_as_much_in_common_as_two_samples() -> None:
    n_rows, n_wanted = 1000, 50  # 5 characters a row
    drawn = [set(_ids(5000, seed, n_rows)[:n_wanted]) for seed in range(20)]
    shared = [len(a & b) / n_wanted for a, b in itertools.combinations(drawn, 2)]
    pool = draws.POOL_CHARACTERS * n_rows / 100
    assert np.mean(shared) == pytest.approx(n_wanted / pool, abs=0.01)
    assert all(int(name) < pool for name in set.union(*drawn))


def test_no_more_of_a_long_corpus_is_read_than_needed() -> None:
    read = 0

    def endless() -> Iterator[Document]:
        nonlocal read
        for i in itertools.count():
            read += 1
            yield Document(str(i), "x" * 100)

    draw = Draw(endless(), 0, 500)
    assert draw.n_documents == 0 and len(list(draw)) == 100
    assert read == draw.n_documents == 500
