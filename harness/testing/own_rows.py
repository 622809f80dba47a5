"""Checks of models that have rows of their own and run no texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from harness.contracts.model import HasOwnRows, KnowsTruth, site_width
from harness.contracts.rows import COLUMNS
from harness.contracts.sites import SITE_KINDS
from harness.errors import ConfigError
from harness.testing.checks import Broken, Check, NotChecked
from harness.testing.model_trials import ModelUnderTest


def aligns_its_own_rows(under_test: ModelUnderTest) -> None:
    """stored_capture(sites) gives rows [n, width] at each site and a table of as many lines, in order of documents."""
    sites, capture = _captured(under_test)
    rows = capture.rows
    if missing := [name for name in COLUMNS if name not in rows]:
        raise Broken(f"the rows table has no column {missing[0]!r}; make it with harness.make_rows.")
    for site in sites:
        x = capture.x[site]
        if tuple(x.shape) != (len(rows), site_width(under_test.model, site)) or not x.is_floating_point():
            expected = [len(rows), site_width(under_test.model, site)]
            raise Broken(f"{site} is {x.dtype} {list(x.shape)}; give floating numbers {expected}: a row for each line.")
    if not all(isinstance(document, str) for document in rows["document"]):
        raise Broken("documents are not all texts: ids are texts, so that 01 and 1 are two.")
    if rows["special"].any():
        raise Broken("the rows hold special ones: leave them out.")
    if len(rows) and (np.diff(rows["document"].factorize()[0]) < 0).any():
        raise Broken("rows of one document do not stand together.")


def repeats_its_own_rows(under_test: ModelUnderTest) -> None:
    """Asked again, alone, or of a fresh instance, a site has the same rows."""
    sites, before = _captured(under_test)
    for site in sites:
        for model in (under_test.model, under_test.make()):
            after = model.stored_capture([site])
            if not torch.equal(after.x[site], before.x[site]) or not after.rows.equals(before.rows):
                raise Broken(f"stored_capture([{site!r}]) gives other rows the second time; draw by a seed of its own.")


def knows_what_its_rows_are_made_of(under_test: ModelUnderTest) -> None:
    """truth(rows), if there is one, gives a dictionary [f, width] and codes for just these rows, in their order."""
    sites, capture = _captured(under_test)
    model = under_test.model
    if not isinstance(under_test.model, KnowsTruth):
        raise NotChecked("it has no truth()")
    order = torch.randperm(len(capture.rows), generator=torch.Generator().manual_seed(0))[:200]
    truth = under_test.model.truth(capture.rows.iloc[order.numpy()])
    f, width = truth.dictionary.shape
    codes = truth.codes.to_dense(f)
    if width != model.width or tuple(codes.shape) != (len(order), f):
        raise Broken(
            f"truth() has a dictionary {[f, width]} and codes {list(codes.shape)} for {len(order)} rows of width "
            f"{model.width}; give [f, width] and [n, f]."
        )
    made, x = codes.double() @ truth.dictionary.double(), capture.x[sites[0]][order].double()
    apart = (x - made.roll(1, dims=0)).norm(dim=1)
    if not ((x - made).norm(dim=1) <= apart).double().mean() > 0.9:
        raise Broken("codes · dictionary of a row is no nearer to it than to another row: are they in their order?")


def _captured(under_test: ModelUnderTest) -> tuple[list[str], Any]:
    """The sites that there are, and the rows at all of them."""
    model = under_test.model
    if not isinstance(under_test.model, HasOwnRows):
        raise NotChecked("it has no rows of its own")
    sites = []
    for site in (f"{kind}.{layer}" for kind in SITE_KINDS for layer in range(model.n_layers)):
        try:
            model.stored_capture([site])
        except ConfigError:
            continue
        sites.append(site)
    if not sites:
        raise Broken(f"stored_capture() refuses every site of {model.n_layers} layers; it has to have rows at one.")
    return sites, model.stored_capture(sites)


CHECKS: list[Check] = [aligns_its_own_rows, repeats_its_own_rows, knows_what_its_rows_are_made_of]
