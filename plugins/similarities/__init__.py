"""Specs of the built-in similarities. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass(frozen=True)
class CkaConfig:
    """The kernel of CKA, and the estimator of its HSIC."""

    kernel: Literal["linear", "rbf"] = "linear"
    """Kernel: `linear` streams; `rbf` needs all rows at once."""
    estimator: Literal["biased", "debiased", "minibatch"] = "biased"
    """Estimator of HSIC: `biased` (Gretton et al. 2005), `debiased` (Song et al. 2012; can be negative) or `minibatch`
    (the debiased one of every 256 rows, Nguyen et al. 2021; linear only)."""
    bandwidth: float = 1.0
    """Width σ of the RBF kernel, in medians of the off-diagonal distances of each side; `linear` has none."""

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth is {self.bandwidth}; give a positive number of median distances.")
        if (self.kernel, self.estimator) == ("rbf", "minibatch"):
            raise ValueError("estimator is 'minibatch', which is for kernel='linear'; use 'debiased' with 'rbf'.")


@dataclass(frozen=True)
class JaccardConfig:
    """The criterion by which two atoms are the same."""

    key: Literal["token", "end"] = "token"
    """Criterion by which two atoms are the same: `token` if they are the same token of one tokenizer; `end` if they end
    at the same place in the text, whatever the tokenizers."""


@dataclass(frozen=True)
class LatentMatchingConfig:
    """The measure of how alike two latents are."""

    by: Literal["cosine", "activation"] = "cosine"
    """Measure of how alike two latents are: `cosine` of their rows of the dictionaries (needs dictionary; between the
    seeds of a site), or `activation`, the correlation of codes over shared rows (needs codes; between the seeds of a
    site and, seed by seed, between sites and models)."""


def latent_matching_needs(config: LatentMatchingConfig) -> tuple[str, ...]:
    """The needs of a config: cosines need directions in one space, activations only codes of the same rows."""
    return ("dictionary",) if config.by == "cosine" else ("codes",)


@dataclass(frozen=True)
class LinearRegressionConfig:
    """The estimate of the R² of y predicted from x."""

    estimate: Literal["gcv", "in_sample"] = "gcv"
    """Estimate of R²: `gcv` on rows that the fit left out, which can be negative; `in_sample` on those it saw."""


@dataclass(frozen=True)
class ProcrustesConfig:
    """The form of the distance: an angle or a length."""

    form: Literal["angular", "normalised"] = "angular"
    """Form of the distance: `angular` in radians from 0 to π/2, or `normalised`, that of sides of norm 1, from 0 to
    √2."""


@dataclass(frozen=True)
class PwccaConfig:
    """The side whose directions weigh the correlations."""

    side: Literal["smaller", "x", "y"] = "smaller"
    """Side whose directions weigh the correlations: `x`, `y`, or `smaller`, the one of smaller rank (x if equal)."""


@dataclass(frozen=True)
class SvccaConfig:
    """The choice of the directions of each side that are compared."""

    variance: float = 0.99
    """Share of variance (Σs²) that the kept directions reach; 1 keeps all that the rows have."""

    def __post_init__(self) -> None:
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; give a share above 0 and up to 1.")


@dataclass(frozen=True)
class RelativeConfig:
    """The choice of the anchor rows, and the comparison of rows that are described by them."""

    anchors: int | list[int] = 300
    """Numbers of the anchor rows, or how many to draw; the authors of relative representations draw 300."""
    centre: bool = False
    """Subtract the anchors' mean from all rows first."""
    seed: int = 0
    """Seed for drawing anchors."""
    n_seeds: int = 1
    """Number of seeds, from `seed` on, with which anchors are drawn; the value is the mean over them."""
    compare: Literal["cosine", "neighbours", "rank"] = "cosine"
    """Comparison of a row's two descriptions: their `cosine` (streams), the overlap of their nearest `neighbours`, or
    the `rank` at which one finds the other among all rows; the last two need all rows at once."""
    k: int = 10
    """Number of neighbours that are compared, with `compare: neighbours`."""

    def __post_init__(self) -> None:
        if isinstance(self.anchors, int):
            if self.anchors < 1:
                raise ValueError(f"anchors is {self.anchors}; give at least 1.")
        elif not self.anchors or min(self.anchors) < 0 or len(set(self.anchors)) < len(self.anchors):
            raise ValueError("anchors, as a list, needs the numbers of one or more different rows, from 0 on.")
        elif self.n_seeds != 1:
            raise ValueError(
                f"n_seeds is {self.n_seeds}, but anchors is a list, so none are drawn; give their number, or n_seeds=1."
            )
        if self.n_seeds < 1:
            raise ValueError(f"n_seeds is {self.n_seeds}; give at least 1.")
        _check_k(self.k)


@dataclass(frozen=True)
class MutualKnnConfig:
    """The neighbours of each row that are compared."""

    k: int = 10
    """Number of neighbours of each row; 10 as published."""
    centre: bool = False
    """Subtract the mean over all rows from each side first."""

    def __post_init__(self) -> None:
        _check_k(self.k)


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k is {k}; give at least 1 neighbour.")


@dataclass(frozen=True)
class RsaConfig:
    """The dissimilarity of two rows, the comparison of dissimilarities, and the choice of rows."""

    dissimilarity: Literal["correlation", "euclidean"] = "correlation"
    """Dissimilarity of two rows: `correlation` (1 − Pearson's r over features) or `euclidean` distance."""
    compare: Literal["spearman", "pearson"] = "spearman"
    """Correlation of dissimilarities: `spearman` (by rank) or `pearson`."""
    n_rows: int | None = None
    """Most rows to compare, drawn without replacement if there are more; null takes all, up to 5,000."""
    seed: int = 0
    """Seed for drawing rows."""

    def __post_init__(self) -> None:
        if self.n_rows is not None and self.n_rows < 3:
            raise ValueError(f"n_rows is {self.n_rows}; give at least 3, or null to take all rows.")


SPECS: list[harness.SimilaritySpec] = [
    harness.SimilaritySpec(
        name="cka",
        version=4,
        summary="Centred kernel alignment, linear or RBF, biased or debiased",
        config=CkaConfig,
        factory="harness.plugins.similarities.cka:make",
    ),
    harness.SimilaritySpec(
        name="jaccard",
        version=3,
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
        version=3,
        summary="Share of the variance of y that a linear regression on x explains, cross-validated or in-sample",
        config=LinearRegressionConfig,
        factory="harness.plugins.similarities.linear_regression:LinearRegression",
    ),
    harness.SimilaritySpec(
        name="procrustes",
        version=4,
        summary="Distance after the best rotation, centring and scaling, as an angle or a length",
        config=ProcrustesConfig,
        factory="harness.plugins.similarities.procrustes:Procrustes",
    ),
    harness.SimilaritySpec(
        name="pwcca",
        version=3,
        summary="Mean canonical correlation, weighted by how much of one side each direction accounts for",
        config=PwccaConfig,
        factory="harness.plugins.similarities.pwcca:Pwcca",
    ),
    harness.SimilaritySpec(
        name="svcca",
        version=4,
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
