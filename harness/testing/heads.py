"""Checks of models that predict next tokens: windows are run again with other rows in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.contracts.model import HasHead, HasUnembedding
from harness.errors import Undefined
from harness.testing.checks import Broken, Check, NotChecked
from harness.testing.model_trials import TEXTS, ModelUnderTest, error_of, is_rounding

_WINDOWS, _TOKENS = 3, 12


def replays_to_the_bit(under_test: ModelUnderTest) -> None:
    """replay(ids, site).patched(x) with its own rows gives logits(), bit for bit, and again after other rows."""
    ids = _ids(under_test)
    for site in under_test.sites:
        replay = _replay(under_test, ids, site)
        logits = replay.logits()
        if logits.ndim != 3 or tuple(logits.shape[:2]) != tuple(ids.shape) or not logits.is_floating_point():
            raise Broken(f"logits() is {logits.dtype} {list(logits.shape)}; give floating numbers [b, t, vocabulary].")
        if logits.isnan().any():
            raise Broken("logits() holds NaN for windows of ordinary texts.")
        replay.patched(torch.zeros_like(replay.x))
        for what, again in (("patched(x) with its own rows", replay.patched(replay.x)), ("logits()", replay.logits())):
            if not torch.equal(again, logits):
                raise Broken(
                    f"at {site}, {what} differs from the first logits() by up to {_largest(again, logits):.2g}: both "
                    "must take the same way through the model, and leave nothing of other rows in it."
                )
        if not isinstance(replay.n_bytes, int) or replay.n_bytes < 1:
            raise Broken(f"n_bytes of a replay is {replay.n_bytes!r}; say how much memory it holds.")


def replays_its_own_rows(under_test: ModelUnderTest) -> None:
    """The x of a replay is what activations() gives at the site, on the CPU."""
    ids = _ids(under_test)
    for site in under_test.sites:
        x = _replay(under_test, ids, site).x
        rows = under_test.reader.activations(ids, torch.ones_like(ids, dtype=torch.bool), [site])[site].cpu()
        if x.device.type != "cpu" or x.shape != rows.shape:
            raise Broken(f"replay.x is {list(x.shape)} on {x.device}; give {list(rows.shape)}, on the CPU.")
        if not is_rounding(error := error_of(x.flatten(0, 1), rows.flatten(0, 1)), rows.dtype):
            raise Broken(f"replay.x at {site} differs from activations() by {error:.2g} of a row's norm.")


def puts_rows_in_their_place(under_test: ModelUnderTest) -> None:
    """Other rows at one position change its logits, and none before it."""
    ids, at = _ids(under_test), _TOKENS // 2
    for site in under_test.sites:
        replay = _replay(under_test, ids, site)
        x = replay.x.clone()
        x[:, at] = -x[:, at]
        before, after = replay.logits(), replay.patched(x)
        if torch.equal(before[:, at], after[:, at]):
            raise Broken(f"other rows at position {at} of {site} do not change the logits there: is x put in?")
        _unchanged(before[:, :at], after[:, :at], f"other rows at position {at} of {site} change logits before it")


def predicts_from_earlier_tokens_only(under_test: ModelUnderTest) -> None:
    """Later tokens change no earlier rows or logits: a model that sees them has no head that predicts them."""
    ids, at = _ids(under_test), _TOKENS // 2
    others = ids.clone()
    others[:, at:] = ids[:, at:].flip(0)
    site = under_test.sites[-1]
    before, after = (_replay(under_test, tokens, site) for tokens in (ids, others))
    for name, one, other in (("rows", before.x, after.x), ("logits", before.logits(), after.logits())):
        _unchanged(one[:, :at], other[:, :at], f"other tokens from position {at} on change earlier {name}")


def has_all_of_its_unembedding(under_test: ModelUnderTest) -> None:
    """unembed(), unembedding() and token_texts() are all there, or none: the logit lens needs the three together."""
    names = [name for name, member in vars(HasUnembedding).items() if callable(member) and not name.startswith("_")]
    missing = [name for name in names if not callable(getattr(under_test.reader, name, None))]
    if missing == names:
        raise NotChecked("it has no unembedding")
    if missing:
        raise Broken(f"{', '.join(f'{name}()' for name in missing)} is missing; without it the others are not used.")


def unembeds_to_its_own_logits(under_test: ModelUnderTest) -> None:
    """unembed(x), if there is one, gives the last block's rows the logits that the model gives them."""
    _needs(under_test, HasUnembedding, "unembed")
    replay = _replay(under_test, _ids(under_test), under_test.sites[-1])
    expected = replay.logits()[:, -1].cpu()
    found = _defined(lambda: under_test.reader.unembed(replay.x[:, -1])).cpu()
    if found.shape != expected.shape:
        raise Broken(f"unembed(x) is {list(found.shape)} for {len(expected)} rows; give {list(expected.shape)}.")
    _unchanged(expected, found, "unembed(x) of the last block's rows differs from the model's logits")


def gives_each_token_its_text(under_test: ModelUnderTest) -> None:
    """token_texts(ids), if there is one, gives the texts of a text's tokens, which in order spell it."""
    _needs(under_test, HasUnembedding, "token_texts")
    for text in (text for text in TEXTS if text.isascii()):
        windows = under_test.reader.windows([text], 400)[0]
        ids = [i for w in windows for i, special in zip(w.ids, w.special, strict=True) if not special]
        texts = under_test.reader.token_texts(ids)
        if len(texts) != len(ids) or not all(isinstance(part, str) for part in texts):
            raise Broken(f"token_texts() gave {texts!r:.60} for {len(ids)} ids; give a text for each.")
        if _letters("".join(texts)) != _letters(text):
            raise Broken(f"token_texts() spells {''.join(texts)[:50]!r}, where the text is {text[:50]!r}.")


def _ids(under_test: ModelUnderTest) -> Int[Tensor, "b t"]:
    """The first tokens of one window of each of the longer texts, without padding."""
    _needs(under_test, HasHead, "replay")
    long = [window.ids for window in under_test.windows if len(window.ids) >= _TOKENS][:_WINDOWS]
    return torch.tensor([list(ids[:_TOKENS]) for ids in long])


def _needs(under_test: ModelUnderTest, ability: type, name: str) -> None:
    if not isinstance(under_test.reader, ability):
        raise NotChecked(f"it has no {name}()")


def _replay(under_test: ModelUnderTest, ids: Int[Tensor, "b t"], site: str) -> Any:
    return _defined(lambda: under_test.reader.replay(ids, site))


def _defined(compute: Callable[[], Any]) -> Any:
    try:
        return compute()
    except Undefined as undefined:
        raise NotChecked(undefined.reason) from undefined


def _unchanged(before: Float[Tensor, ...], after: Float[Tensor, ...], what: str) -> None:
    error = error_of(after.flatten(0, -2), before.flatten(0, -2))
    if not is_rounding(error, before.dtype):
        raise Broken(f"{what}, by {error:.2g} of a row's norm.")


def _largest(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).abs().max()) if a.shape == b.shape else float("nan")


def _letters(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


CHECKS: list[Check] = [
    replays_to_the_bit,
    replays_its_own_rows,
    puts_rows_in_their_place,
    predicts_from_earlier_tokens_only,
    has_all_of_its_unembedding,
    unembeds_to_its_own_logits,
    gives_each_token_its_text,
]
