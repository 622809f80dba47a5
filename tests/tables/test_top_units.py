"""The best units, chosen on one half of the windows and shown by the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from harness.planning.cells import Cell
from harness.tables.interpretability import FIT, SCORER
from harness.tables.top_units import HalvedUnit, _line, _score, _units, choose, halves

N_UNITS, N_WINDOWS = 600, 40


def verdicts(quality: np.ndarray, seed: int = 0) -> list[dict[str, Any]]:
    """Verdicts on 20 active and 20 silent windows of each unit, of documents of one to four windows."""
    generator, rows = np.random.default_rng(seed), list[dict[str, Any]]()
    for latent, own in enumerate(quality):
        documents = generator.integers(0, 25, N_WINDOWS)
        for window in range(N_WINDOWS):
            label = window < N_WINDOWS // 2
            score = float(generator.normal() + own * label)
            of_window = {"window": window, "document": str(documents[window]), "label": label, "says": score > 0}
            rows.append({"latent": latent, "sign": 1, "score": score, **of_window})
    return rows


def test_of_noise_the_best_look_good_only_where_they_were_chosen() -> None:
    units = _units(verdicts(np.zeros(N_UNITS)))
    chosen = choose(units, 20)
    assert len(units) > 0.95 * N_UNITS
    assert np.mean([unit.choosing for unit in chosen]) > 0.75
    assert np.mean([unit.fresh for unit in chosen]) == pytest.approx(0.5, abs=0.06)  # 2 standard errors of 20 units


def test_the_fresh_half_is_unbiased_where_units_differ() -> None:
    """Other windows of the same units have the same mean; the choosing half's is above it, and so is that of both."""
    quality = np.random.default_rng(1).normal(0.5, 0.4, N_UNITS)
    chosen = choose(_units(verdicts(quality)), 30)
    again = {unit.latent: unit.fresh for unit in _units(verdicts(quality, seed=5))}
    other = np.mean([again[unit.latent] for unit in chosen if unit.latent in again])
    fresh, choosing = (np.mean([vars(unit)[half] for unit in chosen]) for half in ("fresh", "choosing"))
    assert fresh == pytest.approx(other, abs=0.05)
    assert choosing > fresh + 0.1 and fresh > 0.7
    assert [unit.choosing for unit in chosen] == sorted((unit.choosing for unit in chosen), reverse=True)


def test_no_document_is_in_both_halves_and_each_has_both_labels() -> None:
    for latent in range(50):
        own = [row for row in verdicts(np.zeros(50)) if row["latent"] == latent]
        first, second = halves(own)
        assert len(first) + len(second) == N_WINDOWS
        assert not {row["document"] for row in first} & {row["document"] for row in second}
        assert all({row["label"] for row in half} == {True, False} for half in (first, second))


def test_a_score_is_the_auroc_of_scores_or_the_share_that_is_right() -> None:
    own = verdicts(np.ones(1))
    own[3]["score"] = own[30]["score"]  # a tie
    labels, scores = [row["label"] for row in own], [row["score"] for row in own]
    assert _score(own, by_score=True) == pytest.approx(roc_auc_score(labels, scores))
    said = [{**row, "score": None, "says": None if i == 0 else row["says"]} for i, row in enumerate(own)]
    assert _score(said, by_score=False) == np.mean([row["says"] == row["label"] for row in own[1:]])
    assert _score([row for row in own if row["label"]], by_score=True) is None
    assert _score([{**row, "score": None, "says": None} for row in own], by_score=False) is None


def test_both_halves_show_the_same_score() -> None:
    """One window without a score makes both of its unit's halves shares of right answers, whichever it is in."""
    own = verdicts(np.ones(1))
    for lacking in (own[0], next(row for row in own if row["document"] != own[0]["document"] and row["label"])):
        mixed = [{**row, "score": None} if row is lacking else row for row in own]
        (unit,) = _units(mixed)
        shares = [np.mean([row["says"] == row["label"] for row in half]) for half in halves(own)]
        assert [unit.choosing, unit.fresh] == pytest.approx(shares)


def test_a_line_shows_the_fresh_half_of_the_chosen() -> None:
    generator = np.random.default_rng(0)
    units = [HalvedUnit(i, 1, *generator.random(2).tolist()) for i in range(50)]
    cell = Cell("scoring", "key", "label", "group", {}, dict.fromkeys((*FIT, "seed", *SCORER), "x"))
    line = _line(cell, units, 10)
    best = sorted(units, key=lambda unit: -unit.choosing)[:10]
    fresh = [unit.fresh for unit in best]
    assert line["value"] == pytest.approx(np.mean(fresh)) and line["units"] == [vars(unit) for unit in best]
    interval = scipy.stats.t.interval(0.95, 9, np.mean(fresh), scipy.stats.sem(fresh))
    assert (line["low"], line["high"]) == pytest.approx(interval)
    assert line["choosing_half"] > line["value"] + 0.2 and (line["n_top"], line["n_units"]) == (10, 50)
    assert line["all_units"] == pytest.approx(np.mean([unit.fresh for unit in units]))
    assert _line(cell, units[:1], 10)["low"] is None
