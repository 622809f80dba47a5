"""Which poles are drawn, and which windows show them."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.contracts.latent import NEAR, LatentWindow
from harness.latents import sampling
from harness.latents.activations import LatentActivations, Pole
from harness.latents.negatives import Near
from harness.latents.sampling import Examples, Strata, stratify
from harness.latents.windows import Windows, cut
from tests.support.texts import Fixed, read_dense, rows_of


@functools.cache
def _windows() -> Windows:
    texts = {f"d{i}": " ".join(f"w{j}" for j in range(65)) for i in range(300)}
    return cut(rows_of(texts, context=1000), texts)


@functools.cache
def _activations() -> LatentActivations:
    """A dead latent, one that fires in five windows, one that is never silent, and others of rising density."""
    n = len(_windows().tokens)
    generator = torch.Generator().manual_seed(0)
    codes = torch.zeros(n, 23)
    codes[::4000, 1] = 1.0
    codes[::16, 2] = -1.0
    codes[::200, 2] = -2.0
    for i in range(3, 23):
        codes[:, i] = torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) < 0.0004 * i)
    return read_dense(codes)


def test_every_pole_has_its_stratum() -> None:
    strata = stratify(_activations(), _windows(), signed=True)
    assert strata.of(0, 1) == strata.of(0, -1) == "dead"
    assert strata.of(1, 1) == "rare" and strata.of(2, -1) == "no_contrast" and strata.of(3, -1) == "dead"
    assert [strata.of(i, 1) for i in range(3, 23)] == [f"density_{1 + i // 5}" for i in range(20)]
    of_density = {f"density_{i}": 5 for i in range(1, 5)}
    assert strata.counts == {"total": 46, "dead": 24, "rare": 1, "no_contrast": 1, **of_density}
    assert strata.latent_counts == {"total": 23, "dead": 1, "rare": 1, "no_contrast": 1, **of_density}
    unsigned = stratify(_activations(), _windows(), signed=False).counts
    assert unsigned["total"] == 23 and unsigned["dead"] == 2  # what only the other pole does is not seen


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 5))
def test_draws_are_even_and_weights_add_up(n_poles: int, n_usable: int, seed: int) -> None:
    numbers = np.ones((50, 1), dtype=int)
    for i, members in enumerate(np.array_split(np.arange(n_usable), sampling.N_STRATA)):
        numbers[members] = i + 3
    strata = Strata((*sampling.UNSHOWN, "density_1", "density_2", "density_3", "density_4"), numbers)
    poles = strata.draw(n_poles, seed)
    assert len(poles) == len({pole.index for pole in poles}) == min(n_poles, n_usable)
    assert all(strata.of(pole.index, pole.sign) == pole.stratum for pole in poles)
    counts = Counter(pole.stratum for pole in poles)
    if n_poles >= sampling.N_STRATA:
        assert sum(pole.weight for pole in poles) == pytest.approx(n_usable)
        assert max(counts.values(), default=0) - min(counts.values(), default=0) <= 1
    assert {(p.index, p.sign) for p in poles} <= {(p.index, p.sign) for p in strata.draw(n_poles + 8, seed)}


def test_draws_depend_on_the_seed_and_are_unbiased() -> None:
    strata = stratify(_activations(), _windows(), signed=True)
    drawn = Counter(pole.index for seed in range(400) for pole in strata.draw(8, seed))
    assert set(drawn) == set(range(3, 23))
    assert all(400 * 2 / 5 * 0.7 < n < 400 * 2 / 5 * 1.3 for n in drawn.values())


@functools.cache
def _near() -> Near:
    """Without a dictionary, so by co-firing."""
    decomposition = Fixed(harness.Codes(torch.zeros(1, 23)), 23)
    return Near(decomposition, _activations(), _windows())


def sample(pole: Pole, seed: int = 0) -> Examples:
    return sampling.sample(_windows(), pole, seed, _near())


def _windows_of(shown: tuple[LatentWindow, ...], name: str) -> list[LatentWindow]:
    return [window for window in shown if window.sample == name]


@pytest.mark.parametrize("index", range(3, 23))
def test_examples(index: int) -> None:
    pole = _activations().pole(index, 1)
    examples = sample(pole)
    documents = [{window.document for window in half} for half in (examples.explain, examples.test)]
    assert not documents[0] & documents[1]
    for half in (examples.explain, examples.test):
        keys = [(window.document, window.tokens, window.sample if window.sample in NEAR else "") for window in half]
        assert len(keys) == len(set(keys))
        for window in half:
            assert (
                window.is_active
                == (max(window.activations) > pole.threshold)
                == (window.sample not in ("silent", *NEAR))
            )
            assert window.is_active or max(window.activations) <= pole.ceiling
    n_active = {name: len(_windows_of(examples.explain, name)) for name in ("top", "quantile", "random")}
    assert n_active["top"] == 5 and n_active["quantile"] <= 10 and n_active["random"] <= 5
    assert n_active["random"] == 0 or n_active["quantile"] == 10
    assert len(_windows_of(examples.explain, "silent")) == len(_windows_of(examples.test, "silent")) == 20
    assert 5 <= len(_windows_of(examples.test, "quantile")) <= 20
    top = [max(window.activations) for window in _windows_of(examples.explain, "top")]
    others = [max(w.activations) for w in examples.explain if w.sample in ("quantile", "random")]
    assert top == sorted(top, reverse=True) and min(top) >= max(others, default=0)


@pytest.mark.parametrize(
    ("index", "seed", "digest"),
    [(5, 0, "3eb6feb12b4d7108"), (12, 3, "31071f2e40e4a6f8"), (22, 7, "5230021ce52507e3")],
)
def test_hard_windows_leave_the_other_draws_as_they_were(index: int, seed: int, digest: str) -> None:
    """As drawn before there were any: scores of old are scores of now."""
    examples = sample(_activations().pole(index, 1), seed)
    windows = [w for half in (examples.explain, examples.test) for w in half if w.sample not in NEAR]
    text = repr([(window.document, window.tokens[0], window.sample) for window in windows])
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_quantiles_span_all_peaks() -> None:
    pole = _activations().pole(22, 1)
    peaks = np.array([max(window.activations) for window in _windows_of(sample(pole).test, "quantile")])
    assert len(peaks) == 20 and (np.diff(peaks) <= 0).all()
    # The peaks of its windows are about uniform: so are those shown.
    assert np.abs(peaks - (1 - (np.arange(20) + 0.5) / 20)).max() < 0.15


def test_examples_depend_on_the_pole_and_the_seed_alone() -> None:
    pole = _activations().pole(20, 1)
    assert sample(pole, 3) == sample(pole, 3) != sample(pole, 4)
    few = read_dense(torch.zeros(len(_windows().tokens), 21).index_copy_(1, torch.tensor([20]), _dense(20)))
    assert sample(few.pole(20, 1), 3) == sample(pole, 3)


def _dense(index: int) -> torch.Tensor:
    pole = _activations().pole(index, 1)
    column = torch.zeros(len(_windows().tokens), 1)
    column[pole.rows, 0] = torch.from_numpy(pole.values)
    return column


@pytest.mark.parametrize("explain", [True, False])
def test_what_shows_in_one_half_only_is_rare(explain: bool) -> None:
    windows = _windows()
    codes = torch.zeros(len(windows.tokens), 1)
    codes[windows.first_rows[windows.is_explain == explain][:40]] = 1.0
    assert stratify(read_dense(codes), windows, signed=False).of(0, 1) == "rare"
