"""The board `scales` tells a trend where there is one, and that it can't be told where it can't."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import yaml

import harness
from harness.planning.keys import canonical_json
from harness.planning.resolver import resolve
from harness.planning.suite import Suite
from harness.registry.plugin_manager import load_catalog
from harness.tables.scales import RULES, SIZES, UNTOLD, _Cells, scale_values, scales
from harness.tables.tidy import COLUMNS, INTERP_COLUMNS
from harness.views.scales import scales_views

_WIDTHS = (16, 32, 64, 128)


def _suite(
    widths: tuple[int, ...] = _WIDTHS, seeds: tuple[int, ...] = (0, 1), twins: bool = True, **changes: Any
) -> Suite:
    def entry(width: int, seed: int, family: str, **more: Any) -> dict[str, Any]:
        own = {"width": width, "n_layers": 1, "n_heads": 2, "seed": seed + (100 if more else 0)}
        return {"model": "random_weights", "label": f"{family}-{width}-{seed}", "family": family, **own, **more}

    models = [entry(width, seed, "grown") for width in widths for seed in seeds]
    if twins:
        models += [entry(width, seed, "fresh", control_of="grown") for width in widths for seed in seeds]
    raw = {
        "name": "ladder",
        "models": models,
        "sites": ["resid_post.0"],
        "corpus": {"corpus": "synthetic"},
        "methods": ["mean"],
        "tokens": {"fit": 1000, "evaluation": 500, "interp": 500},
    }
    return resolve(raw | changes, load_catalog(), lambda group, name: pytest.fail(f"{group} {name}"))


def _values(suite: Suite, slope: float, of_ratio: float = 0.0, noise: float = 0.02, fresh: float = 0.0) -> pd.DataFrame:
    """Values that rise by a slope over ln(parameters), and in trained models by another with latents a dimension."""
    draw, rows = np.random.default_rng(0), []
    for model in suite.models:
        assert model.shape is not None
        width, size = model.shape["width"], np.log(model.shape["n_parameters"])
        own = slope if model.family == "grown" else fresh
        for m in sorted({256, 4 * width}):
            for seed in (0, 1):
                by_ratio = of_ratio * np.log(m / width) * (model.family == "grown")
                value = own * size + by_ratio + noise * draw.normal()
                config = f'{{"k": 8, "n_latents": {m}}}'
                rows.append([model.label, "sae", config, "auroc", seed, value])
    return pd.DataFrame(rows, columns=["model", "method", "method_config", "metric", "seed", "value"])


def test_a_trend_beyond_that_of_untrained_twins_is_told() -> None:
    suite = _suite()
    board = scales(suite, _values(suite, 0.1))
    assert board["rule"].tolist() == ["equal m", "equal m/d"] and board["size"].tolist() == [256, 4]
    assert (board["verdict"] == "trend, up").all() and board["reason"].isna().all()
    assert (board["family"] == "grown").all() and (board["n_sizes"] == 4).all() and (board["n_seeds"] == 4).all()
    for name, value in (("slope", 0.1), ("difference", 0.1)):
        assert ((board[f"{name}_low"] < value) & (value < board[f"{name}_high"])).all()
    (view,) = scales_views(_Results(board))
    assert [row[7].value for row in view.rows] == ["trend, up"] * 2 and view.rows[0][2].value == "equal m 256"


class _Results:
    def __init__(self, board: pd.DataFrame) -> None:
        self.scales = board


def test_slopes_are_those_of_least_squares() -> None:
    suite = _suite()
    values = _values(suite, 0.1, noise=0.3)
    board = scales(suite, values)
    own = values[values["method_config"].str.contains("256") & values["model"].str.startswith("grown")]
    means = own.groupby("model")["value"].mean()
    sizes = {model.label: np.log((model.shape or {})["n_parameters"]) for model in suite.models}
    expected = np.polyfit([sizes[str(label)] for label in means.index], means, 1)[0]
    assert board["slope"].iloc[0] == pytest.approx(expected, rel=1e-9)


def test_intervals_are_those_of_least_squares() -> None:
    """As numpy has the variance, and scipy Welch's degrees of freedom, with other numbers of twins than of models."""
    generator = np.random.default_rng(0)
    sizes, twin_sizes = np.repeat([100, 200, 400, 800], 2), np.array([100, 200, 400, 800, 800])
    means, twin_means = (generator.normal(size=len(own)) for own in (sizes, twin_sizes))
    own, twin = (_Cells(at, list(of[:, None])).slope() for at, of in ((sizes, means), (twin_sizes, twin_means)))
    for slope, at, of in ((own, sizes, means), (twin, twin_sizes, twin_means)):
        (value, _), covariance = np.polyfit(np.log(at), of, 1, cov=True)
        expected = scipy.stats.t.interval(0.95, len(at) - 2, value, covariance[0, 0] ** 0.5)
        assert slope.value == pytest.approx(value) and slope.interval() == pytest.approx(expected)
    a, b = own.variance, twin.variance
    between = own.less(twin)
    assert between.n_free == pytest.approx((a + b) ** 2 / (a**2 / 6 + b**2 / 3))
    expected = scipy.stats.t.interval(0.95, between.n_free, own.value - twin.value, (a + b) ** 0.5)
    assert between.interval() == pytest.approx(expected)
    assert _Cells(sizes[1:3], list(means[1:3, None])).slope().interval() is None


@pytest.mark.parametrize("n_models", [4, 8])
def test_of_models_without_a_trend_one_in_twenty_has_an_interval_without_0(n_models: int) -> None:
    """Models and their two seeds differ by luck alone. With normal quantiles of four models one in five would have."""
    generator, sizes = np.random.default_rng(0), 100 * 2 ** np.arange(n_models)
    values = generator.normal(size=(1000, n_models, 1)) + generator.normal(size=(1000, n_models, 2))
    ends = np.array([_Cells(sizes, list(own)).slope().interval() for own in values])
    assert np.mean((ends[:, 0] > 0) | (ends[:, 1] < 0)) == pytest.approx(0.05, abs=0.014)  # 2 standard errors


@pytest.mark.parametrize(
    ("widths", "seeds", "slope", "more", "reason"),
    [
        (_WIDTHS[:3], (0, 1), 0.1, {}, "3 sizes, of 4"),
        (_WIDTHS, (0, 1), 0.1, {"fresh": 0.1}, "what training adds to the slope may be 0"),
        (_WIDTHS, (0, 1), 0.0, {"noise": 0.2}, "its slope may be 0"),
        (_WIDTHS, (0, 1), 0.02, {"of_ratio": 0.2}, "the two rules disagree about the sign"),
    ],
)
def test_what_can_not_be_told_says_why(
    widths: tuple[int, ...], seeds: tuple[int, ...], slope: float, more: dict[str, float], reason: str
) -> None:
    suite = _suite(widths, seeds)
    board = scales(suite, _values(suite, slope, **more))
    assert (board["verdict"] == UNTOLD).all() and board["reason"].str.contains(reason).all()


def test_twins_and_seeds_are_needed() -> None:
    suite = _suite(twins=False)
    board = scales(suite, _values(suite, 0.1))
    assert (board["verdict"] == UNTOLD).all() and board["reason"].str.contains("no untrained twin at 4 of 4").all()
    suite = _suite(seeds=(0,))
    values = _values(suite, 0.1).query("seed == 0")
    assert scales(suite, values)["reason"].str.contains("one model and seed at some size").all()


def test_a_family_has_one_control() -> None:
    """A suite with untrained twins of two kinds is refused, as boards would silently take one of them."""
    changes = [{"n_features": 16 * n, "label": f"x{n}"} for n in (1, 2, 3)]
    twins = [{"control_of": "made", "family": family} for family in ("fresh", "shuffled")]
    with pytest.raises(harness.errors.ConfigError, match=r"fresh, shuffled are all control_of made; name one\."):
        _ladder([changes[0], changes[1] | twins[0], changes[2] | twins[1]])
    assert _ladder([changes[0], changes[1] | twins[0], changes[2] | twins[0]]).models[2].control_of == "made"


def test_a_method_without_a_size_has_no_equal_ratio() -> None:
    suite = _suite()
    values = _values(suite, 0.1).query("method_config.str.contains('256')").assign(method_config='{"k": 8}')
    board = scales(suite, values)
    assert board["reason"].str.contains("equal m/d: 1 sizes, of 4").all() and board["size"].isna().all()


def _with(values: pd.DataFrame, parameter: str, settings: list[Any]) -> pd.DataFrame:
    """Values of one dictionary size, the same with each setting of a parameter."""
    one = values[values["method_config"].str.contains("256")]
    configs = [{"n_latents": 256, parameter: setting} for setting in settings]
    return pd.concat([one.assign(method_config=json.dumps(config)) for config in configs], ignore_index=True)


@pytest.mark.parametrize(
    ("parameter", "settings"),
    [
        ("k", [4, None]),
        ("k", [8, 512]),
        ("passes", [1, 1000]),
        ("batch_rows", [256, 4096]),
        ("n_components", [8, None]),
    ],
)
def test_only_the_number_of_latents_is_a_size(parameter: str, settings: list[Any]) -> None:
    """Settings of another parameter have lines of their own, all at the size that they share."""
    suite = _suite()
    board = scales(suite, _with(_values(suite, 0.1), parameter, settings))
    found = [json.loads(config)[parameter] for config in board["method_config"]]
    assert found == [setting for setting in settings for _ in RULES]
    assert (board.query("rule == 'equal m'")["size"] == 256).all()
    assert board["reason"].str.contains("equal m/d: 1 sizes, of 4").all()


def test_sizes_that_some_entries_leave_open_are_not_known() -> None:
    suite = _suite()
    board = scales(suite, _with(_values(suite, 0.1), "n_latents", [64, None]))
    assert board["size"].isna().all() and board["method_config"].nunique() == 2


def test_sizes_are_those_of_estimates() -> None:
    costs = yaml.safe_load((files("harness.conf") / "estimates" / "costs.yaml").read_text(encoding="utf-8"))
    assert costs["sizes"]["latents"]["parameters"] == list(SIZES)


def test_families_of_one_size_have_no_lines() -> None:
    suite = _suite(widths=(32,))
    assert scales(suite, _values(suite, 0.1)).empty


def test_more_features_than_dimensions_are_found_less_well() -> None:
    """A ladder of 1, 2, 4 and 8 features a dimension, and one of 4 numbers of rows."""
    rows = []
    for ratio in (1, 2, 4, 8):
        model = harness.create("model", "superposition", n_features=16 * ratio, width=16, n_rows=700, l0=2.0)
        captured = model.stored_capture(["resid_post.0"])
        x = captured.x["resid_post.0"]
        context = harness.context_of(x, truth=model.truth(captured.rows))
        for seed in (0, 1):
            learner = harness.create("method", "kmeans", n_latents=64, k=2, centre=False)
            found = harness.create("evaluation", "ground_truth").evaluate(harness.fit(learner, x, seed=seed), context)
            value = next(row.value for row in found if row.metric == "best_cosine")
            rows.append([f"x{ratio}", "kmeans", '{"n_latents": 64}', "best_cosine", seed, value])
    values = pd.DataFrame(rows, columns=["model", "method", "method_config", "metric", "seed", "value"])
    suite = _ladder([{"n_features": 16 * ratio, "label": f"x{ratio}"} for ratio in (1, 2, 4, 8)])
    board = scales(suite, values)
    assert (board["slope"] < 0).all() and (board["slope_high"] < 0).all() and (board["n_sizes"] == 4).all()
    more_rows = _ladder([{"n_rows": 1000 * ratio, "label": f"x{ratio}"} for ratio in (1, 2, 4, 8)])
    assert scales(more_rows, values).empty


def _ladder(changes: list[dict[str, Any]]) -> Suite:
    entry = {"model": "superposition", "family": "made", "width": 16, "n_features": 32}
    raw = {
        "name": "ladder",
        "models": [entry | change for change in changes],
        "sites": ["resid_post.0"],
        "methods": ["mean"],
        "tokens": {"fit": 100, "evaluation": 50},
    }
    return resolve(raw, load_catalog(), lambda group, name: pytest.fail(f"{group} {name}"))


def test_lifts_and_scores_are_never_mixed() -> None:
    """Units without a floor are left out where others have one; a scorer that has none at all keeps its scores."""
    scorers = ["token_lookup", "embedding_intruder", {"scorer": "embedding_intruder", "negatives": "near_text"}]
    suite = _suite((16, 32), scorers=scorers, encoder={"model": "random_weights"})
    by_label = {scorer.label: canonical_json(dict(scorer.params)) for scorer in suite.scorers}
    floor, far, near = by_label
    rows = [
        {"scorer": name, "scorer_config": by_label[label], "model": model, "latent": latent, "value": value}
        for model in ("grown-16-0", "grown-32-0")
        for label, name, latent, value in (
            *((floor, "token_lookup", 0, 0.6), (floor, "token_lookup", 1, None if model == "grown-16-0" else 0.7)),
            *(
                (far, "embedding_intruder", 0, 0.8),
                (far, "embedding_intruder", 1, 0.9),
                (near, "embedding_intruder", 0, 0.5),
            ),
        )
    ]
    same = {"method": "sae", "method_config": "{}", "fit_tokens": 1000, "seed": 0, "metric": "auroc", "sign": 1}
    same |= {"weight": 1.0, "chance": 0.5, "lowest": 0.0, "highest": 1.0}
    table = pd.DataFrame([same | row for row in rows], columns=[*COLUMNS, *INTERP_COLUMNS])
    found = scale_values({"interp": table}, suite, ["token_lookup"]).set_index(["metric", "model"])["value"]
    assert found.xs("embedding_intruder auroc less floor").to_dict() == pytest.approx(
        {"grown-16-0": 0.2, "grown-32-0": 0.2}
    )
    assert found.xs(f"{near} auroc").to_dict() == {"grown-16-0": 0.5, "grown-32-0": 0.5}
    assert found.xs(f"{floor} auroc").to_dict() == pytest.approx({"grown-16-0": 0.6, "grown-32-0": 0.65})
