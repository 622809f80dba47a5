"""When latents fire, in the order of the corpus, and the null of shifted firing."""

from __future__ import annotations

import numpy as np
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


def test_shifting_keeps_how_often_and_in_what_bursts_each_fires() -> None:
    found = read(sparse(), 30)
    shifted = found.shifted(np.random.default_rng(0))
    assert np.array_equal(shifted.counts, found.counts)
    before, after = found.matrix.toarray(), shifted.matrix.toarray()
    by = []
    for old, new in zip(before.T, after.T, strict=True):
        by.append({shift for shift in range(1, 400) if np.array_equal(np.roll(old, shift), new)})
    assert all(by) and len(set.union(*by)) > 30  # each by a number of its own
