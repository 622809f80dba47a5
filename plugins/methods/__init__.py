"""Specs of the built-in methods with their parameters. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass
class ITDAConfig:
    """Inference-time decomposition of activations, with each atom judged again before it enters."""

    k: int
    """Steps of matching pursuit: the most active codes per row."""
    max_atoms: int
    threshold: float = 0.2
    """A row becomes an atom if its relative squared error ‖x−x̂‖²/‖x‖² is above this."""
    batch_rows: int = 512
    """Rows that are encoded together before candidates are judged again; part of the definition."""
    centre: bool = False
    """Subtract the mean of the fit rows and add it back at decoding; takes one more pass over the stream."""

    def __post_init__(self) -> None:
        _at_least_one(self, "k", "max_atoms", "batch_rows")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold is {self.threshold}; give a share above 0 and at most 1.")


@dataclass
class ITDAPaperConfig:
    """ITDA as published: all rows of a batch above the threshold enter at once."""

    k: int
    """Steps of matching pursuit: the most active codes per row."""
    max_atoms: int
    threshold: float = 4e-4
    """A row becomes an atom if the mean over its d coordinates of (x/‖x‖ − x̂/‖x̂‖)², which is 2(1 − cos)/d, is above
    this. Comparable at one width only: the same cosine needs a threshold in proportion to 1/d."""
    batch_rows: int = 512
    """Rows that are judged at once; larger batches give larger dictionaries."""

    def __post_init__(self) -> None:
        _at_least_one(self, "k", "max_atoms", "batch_rows")
        if self.threshold <= 0:
            raise ValueError(f"threshold is {self.threshold}; give a number above 0.")


@dataclass
class KMeansConfig:
    """Centroids of k-means (scikit-learn), encoded by the same matching pursuit as ITDA's atoms."""

    n_latents: int
    k: int
    """Steps of matching pursuit: the most active codes per row. Not the number of clusters, which is n_latents."""
    centre: bool = False
    """Subtract the mean of the fit rows and add it back at decoding; takes one more pass over the stream."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_latents", "k")


@dataclass
class RandomDictionaryConfig:
    """Random atoms, encoded by the same matching pursuit as ITDA's."""

    n_latents: int
    k: int
    """Steps of matching pursuit: the most active codes per row."""
    source: Literal["rows", "gaussian"] = "rows"
    """Rows of the stream, uniformly without replacement, or Gaussian directions."""
    centre: bool = False
    """Subtract the mean of the fit rows and add it back at decoding; takes one more pass over the stream."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_latents", "k")


@dataclass
class PCAConfig:
    """Principal components; per row all coefficients or the largest ones."""

    n_components: int
    k: int | None = None
    """Coefficients kept per row, largest magnitude first; null keeps all, as dense codes."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_components")
        if self.k is not None and not 1 <= self.k <= self.n_components:
            raise ValueError(f"k is {self.k}; give a number from 1 to n_components ({self.n_components}), or null.")


@dataclass(kw_only=True)
class SAEConfig:
    """How long and how fast an SAE trains."""

    n_latents: int
    passes: int | None = None
    """How often the rows are replayed; null follows from their number."""
    batch_rows: int | None = None
    """Rows of one step; null follows from the number of rows."""
    learning_rate: float | None = None
    """Of Adam at the plateau of the schedule, where rows have mean norm 1; null follows from the number of steps."""

    def __post_init__(self) -> None:
        given = [name for name in ("passes", "batch_rows") if getattr(self, name) is not None]
        _at_least_one(self, "n_latents", *given)
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate}; give a number above 0.")


@dataclass(kw_only=True)
class TopKSAEConfig(SAEConfig):
    """TopK SAE: as many codes per row as asked for."""

    k: int
    """The most active codes per row; fewer where pre-activations are negative."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_k(self)


@dataclass(kw_only=True)
class ReLUSAEConfig(SAEConfig):
    """ReLU SAE, sparse by an L1 penalty; give either its weight or the L0 to reach."""

    target_l0: float | None = None
    """Active latents per row: the penalty's weight is steered there in training."""
    l1: float | None = None
    """A fixed weight: loss = ‖y − ŷ‖² + l1 · Σ codes, for rows y of mean norm 1 around their mean."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.l1 is None) == (self.target_l0 is None):
            raise ValueError(f"l1 is {self.l1}, target_l0 is {self.target_l0}; give one of them, such as target_l0=40.")
        if self.l1 is not None and self.l1 <= 0:
            raise ValueError(f"l1 is {self.l1}; give a number above 0.")
        if self.target_l0 is not None and not 0 < self.target_l0 <= self.n_latents:
            raise ValueError(f"target_l0 is {self.target_l0}; give a number above 0, at most {self.n_latents}.")


@dataclass
class UntrainedSAEConfig:
    """The TopK SAE before its first step."""

    n_latents: int
    k: int
    """The most active codes per row."""

    def __post_init__(self) -> None:
        _at_least_one(self, "n_latents")
        _check_k(self)


def _check_k(config: TopKSAEConfig | UntrainedSAEConfig) -> None:
    if not 1 <= config.k <= config.n_latents:
        raise ValueError(f"k is {config.k}; give a number from 1 to n_latents ({config.n_latents}).")


def _at_least_one(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; give 1 or more.")


SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="method",
        name="itda",
        version=1,
        summary="Dictionary of activations that matching pursuit could not yet explain (arXiv 2505.17769), one pass",
        config=ITDAConfig,
        factory="plugins.methods.itda:ITDA",
        provides=("atoms", "dictionary"),
    ),
    harness.Spec(
        kind="method",
        name="itda_paper",
        version=1,
        summary="ITDA as published, quirks included (arXiv 2505.17769): a batch's candidates enter all at once",
        config=ITDAPaperConfig,
        factory="plugins.methods.itda_paper:ITDAPaper",
        provides=("atoms", "dictionary"),
    ),
    harness.Spec(
        kind="method",
        name="kmeans",
        version=1,
        summary="Baseline: k-means centroids under matching pursuit",
        config=KMeansConfig,
        factory="plugins.methods.kmeans:KMeans",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="random_dictionary",
        version=1,
        summary="Baseline: random rows or Gaussian directions under matching pursuit",
        config=RandomDictionaryConfig,
        factory="plugins.methods.random_dictionary:RandomDictionary",
        # Not "atoms": which rows it draws depends on the stream alone, so comparing them would say nothing of models.
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="topk_sae",
        version=2,
        summary="Sparse autoencoder that keeps the k largest codes of each row (arXiv 2406.04093)",
        config=TopKSAEConfig,
        factory="plugins.methods.sae.topk:TopKSAE",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="relu_sae",
        version=2,
        summary="Sparse autoencoder with an L1 penalty, weighted by decoder norm",
        config=ReLUSAEConfig,
        factory="plugins.methods.sae.relu:ReLUSAE",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="untrained_sae",
        version=1,
        summary="Baseline: a TopK SAE before its first step",
        config=UntrainedSAEConfig,
        factory="plugins.methods.sae.untrained:UntrainedSAE",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="pca",
        version=1,
        summary="Principal components; the k largest coefficients of each row, or all",
        config=PCAConfig,
        factory="plugins.methods.pca:PCA",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="identity",
        version=1,
        summary="Baseline: every coordinate is a latent; nothing is lost",
        factory="plugins.methods.baselines:Identity",
        provides=("dictionary",),
    ),
    harness.Spec(
        kind="method",
        name="mean",
        version=1,
        summary="Baseline: predicts the mean of the fit rows; explains nothing",
        factory="plugins.methods.baselines:Mean",
        provides=("dictionary",),
    ),
]
