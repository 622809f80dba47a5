"""The definitions, written out as slowly and plainly as possible, in float64: what the fast forms must equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def pursue(x: Tensor, atoms: Tensor, k: int) -> tuple[list[float], list[int], Tensor]:
    """Textbook matching pursuit of one row: coefficients, picks, residual."""
    residual, values, picks = x.clone(), [], []
    for _ in range(k):
        correlations = atoms @ residual
        pick = int(correlations.abs().argmax())
        values.append(float(correlations[pick]))
        picks.append(pick)
        residual = residual - correlations[pick] * atoms[pick]
    return values, picks, residual


def pursue_orthogonally(x: Tensor, atoms: Tensor, k: int) -> tuple[list[float], list[int], Tensor]:
    """Textbook orthogonal matching pursuit of one row: a least-squares problem at each step."""
    residual, values, picks = x.clone(), torch.zeros(0, dtype=x.dtype), list[int]()
    for _ in range(min(k, len(atoms))):
        if residual.norm() <= 1e-13 * x.norm():  # spanned: what is left is rounding
            break
        strengths = (atoms @ residual).abs()
        strengths[picks] = -1
        picks.append(int(strengths.argmax()))
        values = torch.linalg.lstsq(atoms[picks].T, x[:, None], driver="gelsd").solution[:, 0]
        residual = x - values @ atoms[picks]
    return values.tolist(), picks, residual


def pursue_upwards(x: Tensor, atoms: Tensor, k: int) -> tuple[list[float], list[int], Tensor]:
    """Matching pursuit of one row along positive correlations only."""
    residual, values, picks = x.clone(), [], []
    for _ in range(k):
        correlations = atoms @ residual
        pick = int(correlations.argmax())
        if correlations[pick] <= 1e-13 * x.norm():
            break
        values.append(float(correlations[pick]))
        picks.append(pick)
        residual = residual - correlations[pick] * atoms[pick]
    return values, picks, residual


def itda(
    x: Tensor, k: int, max_atoms: int, threshold: float, batch_rows: int, pursue: Callable[..., Any] = pursue
) -> list[int]:
    """Which rows become atoms, in order, judged one by one."""

    def error(i: int) -> float:
        residual = pursue(x[i], atoms, k)[2]
        return float(residual @ residual / (x[i] @ x[i]))

    x = x.double()
    taken: list[int] = []
    for start in range(0, len(x), batch_rows):
        block = [i for i in range(start, min(start + batch_rows, len(x))) if x[i].any()]
        if block and not taken:
            taken = [block[0]]
            atoms = x[taken] / x[taken].norm()
        errors = {i: error(i) for i in block}
        candidates = sorted((i for i in block if errors[i] > threshold), key=lambda i: (-errors[i], i))
        for i in candidates:
            if len(taken) < max_atoms and error(i) > threshold:
                taken.append(i)
                atoms = torch.cat([atoms, x[i : i + 1] / x[i].norm()])
    return taken


def mixture(n: int, d: int = 32, seed: int = 0) -> Tensor:
    """Sparse sums of 6·d directions around a mean, with a falling spectrum: shaped like activations, float64."""
    world = torch.Generator().manual_seed(0)  # the same directions for every seed
    spectrum = torch.arange(1, d + 1, dtype=torch.float64) ** -0.5
    directions = torch.randn(6 * d, d, generator=world, dtype=torch.float64) * spectrum
    mean = 3 * torch.randn(d, generator=world, dtype=torch.float64) * spectrum
    generator = torch.Generator().manual_seed(seed)
    strengths = torch.rand(n, 6 * d, generator=generator, dtype=torch.float64)
    strengths = 3 * strengths * (torch.rand(n, 6 * d, generator=generator) < 6 / (6 * d))
    return mean + strengths @ directions + 0.02 * torch.randn(n, d, generator=generator, dtype=torch.float64)


def saelens(x: Tensor, config: dict[str, Any], weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Codes and reconstruction as SAELens defines them, from what its files hold."""
    w = {name: weight.double() for name, weight in weights.items()}
    scale = config.get("norm_scaling_factor", 1.0)
    entering = scale * x.double() - (w["b_dec"] if config.get("apply_b_dec_to_input", True) else 0)
    norms = w["W_dec"].norm(dim=1) if config.get("rescale_acts_by_decoder_norm") else torch.ones(len(w["W_dec"]))
    if config["architecture"] == "gated":
        is_open = entering @ w["W_enc"] + w["b_gate"] > 0
        codes = is_open * (entering @ (w["W_enc"] * w["r_mag"].exp()) + w["b_mag"]).relu()
    else:
        codes = ((entering @ w["W_enc"] + w["b_enc"]) * norms).relu()
    if config["architecture"] == "jumprelu":
        codes = codes * (codes > w["threshold"])
    if config["architecture"] == "topk":
        codes = codes * (codes >= codes.topk(config["k"]).values[:, -1:])
    return codes, ((codes / norms) @ w["W_dec"] + w["b_dec"]) / scale
