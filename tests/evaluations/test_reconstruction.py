"""The evaluation `reconstruction` against formulas written out in numpy, and against what it must not be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import harness
from harness.plugins.evaluations.reconstruction import sum_repeats
from tests.support.declared import assert_declared

METRICS = {
    "explained_variance": True,
    "explained_variance_per_token_legacy": True,
    "cosine_error": False,
    "mse": False,
    "l2_ratio": None,
    "relative_reconstruction_bias": None,
    "l0": None,
    "l1": None,
    "density": None,
    "alive_fraction": True,
    "explained_variance_unmasked": True,
    "masked_row_share": None,
    "masked_variance_share": None,
}


class Predictor(harness.Decomposition):
    """Answers every row with `answer(row)`; has dense codes, by default none."""

    def __init__(self, answer, encode=None, n_latents=0):
        self.answer = answer
        self.n_latents = n_latents
        self.to_codes = encode or (lambda x: harness.Codes(x[:, :0]))

    def encode(self, x):
        self.x = x
        return self.to_codes(x)

    def decode(self, codes):
        return self.answer(self.x)


def evaluate(decomposition, x, masked=None) -> dict[str, harness.TableRow]:
    context = x if isinstance(x, harness.EvaluationContext) else harness.context_of(x, masked)
    rows = harness.create("evaluation", "reconstruction").evaluate(decomposition, context)
    assert_declared("reconstruction", rows)
    assert [row.metric for row in rows] == list(METRICS)
    for row in rows:
        assert row.higher_is_better is METRICS[row.metric]
        assert (row.value is None) == (row.reason is not None)
        assert row.value is None or math.isfinite(row.value)
    return {row.metric: row for row in rows}


def values(*args) -> dict[str, float | None]:
    return {name: row.value for name, row in evaluate(*args).items()}


def rows(n=300, d=12, seed=0) -> torch.Tensor:
    """Two rogue dimensions with a large mean, and norms with a heavy tail."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) * torch.rand(n, 1, generator=generator).add(0.2).pow(-2)
    x[:, :2] += torch.tensor([30.0, -20.0])
    return x


def expected(x, decoded, codes, masked) -> dict[str, float]:
    """The docstring's formulas, row by row where that says more."""
    x, decoded, codes, masked = (np.asarray(part, dtype=np.float64) for part in (x, decoded, codes, masked))
    kept = masked == 0
    everything = x
    total = ((everything - everything.mean(axis=0)) ** 2).sum(axis=1)
    unmasked = 1 - ((everything - decoded) ** 2).sum() / total.sum()
    x, decoded, codes = x[kept], decoded[kept], codes[kept]
    error, variance = ((x - decoded) ** 2).sum(axis=1), ((x - x.mean(axis=0)) ** 2).sum(axis=1)
    norm, decoded_norm = np.linalg.norm(x, axis=1), np.linalg.norm(decoded, axis=1)
    dots = np.einsum("nd,nd->n", x, decoded)
    return {
        "explained_variance": 1 - error.sum() / variance.sum(),
        "explained_variance_per_token_legacy": np.mean(1 - error / variance),
        "cosine_error": np.mean(1 - dots / (norm * decoded_norm)),
        "mse": np.mean((x - decoded) ** 2),
        "l2_ratio": np.mean(decoded_norm / norm),
        "relative_reconstruction_bias": np.mean(decoded_norm**2) / np.mean(dots),
        "l0": np.mean([np.count_nonzero(row) for row in codes]),
        "l1": np.mean([np.abs(row).sum() for row in codes]),
        "density": np.mean(codes != 0),
        "alive_fraction": np.mean([np.any(column != 0) for column in codes.T]),
        "explained_variance_unmasked": unmasked,
        "masked_row_share": np.mean(~kept),
        "masked_variance_share": total[~kept].sum() / total.sum(),
    }


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(3, 60),
    d=st.integers(1, 8),
    m=st.integers(1, 12),
    k=st.integers(1, 5),
    offset=st.sampled_from([0.0, 3000.0]),
    seed=st.integers(0, 10_000),
)
def test_equals_the_formulas(n, d, m, k, offset, seed):
    """Sparse signed codes with repeats, some of which cancel; some rows masked; blocks of unequal length."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator) + offset
    decoded = x + 0.3 * torch.randn(n, d, generator=generator)
    sign = torch.tensor([-1.0, 0.0, 1.0])
    code_values = sign[torch.randint(3, (n, k), generator=generator)]
    indices = torch.randint(m, (n, k), generator=generator)
    masked = torch.rand(n, generator=generator) < 0.2
    masked[:2] = False
    cut = int(torch.randint(n, (1,), generator=generator))

    def blocks():
        for part in (slice(0, cut), slice(cut, n)):
            table.part = part
            yield x[part], masked[part]

    class Table(harness.Decomposition):
        n_latents = m

        def encode(self, _):
            return harness.Codes(code_values[self.part], indices[self.part])

        def decode(self, _):
            return decoded[self.part]

    table = Table()
    context = harness.EvaluationContext(n_rows=n, width=d, blocks=blocks, documents=torch.arange(n) // 7)
    found = values(table, context)
    dense = harness.Codes(code_values, indices, m).to_dense()
    assert found == pytest.approx(expected(x, decoded, dense, masked), rel=1e-6, abs=1e-9)
    for name, row in evaluate(table, context).items():
        over_all = name.startswith("masked") or name == "explained_variance_unmasked"
        assert row.n == (n if over_all else int((~masked).sum()))


def test_sums_of_documents_make_up_the_metrics_and_are_each_document_s_own():
    x = rows()
    numbers = torch.arange(len(x)) // 9
    masked = torch.arange(len(x)) % 11 == 4
    masked[:9] = True
    decomposition = harness.fit(harness.create("method", "pca", n_components=4), x)
    context = harness.context_of(x, masked, numbers)
    found = {name: row for name, row in evaluate(decomposition, context).items() if row.documents is not None}
    assert set(found) == {"explained_variance", "cosine_error", "l0"}
    for row in found.values():
        assert sum(row.documents.numerator) / sum(row.documents.denominator) == pytest.approx(row.value, rel=1e-12)
        assert len(row.documents.numerator) == int(numbers.max()) + 1
        assert (row.documents.numerator[0], row.documents.denominator[0]) == (0, 0)
    decoded = decomposition.decode(decomposition.encode(x)).double()
    mean = x[~masked].double().mean(dim=0)
    own = ~masked & (numbers == 3)
    variance = (x[own] - mean).square().sum()
    error = (x[own] - decoded[own]).square().sum()
    sums = found["explained_variance"].documents
    assert (sums.numerator[3], sums.denominator[3]) == pytest.approx((float(variance - error), float(variance)))


def test_explained_variance_is_r2():
    metrics = pytest.importorskip("sklearn.metrics")
    x = rows()
    decomposition = harness.fit(harness.create("method", "pca", n_components=4), x)
    decoded = decomposition.decode(decomposition.encode(x))
    r2 = metrics.r2_score(x.double(), decoded.double(), multioutput="variance_weighted")
    assert values(decomposition, x)["explained_variance"] == pytest.approx(r2, abs=1e-9)


def test_predicting_the_mean_explains_nothing():
    x, masked = rows(), torch.arange(300) < 20
    kept_mean, mean = x[~masked].double().mean(dim=0), x.double().mean(dim=0)
    found = values(Predictor(lambda x: kept_mean.expand(len(x), -1)), x, masked)
    assert found["explained_variance"] == pytest.approx(0, abs=1e-12)
    assert found["explained_variance_per_token_legacy"] == pytest.approx(0, abs=1e-12)
    assert values(Predictor(lambda x: mean.expand(len(x), -1)), x, masked)["explained_variance_unmasked"] == (
        pytest.approx(0, abs=1e-12)
    )


def test_published_variants_would_fail():
    """Explained variance as other libraries have it gives the mean predictor far more than 0 on these rows."""
    x = rows().double().numpy()
    d = x.shape[1]
    error, square = ((x - x.mean(axis=0)) ** 2).sum(axis=1).mean(), (x**2).sum(axis=1).mean()
    # Variant C: the square of the mean is taken of ‖x‖² where the mean of the rows is meant.
    buggy = 1 - error / (square - (square / d) ** 2)
    one_scalar = 1 - ((x - x.mean(axis=0)) ** 2).mean() / ((x - x.mean()) ** 2).mean()
    uncentred = 1 - error / square
    assert min(buggy, one_scalar, uncentred) > 0.5


def test_a_constant_bias_is_not_forgiven():
    """Variances of the residual would forgive it."""
    x = rows()
    found = values(Predictor(lambda x: x + 5.0), x)
    variance = ((x - x.mean(dim=0)) ** 2).sum() / len(x)
    assert found["explained_variance"] == pytest.approx(1 - 25 * 12 / variance.item(), rel=1e-5)
    assert found["mse"] == pytest.approx(25, rel=1e-5)


def test_predicting_zero():
    x = rows()
    found = evaluate(Predictor(torch.zeros_like), x)
    assert found["explained_variance"].value < 0
    assert found["l2_ratio"].value == 0
    assert found["cosine_error"].reason == "300 of 300 reconstructions without norm"
    assert "no component" in found["relative_reconstruction_bias"].reason
    assert found["l0"].value == found["l1"].value == 0
    assert found["density"].reason == found["alive_fraction"].reason == "there are no latents"


def test_rows_of_norm_zero():
    x = rows()
    x[7] = 0
    found = evaluate(Predictor(lambda x: x + 1), x)
    assert found["cosine_error"].reason == found["l2_ratio"].reason == "1 of 300 rows without norm"
    assert found["explained_variance"].value is not None


def test_shrinkage():
    found = values(Predictor(lambda x: 0.8 * x), rows())
    assert found["relative_reconstruction_bias"] == pytest.approx(0.8, rel=1e-6)
    assert found["l2_ratio"] == pytest.approx(0.8, rel=1e-6)
    assert found["cosine_error"] == pytest.approx(0, abs=1e-7)


def test_rows_that_do_not_vary():
    x = torch.full((50, 3), 2.3, dtype=torch.float64)  # a mean by sum and quotient is not 2.3
    x[0] = 7.0
    masked = torch.arange(50) < 1
    found = evaluate(Predictor(lambda x: x + 1), x, masked)
    assert found["explained_variance"].reason == "the rows do not vary"
    assert found["explained_variance_per_token_legacy"].reason == "49 of 49 rows without variance"
    assert found["explained_variance_unmasked"].value is not None
    assert found["masked_variance_share"].value == pytest.approx(0.98, rel=1e-6)


def test_no_rows_left():
    found = evaluate(Predictor(lambda x: x), rows(5), torch.ones(5, dtype=torch.bool))
    for name, row in found.items():
        if row.n == 0:
            assert row.reason == "no unmasked rows", name
    assert found["masked_row_share"].value == 1
    assert {row.reason for row in evaluate(Predictor(lambda x: x), rows(0)).values()} == {
        "no rows",
        "no unmasked rows",
    }


def test_a_mean_of_3000_costs_no_digits():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 6, generator=generator) + 3000
    found = values(Predictor(lambda x: x + 0.5), x)
    x64 = x.double()
    exact = 1 - 0.25 * 6 * len(x) / ((x64 - x64.mean(dim=0)) ** 2).sum().item()
    assert found["explained_variance"] == pytest.approx(exact, rel=1e-4)


def test_signed_dense_codes_count_by_size():
    codes = torch.tensor([[1.0, -2.0, 0.0, 0.0], [0.0, -3.0, 0.0, 0.0]])
    x = rows(2)
    found = values(Predictor(lambda x: x, lambda x: harness.Codes(codes), n_latents=4), x)
    assert (found["l0"], found["l1"], found["density"], found["alive_fraction"]) == (1.5, 3.0, 0.375, 0.5)


def test_latents_of_masked_rows_are_not_alive():
    x = rows(4)
    predictor = Predictor(lambda x: x, lambda x: harness.Codes(torch.ones(4, 1), torch.arange(4)[:, None]), 4)
    assert values(predictor, x, torch.tensor([True, False, False, True]))["alive_fraction"] == 0.5


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_sum_repeats(seed, k, m):
    generator = torch.Generator().manual_seed(seed)
    code_values = torch.randint(-2, 3, (10, k), generator=generator).float()
    indices = torch.randint(m, (10, k), generator=generator)
    summed, latents = sum_repeats(code_values, indices)
    dense = harness.Codes(code_values, indices, m).to_dense()
    assert torch.equal(harness.Codes(summed, latents, m).to_dense(), dense)
    assert torch.equal((summed != 0).sum(dim=1), (dense != 0).sum(dim=1))


def test_many_latents_need_no_dense_codes():
    """[2000, 10 million] would be 80 GB."""
    x, m = rows(2000), 10_000_000
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(m, (2000, 8), generator=generator)
    predictor = Predictor(lambda x: x, lambda x: harness.Codes(torch.ones(2000, 8), indices), m)
    assert values(predictor, x)["alive_fraction"] == len(indices.unique()) / m


def test_methods_may_write_into_what_they_get():
    x = rows()
    before = x.clone()
    decomposition = Predictor(lambda x: x.zero_())
    assert values(decomposition, x)["explained_variance"] < 0
    assert torch.equal(x, before)


@pytest.mark.parametrize(
    ("decomposition", "message"),
    [
        (Predictor(lambda x: x[:, :3]), r"Predictor.decode returned shape \(9, 3\) for rows of shape \(9, 12\)"),
        (Predictor(lambda x: x.index_fill(0, torch.tensor([1, 4]), math.nan)), "decode .* NaN or infinite .* 2 of 9"),
        (Predictor(lambda x: x, lambda x: harness.Codes(x[:, :3]), 4), r"encode .* \(9, 3\).* 4 latents"),
        (Predictor(lambda x: x, lambda x: harness.Codes(x[:5, :4]), 4), r"encode .* \(5, 4\).* 9 rows"),
        (Predictor(lambda x: x, lambda x: harness.Codes(x[:, :4] / 0), 4), "encode .* NaN or infinite codes in 9 of 9"),
        (
            Predictor(lambda x: x, lambda x: harness.Codes(x[:, :1], torch.arange(9)[:, None]), 8),
            "encode .* outside the 8 latents in 1 of 9",
        ),
    ],
)
def test_broken_methods_are_named(decomposition, message):
    with pytest.raises(harness.PluginError, match=message):
        evaluate(decomposition, rows(9))


def test_broken_rows_are_not_the_methods_fault():
    x = rows(9)
    x[3, 3] = math.nan
    with pytest.raises(harness.ConfigError, match="evaluation rows"):
        evaluate(Predictor(lambda x: x), x)


def test_every_method_at_hand():
    x = rows()
    for name, params in {
        "identity": {},
        "mean": {},
        "pca": {"n_components": 4, "k": 2},
        "itda": {"k": 4, "max_atoms": 300},
        "random_dictionary": {"n_latents": 20, "k": 3},
    }.items():
        decomposition = harness.fit(harness.create("method", name, **params), x)
        codes = decomposition.encode(x)
        dense = codes.to_dense(decomposition.n_latents)
        found = values(decomposition, x)
        wanted = expected(x, decomposition.decode(codes), dense, torch.zeros(300)) if dense.shape[1] else {}
        assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-6, abs=1e-7), name


def test_masked_rows_that_are_not_finite_cost_only_the_metrics_over_all_rows() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    masked = torch.zeros(50, dtype=torch.bool)
    masked[[3, 7]] = True
    whole = {row.metric: row for row in _evaluate(x[~masked])}
    x[3], x[7, 1] = math.nan, math.inf
    broken = {row.metric: row for row in _evaluate(x, masked)}
    for name in ("explained_variance", "cosine_error", "mse", "l0"):
        assert broken[name].value == whole[name].value and broken[name].n == 48
    for name in ("explained_variance_unmasked", "masked_variance_share"):
        assert broken[name].value is None and "2 of 50 rows" in str(broken[name].reason)
    assert broken["masked_row_share"].value == 2 / 50
    with pytest.raises(harness.ConfigError, match="unmasked evaluation rows hold NaN"):
        _evaluate(x)


def _evaluate(x: torch.Tensor, masked: torch.Tensor | None = None) -> list[harness.TableRow]:
    decomposition = harness.fit(harness.create("method", "pca", n_components=2), torch.eye(4) + 1)
    rows: list[harness.TableRow] = harness.create("evaluation", "reconstruction").evaluate(
        decomposition, harness.context_of(x, masked)
    )
    return rows


def test_codes_are_counted_as_they_were_encoded():
    """A decoder that writes into codes changes no count of them."""

    class InPlace(Predictor):
        def decode(self, codes):
            codes.values.zero_()
            return super().decode(codes)

    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    found = evaluate(InPlace(lambda x: x / 2, lambda x: harness.Codes(x.clone()), 4), x)
    assert (found["l0"].value, found["alive_fraction"].value) == (4, 1)
    assert found["l2_ratio"].value == pytest.approx(0.5)
