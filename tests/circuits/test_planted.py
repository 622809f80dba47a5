"""Circuits of a transformer built by hand: the planted nodes are found, and nothing where there is nothing."""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch import Tensor

from harness.circuits.analysis import Analysis, Finding, Subject, analyse, solved
from harness.circuits.attribution import attribution
from harness.circuits.nodes import Nodes
from harness.circuits.paths import MAX_GAP
from harness.circuits.trials import SiteValues, Trials
from harness.errors import Undefined
from tests.support.induction import (
    INDUCTION_HEAD,
    N_HEADS,
    OUTPUT,
    PREVIOUS,
    PREVIOUS_HEADS,
    WIDTH,
    InductionModel,
    Linear,
    induction_pairs,
    path_values,
)

PAIRS = induction_pairs()
HEADS, STREAM = ("attn_z.0", "attn_z.1"), ("resid_post.0", "resid_post.1")
PLANTED = {("resid_post.0", PREVIOUS.start + token) for token in (0, 1)} | {
    ("resid_post.1", OUTPUT.start + token) for token in (2, 3)
}
"""Token 0 or 1 was before, and 2 or 3 comes next."""
ROTATION = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1)))[0]
DRAWN = torch.randn(100, WIDTH, generator=torch.Generator().manual_seed(2))


def trials(model: InductionModel, sites: tuple[str, ...], values: dict[str, SiteValues]) -> Trials:
    nodes = {site: identity(values[site].clean) for site in sites}
    return Trials(PAIRS, model.runs, nodes, values)


def identity(x: Float[Tensor, "b t d"]) -> Nodes:
    return Nodes(Linear(torch.eye(x.shape[-1])), x.flatten(0, 1))


def by_head(effects: Float[Tensor, " n"]) -> Float[Tensor, "2 h"]:
    return effects.reshape(2, N_HEADS, WIDTH).sum(dim=-1)


def columns(layer: int, head: int) -> range:
    return range((layer * N_HEADS + head) * WIDTH, (layer * N_HEADS + head + 1) * WIDTH)


def exact(found: Trials) -> Float[Tensor, "2 h"]:
    clean = found.unedited()
    patched = [[found.patched(columns(layer, head)) for head in range(N_HEADS)] for layer in range(2)]
    return torch.stack([torch.stack([(own - clean).mean() for own in layer]) for layer in patched])


@pytest.mark.parametrize("sharpness", [2.0, 5.0, 10.0, 20.0, 50.0])
def test_both_heads_are_found_at_any_sharpness(sharpness: float) -> None:
    """Sharp attention is a step: the true effect is −2 and the gradient at the clean end 0, of a head all rests on."""
    model = InductionModel(sharpness)
    values, found = path_values(model, PAIRS, HEADS)
    tried = trials(model, HEADS, values)
    is_planted = torch.zeros(2, N_HEADS, dtype=torch.bool)
    is_planted[0, PREVIOUS_HEADS[0]] = is_planted[1, INDUCTION_HEAD] = True
    attributed, true = by_head(attribution(tried).nodes.mean(dim=0)), exact(tried)
    for effects in (attributed, true):
        assert roc_auc_score(is_planted.flatten(), effects.abs().flatten()) == 1
    assert all(own.gap < MAX_GAP for own in found.values())
    assert torch.allclose(attributed, true, atol=0.15)
    if sharpness >= 10:
        assert true[is_planted] == pytest.approx([-2, -2], abs=0.03)  # noise heads hold a little of it
    if sharpness >= 20:
        first, _ = path_values(model, PAIRS, HEADS[:1], n_steps=0, max_steps=0)
        missed = attribution(trials(model, HEADS[:1], first)).nodes.mean(dim=0)
        assert abs(float(missed[columns(0, PREVIOUS_HEADS[0])].sum())) < 0.01


def test_gradients_that_do_not_add_up_are_said() -> None:
    found = path_values(InductionModel(50.0), PAIRS, HEADS[:1], n_steps=4, max_steps=8)[1]["attn_z.0"]
    assert found.n_steps == 8 and found.gap > 0.5
    found = path_values(InductionModel(50.0), PAIRS, HEADS[:1], n_steps=0, max_steps=0)[1]["attn_z.0"]
    assert found.gap == pytest.approx(1, abs=0.05)


def test_of_two_copies_of_a_head_each_hides_half_of_the_other() -> None:
    """With one copy as in the patch, attention finds two places alike: by hand −1, and −2 with both."""
    model = InductionModel(20.0, n_copies=2)
    tried = trials(model, HEADS, path_values(model, PAIRS, HEADS)[0])
    clean, copies = tried.unedited(), [list(columns(0, head)) for head in PREVIOUS_HEADS]
    for nodes, effect in ((copies[0], -1), (copies[1], -1), ([*copies[0], *copies[1]], -2)):
        assert float((tried.patched(nodes) - clean).mean()) == pytest.approx(effect, abs=0.05)


@functools.cache
def analysed(name: str) -> Analysis:
    model = InductionModel(20.0)
    values, _ = path_values(model, PAIRS, STREAM)
    dictionary = {"true": torch.eye(WIDTH), "rotated": ROTATION, "random": DRAWN}[name]
    nodes = {site: Nodes(Linear(dictionary), values[site].clean.flatten(0, 1)) for site in STREAM}
    return analyse(Subject(PAIRS, model.runs, nodes, values))


def of(analysis: Analysis, metric: str) -> Finding:
    (found,) = (own for own in analysis.findings if own.metric == metric)
    return found


def test_the_true_dictionary_shows_the_planted_nodes() -> None:
    found = analysed("true")
    assert {(node.site, node.latent) for node in found.nodes if node.is_in_circuit} == PLANTED
    assert of(found, "n_minimal").value == 4 and of(found, "minimal_share_necessary").value == 1
    for metric, value in (("carried", 1), ("minimal_faithfulness", 1), ("completeness", 0), ("faithfulness_5", 1)):
        assert of(found, metric).value == pytest.approx(value, abs=0.02), metric
    assert of(found, "nodes_for_0.8").value == 5 and (of(found, "attribution_exact_ccc").value or 0) > 0.99
    assert [abs(own.value or 0) < 1e-6 for own in found.findings if own.metric == "error_share"] == [True] * 2


@pytest.mark.parametrize("name", ["rotated", "random"])
def test_other_dictionaries_need_more_nodes(name: str) -> None:
    true, other = analysed("true"), analysed(name)
    assert of(other, "carried").value == pytest.approx(1, abs=0.02)  # all of them together hold every row
    assert (of(other, "nodes_for_0.8").value or 0) >= 20
    assert (of(other, "cpr").value or 1) < (of(true, "cpr").value or 0) - 0.2
    assert (of(other, "cmd").value or 0) > (of(true, "cmd").value or 1) + 0.2
    claim = of(other, "n_minimal")
    assert claim.value is None and "strongest nodes that it rests on reach a faithfulness of" in str(claim.reason)


@pytest.mark.parametrize("name", ["true", "rotated", "random"])
def test_random_sets_say_nothing(name: str) -> None:
    for size in (1, 2, 5, 10):
        assert of(analysed(name), f"faithfulness_{size}_random").value == pytest.approx(0, abs=0.1)


def test_latents_that_miss_what_matters_claim_no_circuit() -> None:
    """A dictionary of tokens and places alone: what was before and what comes next are errors."""
    model = InductionModel(20.0)
    values, _ = path_values(model, PAIRS, STREAM)
    blind = Linear(torch.eye(WIDTH)[: PREVIOUS.start])
    nodes = {site: Nodes(blind, values[site].clean.flatten(0, 1)) for site in STREAM}
    found = analyse(Subject(PAIRS, model.runs, nodes, values))
    assert of(found, "carried").value == pytest.approx(0, abs=0.02)
    errors = [own.value for own in found.findings if own.metric == "error_share"]
    assert errors == pytest.approx([1, 1], abs=0.02)
    assert "carry 0.00 of the behaviour" in str(of(found, "n_minimal").reason) and of(found, "n_minimal").value is None
    assert of(found, "nodes_for_0.8").value is None
    assert not any(node.is_in_circuit for node in found.nodes)


def test_no_claim_where_the_model_fails() -> None:
    runs = [InductionModel(20.0).runs(ids, PAIRS.lengths).logits() for ids in (PAIRS.clean, PAIRS.patch)]
    rows, reason = solved(PAIRS, *(PAIRS.measure(logits) for logits in runs))
    assert reason is None and [row.value for row in rows] == pytest.approx([1, 1, -1], abs=0.05)
    exchanged = (torch.arange(len(PAIRS)) // 2) % 2 == 0
    right, wrong = torch.where(exchanged, PAIRS.wrong, PAIRS.right), torch.where(exchanged, PAIRS.right, PAIRS.wrong)
    shuffled = replace(PAIRS, right=right, wrong=wrong)
    rows, reason = solved(shuffled, *(shuffled.measure(logits) for logits in runs))
    assert rows[0].value == 0.5 and reason == "the model fails the behaviour: 0.50 of its answers are right"


def test_a_decoder_that_is_not_affine_is_refused() -> None:
    class Squares(Linear):
        def decode(self, codes):  # type: ignore[no-untyped-def]  # as the class it is made from
            return (codes.values**2).clamp(max=1e6) @ self.dictionary

    rows = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(Undefined, match="decoding is not affine in the codes of Squares"):
        Nodes(Squares(torch.eye(4)), rows)
