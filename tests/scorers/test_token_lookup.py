"""The n-gram table against its definition, and the floor it makes."""

from __future__ import annotations

import dataclasses

import pytest

import harness
from harness.plugins.scorers.ngrams import SHRINKAGE, NGrams


def _window(text: str, *activations: float) -> harness.LatentWindow:
    tokens = tuple(text.replace(" ", "| ").split("|"))
    padded = (*activations, *[0.0] * (len(tokens) - len(activations)))
    return harness.LatentWindow("d", tokens, padded, any(activations), "random" if any(activations) else "silent")


def test_the_mean_is_shrunk_towards_silence() -> None:
    table = NGrams([_window("a b c", 3, 0, 1), _window("a b", 1, 0)])
    assert table.mean(("a",)) == (3 + 1) / (2 + SHRINKAGE)
    assert table.mean(("a", " b")) == 0
    assert table.mean((" b", " c")) == table.mean(("a", " b", " c")) == 1 / (1 + SHRINKAGE)


def test_the_longest_ngram_that_was_seen_decides() -> None:
    """`of` is active after `such` only; what precedes a known n-gram does not matter."""
    table = NGrams([_window("not such of it", 0, 0, 4), _window("a part of it"), _window("a part of it")])
    trigram = 4 / (1 + SHRINKAGE)
    assert table.score(_window("it is not such of")) == trigram
    assert table.score(_window("rather such of")) == trigram  # by the bigram
    assert table.score(_window("a part of it")) == 0
    assert table.score(_window("full of it")) == 4 / (3 + SHRINKAGE)  # by the token


def test_ngrams_stay_within_a_window_and_tokens_are_compared_as_they_are() -> None:
    table = NGrams([_window("x a", 0, 2), _window("b c")])
    assert (" a", "b") not in table.best(99)
    assert table.score(_window("a")) == 0  # without the space it is another token
    assert table.score(_window("x A")) == 0


def test_the_best_are_those_that_predict_the_largest_activations() -> None:
    table = NGrams([_window("a b c", 1, 2, 0), _window("z b", 0, 2), _window("a", 1)])
    assert table.best(9) == [(" b",), ("a", " b"), ("z", " b"), ("a",)]  # of 1.6, 1.3, 1.3 and .8
    assert table.best(1) == [(" b",)]
    assert NGrams([_window("a b c")]).best(3) == []


def _latent(explain: list[harness.LatentWindow], test: list[harness.LatentWindow]) -> harness.Latent:
    return harness.Latent(0, 1, 0.0, tuple(explain), tuple(test))


def test_a_token_is_found_and_another_latents_table_is_the_control() -> None:
    silent, active = [_window(f"w{i} x y") for i in range(6)], [_window(f"v{i} u t", 0, 3) for i in range(6)]
    latent = _latent(active + silent, active[:5] + silent[:5])
    other = _latent([_window(f"w{i} x y", 0, 1) for i in range(6)], active)
    latent = dataclasses.replace(latent, other=other)
    scorer = harness.create("scorer", "token_lookup")
    rows = {row.metric: row for row in scorer.reduce(latent, scorer.plan(latent), [])}
    assert rows[scorer.metric].value == rows["balanced_accuracy"].value == 1
    assert rows["auroc_random_explanation"].value == 0
    assert rows["auroc"].n == 10


@pytest.mark.parametrize("kept", [slice(4, 12), slice(0, 10)])
def test_few_windows_are_no_measurement(kept: slice) -> None:
    windows = [*[_window("a b", 1)] * 6, *[_window("c d")] * 6]
    scorer = harness.create("scorer", "token_lookup")
    for latent in (_latent(windows, windows[kept]), _latent(windows[kept], windows)):
        with pytest.raises(harness.Undefined, match=r"[24] (active|silent) (test|explain) windows, fewer than 5"):
            scorer.reduce(latent, [], [])


def test_without_another_latent_there_is_no_control() -> None:
    windows = [*[_window("a b", 1)] * 6, *[_window("c d")] * 6]
    rows = harness.create("scorer", "token_lookup").reduce(_latent(windows, windows), [], [])
    (control,) = [row for row in rows if row.metric == "auroc_random_explanation"]
    assert control.value is None and control.reason == "there is no other latent with an explanation"
