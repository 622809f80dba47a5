"""Specs of the built-in evaluations. Imports no torch."""

from __future__ import annotations

import harness

SPECS: list[harness.Spec] = [
    harness.Spec(
        kind="evaluation",
        name="reconstruction",
        version=2,
        summary="Variance explained, direction and length of reconstructions, against the sparsity of the codes",
        factory="plugins.evaluations.reconstruction:Reconstruction",
    ),
    harness.Spec(
        kind="evaluation",
        name="downstream",
        version=1,
        summary="Cross-entropy and KL of the model with reconstructions in it, and the loss recovered from ablations",
        factory="plugins.evaluations.downstream:Downstream",
        needs=("head",),
    ),
]
