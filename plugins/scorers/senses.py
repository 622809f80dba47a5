"""Senses: in how many kinds of contexts is a latent active?

Polysemanticity without a language model: a sentence encoder reads the windows, those that are alike are one sense, and
the effective number of senses is exp(H(p)), with H(p) = −Σ p log p and p the senses' shares of the windows.

What is alike is told by the latent's silent windows, which are random text: of three pairs of them, two are less alike
than the threshold, a cosine. Windows are joined by average linkage (Sokal & Michener 1958) while the mean cosine
between two groups is above it. All active windows count, explain and test, and as many silent ones.

    monosemanticity: 1 − H(active) / H(silent). 1 is one sense; 0, which is chance, as many as random text has. Below 0
        are contexts that differ more than random ones.
    effective_senses: exp(H(active)).
    effective_senses_silent: exp(H(silent)), what as many random windows have.
    monosemanticity_token_matched, effective_senses_token_matched: of the active windows whose strongest token is the
        most common one, if there are enough. Windows that share a token are alike for that alone (arXiv 2604.00443);
        a latent of one token in many meanings has a high monosemanticity, and a lower one here only as far as the
        encoder tells them apart.

The plain way, Ward's clusters with k from 1 to 8 by mean silhouette, where k is 1 unless the silhouette beats Gaussian
noise of the same covariance, found no planted number: text has clusters of all sizes, so that silhouettes grow with k,
and they are no higher than noise's. Means over 40 windows of Wikipedia, of so many narrow topics:

    ===========================  ======  ===  ===  ===
    effective senses             random    1    2    3
    ===========================  ======  ===  ===  ===
    by alikeness, as here           6.8  1.1  2.5  3.2
    k by silhouette, with noise     1.0  5.5  3.0  2.2
    k by silhouette, without        7.3  7.0  4.3  4.1
    ===========================  ======  ===  ===  ===

Cut to 10 tokens on each side of the strongest one, windows gave no better numbers (1.4, 2.4, 3.6). As only 16 to 40
windows are looked at, rare senses are missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

import harness

MIN_WINDOWS = 16
MIN_TOKEN_MATCHED = 10
LESS_ALIKE = 2 / 3
"""Share of pairs of silent windows that are less alike than windows of one sense; chosen on planted topics."""


class Senses:
    """Asks a sentence encoder which active windows are alike."""

    metric = "monosemanticity"
    chance = 0.0
    range = (-float("inf"), 1.0)
    also: ClassVar[dict[str, tuple[float, float]]] = {"effective_senses": (1.0, float("inf"))}

    def __init__(self, config: object) -> None: ...

    def plan(self, latent: harness.Latent) -> list[harness.Embed]:
        """Requests for embeddings of the active windows, and of the silent ones."""
        asked = []
        for kind, is_active in {"active": True, "silent": False}.items():
            texts = tuple(window.text for window in _windows(latent, is_active))
            if len(texts) < MIN_WINDOWS:
                raise harness.Undefined(f"{len(texts)} {kind} windows, fewer than {MIN_WINDOWS}")
            asked.append(harness.Embed(texts))
        return asked

    def reduce(
        self, latent: harness.Latent, requests: Sequence[harness.Embed], responses: Sequence[Any]
    ) -> list[harness.TableRow]:
        """The monosemanticity, and the effective numbers of senses that it compares."""
        active, silent = responses
        matched = active[_most_common([window.peak_token for window in _windows(latent, True)])]
        threshold = _threshold(silent)
        n = min(len(active), len(silent))
        at_random = float(np.exp(_entropy(silent[:n], threshold)))
        rows = [
            *_rows("", active[:n], silent, threshold),
            harness.TableRow("effective_senses_silent", at_random, n),
        ]
        if len(matched) < MIN_TOKEN_MATCHED:
            reason = f"{len(matched)} windows have the same strongest token, fewer than {MIN_TOKEN_MATCHED}"
            names = (f"{name}_token_matched" for name in (self.metric, "effective_senses"))
            return [*rows, *(harness.TableRow(name, None, len(matched), None, reason) for name in names)]
        return [*rows, *_rows("_token_matched", matched[: len(silent)], silent, threshold)]


def _windows(latent: harness.Latent, is_active: bool) -> list[harness.LatentWindow]:
    return [window for window in (*latent.explain, *latent.test) if window.is_active is is_active]


def _most_common(tokens: list[str]) -> list[int]:
    """The places of the most common token; capitals and the space before a word make no difference."""
    plain = [token.strip().casefold() for token in tokens]
    ((most, _),) = Counter(plain).most_common(1)
    return [place for place, token in enumerate(plain) if token == most]


def _threshold(silent: Float[Tensor, "s e"]) -> float:
    """The cosine above which windows are of one sense."""
    cosines = (silent @ silent.T).numpy()[np.triu_indices(len(silent), 1)]
    return float(np.quantile(cosines, LESS_ALIKE))


def _rows(
    suffix: str, active: Float[Tensor, "n e"], silent: Float[Tensor, "s e"], threshold: float
) -> list[harness.TableRow]:
    """Table rows of the metrics, by comparison with as many silent windows as there are active ones."""
    n = len(active)
    entropy, of_silent = _entropy(active, threshold), _entropy(silent[:n], threshold)
    value = 1 - entropy / of_silent if of_silent > 0 else None
    reason = "random windows are of one sense for the encoder" if value is None else None
    return [
        harness.TableRow(f"monosemanticity{suffix}", value, n, True, reason),
        harness.TableRow(f"effective_senses{suffix}", float(np.exp(entropy)), n),
    ]


def _entropy(embeddings: Float[Tensor, "n e"], threshold: float) -> float:
    """The entropy of the senses' shares, in nats. All embeddings have unit norm, so products are cosines."""
    distances = 1 - (embeddings @ embeddings.T).numpy()[np.triu_indices(len(embeddings), 1)]
    # Rounding may leave equal texts a hair below 0.
    senses = fcluster(linkage(distances.clip(min=0), "average"), 1 - threshold, "distance")
    shares = np.unique(senses, return_counts=True)[1] / len(senses)
    return float(-(shares * np.log(shares)).sum())
