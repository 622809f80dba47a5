"""Specs of the built-in similarities. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass(frozen=True)
class CkaConfig:
    """How the kernel is made and how its HSIC is estimated.

    Args:
        kernel: `"linear"` (streams) or `"rbf"` (needs all rows at once).
        estimator: `"biased"` (Gretton et al. 2005) or `"debiased"` (Song et al. 2012; can be negative).
        bandwidth: σ of the RBF kernel, in medians of the off-diagonal distances of each side; `"linear"` has none.
    """

    kernel: Literal["linear", "rbf"] = "linear"
    estimator: Literal["biased", "debiased"] = "biased"
    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.bandwidth < float("inf"):
            raise ValueError(f"bandwidth is {self.bandwidth}; give a positive number of median distances.")


@dataclass(frozen=True)
class JaccardConfig:
    """What makes two atoms the same: one token (of one tokenizer), or one end in the text (of any tokenizer)."""

    key: Literal["token", "end"] = "token"


@dataclass(frozen=True)
class LinearRegressionConfig:
    """Which R² of y from x.

    Args:
        estimate: `"gcv"`, of rows that the fit left out (can be negative), or `"in_sample"`, of those it saw.
    """

    estimate: Literal["gcv", "in_sample"] = "gcv"


@dataclass(frozen=True)
class ProcrustesConfig:
    """In what the distance is measured.

    Args:
        form: `"angular"`, radians from 0 to π/2, or `"normalised"`, the distance of sides of norm 1, from 0 to √2.
    """

    form: Literal["angular", "normalised"] = "angular"


@dataclass(frozen=True)
class PwccaConfig:
    """Whose directions weigh the correlations.

    Args:
        side: `"smaller"`, the side whose rows have fewer directions, x where they have as many, or the side itself.
    """

    side: Literal["smaller", "x", "y"] = "smaller"


@dataclass(frozen=True)
class SvccaConfig:
    """How many directions of each side are compared.

    Args:
        variance: the share of variance (Σs²) that the kept directions reach; 1 keeps all that the rows have.
    """

    variance: float = 0.99

    def __post_init__(self) -> None:
        if not 0 < self.variance <= 1:
            raise ValueError(f"variance is {self.variance}; give a share above 0 and up to 1.")


@dataclass(frozen=True)
class RelativeConfig:
    """Which rows are the anchors.

    Args:
        anchors: the rows' numbers, or how many to draw; the authors of relative representations draw 300.
        centre: take the anchors' mean from all rows first.
        seed: for anchors that are drawn.
    """

    anchors: int | list[int] = 300
    centre: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.anchors, int):
            if self.anchors < 1:
                raise ValueError(f"anchors is {self.anchors}; give at least 1.")
        elif not self.anchors or min(self.anchors) < 0 or len(set(self.anchors)) < len(self.anchors):
            raise ValueError("anchors, as a list, needs the numbers of one or more different rows, from 0 on.")


SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="similarity",
        name="cka",
        version=1,
        summary="Centred kernel alignment, linear or RBF, biased or debiased",
        config=CkaConfig,
        factory="plugins.similarities.cka:make",
    ),
    harness.Spec(
        kind="similarity",
        name="jaccard",
        version=1,
        summary="Share of dictionary atoms that two decompositions chose from the same places in the text",
        config=JaccardConfig,
        factory="plugins.similarities.jaccard:Jaccard",
        needs=("atoms",),
    ),
    harness.Spec(
        kind="similarity",
        name="latent_matching",
        version=1,
        summary="Mean cosine between the latents of two dictionaries, matched one to one as well as can be",
        factory="plugins.similarities.latent_matching:LatentMatching",
        needs=("dictionary",),
    ),
    harness.Spec(
        kind="similarity",
        name="linear_regression",
        version=1,
        summary="Share of the variance of y that a linear regression on x explains, cross-validated or in-sample",
        config=LinearRegressionConfig,
        factory="plugins.similarities.linear_regression:LinearRegression",
    ),
    harness.Spec(
        kind="similarity",
        name="procrustes",
        version=1,
        summary="Distance after the best rotation, centring and scaling, as an angle or a length",
        config=ProcrustesConfig,
        factory="plugins.similarities.procrustes:Procrustes",
    ),
    harness.Spec(
        kind="similarity",
        name="pwcca",
        version=1,
        summary="Mean canonical correlation, weighted by what each direction holds of one side",
        config=PwccaConfig,
        factory="plugins.similarities.pwcca:Pwcca",
    ),
    harness.Spec(
        kind="similarity",
        name="svcca",
        version=1,
        summary="Mean canonical correlation of the directions that hold most of the variance",
        config=SvccaConfig,
        factory="plugins.similarities.svcca:Svcca",
    ),
    harness.Spec(
        kind="similarity",
        name="relative",
        version=1,
        summary="Mean cosine between rows described by their cosines to the same anchor rows",
        config=RelativeConfig,
        factory="plugins.similarities.relative:Relative",
    ),
    harness.Spec(
        kind="similarity",
        name="cka_itda_paper",
        version=1,
        summary="The CKA baseline of the ITDA paper as published; for reproduction only",
        factory="plugins.similarities.itda_paper:CkaItdaPaper",
    ),
    harness.Spec(
        kind="similarity",
        name="svcca_itda_paper",
        version=1,
        summary="The SVCCA baseline of the ITDA paper as published; for reproduction only",
        factory="plugins.similarities.itda_paper:SvccaItdaPaper",
    ),
    harness.Spec(
        kind="similarity",
        name="relative_itda_paper",
        version=1,
        summary="The relative-representation baseline of the ITDA paper as published; for reproduction only",
        factory="plugins.similarities.itda_paper:RelativeItdaPaper",
    ),
]
