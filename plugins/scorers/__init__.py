"""Specs of the built-in scorers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import harness


@dataclass(frozen=True)
class DetectionConfig:
    """A choice of the silent windows that active ones are told from. Scores with different ones can't be compared."""

    negatives: Literal["random", "near_latent", "near_text"] = "random"
    """Silent windows that active ones are told from: any (`random`), those where a near latent is active
    (`near_latent`), or those with similar words (`near_text`)."""


@dataclass(frozen=True)
class WrittenConfig:
    """A limit on the length of an answer that a judge writes."""

    max_tokens: int = 128
    """Longest answer in tokens, including what the judge thinks aloud before it; 128 hold a list and a few words."""

    def __post_init__(self) -> None:
        check_max_tokens(self.max_tokens)


@dataclass(frozen=True)
class WrittenDetectionConfig(WrittenConfig, DetectionConfig):
    """A choice of the silent windows that active ones are told from, and a limit on the length of written answers."""


def check_max_tokens(max_tokens: int) -> None:
    """Raise a ValueError if an answer could not have a single token."""
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; give 1 or more.")


SPECS: list[harness.ScorerSpec] = [
    harness.ScorerSpec(
        name="token_lookup",
        version=1,
        summary="Floor: a table of n-grams learnt from some windows tells active windows from silent ones",
        config=DetectionConfig,
        factory="harness.plugins.scorers.token_lookup:TokenLookup",
        provides=("floor",),
    ),
    harness.ScorerSpec(
        name="embedding_retrieval",
        version=2,
        summary="A sentence encoder finds active windows by an explanation of the latent",
        config=DetectionConfig,
        factory="harness.plugins.scorers.embedding_retrieval:EmbeddingRetrieval",
        needs=("embed", "explanation"),
    ),
    harness.ScorerSpec(
        name="embedding_intruder",
        version=2,
        summary="A sentence encoder picks the silent window among four active ones; needs no explanation",
        config=DetectionConfig,
        factory="harness.plugins.scorers.embedding_intruder:EmbeddingIntruder",
        needs=("embed",),
    ),
    harness.ScorerSpec(
        name="atom_provenance",
        version=1,
        summary="A sentence encoder finds active windows by the text that the atom was taken from",
        config=DetectionConfig,
        factory="harness.plugins.scorers.atom_provenance:AtomProvenance",
        needs=("embed", "atoms"),
    ),
    harness.ScorerSpec(
        name="choice_detection",
        version=1,
        summary="A judge says, window by window, whether an explanation of the latent holds",
        config=DetectionConfig,
        factory="harness.plugins.scorers.choice_detection:ChoiceDetection",
        needs=("choose", "explanation"),
    ),
    harness.ScorerSpec(
        name="choice_fuzzing",
        version=1,
        summary="A judge tells by an explanation active tokens from others that are marked in the same windows",
        factory="harness.plugins.scorers.choice_fuzzing:ChoiceFuzzing",
        needs=("choose", "explanation"),
    ),
    harness.ScorerSpec(
        name="detection",
        version=3,
        summary="A judge writes for a few texts at a time in which of them an explanation holds",
        config=WrittenDetectionConfig,
        factory="harness.plugins.scorers.generated_detection:GeneratedDetection",
        needs=("generate", "explanation"),
    ),
    harness.ScorerSpec(
        name="fuzzing",
        version=3,
        summary="A judge writes for a few texts at a time in which of them the right tokens are marked",
        config=WrittenConfig,
        factory="harness.plugins.scorers.generated_fuzzing:GeneratedFuzzing",
        needs=("generate", "explanation"),
    ),
    harness.ScorerSpec(
        name="surprisal",
        version=1,
        summary="Does an explanation make active windows likelier to a judge than it makes silent ones?",
        config=DetectionConfig,
        factory="harness.plugins.scorers.surprisal:Surprisal",
        needs=("likelihood", "explanation"),
    ),
    harness.ScorerSpec(
        name="simulation",
        version=2,
        summary="A judge predicts from an explanation how active the latent is on single tokens",
        config=DetectionConfig,
        factory="harness.plugins.scorers.simulation:Simulation",
        needs=("choose", "explanation"),
    ),
    harness.ScorerSpec(
        name="intruder",
        version=2,
        summary="A judge picks the silent window among four active ones; needs no explanation",
        config=DetectionConfig,
        factory="harness.plugins.scorers.intruder:Intruder",
        needs=("choose",),
    ),
    harness.ScorerSpec(
        name="example_embedding",
        version=1,
        summary="A sentence encoder tells active windows by their likeness to other active ones; needs no explanation",
        factory="harness.plugins.scorers.example_embedding:ExampleEmbedding",
        needs=("embed",),
    ),
    harness.ScorerSpec(
        name="senses",
        version=2,
        summary="Polysemanticity: in how many kinds of contexts is a latent active, beside as many random ones?",
        factory="harness.plugins.scorers.senses:Senses",
        needs=("embed",),
    ),
    harness.ScorerSpec(
        name="context_dependence",
        version=2,
        summary="The share of random contexts in which a latent is still active on its token",
        factory="harness.plugins.scorers.context_dependence:ContextDependence",
        needs=("model",),
    ),
    harness.ScorerSpec(
        name="output_score",
        version=1,
        summary="Steered along the latent, does the model say what the direction promotes?",
        factory="harness.plugins.scorers.output_score:OutputScore",
        needs=("model", "head"),
    ),
    harness.ScorerSpec(
        name="input_score",
        version=3,
        summary="The share of active windows whose strongest token is one that the direction promotes",
        factory="harness.plugins.scorers.input_score:InputScore",
        needs=("head",),
    ),
    harness.ScorerSpec(
        name="vocab_coherence",
        version=1,
        summary="Are the tokens that the direction promotes more alike than those of random directions?",
        factory="harness.plugins.scorers.vocab_coherence:VocabCoherence",
        needs=("head",),
    ),
]
