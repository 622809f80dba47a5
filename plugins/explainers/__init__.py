"""Specs of the built-in explainers. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

import harness
from harness.plugins.scorers import check_max_tokens


@dataclass(frozen=True)
class JudgeWrittenConfig:
    """An explanation that a judge writes, with a limit on the length of its answer."""

    max_tokens: int = 32
    """Longest answer in tokens, including what the judge thinks aloud before it; 32 are enough for a phrase."""

    def __post_init__(self) -> None:
        check_max_tokens(self.max_tokens)


SPECS: list[harness.ExplainerSpec] = [
    harness.ExplainerSpec(
        name="token_statistics",
        version=1,
        summary="The n-grams that predict a latent best and the contexts of its strongest activations; needs no judge",
        factory="harness.plugins.explainers.token_statistics:TokenStatistics",
    ),
    harness.ExplainerSpec(
        name="judge_written",
        version=2,
        summary="A judge says in a phrase what the tokens that a latent is active on have in common",
        config=JudgeWrittenConfig,
        factory="harness.plugins.explainers.judge_written:JudgeWritten",
        needs=("generate",),
    ),
]
