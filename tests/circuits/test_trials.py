"""Trials on texts of several lengths: means by place from the end, edits that keep what is kept to the bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.circuits.captured import Captured, captured
from harness.circuits.nodes import Nodes
from harness.circuits.pairs import Pairs
from harness.circuits.trials import Means, Trials
from tests.support.induction import WIDTH, InductionModel, Linear, induction_pairs

SITES = ("resid_post.0", "resid_post.1")
MODEL = InductionModel(20.0)


def of_two_lengths() -> Pairs:
    """The first half of the pairs without their first two tokens."""
    whole = induction_pairs(8)
    n = len(whole) // 2
    for side in (whole.clean, whole.patch):
        side[:n] = side[:n].roll(-2, dims=1)
    whole.lengths[:n] -= 2
    whole.is_open[:n, -2:] = False
    return whole


def test_batches_have_one_length_and_pairs_their_order() -> None:
    pairs = of_two_lengths()
    found, _ = captured(MODEL, pairs, SITES)
    for number in (0, len(pairs) - 1):
        alone = pairs.take(torch.tensor([number]))
        assert alone.clean.shape[1] == pairs.lengths[number]
        expected = MODEL.runs(alone.clean, alone.lengths)
        assert alone.measure(expected.logits()).item() == pytest.approx(found.clean[number].item(), abs=1e-5)
        x = found.values[SITES[0]].clean[number, : int(pairs.lengths[number])]
        assert torch.allclose(x, expected.activations(SITES)[SITES[0]][0], atol=1e-5)
    assert not found.values[SITES[0]].clean[0, -2:].any()  # padding


def test_means_are_by_place_from_the_end() -> None:
    pairs = of_two_lengths()
    values = captured(MODEL, pairs, SITES[:1])[0].values[SITES[0]]
    means = Means.of(Nodes(Linear(torch.eye(WIDTH)), values.clean[pairs.is_open]), values, pairs)
    ends = torch.stack(
        [side[i, int(n) - 1] for side in (values.clean, values.patch) for i, n in enumerate(pairs.lengths)]
    )
    assert torch.allclose(means.codes[0], ends.mean(dim=0), atol=1e-6)
    reference = means.reference(pairs)
    assert torch.equal(reference.codes[0, int(pairs.lengths[0]) - 1], means.codes[0])
    assert not means.errors.any()


def test_what_is_kept_whole_is_left_to_the_bit() -> None:
    pairs = induction_pairs(4)
    found = captured(MODEL, pairs, SITES)[0]
    draw = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(0))
    nodes = {site: Nodes(Linear(draw), found.values[site].clean.flatten(0, 1)) for site in SITES}
    trials = Trials(pairs, MODEL.runs, nodes, found.values)
    every = torch.ones(trials.n_nodes, dtype=torch.bool)
    assert torch.equal(trials.ablated(every, trials.means(), with_errors=True), trials.unedited())
    assert not torch.equal(trials.ablated(every, trials.means()), trials.unedited())
    # All nodes and errors of the last site as in the patch: what is left is the patch.
    exact = Trials(pairs, MODEL.runs, {SITES[1]: identity()}, {SITES[1]: found.values[SITES[1]]})
    assert torch.allclose(exact.patched(range(WIDTH)), found.patch, atol=1e-5)


def identity() -> Nodes:
    return Nodes(Linear(torch.eye(WIDTH)), torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(1)))


def test_files_give_back_what_was_saved(tmp_path: Path) -> None:

    found = captured(MODEL, of_two_lengths(), SITES)[0]
    found.save(tmp_path)
    again = Captured.load(tmp_path, torch.device("cpu"))
    assert again.pairs.groups == found.pairs.groups and list(again.values) == list(SITES)
    assert torch.equal(again.pairs.is_open, found.pairs.is_open) and torch.equal(again.patch, found.patch)
    assert torch.equal(again.values[SITES[1]].gradient, found.values[SITES[1]].gradient)
