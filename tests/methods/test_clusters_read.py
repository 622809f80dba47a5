"""Clusters are understood better than random groups of their size, where there is something to understand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch

import harness
from harness.latents.cards import CardMaker, latent_of
from harness.latents.groups import read_latents
from harness.latents.sampling import stratify
from harness.latents.windows import cut
from tests.support.texts import CPU, Fixed, numbered, rows_of

N_TOPICS, OF_TOPIC, N_WORDS, N_DOCUMENTS, N_TOKENS = 12, 6, 40, 240, 97


def corpus() -> tuple[dict[str, str], np.ndarray]:
    """Documents on one topic each, a fifth of their words its own, and the topic of each row's word (-1 for none)."""
    generator = np.random.default_rng(0)
    topics = generator.integers(N_TOPICS, size=N_DOCUMENTS)
    is_own = generator.random((N_DOCUMENTS, N_TOKENS)) < 0.2
    word = generator.integers(N_WORDS, size=is_own.shape)
    common = generator.integers(300, size=is_own.shape)
    texts = {}
    for number, topic in enumerate(topics):
        words = [
            f"t{topic}w{own}" if is_topical else f"c{other}"
            for is_topical, own, other in zip(is_own[number], word[number], common[number], strict=True)
        ]
        texts[f"{number:04}"] = " ".join(words)
    return texts, np.where(is_own, topics[:, None], -1)[:, 1:].ravel()  # the first token of a document is no row


def codes(topic_of_row: np.ndarray) -> torch.Tensor:
    """Six latents of each topic, each of which fires on a quarter of its words, whichever these are."""
    generator = np.random.default_rng(1)
    topics = np.repeat(np.arange(N_TOPICS), OF_TOPIC)
    fires = (topic_of_row[:, None] == topics) & (generator.random((len(topic_of_row), len(topics))) < 0.25)
    return torch.from_numpy(fires * generator.uniform(0.5, 1.5, fires.shape)).float()


def scores(groups: harness.Decomposition, texts: dict[str, str]) -> dict[int, float]:
    """The `token_lookup` AUROC of each group that can be shown."""
    rows = rows_of(texts)
    masked = torch.zeros(len(rows), dtype=torch.bool)
    activations = read_latents(groups, numbered(len(rows), masked), masked, CPU)
    windows = cut(rows, texts)
    strata = stratify(activations, windows, signed=False)
    maker = CardMaker(groups, activations, windows, masked.numpy(), strata, lambda _: [], lambda _: {}, 0)
    lookup, found = harness.create("scorer", "token_lookup"), {}
    for card in maker.make({(pole.index, pole.sign): pole.weight for pole in strata.draw(100, 0)}):
        (row,) = (row for row in lookup.reduce(latent_of(card), [], []) if row.metric == "auroc")
        found[card["index"]] = row.value
    return found


@pytest.mark.slow
def test_clusters_of_topics_are_above_their_null_and_null_groups_are_not() -> None:
    texts, topics = corpus()
    own = codes(topics)
    base = Fixed(harness.Codes(own), own.shape[1], signed=False)
    x = torch.arange(len(own), dtype=torch.float32)[:, None].repeat(1, 2)

    def fit(name: str, of: harness.Decomposition, seed: int = 0) -> harness.Decomposition:
        return harness.fit(harness.create("method", name, of="base"), x, rows_of(texts), seed, base=of)

    clusters = fit("clusters", base)
    null, another = (scores(fit("random_groups", clusters, seed), texts) for seed in (1, 2))
    real = scores(clusters, texts)
    assert len(real) == N_TOPICS
    assert (
        scipy.stats.ttest_ind(list(real.values()), list(null.values()), equal_var=False).confidence_interval().low > 0
    )
    chance = scipy.stats.ttest_ind(list(another.values()), list(null.values()), equal_var=False).confidence_interval()
    assert chance.low < 0 < chance.high
    assert np.mean(list(null.values())) > 0.6  # so that without the null any group would look readable
