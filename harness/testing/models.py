"""Checks of models: the rows of a text do not depend on what else is in the batch."""

from __future__ import annotations

import gc
from contextlib import suppress
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from harness.contracts.model import HasInnerSites
from harness.errors import ConfigError
from harness.testing import heads, model_windows, own_rows, runs
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.model_trials import ModelUnderTest, batch, error_of, is_rounding

_ALONE = "padding must get no attention, and no mean, norm or table be taken over a batch."


def says_what_it_is(under_test: ModelUnderTest) -> None:
    """It has n_layers and width, whole numbers from 1 on, and tokenizer_hash, a text."""
    for name in ("n_layers", "width"):
        value = getattr(under_test.model, name, "missing")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise Broken(f"{name} is {value!r}; give a whole number from 1 on.")
    if not isinstance(getattr(under_test.model, "tokenizer_hash", None), str) or not under_test.model.tokenizer_hash:
        found = getattr(under_test.model, "tokenizer_hash", "missing")
        raise Broken(f"tokenizer_hash is {found!r}; give a text that is equal for tokenizers that cut texts alike.")


def has_the_shape_that_its_spec_states(under_test: ModelUnderTest) -> None:
    """The loaded model has the layers and the widths that its Spec states, where it names a `shape`."""
    if under_test.shape is None:
        raise NotChecked("no shape is stated; with one, plans check sites and estimate disk before anything is loaded")
    for name in ("n_layers", "width"):
        stated, found = under_test.shape.get(name, "missing"), getattr(under_test.model, name)
        if stated != found:
            raise Broken(f"{name} is {stated!r} in the Spec's shape, and {found} in the model: plans would go wrong.")
    if isinstance(under_test.model, HasInnerSites):
        for kind in under_test.shape.keys() - {"n_layers", "width"}:
            with suppress(ConfigError):  # a config may state the size of what can't be read alone
                found = under_test.model.site_width(f"{kind}.0")
                if found != under_test.shape[kind]:
                    raise Broken(
                        f"{kind} is {under_test.shape[kind]} in the Spec's shape, and rows there have {found}."
                    )


def gives_rows_of_its_width_at_every_layer(under_test: ModelUnderTest) -> None:
    """resid_post.0 to resid_post.{n_layers - 1} each give finite rows [b, t, width] of their own."""
    sites = [f"resid_post.{layer}" for layer in range(under_test.reader.n_layers)]
    ids, mask = batch(under_test.windows[:3])
    found = under_test.reader.activations(ids, mask, sites)
    if set(found) != set(sites):
        raise Broken(f"activations() gave {sorted(found)} when asked for {sites}; give a tensor for each site.")
    expected = (*ids.shape, under_test.model.width)
    for site, x in found.items():
        if tuple(x.shape) != expected or not x.is_floating_point():
            raise Broken(f"{site} is {x.dtype} {list(x.shape)}; give floating numbers {list(expected)}, [b, t, width].")
        if not x[mask.to(x.device)].isfinite().all():
            raise Broken(f"{site} holds NaN or infinite values in rows of an ordinary text.")
    for site, later in pairwise(sites):
        if torch.equal(found[site], found[later]):
            raise Broken(f"{site} and {later} are equal: each layer is to be read where it ends. Are layers counted?")


def refuses_layers_that_it_has_not_got(under_test: ModelUnderTest) -> None:
    """A site from layer n_layers on raises: n_layers counts all layers, and no number stands for another layer."""
    ids, mask = batch(under_test.windows[:1])
    given = []
    for layer in (under_test.reader.n_layers, under_test.reader.n_layers + 7):
        site = f"resid_post.{layer}"
        with suppress(Exception):  # any refusal will do: the harness asks for no such site
            under_test.reader.activations(ids, mask, [site])
            given.append(site)
    if given:
        raise Broken(
            f"activations() gave something for {given[0]}, with n_layers {under_test.model.n_layers}: raise "
            "harness.ConfigError for a layer that is not there, and count all that are."
        )


def does_not_see_padding(under_test: ModelUnderTest) -> None:
    """The rows of a window are the same to within rounding, whatever ids the padding has and however long it is."""
    windows, longest = under_test.windows, max(len(window.ids) for window in under_test.windows)
    before = under_test.read(windows)
    for n_tokens, pad_id in ((longest, windows[0].ids[-1]), (longest + 5, 0), (longest + 23, windows[0].ids[0])):
        after = under_test.read(windows, n_tokens=n_tokens, pad_id=pad_id)
        what = f"padding is {n_tokens - longest} tokens longer" if n_tokens > longest else f"padding has id {pad_id}"
        _same(before, after, f"where {what}", "`mask` is False there, and " + _ALONE)


def does_not_mind_the_texts_beside(under_test: ModelUnderTest) -> None:
    """The rows of a window are the same alone, beside others, at another place, and beside much longer ones."""
    windows = sorted(under_test.windows, key=lambda window: len(window.ids))
    together = under_test.read(windows)
    for place in (0, len(windows) // 2, len(windows) - 1):
        alone = {site: x[place : place + 1] for site, x in together.items()}
        _same(under_test.read([windows[place]]), alone, "beside other windows", _ALONE)
    _same(_reversed(under_test.read(windows[::-1])), together, "at other places of the batch", _ALONE)
    for long in under_test.long_windows:
        beside = under_test.read([*windows, long])
        where = f"without one of {len(long.ids)} tokens in the batch"
        _same({site: x[:-1] for site, x in beside.items()}, together, where, _ALONE)
        _same({site: x[-1:] for site, x in beside.items()}, under_test.read([long]), "beside shorter windows", _ALONE)


def does_not_mind_the_sites_asked_beside(under_test: ModelUnderTest) -> None:
    """A site's rows are the same, asked for alone or with others, in any order."""
    windows = under_test.windows[:3]
    together = under_test.read(windows, under_test.sites[::-1])
    for site in under_test.sites:
        alone = under_test.read(windows, [site])
        if set(alone) != {site}:
            raise Broken(f"activations() gave {sorted(alone)} when asked for {site} alone.")
        advice = "what is read at one site must not change what is read at another."
        _same(alone, {site: together[site]}, "asked for beside other sites", advice)


def repeats_itself(under_test: ModelUnderTest) -> None:
    """Equal batches give equal bits: after other texts, from a fresh instance, whatever the random states."""
    windows = under_test.windows
    seed_globally(1)
    before = under_test.read(windows)
    long = under_test.long_windows[-1:]
    after_short = under_test.read(long)
    seed_globally(2)
    _equal(before, under_test.read(windows), "a second time", "set dropout off (eval()) and keep no state of a batch.")
    fresh = under_test.make()
    afresh = under_test.read(long, model=fresh)
    advice = "draw weights with a generator of their own, seeded by a parameter."
    _equal(before, under_test.read(windows, model=fresh), "from a fresh instance", advice)
    _equal(after_short, afresh, "after shorter windows", "what a batch changes in the model is to be undone.")


def keeps_nothing_of_a_batch(under_test: ModelUnderTest) -> None:
    """Rows carry no gradient, and no tensor of a batch is kept when the next one comes."""
    ids, mask = batch(under_test.windows)
    for _ in range(2):  # the first may fill caches that stay as they are
        found = under_test.reader.activations(ids, mask, under_test.sites)
    for site, x in found.items():
        if x.requires_grad:
            raise Broken(f"{site} tracks gradients, which keeps all that led to it: use torch.no_grad().")
    del found
    before = _bytes_held()
    for _ in range(3):
        under_test.reader.activations(ids, mask, under_test.sites)
    if (more := _bytes_held() - before) > 0:
        raise Broken(
            f"after three batches {more:,} bytes of tensors are held that were not before: take hooks off, and keep no "
            "activations."
        )


def leaves_its_input_alone(under_test: ModelUnderTest) -> None:
    """Neither ids nor mask is written into."""
    (ids, mask), unspoilt = (batch(under_test.windows, pad_id=under_test.windows[0].ids[-1]) for _ in range(2))
    under_test.reader.activations(ids, mask, under_test.sites)
    for name, after, before in zip(("ids", "mask"), (ids, mask), unspoilt, strict=True):
        if not torch.equal(after, before):
            raise Broken(f"activations() has changed {name}: clone what is written into, or use masked_fill.")


Rows = dict[str, list[Float[Tensor, "t d"]]]


def _same(found: Rows, expected: Rows, where: str, advice: str) -> None:
    for site, rows in expected.items():
        for got, wanted in zip(found[site], rows, strict=True):
            error = error_of(got, wanted)
            if not is_rounding(error, wanted.dtype):
                raise Broken(
                    f"a row of {site} in a window of {len(wanted)} tokens differs by {error:.2g} of its norm {where}: "
                    f"{advice}"
                )


def _equal(found: Rows, expected: Rows, when: str, advice: str) -> None:
    for site, rows in expected.items():
        for got, wanted in zip(found[site], rows, strict=True):
            if not torch.equal(got, wanted):
                raise Broken(f"{site} has other numbers {when}, for the same batch: {advice}")


def _reversed(rows: Rows) -> Rows:
    return {site: x[::-1] for site, x in rows.items()}


def _bytes_held() -> int:
    gc.collect()
    sizes = {}
    for value in gc.get_objects():
        # By type(): some objects import a module when asked for their class.
        if issubclass(type(value), Tensor):
            with suppress(RuntimeError, NotImplementedError):  # tensors without a memory of their own
                storage = value.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
    return sum(sizes.values())


CHECKS: list[Check] = [
    says_what_it_is,
    has_the_shape_that_its_spec_states,
    *model_windows.CHECKS,
    gives_rows_of_its_width_at_every_layer,
    refuses_layers_that_it_has_not_got,
    does_not_see_padding,
    does_not_mind_the_texts_beside,
    does_not_mind_the_sites_asked_beside,
    repeats_itself,
    keeps_nothing_of_a_batch,
    leaves_its_input_alone,
    *heads.CHECKS,
    *runs.CHECKS,
    *own_rows.CHECKS,
]
