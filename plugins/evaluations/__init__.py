"""Specs of the built-in evaluations. Imports no torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import harness
from harness.plugins.evaluations import metrics
from harness.plugins.evaluations.other_corpus import corpus_identity


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


@dataclass
class DriftConfig:
    """A change of documents that a monitor is to notice: to another corpus, or to those with a label."""

    change: dict[str, Any] | None = None
    """The corpus that documents come from after the change, such as `{corpus: packaged, name: bible}`; null: documents
    of the same corpus with another label."""
    label: str = "topic"
    """The label whose values divide documents, where `change` is null."""
    value: str | None = None
    """The value of documents after the change; null takes the most frequent one. Those before it have any other."""
    n_documents: int = 100
    """Number of documents that are read of another corpus."""
    max_rows: int = 100
    """Most rows of a document that count, from its beginning."""
    min_documents: int = 30
    """Fewest documents before and after the change."""
    horizon: float = 2000.0
    """The least mean number of documents until a false alarm."""
    n_streams: int = 20
    """Number of streams, in orders of their own, that delays and false alarms are measured in, and of batches."""
    planted_factor: float = 3.0
    """Factor by which planted latents fire more often."""
    seed: int = 0
    """Seed of the orders, and of what is planted."""

    def __post_init__(self) -> None:
        if self.change is not None and not isinstance(self.change.get("corpus"), str):
            raise ValueError(f"change is {self.change}; name a corpus, such as {{corpus: packaged, name: bible}}.")
        if self.min_documents < 29 or self.n_streams < 1 or min(self.n_documents, self.max_rows) < 1:
            raise ValueError(
                f"min_documents {self.min_documents}: give at least 29, as two thirds calibrate; n_streams "
                f"{self.n_streams}, n_documents {self.n_documents}, max_rows {self.max_rows}: 1."
            )
        if self.horizon <= 1 or self.planted_factor <= 1:
            raise ValueError(f"horizon {self.horizon} and planted_factor {self.planted_factor} must be above 1.")


def drift_needs(config: DriftConfig) -> tuple[Literal["labels", "texts"], ...]:
    """Texts either way; labels where these tell what has changed."""
    return ("texts",) if config.change else ("labels", "texts")


def drift_identity(config: DriftConfig) -> dict[str, Any]:
    """The parameters, with the identity of the corpus that they name in the place of its parameters."""
    found = dataclasses.asdict(config)
    if config.change is not None:
        found["change"] = corpus_identity(config.change)
    return found


SPECS: list[harness.EvaluationSpec] = [
    harness.EvaluationSpec(
        name="reconstruction",
        version=3,
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
    harness.EvaluationSpec(
        name="drift",
        version=1,
        summary="How soon an alarm tells that documents have become others, and which latents are named",
        config=DriftConfig,
        factory="harness.plugins.evaluations.drift:Drift",
        metrics=metrics.DRIFT,
        needs=drift_needs,
        identity=drift_identity,
    ),
    harness.EvaluationSpec(
        name="hierarchy",
        version=1,
        summary="Which latents fire together, and which only with another, more than chance has them",
        factory="harness.plugins.evaluations.hierarchy:Hierarchy",
        metrics=metrics.HIERARCHY,
    ),
]
