"""Inputs that all similarities over representations refuse alike."""

from __future__ import annotations

import pytest
import torch

import harness
from tests.support.representations import rows

X = rows(30, 4)


@pytest.mark.parametrize("name", ["cka", "mutual_knn", "relative", "cka_itda_paper"])
@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        (X.numpy(), X, "x is a ndarray; give a tensor of real numbers, such as torch.from_numpy"),
        (X, X > 0, "y is a tensor of torch.bool"),
        (X.to(torch.complex64), X, "x is a tensor of torch.complex64"),
        (X[0], X, r"x has shape \(4,\); give \[n rows, d\]"),
        (X, X[1:], "x has 30 rows, y has 29; row i of both must stand for the same token"),
    ],
)
def test_what_is_no_pair_of_aligned_matrices_is_refused(
    name: str, x: torch.Tensor, y: torch.Tensor, reason: str
) -> None:
    parameters = {"relative": {"anchors": 5}}.get(name, {})
    with pytest.raises(harness.ConfigError, match=reason):
        harness.create("similarity", name, **parameters)(x, y)
