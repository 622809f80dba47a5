"""Specs of the built-in explainers. Imports no torch."""

from __future__ import annotations

import harness

SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="explainer",
        name="token_statistics",
        version=1,
        summary="The n-grams that predict a latent best and the contexts of its strongest activations; asks nobody",
        factory="plugins.explainers.token_statistics:TokenStatistics",
    ),
    harness.Spec(
        kind="explainer",
        name="judge_written",
        version=1,
        summary="A judge says in a phrase what the tokens that a latent is active on have in common",
        factory="plugins.explainers.judge_written:JudgeWritten",
        needs=("generate",),
    ),
]
