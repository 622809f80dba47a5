"""Rows to compare, and what similarities are invariant to."""

from __future__ import annotations

import torch


def rows(n: int, d: int, seed: int = 0) -> torch.Tensor:
    """Correlated columns of unequal variance, away from the origin."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    return x @ torch.randn(d, d, generator=generator, dtype=torch.float64) + 5 * torch.arange(d)


def related(n: int, d1: int, d2: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """y is a noisy linear image of x."""
    x = rows(n, d1, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    y = x @ torch.randn(d1, d2, generator=generator, dtype=torch.float64)
    return x, y + 3 * torch.randn(n, d2, generator=generator, dtype=torch.float64)


def moved(x: torch.Tensor, seed: int = 7) -> dict[str, torch.Tensor]:
    """x after each map that a similarity may be invariant to; `invertible` stands for all linear ones."""
    d = x.shape[1]
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(d, d, generator=generator, dtype=torch.float64)
    scales = torch.logspace(-1, 1, d, dtype=torch.float64)
    return {
        "orthogonal": x @ torch.linalg.qr(gaussian)[0].to(x.dtype),
        "isotropic_scale": 250 * x,
        "translation": x + torch.linspace(-100, 100, d),
        "permutation": x[:, torch.randperm(d, generator=generator)],
        "invertible": x @ torch.diag(scales).to(x.dtype),
    }


def parts_merged(make, x: torch.Tensor, y: torch.Tensor, cuts: list[int], choose) -> float:
    """The value of metrics that saw one part each and were merged in the order that `choose(n)` takes."""
    parts = []
    for start, stop in zip([0, *cuts], [*cuts, len(x)], strict=True):
        parts.append(make())
        parts[-1].update(x[start:stop], y[start:stop])
    while len(parts) > 1:
        into = parts.pop(choose(len(parts)))
        into.merge(parts.pop(choose(len(parts))))
        parts.append(into)
    return parts[0].compute()
