"""Specs of the built-in evaluations. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field

import harness
from harness.plugins.evaluations import metrics


@dataclass
class SparseProbingConfig:
    """Classification of documents by a few latents, with a split into training and test documents."""

    ks: list[int] = field(default_factory=lambda: [1, 2, 5, 16])
    """Numbers of latents, and of channels, that a probe may use."""
    min_documents: int = 30
    """Fewest documents that must have a label, and as many lack it; other labels are left out."""
    test_share: float = 0.3
    """Share of the documents with each label, drawn at random, that probes are tested on."""
    seed: int = 0
    """Seed of the split into training and test documents."""

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks is {self.ks}; give one or more different numbers, from 1 on.")
        if not 0 < self.test_share < 1:
            raise ValueError(f"test_share is {self.test_share}; give a share between 0 and 1.")
        if self.min_documents * min(self.test_share, 1 - self.test_share) < 2:
            raise ValueError(
                f"min_documents is {self.min_documents}, which can leave fewer than 2 documents of a label on one side "
                "of the split. Raise it."
            )


SPECS: list[harness.EvaluationSpec] = [
    harness.EvaluationSpec(
        name="reconstruction",
        version=2,
        summary="Variance explained, direction and length of reconstructions, against the sparsity of the codes",
        factory="harness.plugins.evaluations.reconstruction:Reconstruction",
        metrics=metrics.RECONSTRUCTION,
    ),
    harness.EvaluationSpec(
        name="downstream",
        version=1,
        summary="Cross-entropy and KL of the model with reconstructions in it, and the loss recovered from ablations",
        factory="harness.plugins.evaluations.downstream:Downstream",
        metrics=metrics.DOWNSTREAM,
        needs=("head",),
    ),
    harness.EvaluationSpec(
        name="dictionary_health",
        version=1,
        summary="How close the latents' directions lie, and how many dimensions they span",
        factory="harness.plugins.evaluations.dictionary_health:DictionaryHealth",
        metrics=metrics.DICTIONARY_HEALTH,
        needs=("dictionary",),
    ),
    harness.EvaluationSpec(
        name="sparse_probing",
        version=2,
        summary="How well a few latents tell what a document is about, against as many raw channels and all of them",
        config=SparseProbingConfig,
        factory="harness.plugins.evaluations.sparse_probing:SparseProbing",
        metrics=metrics.SPARSE_PROBING,
        needs=("labels",),
    ),
    harness.EvaluationSpec(
        name="ground_truth",
        version=1,
        summary="Which of the true features were found, where the rows were made of known ones",
        factory="harness.plugins.evaluations.ground_truth:GroundTruth",
        metrics=metrics.GROUND_TRUTH,
        needs=("truth", "dictionary"),
    ),
]
