"""Specs of the built-in similarities. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass(frozen=True)
class CkaConfig:
    """How the kernel is made and how its HSIC is estimated."""

    kernel: Literal["linear", "rbf"] = "linear"
    """`linear` streams; `rbf` needs all rows at once."""
    estimator: Literal["biased", "debiased", "minibatch"] = "biased"
    """`biased` (Gretton et al. 2005), `debiased` (Song et al. 2012; can be negative) or `minibatch` (the debiased
    one of every 256 rows, Nguyen et al. 2021; linear only)."""
    bandwidth: float = 1.0
    """Width σ of the RBF kernel, in medians of the off-diagonal distances of each side; `linear` has none."""

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth is {self.bandwidth}; give a positive number of median distances.")
        if (self.kernel, self.estimator) == ("rbf", "minibatch"):
            raise ValueError("estimator is 'minibatch', which is for kernel='linear'; use 'debiased' with 'rbf'.")


@dataclass(frozen=True)
class JaccardConfig:
    """What makes two atoms the same."""

    key: Literal["token", "end"] = "token"
    """`token`: two atoms are the same if they are one token of one tokenizer; `end`: if they end at one place in the
    text, whatever the tokenizers."""


@dataclass(frozen=True)
class LatentMatchingConfig:
    """What makes two latents alike."""

    by: Literal["cosine", "activation"] = "cosine"
    """`cosine` of their rows of the dictionaries: needs dictionary, between the seeds of a site; `activation`,
    correlation over rows that both sides share: needs codes, between the seeds of a site and, seed by seed, between
    sites and models."""


def latent_matching_needs(config: LatentMatchingConfig) -> tuple[str, ...]:
    """Directions have to be of one space; codes only of the same rows."""
    return ("dictionary",) if config.by == "cosine" else ("codes",)


@dataclass(frozen=True)
class LinearRegressionConfig:
    """Which R² of y from x."""

    estimate: Literal["gcv", "in_sample"] = "gcv"
    """`gcv`: of rows that the fit left out, which can be negative; `in_sample`: of those it saw."""


@dataclass(frozen=True)
class ProcrustesConfig:
    """In what the distance is measured."""

    form: Literal["angular", "normalised"] = "angular"
    """`angular`: radians from 0 to π/2; `normalised`: the distance of sides of norm 1, from 0 to √2."""


@dataclass(frozen=True)
class PwccaConfig:
    """Whose directions weigh the correlations."""

    side: Literal["smaller", "x", "y"] = "smaller"
    """`smaller`: the side whose rows have fewer directions, x where they have as many; or the side itself."""


@dataclass(frozen=True)
class SvccaConfig:
    """How many directions of each side are compared."""

    variance: float = 0.99
    """Share of variance (Σs²) that the kept directions reach; 1 keeps all that the rows have."""

    def __post_init__(self) -> None:
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; give a share above 0 and up to 1.")


@dataclass(frozen=True)
class RelativeConfig:
    """Which rows are the anchors, and how rows that are described by them are compared."""

    anchors: int | list[int] = 300
    """The anchor rows' numbers, or how many to draw; the authors of relative representations draw 300."""
    centre: bool = False
    """Take the anchors' mean from all rows first."""
    seed: int = 0
    """Seed of anchors that are drawn."""
    n_seeds: int = 1
    """How many seeds, from `seed` on, anchors are drawn with; the value is the mean over them."""
    compare: Literal["cosine", "neighbours", "rank"] = "cosine"
    """`cosine` of a row's two descriptions (streams), overlap of their nearest `neighbours`, or the `rank` at which
    the one finds the other among all rows; the last two need all rows at once."""
    k: int = 10
    """How many neighbours are compared; the other comparisons have none."""

    def __post_init__(self) -> None:
        if isinstance(self.anchors, int):
            if self.anchors < 1:
                raise ValueError(f"anchors is {self.anchors}; give at least 1.")
        elif not self.anchors or min(self.anchors) < 0 or len(set(self.anchors)) < len(self.anchors):
            raise ValueError("anchors, as a list, needs the numbers of one or more different rows, from 0 on.")
        elif self.n_seeds != 1:
            raise ValueError(f"n_seeds is {self.n_seeds}, but no anchors are drawn; give their number, or one seed.")
        if self.n_seeds < 1:
            raise ValueError(f"n_seeds is {self.n_seeds}; give at least 1.")
        _check_k(self.k)


@dataclass(frozen=True)
class MutualKnnConfig:
    """Whose neighbours are compared."""

    k: int = 10
    """How many neighbours each row has; 10 as published."""
    centre: bool = False
    """Take the mean over all rows from each side first."""

    def __post_init__(self) -> None:
        _check_k(self.k)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1 neighbour.")


@dataclass(frozen=True)
class RsaConfig:
    """How rows differ, how differences are compared, and of which rows."""

    dissimilarity: Literal["correlation", "euclidean"] = "correlation"
    """How two rows differ: `correlation` (1 − Pearson's r over features) or `euclidean`."""
    compare: Literal["spearman", "pearson"] = "spearman"
    """How dissimilarities are compared: `spearman` (by rank) or `pearson`."""
    n_rows: int | None = None
    """Compare so many rows where there are more, drawn without replacement; null takes all, up to 5,000."""
    seed: int = 0
    """Seed of rows that are drawn."""

    def __post_init__(self) -> None:
        if self.n_rows is not None and self.n_rows < 3:
            raise ValueError(f"n_rows is {self.n_rows}; give at least 3, or none to take all rows.")


SPECS: list[harness.SimilaritySpec] = [
    harness.SimilaritySpec(
        name="cka",
        version=3,
        summary="Centred kernel alignment, linear or RBF, biased or debiased",
        config=CkaConfig,
        factory="harness.plugins.similarities.cka:make",
    ),
    harness.SimilaritySpec(
        name="jaccard",
        version=2,
        summary="Share of dictionary atoms that two decompositions chose from the same places in the text",
        config=JaccardConfig,
        factory="harness.plugins.similarities.jaccard:Jaccard",
        needs=("atoms",),
    ),
    harness.SimilaritySpec(
        name="latent_matching",
        version=1,
        summary="Mean cosine, or correlation of codes, of the latents of two dictionaries, matched one to one",
        config=LatentMatchingConfig,
        factory="harness.plugins.similarities.latent_matching:make",
        needs="harness.plugins.similarities:latent_matching_needs",
    ),
    harness.SimilaritySpec(
        name="linear_regression",
        version=2,
        summary="Share of the variance of y that a linear regression on x explains, cross-validated or in-sample",
        config=LinearRegressionConfig,
        factory="harness.plugins.similarities.linear_regression:LinearRegression",
    ),
    harness.SimilaritySpec(
        name="procrustes",
        version=3,
        summary="Distance after the best rotation, centring and scaling, as an angle or a length",
        config=ProcrustesConfig,
        factory="harness.plugins.similarities.procrustes:Procrustes",
    ),
    harness.SimilaritySpec(
        name="pwcca",
        version=1,
        summary="Mean canonical correlation, weighted by what each direction holds of one side",
        config=PwccaConfig,
        factory="harness.plugins.similarities.pwcca:Pwcca",
    ),
    harness.SimilaritySpec(
        name="svcca",
        version=3,
        summary="Mean canonical correlation of the directions that hold most of the variance",
        config=SvccaConfig,
        factory="harness.plugins.similarities.svcca:Svcca",
    ),
    harness.SimilaritySpec(
        name="relative",
        version=1,
        summary="Agreement of rows described by their cosines to the same anchor rows",
        config=RelativeConfig,
        factory="harness.plugins.similarities.relative:make",
    ),
    harness.SimilaritySpec(
        name="mutual_knn",
        version=1,
        summary="Share of each row's nearest neighbours by cosine that it has on both sides",
        config=MutualKnnConfig,
        factory="harness.plugins.similarities.mutual_knn:MutualKnn",
    ),
    harness.SimilaritySpec(
        name="rsa",
        version=1,
        summary="Rank correlation of the dissimilarities of all pairs of rows",
        config=RsaConfig,
        factory="harness.plugins.similarities.rsa:Rsa",
    ),
    harness.SimilaritySpec(
        name="cka_itda_paper",
        version=1,
        summary="The CKA baseline of the ITDA paper as published; for reproduction only",
        factory="harness.plugins.similarities.itda_paper:CkaItdaPaper",
    ),
    harness.SimilaritySpec(
        name="svcca_itda_paper",
        version=1,
        summary="The SVCCA baseline of the ITDA paper as published; for reproduction only",
        factory="harness.plugins.similarities.itda_paper:SvccaItdaPaper",
    ),
    harness.SimilaritySpec(
        name="relative_itda_paper",
        version=1,
        summary="The relative-representation baseline of the ITDA paper as published; for reproduction only",
        factory="harness.plugins.similarities.itda_paper:RelativeItdaPaper",
    ),
]
