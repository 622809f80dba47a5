"""Checks of models that can be run with edits: later edits see earlier ones, and gradients are differences."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.contracts.model import HasHead, Window
from harness.contracts.runs import HasRuns, Runs
from harness.errors import Undefined
from harness.testing.checks import Broken, Check, NotChecked
from harness.testing.model_trials import ModelUnderTest, batch, error_of, is_rounding

_LENGTHS = (12, 5, 9)
_STEPS = (0.1, 0.03, 0.01, 0.003, 0.001, 0.0003, 0.0001)
"""Shares of the rows' size, small ones too: a few rows may hold nearly all of it."""
_TOLERANCE = 0.02


def runs_unedited_as_it_is(under_test: ModelUnderTest) -> None:
    """Without edits runs() gives the rows of activations(), and edits that give back what they get change no bit."""
    windows, runs = _runs(under_test)
    found = runs.activations(under_test.sites)
    if set(found) != set(under_test.sites):
        raise Broken(f"activations() of runs gave {sorted(found)} when asked for {under_test.sites}.")
    for site, expected in under_test.read(windows).items():
        _same_rows(found[site], expected, f"activations() of runs at {site} differs from that of the model")
    clean, same = runs.logits(), dict.fromkeys(under_test.sites, _same)
    if not torch.equal(runs.logits(same), clean):
        raise Broken(
            "logits() differs where edits give back what they get: take one way through the model, whether or "
            "not something is edited."
        )
    again = runs.activations(under_test.sites, same)
    for site, x in found.items():
        if not torch.equal(again[site][_mask(windows)], x[_mask(windows)]):
            raise Broken(f"{site} has other numbers where edits give back what they get.")


def gives_the_logits_after_each_window(under_test: ModelUnderTest) -> None:
    """logits() is [b, v]: for each window what it has alone, at its own last token, whatever the padding holds."""
    windows, runs = _runs(under_test)
    together = runs.logits()
    if together.ndim != 2 or len(together) != len(windows) or not together.is_floating_point():
        raise Broken(f"logits() of runs is {together.dtype} {list(together.shape)}; give floating numbers [b, v].")
    others = _defined(under_test, *_padded(windows, pad_id=windows[0].ids[1])).logits()
    _same_logits(others, together, "depend on the ids of the padding")
    for i, window in enumerate(windows):
        ids, lengths = _padded([window])
        _same_logits(
            together[i : i + 1], _defined(under_test, ids, lengths).logits(), "differ from those of a window alone"
        )
        if isinstance(under_test.reader, HasHead):
            expected = under_test.reader.replay(ids, under_test.sites[0]).logits()[:, -1]
            _same_logits(together[i : i + 1], expected, "differ from the last ones of replay().logits()")


def applies_edits_in_forward_order(under_test: ModelUnderTest) -> None:
    """At a later site arrives what the earlier edits lead to, and what its own edit gives goes on."""
    windows, runs = _runs(under_test)
    first, last = under_test.sites[0], under_test.sites[-1]
    if first == last:
        raise NotChecked("it has one layer")
    arrived: list[Float[Tensor, "b t w"]] = []

    def doubled(x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        arrived.append(x)
        return 2 * x

    clean, logits = runs.activations([last])[last], runs.logits()
    after_first = runs.activations([last], {first: _negative})[last]
    both = runs.activations([last], {last: doubled, first: _negative})[last]
    rows = _mask(windows)
    if torch.equal(after_first[rows], clean[rows]):
        raise Broken(f"an edit at {first} changes nothing at {last}.")
    if not arrived or not torch.equal(arrived[0][rows], after_first[rows]):
        raise Broken(
            f"what arrives at {last} is not what the edit at {first} leads to: hand edits what is there by then."
        )
    if not torch.equal(both[rows], 2 * after_first[rows]):
        raise Broken(f"activations() at {last} is not what its own edit gave.")
    if torch.equal(runs.logits({last: _negative}), logits):
        raise Broken(f"an edit at {last} does not change the logits.")
    if not torch.equal(runs.logits(), logits):
        raise Broken("the logits without edits are other ones after edits: leave nothing of a run in the model.")


def gives_gradients_that_are_differences(under_test: ModelUnderTest) -> None:
    """Gradients are what small changes of a site do, at its clean activations and where edits have changed them."""
    windows, runs = _runs(under_test)
    clean = runs.logits()
    if clean.dtype not in (torch.float32, torch.float64):
        raise NotChecked(f"differences are rounding in {clean.dtype}")
    best, worst = int(clean[0].argmax()), int(clean[0].argmin())

    def of(logits: Float[Tensor, "b v"]) -> Float[Tensor, ""]:
        return (logits[:, best] - logits[:, worst]).sum()

    for site in under_test.sites:
        for where, edit in (("the clean activations", _same), ("changed activations", _halved)):
            found = runs.gradients([site], of, {} if edit is _same else {site: edit})[site]
            x = runs.activations([site], {site: edit})[site]
            if found.shape != x.shape:
                raise Broken(f"the gradient at {site} is {list(found.shape)}; give {list(x.shape)}.")
            if found[~_mask(windows)].any():
                raise Broken(f"the gradient at {site} is not 0 in padding, which nothing depends on.")
            error = min(_error_of_gradient(runs, site, x, found, of, step) for step in _STEPS)
            if not error <= _TOLERANCE:
                raise Broken(
                    f"the gradient at {site} at {where} is off by {error:.2g} of the change of the logits that steps "
                    "along it make: it has to go through all that follows, also where an edit changes nothing."
                )


def _error_of_gradient(
    runs: Runs, site: str, x: Float[Tensor, "b t w"], gradient: Float[Tensor, "b t w"], of: Any, step: float
) -> float:
    """|g·δ − (m(x + δ) − m(x − δ)) / 2| as a share of the larger, for a δ along g of `step` of x's size."""
    peak = gradient.abs().max()
    direction = gradient / peak if peak > 0 else torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    delta = step * x.square().mean().sqrt() * direction
    up, down = (float(of(runs.logits({site: partial(_constant, new)}))) for new in (x + delta, x - delta))
    expected, measured = float((gradient.double() * delta.double()).sum()), (up - down) / 2
    return abs(expected - measured) / max(abs(expected), abs(measured), 1e-30)


def _same(x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    return x


def _constant(new: Float[Tensor, "b t w"], _: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    return new


def _negative(x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    return -x


def _halved(x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    return 0.5 * x


def _runs(under_test: ModelUnderTest) -> tuple[list[Window], Runs]:
    """Windows of several lengths, and the runs of a batch of them."""
    if not isinstance(under_test.reader, HasRuns):
        raise NotChecked("it has no runs()")
    long = [window for window in under_test.windows if len(window.ids) >= max(_LENGTHS)]
    windows = [
        Window(window.ids[:n], window.special[:n], window.start[:n], window.end[:n])
        for window, n in zip(long, _LENGTHS, strict=False)
    ]
    return windows, _defined(under_test, *_padded(windows))


def _defined(under_test: ModelUnderTest, ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]) -> Runs:
    try:
        runs: Runs = under_test.reader.runs(ids, lengths)
    except Undefined as undefined:
        raise NotChecked(undefined.reason) from undefined
    return runs


def _padded(windows: Sequence[Window], pad_id: int = 0) -> tuple[Int[Tensor, "b t"], Int[Tensor, " b"]]:
    ids, mask = batch(windows, pad_id=pad_id)
    return ids, mask.sum(dim=1)


def _mask(windows: Sequence[Window]) -> Tensor:
    return batch(windows)[1]


def _same_rows(found: Float[Tensor, "b t w"], expected: Sequence[Float[Tensor, "t w"]], what: str) -> None:
    for x, rows in zip(found, expected, strict=True):
        error = error_of(x[: len(rows)].cpu(), rows)
        if not is_rounding(error, rows.dtype):
            raise Broken(f"{what} by {error:.2g} of a row's norm.")


def _same_logits(found: Float[Tensor, "b v"], expected: Float[Tensor, "b v"], what: str) -> None:
    error = error_of(found.cpu(), expected.cpu())
    if not is_rounding(error, expected.dtype):
        raise Broken(f"the logits after a window {what}, by {error:.2g} of their norm.")


CHECKS: list[Check] = [
    runs_unedited_as_it_is,
    gives_the_logits_after_each_window,
    applies_edits_in_forward_order,
    gives_gradients_that_are_differences,
]
