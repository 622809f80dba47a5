"""The built-in similarities, assigned to the protocols that they keep: mypy says where one does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import harness
from harness.plugins.similarities import (
    cka,
    itda_paper,
    jaccard,
    latent_matching,
    linear_regression,
    minibatch,
    moments,
    mutual_knn,
    procrustes,
    pwcca,
    relative,
    rsa,
    svcca,
)
from harness.plugins.similarities.float_moments import FloatMoments

SIMILARITIES: Mapping[str, Callable[..., harness.Similarity | harness.SimilarityOfCodes]] = {
    "cka": cka.make,
    "cka_itda_paper": itda_paper.CkaItdaPaper,
    "jaccard": jaccard.Jaccard,
    "latent_matching": latent_matching.make,
    "linear_regression": linear_regression.LinearRegression,
    "mutual_knn": mutual_knn.MutualKnn,
    "procrustes": procrustes.Procrustes,
    "pwcca": pwcca.Pwcca,
    "relative": relative.make,
    "relative_itda_paper": itda_paper.RelativeItdaPaper,
    "rsa": rsa.Rsa,
    "svcca": svcca.Svcca,
    "svcca_itda_paper": itda_paper.SvccaItdaPaper,
}
STREAMING: tuple[type[harness.Streaming], ...] = (
    cka.LinearCka,
    linear_regression.LinearRegression,
    procrustes.Procrustes,
    pwcca.Pwcca,
    relative.Relative,
    svcca.Svcca,
)
SHARED_STATISTICS: tuple[type[harness.SharedStatistics], ...] = (
    cka.LinearCka,
    cka.MinibatchCka,
    linear_regression.LinearRegression,
    procrustes.Procrustes,
    pwcca.Pwcca,
    svcca.Svcca,
)
STATISTICS: tuple[type[harness.JointStatistics], ...] = (moments.JointMoments, FloatMoments, minibatch.MinibatchKernels)
ANCHORED: tuple[type[harness.Anchored], ...] = (relative.Relative, relative.RelativeAllPairs)
ANCHORED_STREAMING: tuple[type[harness.AnchoredStreaming], ...] = (relative.Relative,)
PER_SIDE: tuple[type[harness.PerSide], ...] = (mutual_knn.MutualKnn, rsa.Rsa)
PERMUTABLE: tuple[type[harness.Permutable], ...] = (
    cka.LinearCka,
    cka.RbfCka,
    linear_regression.LinearRegression,
    mutual_knn.MutualKnn,
    procrustes.Procrustes,
    pwcca.Pwcca,
    rsa.Rsa,
    svcca.Svcca,
)
STREAMING_PER_SIDE: tuple[type[harness.StreamingPerSide], ...] = (relative.Relative,)
WITH_CHANCE: tuple[type[harness.WithChance], ...] = (jaccard.Jaccard, latent_matching.CosineMatching)
CHANCE_CORRECTED: tuple[type[harness.ChanceCorrected], ...] = (jaccard.Jaccard,)
WITH_OVERLAP: tuple[type[harness.WithOverlap], ...] = (jaccard.Jaccard,)
COUNTING_SILENT_LATENTS: tuple[type[harness.CountsSilentLatents], ...] = (latent_matching.ActivationMatching,)

ABILITIES: Mapping[type, tuple[type, ...]] = {
    harness.Streaming: STREAMING,
    harness.SharedStatistics: SHARED_STATISTICS,
    harness.Anchored: ANCHORED,
    harness.AnchoredStreaming: ANCHORED_STREAMING,
    harness.PerSide: PER_SIDE,
    harness.Permutable: PERMUTABLE,
    harness.StreamingPerSide: STREAMING_PER_SIDE,
    harness.WithChance: WITH_CHANCE,
    harness.ChanceCorrected: CHANCE_CORRECTED,
    harness.WithOverlap: WITH_OVERLAP,
    harness.CountsSilentLatents: COUNTING_SILENT_LATENTS,
}
