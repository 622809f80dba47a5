"""Example embedding: are active windows like other active windows?

A sentence encoder compares windows with windows, so no explanation is needed and none is to blame (arXiv 2507.08473 and
delphi's scorer of that name). The references are the explain windows, E⁺ active and E⁻ silent; the queries are the test
windows. Of a query q

    Δ(q) = mean_{x∈E⁺} cos(q, x) − mean_{x∈E⁻} cos(q, x).

    auroc: of Δ over active queries against Δ over silent ones; see `auroc`.
    auroc_random_explanation: the same with the references of another latent.

The verdict on a window is whether Δ is above 0.

The encoder sees plain text, without marks where the latent is active. Where delphi draws batches of 10 and 10
references from one decile, all references count here: there is no noise of drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import harness
from harness.plugins.scorers.auroc import auroc
from harness.plugins.scorers.detection import CHANCE, METRIC, check_windows, verdicts_at_cut


class ExampleEmbedding:
    """Asks a sentence encoder whether active windows resemble other active windows."""

    metric = METRIC
    chance = CHANCE

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Embeddings of the test windows, the references, and the other latent's if it has both kinds."""
        check_windows(latent)
        asked = [latent.test, latent.explain]
        if latent.other is not None and {window.is_active for window in latent.other.explain} == {True, False}:
            asked.append(latent.other.explain)
        return [harness.Embed(tuple(window.text for window in windows)) for windows in asked]

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Embed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The AUROC, and its control."""
        queries, references, *of_other = responses
        control = None
        if of_other and latent.other is not None:
            control = _auroc(latent.test, queries, latent.other.explain, of_other[0])
        reason = "there is no other latent with windows to compare with" if control is None else None
        n = len(latent.test)
        own = _auroc(latent.test, queries, latent.explain, references)
        verdicts = verdicts_at_cut(latent.test, 0.0, (queries @ _direction(latent.explain, references)).tolist())
        return [
            harness.TableRow(METRIC, own, n, True, verdicts=verdicts),
            harness.TableRow(f"{METRIC}_random_explanation", control, n, None, reason),
        ]


def _auroc(
    tested: Sequence[harness.LatentWindow],
    queries: Float[Tensor, "q e"],
    referred: Sequence[harness.LatentWindow],
    references: Float[Tensor, "r e"],
) -> float:
    """The AUROC of Δ over the queries. All embeddings have unit norm, so products are cosines."""
    (of_active, of_silent), direction = _by_class(tested, queries), _direction(referred, references)
    return auroc((of_active @ direction).tolist(), (of_silent @ direction).tolist())


def _direction(windows: Sequence[harness.LatentWindow], embeddings: Float[Tensor, "n e"]) -> Float[Tensor, " e"]:
    """The direction whose product with a query is the query's Δ."""
    active, silent = _by_class(windows, embeddings)
    return active.mean(dim=0) - silent.mean(dim=0)


def _by_class(windows: Sequence[harness.LatentWindow], embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings of active windows, and of silent ones."""
    is_active = torch.tensor([window.is_active for window in windows])
    return embeddings[is_active], embeddings[~is_active]
