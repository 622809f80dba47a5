"""Hard silent windows: whose neighbours are meant, which texts are alike, and that they are silent."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

import harness
from harness.contracts.latent import NEAR, LatentWindow
from harness.latents.negatives import Near, Texts, in_turn
from harness.latents.neighbours import Neighbours
from harness.latents.sampling import N_SILENT, sample
from harness.latents.windows import Windows, cut
from tests.support.texts import Fixed, read_dense, rows_of

N_LATENTS = 8


@functools.cache
def _windows() -> Windows:
    """Zipf's words."""
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, 301)
    words = generator.choice(300, size=(200, 130), p=share / share.sum())
    texts = {f"d{i}": " ".join(f"w{j}" for j in own) for i, own in enumerate(words)}
    return cut(rows_of(texts, context=1000), texts)


@functools.cache
def _dense() -> Tensor:
    """Signed codes; the positive pole of latent 1 fires beside the negative one of latent 0 half of the time."""
    generator = torch.Generator().manual_seed(0)
    n = len(_windows().tokens)
    codes = torch.randn(n, N_LATENTS, generator=generator)
    codes *= torch.rand(n, N_LATENTS, generator=generator) < 0.015
    beside = (codes[:, 0] < 0).nonzero().flatten()[::2]
    codes[beside, 1] = codes[beside, 0].abs()
    return codes


def _near(dictionary: Tensor | None = None, signed: bool = True, dense: Tensor | None = None) -> Near:
    dense = _dense() if dense is None else dense
    decomposition = Fixed(harness.Codes(dense), dense.shape[1], signed)
    decomposition.dictionary = dictionary
    return Near(decomposition, read_dense(dense, signed=signed), _windows())


def _of(near: Near) -> Neighbours:
    return Neighbours(near.decomposition, near.activations)


ANGLES = torch.tensor([0.0, 170, 20, 90, 91, 95, 100, 60]).deg2rad()
DICTIONARY = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1) * torch.arange(1, 9)[:, None]


def test_neighbours_by_cosine_have_their_signs_right() -> None:
    near = _near(DICTIONARY)
    plus, minus = (_of(near).of(near.activations.pole(0, sign)) for sign in (1, -1))
    assert plus == [(1, -1), (2, 1), (7, 1), (6, -1)]  # those at 90, 91 and 95 degrees are no neighbours
    assert minus == [(index, -sign) for index, sign in plus]
    unsigned = _near(DICTIONARY, signed=False, dense=_dense().abs())
    assert _of(unsigned).of(unsigned.activations.pole(0, 1)) == [(2, 1), (7, 1)]


@pytest.mark.parametrize("dictionary", [None, torch.eye(N_LATENTS) + 1e-8])
def test_without_a_cosine_to_go_by_poles_that_fire_together_are_neighbours(dictionary: Tensor | None) -> None:
    """The directions of a rotation are orthogonal, so cosines are rounding."""
    near = _near(dictionary)
    for index, sign in ((0, -1), (0, 1), (3, 1)):
        pole = near.activations.pole(index, sign)
        own = set(pole.rows[pole.is_active].tolist())
        jaccard = {}
        for other in (near.activations.pole(i, s) for i in range(N_LATENTS) if i != index for s in (1, -1)):
            rows = set(other.rows[other.is_active].tolist())
            jaccard[other.index, other.sign] = len(own & rows) / len(own | rows)
        found = _of(near).of(pole)
        assert set(found) == {pole for pole, value in jaccard.items() if value}
        values = [jaccard[pole] for pole in found]
        assert values == sorted(values, reverse=True)
    assert _of(near).of(near.activations.pole(0, -1))[0] == (1, 1)


def _windows_of(near: Near, index: int, sign: int, seed: int = 0) -> dict[tuple[str, str], list[LatentWindow]]:
    examples = sample(near.windows, near.activations.pole(index, sign), seed, near)
    halves = {"explain": examples.explain, "test": examples.test}
    names = ("quantile", "silent", *NEAR)
    return {(half, name): [w for w in own if w.sample == name] for half, own in halves.items() for name in names}


@pytest.mark.parametrize("index_and_sign", [(0, 1), (0, -1), (4, 1)])
def test_hard_windows_are_silent_and_of_their_half(index_and_sign: tuple[int, int]) -> None:
    near = _near(DICTIONARY)
    found = _windows_of(near, *index_and_sign)
    pole = near.activations.pole(*index_and_sign)
    codes = pole.sign * _dense()[:, pole.index].numpy()
    windows = near.windows
    number = {
        (windows.document_of_row[a], tuple(windows.tokens[a:b])): (a, b)
        for a, b in zip(windows.first_rows, windows.ends, strict=True)
    }
    places = {key: [number[w.document, w.tokens] for w in own] for key, own in found.items()}
    for name in NEAR:
        documents = [{w.document for w in found[half, name]} for half in ("explain", "test")]
        assert not documents[0] & documents[1]
        for half in ("explain", "test"):
            assert len(set(places[half, name])) == len(found[half, name]) == N_SILENT
            assert not any(window.is_active or max(window.activations) for window in found[half, name])
            assert all(codes[a:b].max() <= pole.ceiling for a, b in places[half, name])
            others = {w.document for w in (*found[half, "quantile"], *found[half, "silent"])}
            assert not others & documents[half == "explain"]
    active = [near.activations.pole(*other) for other in _of(near).of(pole)]
    for a, b in (*places["explain", "near_latent"], *places["test", "near_latent"]):
        assert any(((p.rows[p.is_active] >= a) & (p.rows[p.is_active] < b)).any() for p in active)


def test_draws_repeat_and_depend_on_the_seed() -> None:
    near = _near(DICTIONARY)
    assert _windows_of(near, 2, 1) == _windows_of(near, 2, 1) == _windows_of(_near(DICTIONARY), 2, 1)
    drawn = [_windows_of(near, 2, 1, seed)["test", "near_latent"] for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_swapped_signs_are_swapped_poles() -> None:
    """Codes and directions with the other sign: all that is shown is the same but for the name of the pole."""
    near, swapped = _near(DICTIONARY), _near(-DICTIONARY, dense=-_dense())
    own, other = (3, 1), (3, -1)
    poles = near.activations.pole(*own), swapped.activations.pole(*other)
    assert poles[0].rows.tolist() == poles[1].rows.tolist() and poles[0].threshold == poles[1].threshold
    numbers = [
        each.pick(pole, True, np.arange(5), N_SILENT, np.random.default_rng(0))
        for each, pole in zip((near, swapped), poles, strict=True)
    ]
    assert all(numbers[0][name].tolist() == numbers[1][name].tolist() for name in NEAR)


def test_a_latent_whose_neighbours_are_never_alone_has_no_such_windows() -> None:
    dense = _dense()[:, :1].repeat(1, 2)
    near = _near(torch.ones(2, 3), dense=dense)
    found = _windows_of(near, 0, 1)
    assert not found["test", "near_latent"] and len(found["test", "near_text"]) == N_SILENT


def test_likeness_is_that_of_scikit_learn() -> None:
    windows = _windows()
    documents = [windows.tokens[a:b] for a, b in zip(windows.first_rows, windows.ends, strict=True)]
    expected = TfidfVectorizer(analyzer=lambda tokens: [token.strip().casefold() for token in tokens])
    matrix = expected.fit_transform(documents).toarray()
    texts = Texts(windows)
    for number in (0, 17, len(windows) - 1):
        np.testing.assert_allclose(texts.likeness(number), matrix @ matrix[number], atol=1e-12)
    among = np.arange(5, 300, 7)
    (nearest,) = texts.nearest(np.array([17]), among, 4)
    assert nearest.tolist() == among[np.argsort(-(matrix[among] @ matrix[17]))[:4]].tolist()


def test_each_picks_its_best_that_is_left() -> None:
    assert in_turn([[1, 2, 3], [1, 3, 4], [1]], 9).tolist() == [1, 3, 2, 4]
    assert in_turn([[1, 2, 3], [1, 3, 4]], 3).tolist() == [1, 3, 2]
    assert in_turn([], 3).tolist() == in_turn([[], []], 3).tolist() == []


def test_where_nothing_is_active_there_are_no_neighbours() -> None:
    activations = read_dense(torch.zeros(50, 2))
    neighbours = Neighbours(Fixed(harness.Codes(torch.zeros(50, 2)), 2), activations)
    assert neighbours.of(activations.pole(0, 1)) == []
