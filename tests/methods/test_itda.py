from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.capturing.activations import Stream, TensorActivations
from harness.contracts.rows import bare_rows
from harness.fitting.together import fit_together
from tests.support import literal


def fit(x: torch.Tensor, rows: pd.DataFrame | None = None, **params: Any) -> harness.Decomposition:
    """A fit of rows as they are, whose cap may be hit early; what warnings say has tests of their own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="itda: the (dictionary was full|mean of the rows)")
        return harness.fit(harness.create("method", "itda", **({"centre": False} | params)), x, rows)


def places(decomposition: harness.Decomposition) -> list[int]:
    assert decomposition.atoms is not None
    return decomposition.atoms["position"].tolist()


def explained(decomposition: harness.Decomposition, x: torch.Tensor) -> float:
    left = x - decomposition.decode(decomposition.encode(x))
    return 1 - float(left.square().sum() / (x - x.mean(dim=0)).square().sum())


# Rows of float32 are judged one by one by what is compiled, those of float64 all at once by torch.
DTYPES = (torch.float32, torch.float64)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("k", "max_atoms", "threshold", "batch_rows"),
    [(4, 1000, 0.02, 64), (3, 60, 0.02, 100), (8, 1000, 0.005, 512), (2, 1000, 0.05, 1)],
)
def test_equals_judging_one_by_one(seed: int, k: int, max_atoms: int, threshold: float, batch_rows: int) -> None:
    x = literal.mixture(300 if batch_rows > 1 else 90, d=16, seed=seed).float().double()
    x[0] = 0
    x[40] = x[39]
    expected = literal.itda(x, k, max_atoms, threshold, batch_rows)
    for dtype in DTYPES:
        found = fit(x.to(dtype), k=k, max_atoms=max_atoms, threshold=threshold, batch_rows=batch_rows)
        assert places(found) == expected, dtype
    assert len(expected) > 15  # there was something to decide


VARIANTS = {
    "orthogonal": ({"pursuit": "orthogonal"}, literal.pursue_orthogonally),
    "non_negative": ({"non_negative": True}, literal.pursue_upwards),
}


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(("k", "threshold", "batch_rows"), [(3, 0.05, 64), (8, 0.02, 256)])
def test_a_variant_judges_by_its_own_pursuit(name: str, k: int, threshold: float, batch_rows: int) -> None:
    x = literal.mixture(256, d=16)
    x = (x - x.mean(dim=0)).float().double()  # around their mean, else all correlations are positive
    parameters, pursue = VARIANTS[name]
    expected = literal.itda(x, k, 1000, threshold, batch_rows, pursue)
    assert expected != literal.itda(x, k, 1000, threshold, batch_rows)
    for dtype in DTYPES:
        found = fit(x.to(dtype), k=k, max_atoms=1000, threshold=threshold, batch_rows=batch_rows, **parameters)
        assert places(found) == expected, dtype
        for row, codes in zip(x[:20], found.encode(x[:20]).to_dense(), strict=True):
            values, picks, _ = pursue(row, found.dictionary.double(), k)
            textbook = torch.zeros(len(expected), dtype=torch.float64)
            textbook.index_add_(0, torch.tensor(picks), torch.tensor(values, dtype=torch.float64))
            assert torch.allclose(codes, textbook, atol=1e-9)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_saved_with_the_atoms(name: str, tmp_path: Path) -> None:
    x = literal.mixture(200).float()
    x -= x.mean(dim=0)
    decomposition = fit(x, k=6, max_atoms=60, **VARIANTS[name][0])
    decomposition.save(tmp_path)
    loaded, new = harness.load(tmp_path), literal.mixture(50, seed=1).float() - x.mean(dim=0)
    assert torch.equal(loaded.encode(new).values, decomposition.encode(new).values)
    assert loaded.signed == (name == "orthogonal")


def test_what_was_saved_before_there_were_variants_is_read(tmp_path: Path) -> None:
    x = literal.mixture(200).float()
    decomposition = fit(x, k=6, max_atoms=60)
    decomposition.save(tmp_path)
    description = json.loads((tmp_path / "decomposition.json").read_text())
    del description["config"]["orthogonal"], description["config"]["non_negative"]
    (tmp_path / "decomposition.json").write_text(json.dumps(description))
    loaded = harness.load(tmp_path)
    assert loaded.signed and torch.equal(loaded.encode(x).values, decomposition.encode(x).values)


def test_least_squares_has_any_sign() -> None:
    with pytest.raises(harness.ConfigError, match="non_negative needs pursuit matching"):
        harness.create("method", "itda", k=4, max_atoms=10, pursuit="orthogonal", non_negative=True)


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 40),
    d=st.integers(2, 8),
    k=st.integers(1, 6),
    max_atoms=st.integers(1, 30),
    threshold=st.sampled_from([0.01, 0.1, 0.2, 0.5]),
    batch_rows=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_equals_judging_one_by_one_in_small(
    n: int, d: int, k: int, max_atoms: int, threshold: float, batch_rows: int, seed: int
) -> None:
    x = torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    decomposition = fit(x, k=k, max_atoms=max_atoms, threshold=threshold, batch_rows=batch_rows)
    assert places(decomposition) == literal.itda(x, k, max_atoms, threshold, batch_rows)


def test_every_atom_is_a_row_at_unit_norm_and_its_identity_leads_back() -> None:
    x = literal.mixture(300)
    n = len(x)
    rows = harness.make_rows(
        {
            "document": [f"d{i // 50}" for i in range(n)],
            "window": [0] * n,
            "position": [i % 50 for i in range(n)],
            "start": [3 * (i % 50) for i in range(n)],
            "end": [3 * (i % 50) + 2 for i in range(n)],
        }
    )
    decomposition = fit(x, rows, k=4, max_atoms=1000, threshold=0.02)
    atoms = decomposition.atoms
    assert atoms is not None and decomposition.dictionary is not None
    assert list(atoms.columns) == ["document", "position", "start", "end"]
    source = atoms["document"].str[1:].astype(int) * 50 + atoms["position"]
    sources = x[source.tolist()]
    assert torch.allclose(decomposition.dictionary, sources / sources.norm(dim=1, keepdim=True), atol=1e-12)
    assert (atoms["end"] == 3 * atoms["position"] + 2).all()
    assert source.is_unique
    assert decomposition.n_candidates == n


def test_rotation_and_scale_leave_the_atoms() -> None:
    x = literal.mixture(600, d=24)
    rotation = torch.linalg.qr(literal.mixture(24, d=24, seed=5))[0]
    params: dict[str, Any] = {"k": 6, "max_atoms": 1000, "threshold": 0.02, "batch_rows": 128}
    atoms = places(fit(x, **params))
    assert len(atoms) > 50
    assert places(fit(2.7 * x @ rotation, **params)) == atoms
    a, b = set(places(fit(x.float(), **params))), set(places(fit((2.7 * x @ rotation).float(), **params)))
    assert len(a & b) / len(a | b) >= 0.98


def test_beats_pca_and_gaussian_directions() -> None:
    x, held_out = literal.mixture(2000), literal.mixture(500, seed=1)
    itda = fit(x, k=6, max_atoms=300, threshold=0.02)
    pca = harness.fit(harness.create("method", "pca", n_components=32, k=6), x)
    same = {"n_latents": itda.n_latents, "k": 6, "centre": False}
    gaussian = harness.create("method", "random_dictionary", source="gaussian", **same)
    assert explained(itda, held_out) > explained(pca, held_out) + 0.02
    assert explained(itda, held_out) > explained(harness.fit(gaussian, x), held_out) + 0.1


def test_a_cap_that_is_hit_early_is_a_warning() -> None:
    learner = harness.create("method", "itda", k=4, max_atoms=20, threshold=0.01, batch_rows=50)
    with pytest.warns(RuntimeWarning, match=r"full \(20 atoms\) after 50 of 300 rows.*Raise max_atoms"):
        decomposition = harness.fit(learner, literal.mixture(300))
    assert decomposition.rows_until_full == 50
    assert decomposition.n_latents == 20


def _offset(n: int, d: int = 64, seed: int = 0) -> torch.Tensor:
    """Rows of many directions around a mean that holds 90 % of their squared norm."""
    generator = torch.Generator().manual_seed(seed)
    few = torch.randn(60, d, generator=generator, dtype=torch.float64)
    weights = torch.rand(n, 60, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) ** 8
    x = weights @ few - (weights @ few).mean(dim=0)
    return x + 3 * float(x.square().sum(dim=1).mean().sqrt()) * torch.nn.functional.one_hot(torch.tensor(0), d)


def test_the_default_explains_rows_far_from_the_origin() -> None:
    """Without centring few atoms pass for an explanation, and the fit says so."""
    fit_rows, held_out = _offset(1200)[:900], _offset(1200)[900:]
    default = harness.fit(harness.create("method", "itda", k=10, max_atoms=500), fit_rows)
    learner = harness.create("method", "itda", k=10, max_atoms=500, centre=False)
    with pytest.warns(RuntimeWarning, match=r"itda: the mean of the rows holds 9\d% .*Give centre: true"):
        uncentred = harness.fit(learner, fit_rows)
    assert uncentred.n_latents < 30 < default.n_latents
    assert explained(uncentred, held_out) < 0.6 and explained(default, held_out) > 0.75
    same = harness.create("method", "random_dictionary", n_latents=default.n_latents, k=10)
    assert torch.allclose(harness.fit(same, fit_rows).mean, default.mean)  # its baseline is centred alike


def test_a_small_mean_is_no_warning() -> None:
    x = _offset(600)
    x[:, 0] /= 4
    harness.fit(harness.create("method", "itda", k=10, max_atoms=500, centre=False), x)


def test_a_cap_that_is_not_hit_is_none() -> None:
    decomposition = harness.fit(harness.create("method", "itda", k=4, max_atoms=1000), literal.mixture(100))
    assert decomposition.rows_until_full is None


def test_centring_is_all_that_differs_and_the_mean_is_added_back() -> None:
    x = literal.mixture(500) + 50
    params = {"k": 6, "max_atoms": 1000, "threshold": 0.3}
    decomposition = harness.fit(harness.create("method", "itda", **params), x)
    plain = harness.fit(harness.create("method", "itda", centre=False, **params), x - x.mean(dim=0))
    assert places(decomposition) == places(plain)
    assert torch.allclose(decomposition.mean, x.mean(dim=0), rtol=1e-12)
    sources = x[places(decomposition)] - x.mean(dim=0)
    assert torch.allclose(decomposition.dictionary, sources / sources.norm(dim=1, keepdim=True), atol=1e-9)
    assert explained(decomposition, x) > 0.7
    assert torch.allclose(decomposition.decode(decomposition.encode(x[:0])), x[:0])


def test_fed_with_others_the_result_is_bit_equal(tmp_path: Path) -> None:
    x = literal.mixture(500).float()
    params: dict[str, Any] = {"k": 4, "max_atoms": 1000, "threshold": 0.05}
    names = {
        "itda": harness.create("method", "itda", batch_rows=70, centre=False, **params),
        "centred": harness.create("method", "itda", batch_rows=128, centre=True, **params),
        "pca": harness.create("method", "pca", n_components=8),
    }
    stream = Stream(TensorActivations(x, bare_rows(len(x))), torch.arange(len(x)), seed=0, in_given_order=True)
    together = fit_together(names, stream, x.device)
    for name, batch_rows in (("itda", 70), ("centred", 128)):
        alone = fit(x, batch_rows=batch_rows, centre=name == "centred", **params)
        fed = together[name].decomposition
        assert fed is not None and torch.equal(fed.dictionary, alone.dictionary)
        pd.testing.assert_frame_equal(fed.atoms, alone.atoms)
        fed.save(tmp_path / name)
        loaded = harness.load(tmp_path / name)
        assert torch.equal(loaded.encode(x).values, alone.encode(x).values)
        assert torch.equal(loaded.decode(loaded.encode(x)), alone.decode(alone.encode(x)))
        pd.testing.assert_frame_equal(loaded.atoms, alone.atoms)
        assert loaded.rows_until_full is None


def test_batches_are_left_as_they_were() -> None:
    x = literal.mixture(200)
    before = x.clone()
    fit(x, k=4, max_atoms=50, threshold=0.02)
    assert torch.equal(x, before)


def test_only_zero_rows_is_an_error() -> None:
    with pytest.raises(harness.ConfigError, match="norm 0"):
        fit(torch.zeros(10, 4), k=2, max_atoms=5)


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"max_atoms": 0}, {"threshold": 0.0}, {"threshold": 1.5}, {"batch_rows": 0}]
)
def test_bad_values_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(harness.ConfigError, match=next(iter(wrong))):
        harness.create("method", "itda", **({"k": 4, "max_atoms": 10} | wrong))


def test_a_cap_that_cuts_within_the_first_block_is_a_warning() -> None:
    x = torch.randn(500, 16, generator=torch.Generator().manual_seed(0))
    with pytest.warns(RuntimeWarning, match="full"):
        harness.fit(harness.create("method", "itda", k=3, max_atoms=5), x)


@pytest.mark.parametrize("scale", [1e-30, 1e25])
def test_rows_of_any_scale_of_float32_give_the_same_atoms(scale: float) -> None:
    x = literal.mixture(300).float()
    plain, scaled = (harness.fit(harness.create("method", "itda", k=4, max_atoms=500), rows) for rows in (x, x * scale))
    assert len(set(places(plain)) & set(places(scaled))) >= 0.98 * len(places(plain))
    values = scaled.encode(x * scale).values
    assert torch.isfinite(values).all() and values.any()
