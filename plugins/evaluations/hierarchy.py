"""Evaluation `hierarchy`: which latents of a decomposition belong together, and under which others, beyond chance.

Poles that fire on 10 unmasked rows or more are looked at (`grouping/firing.py`); there are p of them. Chance is always
firing whose documents have changed places: for each pole by itself, with others of like length.

    live_poles         p
    clusters           clusters by co-firing, of three poles or more, cut at the height that 1 % of the joins of
        chance exceed (`grouping/significance.py`): what method `clusters` makes of these rows
    share_in_clusters  share of the p poles that are in one
    null_clusters      clusters of another draw of chance, cut at the same height
    split_half_ari     adjusted Rand index (Hubert & Arabie 1985) of the clusters of two halves of the documents, each
        cut at the height of its own null; over poles that fire on 10 rows of both, a pole in no cluster counting as one
        of its own; 0 is chance, 1 is equal; null where neither half has a cluster
    modularity_over_rewired  modularity of the graph of co-firing less that of the graph with its edges swapped at
        random (`grouping/modularity.py`)
    parents_found      poles whose likeliest parent is found at a false discovery rate of 5 % (`grouping/parents.py`)
    truth_precision    of the found ones whose child is matched with a true feature: share whose parent is matched with
        that feature's true parent. A latent is matched by an optimal assignment of |cosines|, if that is above .9
    truth_recall       of the true pairs of child and parent that both have a live latent: share found

All numbers are counts or shares, without unit. Draws have a seed of their own, so that equal codes have equal values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

import harness
from harness.plugins.assignment import optimal_assignment
from harness.plugins.grouping.firing import Firing, FiringReader
from harness.plugins.grouping.likeness import cofiring
from harness.plugins.grouping.linkage import average_linkage
from harness.plugins.grouping.modularity import modularity_over_rewired
from harness.plugins.grouping.parents import Parents, find_parents
from harness.plugins.grouping.significance import Labels, cofiring_groups, large_groups

MATCHED = 0.9
_SEED = 0


class Hierarchy:
    """Evaluates when latents fire."""

    def __init__(self, config: object) -> None: ...

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above."""
        reader, start = FiringReader(decomposition.n_latents, context.n_rows), 0
        for x, masked in context.blocks():
            documents = context.documents[start : start + len(x)][~masked.cpu()].numpy()
            start += len(x)
            if not masked.all():
                reader.add(decomposition.encode(x[~masked]), documents)
        firing = reader.finish()
        alive = firing.alive()
        n = alive.n_rows
        rows = [harness.TableRow("live_poles", float(len(alive.counts)), n)]
        if len(alive.counts) < 2:
            reason = f"{len(alive.counts)} poles fire on 10 rows or more"
            return rows + [harness.TableRow(name, None, n, None, reason) for name in _OF_POLES]
        parents = find_parents(alive, _generator("parents"))
        return [
            *rows,
            *_clusters(alive),
            _row("split_half_ari", partial(_split_half, firing), n, True),
            _row("modularity_over_rewired", partial(modularity_over_rewired, alive, _SEED), n, None),
            harness.TableRow("parents_found", float(parents.is_found.sum()), n),
            *_against_truth(decomposition, context, alive, parents),
        ]


_TRUTH = ("truth_precision", "truth_recall")
_OF_POLES = (
    *("clusters", "share_in_clusters", "null_clusters", "split_half_ari", "modularity_over_rewired", "parents_found"),
    *_TRUTH,
)


def _generator(purpose: str) -> np.random.Generator:
    return np.random.default_rng([_SEED, *purpose.encode()])


def _row(metric: str, value: Callable[[], float], n: int, is_better: bool | None) -> harness.TableRow:
    try:
        return harness.TableRow(metric, value(), n, is_better)
    except harness.Undefined as undefined:
        return harness.TableRow(metric, None, n, is_better, undefined.reason)


def _clusters(firing: Firing) -> list[harness.TableRow]:
    labels, _, height = cofiring_groups(firing, _generator("null"))
    null = large_groups(average_linkage(cofiring(firing.exchanged(_generator("another null")))).above(height))
    values = {
        "clusters": float(labels.max() + 1),
        "share_in_clusters": float((labels >= 0).mean()),
        "null_clusters": float(null.max() + 1),
    }
    return [harness.TableRow(name, value, firing.n_rows) for name, value in values.items()]


def _split_half(firing: Firing) -> float:
    n_documents = len(firing.lengths)
    if n_documents < 2:
        raise harness.Undefined("there is one document, so there are no halves")
    first = _generator("halves").permutation(n_documents)[: n_documents // 2]
    halves = [firing.on(np.isin(firing.documents, first, invert=is_second)) for is_second in (False, True)]
    both = np.flatnonzero(halves[0].is_alive & halves[1].is_alive)
    if len(both) < 2:
        raise harness.Undefined(f"{len(both)} poles fire on 10 rows or more of both halves of the documents")
    found = [cofiring_groups(half.chosen(both), _generator("null"))[0] for half in halves]
    if max(labels.max() for labels in found) < 0:  # the index would be 1
        raise harness.Undefined("neither half of the documents has a cluster")
    return float(adjusted_rand_score(*map(_alone, found)))


def _alone(labels: Labels) -> Int[np.ndarray, " p"]:
    """Labels in which a pole in no group has one of its own."""
    return np.where(labels >= 0, labels, len(labels) + np.arange(len(labels)))


@dataclass(frozen=True)
class _Pairs:
    """Poles matched with true features."""

    feature: Int[np.ndarray, " p"]
    """The feature of each pole; -1 for none."""
    parent_of: Int[np.ndarray, " f"]
    """The true parent of each feature; -1 for none."""


def _against_truth(
    decomposition: harness.Decomposition, context: harness.EvaluationContext, firing: Firing, parents: Parents
) -> list[harness.TableRow]:
    try:
        pairs = _matched(decomposition, context, firing)
    except harness.Undefined as undefined:
        return [harness.TableRow(name, None, firing.n_rows, True, undefined.reason) for name in _TRUTH]
    feature, is_found = pairs.feature, parents.is_found
    true_parent = np.where(feature >= 0, pairs.parent_of[feature], -1)
    is_right = is_found & (true_parent >= 0) & (feature[parents.parent] == true_parent)
    is_told = is_found & (feature >= 0)
    is_pair = (true_parent >= 0) & np.isin(true_parent, feature[feature >= 0])
    return [
        _share("truth_precision", is_right, is_told, "no found child is matched with a feature"),
        _share("truth_recall", is_right, is_pair, "no child and parent both have a live latent"),
    ]


def _share(metric: str, chosen: Bool[np.ndarray, " p"], of: Bool[np.ndarray, " p"], reason: str) -> harness.TableRow:
    n = int(of.sum())
    return harness.TableRow(metric, float(chosen[of].mean()) if n else None, n, True, None if n else reason)


def _matched(decomposition: harness.Decomposition, context: harness.EvaluationContext, firing: Firing) -> _Pairs:
    if context.truth is None:
        raise harness.Undefined("the true features of these rows are not known")
    truth = context.truth()
    if truth.parents is None:
        raise harness.Undefined("it is not known which true features are children of others")
    if decomposition.dictionary is None:
        raise harness.Undefined("latents without directions can't be matched with features")
    rows = decomposition.dictionary.detach().cpu().double()[torch.from_numpy(firing.latents)]
    rows = rows * torch.from_numpy(firing.signs)[:, None]
    cosines = (_unit(rows) @ _unit(truth.dictionary.cpu().double()).T).numpy()
    poles, features = optimal_assignment(cosines)
    is_matched = cosines[poles, features] > MATCHED
    feature = np.full(len(rows), -1)
    feature[poles[is_matched]] = features[is_matched]
    return _Pairs(feature, truth.parents.cpu().numpy())


def _unit(rows: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    norms = rows.norm(dim=1, keepdim=True)
    return torch.where(norms > 0, rows / norms.clamp(min=torch.finfo(rows.dtype).tiny), 0.0)
