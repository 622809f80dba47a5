"""The evaluation `sparse_probing` on planted labels, against scikit-learn's scores, and on labels that mean nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score
from torch import Tensor

import harness
from harness.plugins.evaluations import SparseProbingConfig, sparse_probing
from tests.support.declared import assert_declared

ROWS = 3
"""Rows of each document."""


class Sparse(harness.Decomposition):
    """Latent i is channel i, as sparse codes in two halves of which the first are on offer twice."""

    def __init__(self, width: int) -> None:
        self.n_latents = width

    def encode(self, x: Tensor) -> harness.Codes:
        indices = torch.arange(self.n_latents).expand(len(x), -1)
        return harness.Codes(torch.cat([x / 2, x / 2], dim=1), torch.cat([indices, indices], dim=1), self.n_latents)

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.to_dense()


def topics(n: int, values: str = "abc") -> list[dict[str, str]]:
    return [{"topic": values[i % len(values)]} for i in range(n)]


def rows(n_documents: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x = torch.randn(n_documents * ROWS, width, generator=torch.Generator().manual_seed(seed))
    return x, torch.arange(n_documents * ROWS) // ROWS


def evaluate(
    x: Tensor, documents: Tensor, labels: Sequence[dict[str, str]], masked: Tensor | None = None, **params: object
) -> dict[str, harness.TableRow]:
    context = harness.context_of(x, masked, documents, labels)
    evaluation = harness.create("evaluation", "sparse_probing", **params)
    found = evaluation.evaluate(Sparse(x.shape[1]), context)
    assert_declared("sparse_probing", found)
    assert all((row.value is None) == (row.reason is not None) for row in found)
    return {row.metric: row for row in found}


def values(*args: object, **params: object) -> dict[str, float | None]:
    return {name: row.value for name, row in evaluate(*args, **params).items()}  # type: ignore[arg-type]


def test_a_latent_that_marks_the_label_is_found() -> None:
    x, documents = rows(120, 40)
    labels = [{"topic": "law" if i % 3 else "cookery"} for i in range(120)]
    x[documents % 3 == 0, 17] += 50
    found = values(x, documents, labels, ks=[1, 2])
    assert found["auc_latents_1"] == found["accuracy_latents_1"] == found["f1_latents_1"] == 1
    # All of 12 test documents on cookery are right: that is no more than Clopper and Pearson allow.
    low = pytest.approx(0.025 ** (1 / 12))
    assert (found["auc_latents_1_low"], found["auc_latents_1_high"], found["tasks"]) == (low, 1, 1)
    for score in sparse_probing.SCORES:
        assert found[f"{score}_latents_2"] == pytest.approx(found[f"{score}_channels_2"])  # these latents are channels


def test_labels_that_mean_nothing_give_chance_and_a_selection_on_the_test_documents_does_not() -> None:
    """The best of 600 latents of noise is far from chance on the documents that it was chosen on."""
    x, documents = rows(100, 600)
    labels = topics(100, "ab")
    found = values(x, documents, labels, ks=[1])
    for score in ("accuracy", "auc"):
        assert found[f"{score}_latents_1_low"] < 0.5 < found[f"{score}_latents_1_high"]
    (task,) = sparse_probing.find_tasks(labels, np.ones(100, bool), SparseProbingConfig())
    means = x.view(100, ROWS, -1).mean(dim=1).double().numpy()
    honest = sparse_probing._scores(task, sparse_probing._odds(task, means, 1))
    assert honest[0, 2] == pytest.approx(found["auc_latents_1"])
    wrong = sparse_probing._scores(task, sparse_probing._odds(task._replace(train=task.test), means, 1))
    assert np.quantile(wrong[1:, 2], 0.025) > 0.6


def test_scores_are_those_of_scikit_learn_on_weighted_documents() -> None:
    labels = topics(90, "aab")
    (task,) = sparse_probing.find_tasks(labels, np.ones(90, bool), SparseProbingConfig())
    has_label = task.has_label[task.test]
    odds = np.random.default_rng(0).normal(size=len(task.test)).round(1) + has_label  # with ties
    found = sparse_probing._scores(task, odds)
    assert len(found) == 1 + sparse_probing.N_REPLICATES
    for i in (0, 1, 500):
        weight = task.drawn[i] / np.where(has_label, task.drawn[i][has_label].sum(), task.drawn[i][~has_label].sum())
        options = {"sample_weight": weight}
        expected = (
            balanced_accuracy_score(has_label, odds > 0, **options),
            f1_score(has_label, odds > 0, **options),
            roc_auc_score(has_label, odds, **options),
        )
        assert found[i] == pytest.approx(expected, abs=1e-12)
    assert found[1:].std(axis=0).min() > 0.02


def test_splits_are_by_label_and_no_document_is_on_both_sides() -> None:
    labels: list[dict[str, str]] = [{"topic": "abc"[i % 3], "tone": "xy"[i % 2]} for i in range(100)]
    labels += [{"tone": "x"}, {}] * 20
    has_rows = np.arange(140) != 5
    tasks = list(sparse_probing.find_tasks(labels, has_rows, SparseProbingConfig(test_share=0.25)))
    assert len(tasks) == 3 + 1  # the tone has two values, and so is one question
    for number, task in enumerate(tasks):
        both = np.concatenate([task.train, task.test])
        assert len(set(both)) == len(both) and 5 not in both
        name = "topic" if number else "tone"
        assert set(both) == {i for i, own in enumerate(labels) if name in own and i != 5}
        for part, share in ((task.train, 0.75), (task.test, 0.25)):
            assert task.has_label[part].sum() == pytest.approx(share * task.has_label[both].sum(), abs=1)
        assert (task.drawn[:, task.has_label[task.test]].sum(axis=1) == task.has_label[task.test].sum()).all()
    alone = list(sparse_probing.find_tasks([own | {"new": "z"} for own in labels], has_rows, SparseProbingConfig()))
    with_it = list(sparse_probing.find_tasks(labels, has_rows, SparseProbingConfig()))
    assert all(np.array_equal(one.test, other.test) for one, other in zip(alone, with_it, strict=True))


def test_masked_rows_do_not_count() -> None:
    x, documents = rows(90, 8)
    masked = torch.arange(len(x)) % ROWS == 1
    masked[:ROWS] = True  # nothing is left of the first document
    clean = values(x, documents, topics(90), masked, ks=[1, 3], min_documents=20)
    x[masked] = 1e6
    assert values(x, documents, topics(90), masked, ks=[1, 3], min_documents=20) == clean


def test_the_same_numbers_again_and_for_the_next_decomposition() -> None:
    x, documents = rows(100, 6)
    context = harness.context_of(x, None, documents, topics(100))
    evaluation = harness.create("evaluation", "sparse_probing", ks=[2])
    first, second = (evaluation.evaluate(Sparse(6), context) for _ in range(2))
    assert first == second and len(first) == 1 + 3 * 3 * 3
    other = evaluation.evaluate(harness.fit(harness.create("method", "pca", n_components=2), x), context)
    assert other != first and other[10:] == first[10:]  # channels


def test_without_a_value() -> None:
    x, documents = rows(100, 3)
    found = evaluate(x, documents, topics(100), ks=[1, 16])
    assert found["auc_latents_16"].reason == "there are 3 latents"
    assert found["f1_channels_16_low"].reason == "there are 3 channels"
    assert found["auc_all_channels"].value is not None and found["auc_latents_1"].value is not None
    for labels in ([{}] * 100, topics(100, "a"), topics(100, "abcdefgh")):
        with pytest.raises(harness.Undefined, match="no label that 30 evaluation documents have and as many lack"):
            evaluate(x, documents, labels)
    with pytest.raises(harness.Undefined, match="no labels"):
        harness.create("evaluation", "sparse_probing").evaluate(Sparse(3), harness.context_of(x))
    for params, message in (
        ({"ks": []}, "ks is"),
        ({"ks": [0]}, "ks is"),
        ({"test_share": 1.0}, "test_share is"),
        ({"min_documents": 5}, "min_documents is 5"),
    ):
        with pytest.raises(harness.ConfigError, match=message):
            harness.create("evaluation", "sparse_probing", **params)


def test_labels_of_texts_that_give_no_rows_are_left_out() -> None:
    model = harness.create("model", "random_weights", n_layers=1, width=8, n_heads=2)
    texts, labels = ["law is law", "x", "broth", "court"], [{"topic": name} for name in "abca"]
    context = harness.evaluation_context(model, texts, "resid_post.0", labels=labels)
    assert context.n_documents == 3
    assert context.labels is not None and context.labels() == [{"topic": "a"}, {"topic": "c"}, {"topic": "a"}]
    assert harness.evaluation_context(model, texts, "resid_post.0").labels is None
    with pytest.raises(harness.ConfigError, match="3 labels for 4 texts"):
        harness.evaluation_context(model, texts, "resid_post.0", labels=labels[:3])


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_loud_channel_is_not_taken_for_one_that_tells(scale: float) -> None:
    x, documents = rows(150, 4, seed=3)
    x[:, 1] = 0.05 * x[:, 1] + 0.3 * (documents % 2)
    x[:, 3] *= scale
    x[:, 0] = 0.1  # constant, so that means differ by rounding alone: no reason to choose it
    found = values(x, documents, topics(150, "pn"), ks=[1])
    assert found["auc_channels_1"] == found["auc_latents_1"] == 1


def test_each_question_is_asked_once() -> None:
    """Labels p and n ask one question; so do label names that divide the documents alike, whatever they call it."""
    labels = [{"pair": "pn"[i % 2], "odd": ("no", "yes")[i % 2], "topic": "abc"[i // 2 % 3]} for i in range(180)]
    tasks = list(sparse_probing.find_tasks(labels, np.ones(180, bool), SparseProbingConfig()))
    assert len(tasks) == 1 + 3
    assert np.flatnonzero(tasks[0].has_label).tolist() == list(range(1, 180, 2))  # of two values the last: yes
    some: list[dict[str, str]] = [own if i % 3 else {"odd": own["odd"]} for i, own in enumerate(labels)]
    tasks = list(sparse_probing.find_tasks(some, np.ones(180, bool), SparseProbingConfig(min_documents=20)))
    assert len(tasks) == 2 + 3  # of other documents it is another question
    x, documents = rows(180, 3, seed=3)
    x *= 0.2
    x[torch.arange(len(x)), documents // 2 % 3] += 3
    found = values(x, documents, labels, ks=[1])
    assert found["tasks"] == 4 and found["auc_latents_1"] == pytest.approx((3 + 0.5) / 4, abs=0.06)
