"""Evaluation `ground_truth`: which features a decomposition has found, on rows that were made of known ones.

There are f true features with their directions, and in every row each is active or not. Cosines are those between
features and the m latents' rows of the dictionary.

    best_cosine       mean over features of the largest |cosine| to a latent; one latent may serve many features
    matched_cosine    mean over features of the |cosine| to the latent that an optimal assignment gives them, each
        latent to at most one; 0 for a feature that gets none, as m < f
    recovered_share   share of features whose matched |cosine| is above .9
    f1                mean over features of 2 TP / (2 TP + FP + FN), counted in unmasked rows: whether the feature is
        active, and whether the matched latent has a code > 0 (< 0 if the cosine is negative); 0 for a feature that gets
        none; features that are active in no row are left out

The true dictionary with the true codes scores 1 in all. A random dictionary does not score 0: have one in the suite.
SynthSAEBench (arXiv 2602.14687) reports a matched cosine and an F1 of this kind, as MCC and F1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

import harness
from harness.plugins.assignment import optimal_assignment

RECOVERED = 0.9


class GroundTruth:
    """Matches latents with features, and counts when both are active."""

    def __init__(self, config: object) -> None: ...

    @torch.no_grad()
    def evaluate(
        self, decomposition: harness.Decomposition, context: harness.EvaluationContext
    ) -> list[harness.TableRow]:
        """One table row per metric of the list above."""
        truth = _truth(context)
        if decomposition.dictionary is None:
            raise harness.Undefined(f"{type(decomposition).__name__} has no dictionary")
        dictionary, f = decomposition.dictionary.detach().cpu().double(), len(truth.dictionary)
        n_zero = int((~dictionary.any(dim=1)).sum())
        if not len(dictionary) or n_zero:
            raise harness.Undefined(
                f"{n_zero} of {len(dictionary)} latents have a dictionary row of norm 0" if n_zero else "no latents"
            )
        cosines = _unit(truth.dictionary.cpu().double()) @ _unit(dictionary).T
        features, latents = map(torch.from_numpy, optimal_assignment(cosines.abs().numpy()))
        matched = torch.zeros(f, dtype=torch.float64)
        matched[features] = cosines[features, latents].abs()
        rows = [
            harness.TableRow("best_cosine", float(cosines.abs().amax(dim=1).clamp(max=1).mean()), f, True),
            harness.TableRow("matched_cosine", float(matched.clamp(max=1).mean()), f, True),
            harness.TableRow("recovered_share", float((matched > RECOVERED).double().mean()), f, True),
        ]
        signs = cosines[features, latents].sign()
        return [*rows, _f1(decomposition, context, truth, features, latents, signs)]


def _truth(context: harness.EvaluationContext) -> harness.Truth:
    if context.truth is None:
        raise harness.Undefined("the true features of these rows are not known")
    truth = context.truth()
    if truth.dictionary.shape[1] != context.width or len(truth.codes.values) != context.n_rows:
        raise harness.PluginError(
            f"truth: a dictionary of {list(truth.dictionary.shape)} and codes of {len(truth.codes.values)} rows, for "
            f"{context.n_rows} rows of width {context.width}."
        )
    return truth


def _f1(
    decomposition: harness.Decomposition,
    context: harness.EvaluationContext,
    truth: harness.Truth,
    features: Int[Tensor, " pairs"],
    latents: Int[Tensor, " pairs"],
    signs: Float[Tensor, " pairs"],
) -> harness.TableRow:
    f, start, n_rows = len(truth.dictionary), 0, 0
    both, active, fires = (torch.zeros(f, dtype=torch.long) for _ in range(3))
    place = torch.full((decomposition.n_latents,), len(latents))  # the last is for all latents without a feature
    place[latents] = torch.arange(len(latents))
    for x, masked in context.blocks():
        part, keep = slice(start, start + len(x)), ~masked.cpu()
        start += len(x)
        if not keep.any():
            continue
        is_active = _part(truth.codes, part).to_dense(f)[keep] > 0
        codes = _matched(decomposition.encode(x[keep.to(x.device)]), latents, place)
        does_fire = torch.zeros_like(is_active)
        does_fire[:, features] = codes * signs > 0
        both += (is_active & does_fire).sum(dim=0)
        active += is_active.sum(dim=0)
        fires += does_fire.sum(dim=0)
        n_rows += len(is_active)
    known = active > 0
    if not known.any():
        return harness.TableRow("f1", None, n_rows, True, "no feature is active in an unmasked row")
    f1 = 2 * both[known].double() / (active[known] + fires[known])
    return harness.TableRow("f1", float(f1.mean()), n_rows, True)


def _matched(
    codes: harness.Codes, latents: Int[Tensor, " pairs"], place: Int[Tensor, " m"]
) -> Float[Tensor, "n pairs"]:
    """The codes of the matched latents: nothing of size [n, m] is made of sparse ones."""
    values = codes.values.cpu()
    if codes.indices is None:
        return values[:, latents]
    n_pairs = len(latents)
    return harness.Codes(values, place[codes.indices.cpu().long()], n_pairs + 1).to_dense()[:, :n_pairs]


def _part(codes: harness.Codes, rows: slice) -> harness.Codes:
    indices = None if codes.indices is None else codes.indices[rows]
    return harness.Codes(codes.values[rows], indices, codes.n_latents)


def _unit(rows: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    norms: Float[Tensor, "m 1"] = rows.norm(dim=1, keepdim=True)
    return rows / norms
