"""When latents fire, in the order of the corpus, and the null in which documents change places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import harness
from harness.plugins.grouping import firing
from harness.plugins.grouping.firing import Firing, FiringReader


def read(codes: harness.Codes, m: int, parts: int = 3, *places: np.ndarray) -> Firing:
    reader = FiringReader(m, len(codes.values))
    for rows in torch.arange(len(codes.values)).chunk(parts):
        indices = None if codes.indices is None else codes.indices[rows]
        reader.add(harness.Codes(codes.values[rows], indices, m), *(place[rows.numpy()] for place in places))
    return reader.finish()


def sparse(n: int = 400, m: int = 30, k: int = 3, seed: int = 0) -> harness.Codes:
    generator = torch.Generator().manual_seed(seed)
    indices = torch.stack([torch.randperm(m, generator=generator)[:k] for _ in range(n)])
    return harness.Codes(torch.randn(n, k, generator=generator), indices, m)


def dense_matrix(found: Firing, m: int) -> np.ndarray:
    """Rows by poles, 2 · latent for the positive one."""
    matrix = np.zeros((found.n_rows, 2 * m), dtype=bool)
    matrix[:, 2 * found.latents + (found.signs < 0)] = found.matrix.toarray() > 0
    return matrix


def test_sparse_codes_fire_wherever_they_are_not_zero() -> None:
    codes = sparse()
    values = codes.to_dense(30).numpy()
    found = read(codes, 30)
    assert np.array_equal(dense_matrix(found, 30)[:, ::2], values > 0)
    assert np.array_equal(dense_matrix(found, 30)[:, 1::2], values < 0)
    assert np.allclose(
        found.peaks, [(sign * values[:, j]).max() for j, sign in zip(found.latents, found.signs, strict=True)]
    )


def test_what_a_row_has_twice_is_added() -> None:
    codes = harness.Codes(torch.tensor([[1.0, 2.0, -0.5], [1.0, -1.0, 0.0]]), torch.tensor([[4, 7, 4], [7, 7, 0]]), 50)
    found = read(codes, 50, 1)
    assert found.latents.tolist() == [4, 7] and found.signs.tolist() == [1, 1] and found.peaks.tolist() == [0.5, 2.0]
    assert found.matrix.toarray().tolist() == [[1, 1], [0, 0]]


def test_dense_codes_fire_on_their_strongest_hundredth(monkeypatch: object) -> None:
    values = torch.randn(1000, 8, generator=torch.Generator().manual_seed(2))
    wanted = np.stack([sign * values.numpy() for sign in (1, -1)], axis=2).reshape(1000, 16)
    wanted = wanted > np.sort(wanted, axis=0)[-11]
    found = read(harness.Codes(values), 8)
    assert np.array_equal(dense_matrix(found, 8), wanted) and set(found.counts) == {10}


def test_thinning_on_the_way_changes_nothing(monkeypatch: object) -> None:
    values = torch.randn(1000, 8, generator=torch.Generator().manual_seed(2))
    whole, before = read(harness.Codes(values), 8), firing.MAX_ENTRIES
    firing.MAX_ENTRIES = 100
    try:
        thinned = read(harness.Codes(values), 8, 20)
    finally:
        firing.MAX_ENTRIES = before
    assert np.array_equal(dense_matrix(whole, 8), dense_matrix(thinned, 8))


def test_rows_come_in_the_order_of_the_corpus() -> None:
    codes, order = sparse(), np.random.default_rng(0).permutation(400)
    documents = np.array([f"d{i // 40:02}" for i in range(400)], dtype=object)
    mixed = harness.Codes(codes.values[order], codes.indices[order], 30)
    found = read(mixed, 30, 3, documents[order], np.arange(400)[order] % 40)
    assert np.array_equal(dense_matrix(found, 30), dense_matrix(read(codes, 30), 30))


def test_documents_change_places_whole_and_for_each_pole_by_itself() -> None:
    found = read(sparse(), 30, 3, np.arange(400) // 8)
    exchanged = found.exchanged(np.random.default_rng(0))
    assert np.array_equal(exchanged.counts, found.counts) and exchanged.lengths.tolist() == [8] * 50
    before, after = (firing.matrix.toarray().reshape(50, 8, -1) for firing in (found, exchanged))
    stayed = (before == after).all(axis=1) & before.any(axis=1)
    assert stayed.sum() < before.any(axis=1).sum() / 5
    for pole in range(before.shape[2]):
        assert sorted(before[:, :, pole].tolist()) == sorted(after[:, :, pole].tolist())
    together = np.corrcoef(after.any(axis=1).T)[np.triu_indices(before.shape[2], 1)]
    assert abs(together.mean()) < 0.05


def test_a_pole_keeps_its_part_of_a_document_of_another_length() -> None:
    lengths = np.arange(10, 50)
    documents, position = np.repeat(np.arange(40), lengths), np.concatenate([np.arange(n) / n for n in lengths])
    codes = torch.from_numpy(np.eye(4)[(position * 4).astype(int)])  # a latent for each quarter of documents
    found = read(harness.Codes(codes), 4, 2, documents)
    assert found.lengths.tolist() == lengths.tolist() and np.array_equal(found.documents, documents)
    exchanged = found.exchanged(np.random.default_rng(0))
    for quarter, (old, new) in enumerate(zip(found.counts, exchanged.counts, strict=True)):
        rows = exchanged.matrix[:, [quarter]].nonzero()[0]
        assert np.abs(position[rows] * 4 - quarter - 0.5).max() < 0.9 and 0.8 * old < new <= old


def test_those_of_like_length_are_at_least_ten() -> None:
    for lengths in (np.arange(29), np.repeat([5, 9, 7], [12, 1, 3]), np.repeat([3, 4], [1, 30]), np.array([4, 2])):
        classes = firing._alike(lengths)
        assert np.bincount(classes).min() >= min(firing.ALIKE, len(lengths))
        assert all(len(set(classes[lengths == length])) == 1 for length in lengths)
        assert (np.diff(classes[np.argsort(lengths)]) >= 0).all()
    assert np.bincount(firing._alike(np.arange(29))).tolist() == [10, 19]


def test_of_one_document_pieces_change_places() -> None:
    found = read(sparse(), 30)
    exchanged = found.exchanged(np.random.default_rng(0))
    before, after = (firing.matrix.toarray().reshape(20, 20, -1) for firing in (found, exchanged))
    assert not np.array_equal(before, after)
    assert np.array_equal(np.sort(before.sum(axis=1), axis=0), np.sort(after.sum(axis=1), axis=0))


def test_poles_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    found = read(sparse(), 30, 3, np.arange(400) // 8)
    whole = found.exchanged(np.random.default_rng(0)).matrix.toarray()
    monkeypatch.setattr(firing, "_MOST_DRAWN", 150)
    assert np.array_equal(found.exchanged(np.random.default_rng(0)).matrix.toarray(), whole)


def test_what_is_left_of_documents_has_their_lengths() -> None:
    found = read(sparse(), 30, 3, np.arange(400) // 100)
    assert found.on(np.arange(400) % 400 >= 130).lengths.tolist() == [70, 100, 100]
