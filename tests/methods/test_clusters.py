"""Clusters of latents, their null, and meta-SAEs, on latents of which it is known what belongs together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import harness

N, N_TOPICS, OF_TOPIC, N_LONE = 6000, 6, 5, 60
M = N_TOPICS * OF_TOPIC + N_LONE


class Coordinates(harness.Decomposition):
    """Row i is its own codes; directions of one topic are alike."""

    signed = False

    def __init__(self, dictionary: torch.Tensor) -> None:
        self.dictionary = dictionary
        self.n_latents = len(dictionary)

    def encode(self, x: torch.Tensor) -> harness.Codes:
        return harness.Codes(x)

    def decode(self, codes: harness.Codes) -> torch.Tensor:
        return codes.values @ self.dictionary


def rows(in_topics: bool = True) -> torch.Tensor:
    """Codes of 30 latents of 6 topics, which come in bursts, and of 60 others that fire in bursts of their own."""
    generator = np.random.default_rng(0)

    def bursts(n: int, share: float) -> np.ndarray:
        begins = generator.random((N // 20, n)) < share
        return np.repeat(begins, 20, axis=0)

    topics = np.repeat(bursts(N_TOPICS, 0.1), OF_TOPIC, axis=1)
    own = bursts(N_TOPICS * OF_TOPIC, 0.1)
    of_topics = (topics if in_topics else own) & (generator.random((N, N_TOPICS * OF_TOPIC)) < 0.4)
    lone = bursts(N_LONE, 0.1) & (generator.random((N, N_LONE)) < 0.4)
    fires = np.concatenate([of_topics, lone], axis=1)
    return torch.from_numpy(fires * generator.uniform(0.5, 1.5, fires.shape)).float()


@pytest.fixture(scope="module")
def base() -> Iterator[Coordinates]:
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(N_TOPICS, 1, 40, generator=generator).expand(-1, OF_TOPIC, -1).reshape(-1, 40)
    alike = shared + 0.3 * torch.randn(len(shared), 40, generator=generator)
    yield Coordinates(torch.cat([alike, torch.randn(N_LONE, 40, generator=generator)]))


def fit(
    base: harness.Decomposition, name: str = "clusters", x: torch.Tensor | None = None, seed: int = 0, **params: Any
) -> Any:
    learner = harness.create("method", name, of="base", **params)
    return harness.fit(learner, rows() if x is None else x, seed=seed, base=base)


def latents(groups: harness.GroupedDecomposition) -> list[set[int]]:
    return [{member.latent for member in groups.members(group)} for group in range(groups.n_latents)]


TOPICS = [set(range(i, i + OF_TOPIC)) for i in range(0, N_TOPICS * OF_TOPIC, OF_TOPIC)]


@pytest.mark.parametrize("by", ["cofiring", "cosine"])
def test_planted_topics_are_found_and_nothing_else(base: Coordinates, by: str) -> None:
    found = fit(base, by=by)
    assert latents(found) == TOPICS
    peaks = rows().max(dim=0).values
    for group in range(N_TOPICS):
        for member in found.members(group):
            assert member.peak == pytest.approx(float(peaks[member.latent])) and 0.2 < member.weight < 1


def test_bursts_alone_make_no_clusters(base: Coordinates) -> None:
    """Against rows drawn anew for each latent they would: bursts that overlap by chance make pairs alike."""
    with pytest.raises(harness.Undefined, match="no three latents of base are more alike than chance"):
        fit(base, x=rows(in_topics=False))


def test_a_number_of_groups_may_be_asked_for(base: Coordinates) -> None:
    assert latents(fit(base, at=N_TOPICS + N_LONE)) == TOPICS
    assert max(map(len, latents(fit(base, at=2)))) > OF_TOPIC
    x = rows()
    x[:, 1:] = 0
    x[::2, 1] = x[::2, 0] + 1
    x[1::2, 0] = 0
    x[1::4, 2] = 1  # it fires with neither of the others
    with pytest.raises(harness.Undefined, match="2 groups of base have nothing in common; at is 1: give more"):
        fit(base, x=x, at=1)


def test_they_depend_on_the_corpus_and_not_on_the_order_of_rows(base: Coordinates) -> None:
    x = rows()
    identities = harness.make_rows(
        {"document": np.arange(N) // 100, "window": np.zeros(N, int), "position": np.arange(N) % 100}
    )
    order = np.random.default_rng(0).permutation(N)
    learner = harness.create("method", "clusters", of="base")
    mixed = harness.fit(learner, x[order], identities.iloc[order], base=base)
    in_order = harness.fit(harness.create("method", "clusters", of="base"), x, identities, base=base)
    assert all(torch.equal(mixed.state()[0][name], own) for name, own in in_order.state()[0].items())


def test_random_groups_are_as_large_and_fire_as_often_and_are_others(base: Coordinates) -> None:
    clusters = fit(base)
    random = fit(clusters, "random_groups")
    assert [len(group) for group in latents(random)] == [len(group) for group in latents(clusters)]
    assert random.base is base
    members = [member for group in latents(random) for member in group]
    assert len(set(members)) == len(members)  # each in one group, as before
    kept = [len(own & other) for own, other in zip(latents(random), latents(clusters), strict=True)]
    assert sum(kept) < len(members) / 3
    counts = (rows() > 0).sum(dim=0)
    own, other = (counts[sorted(set.union(*latents(groups)))].double() for groups in (random, clusters))
    assert abs(float(own.mean() / other.mean()) - 1) < 0.1


def test_the_most_frequent_latents_change_places_too() -> None:
    """65 latents: a block of 64 and one of a single latent would leave that where it is."""
    x = (torch.arange(4000)[:, None] % (90 - torch.arange(65)) == 0).float()  # the last fires most
    base = Coordinates(torch.eye(65))
    triple = harness.GroupedDecomposition(base, [[harness.Member(i, 1, 1.0, 1.0) for i in (62, 63, 64)]])
    kept = [64 in latents(fit(triple, "random_groups", x, seed=seed))[0] for seed in range(8)]
    assert sum(kept) < 4


def test_random_groups_need_groups(base: Coordinates) -> None:
    with pytest.raises(harness.Undefined, match="base has no groups; let `of` name one that has"):
        fit(base, "random_groups")


def test_cosines_need_directions() -> None:
    nothing = Coordinates(torch.zeros(M, 1))
    nothing.dictionary = None  # type: ignore[assignment]
    for name, params in (("clusters", {"by": "cosine"}), ("meta_sae", {"n_latents": 4})):
        with pytest.raises(harness.Undefined, match="base has no dictionary"):
            fit(nothing, name, **params)


def test_a_meta_sae_groups_directions_by_what_they_are_made_of() -> None:
    """Each direction is the sum of two of eight parts, of random size."""
    generator = torch.Generator().manual_seed(0)
    parts = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0][:8]
    pairs = torch.combinations(torch.arange(8)).repeat(20, 1)
    sizes = 0.5 + torch.rand(len(pairs), 2, 1, generator=generator)
    directions = (sizes * parts[pairs]).sum(dim=1)
    x = (torch.rand(400, len(pairs), generator=generator) - 0.9).relu()
    found = fit(Coordinates(directions), "meta_sae", x, n_latents=8, k=2, passes=20)
    wanted = [set((pairs == part).any(dim=1).nonzero().flatten().tolist()) for part in range(8)]
    best = [max(len(own & other) / len(own | other) for other in wanted) for own in latents(found)]
    assert min(best) > 0.9
    member = found.members(0)[0]
    assert member.peak == float(x[:, member.latent].max())
