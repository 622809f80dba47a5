"""Checks of scorers. Stand-ins answer their requests: an encoder and a judge that see which words texts share, and a
subject model whose activations on a word are that word's direction.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.contracts.explainer import Explainer
from harness.contracts.latent import Latent, LatentWindow
from harness.contracts.requests import Activate, Choose, Embed, Generate, Likelihood, Steer, Unembed
from harness.contracts.scorer import Scorer, also_of, range_of
from harness.contracts.table_row import TableRow
from harness.errors import Undefined, said
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.examples import latent, meaningless, on_token, planted, responded
from harness.testing.subject import activated, promoted, steered

N_LATENTS = 16
_STANDARD_ERRORS = 4
_TOLERANCE = 1e-9


_ANSWERS: dict[type, Callable[[Latent, Any], Any]] = {
    **dict.fromkeys((Embed, Choose, Generate, Likelihood), lambda latent, request: responded(request)),
    Activate: activated,
    Steer: steered,
    Unembed: promoted,
}


class ScorerUnderTest:
    """A scorer, by what makes a fresh one."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Scorer]) -> None:
        self.make = make

    @cached_property
    def scorer(self) -> Scorer:
        """An instance for what it says of itself."""
        return self.make()

    def rows(self, of: Latent, scorer: Scorer | None = None) -> list[TableRow]:
        """The table rows for a latent, from a fresh scorer if none is given. Raises Undefined if the scorer does."""
        scorer = self.make() if scorer is None else scorer
        plan = checked_plan(scorer, of)
        found: object = scorer.reduce(of, plan, respond(of, plan))
        rows = list(found) if isinstance(found, Iterable) else None
        if rows is None or not all(isinstance(row, TableRow) for row in rows):
            raise Broken(f"reduce() returned {found!r:.80}; give harness.TableRows, in a list or one by one.")
        return rows

    def value(self, of: Latent, scorer: Scorer | None = None) -> float | None:
        """The main metric; None where there is none."""
        try:
            rows = self.rows(of, scorer)
        except Undefined as undefined:
            if not undefined.reason:
                raise Broken("harness.Undefined was raised without a reason; say why there is no value.") from None
            return None
        metrics = [row.metric for row in rows]
        if metrics.count(self.scorer.metric) != 1:
            raise Broken(f"reduce() gives {metrics}; its metric {self.scorer.metric!r} must be there once.")
        return next(row.value for row in rows if row.metric == self.scorer.metric)

    def values(self, latents: Sequence[Latent]) -> list[float]:
        """The main metric of every latent that has one."""
        found = [value for value in map(self.value, latents) if value is not None]
        if len(found) < 2:
            raise NotChecked("it has no value for the latents of the kit")
        return found


def says_what_it_is(under_test: ScorerUnderTest) -> None:
    """It has a metric (the name of its main one) and a chance (what guessing gives, in the metric's range)."""
    metric, chance = getattr(under_test.scorer, "metric", None), getattr(under_test.scorer, "chance", None)
    if not isinstance(metric, str) or not metric:
        raise Broken(f"metric is {metric!r}; give the name of the main metric.")
    low, high = range_of(under_test.scorer)
    if not isinstance(chance, (int, float)) or not low <= chance <= high:
        raise Broken(f"chance is {chance!r}; give the metric's value for guesses, in {(low, high)}.")
    for name, ends in also_of(under_test.scorer).items():
        if name == metric or not any(map(math.isfinite, ends)):
            raise Broken(f"also is {{{name!r}: {ends}}}; give other metrics, with one finite end of their range.")


def gives_its_metric_in_its_range(under_test: ScorerUnderTest) -> None:
    """The main metric is there once, in [0, 1] or the `range` it states, and those of `also` lie in theirs; what is
    null has a reason, nothing is NaN.
    """
    low, high = range_of(under_test.scorer)
    also = also_of(under_test.scorer)
    for index in range(4):
        of = planted(index)
        value = under_test.value(of)
        if value is None:
            continue
        if not low <= value <= high:
            raise Broken(f"{under_test.scorer.metric} is {value}, outside {(low, high)}; state another `range`?")
        for row in under_test.rows(of):
            least, most = also.get(row.metric, (-math.inf, math.inf))
            if row.value is not None and not least <= row.value <= most:
                raise Broken(f"{row.metric} is {row.value}, outside {(least, most)}; state another range in `also`?")
            if row.value is None and not row.reason:
                raise Broken(f"{row.metric} is None without a reason; say why in TableRow(..., reason=...).")
            if row.value is not None and not math.isfinite(row.value):
                raise Broken(
                    f"{row.metric} is {row.value}; give None and a reason, or raise harness.Undefined(reason)."
                )


def says_what_it_may_of_windows(under_test: ScorerUnderTest) -> None:
    """Verdicts, if it gives any, are about the latent's test windows; a score is a number, no answer has a reason."""
    for index in range(4):
        of = planted(index)
        for verdict in [v for row in _rows_or_none(under_test, of) or () for v in row.verdicts]:
            if not any(_same_text(verdict.window, window) for window in (*of.test, *of.near_test)):
                raise Broken(f"a verdict is about {verdict.window.text!r:.60}, which is none of latent.test.")
            if verdict.score is not None and not math.isfinite(verdict.score):
                raise Broken(f"a verdict has the score {verdict.score}; give a number, or None.")
            if verdict.says is None and not verdict.reason:
                raise Broken("a verdict that says nothing has no reason; say why in Verdict(..., reason=...).")


def _same_text(a: LatentWindow, b: LatentWindow) -> bool:
    return (a.document, a.tokens, a.activations) == (b.document, b.tokens, b.activations)


def is_pure(under_test: ScorerUnderTest) -> None:
    """The plan and the rows are the same each time, whatever was scored before; nothing that is given is changed."""
    of, scorer = planted(0), under_test.make()
    before = copy.deepcopy(of)
    first = _rows_or_none(under_test, of, scorer)
    if not same(of, before):
        raise Broken("the latent was changed: others look at the same one. Work on a copy.")
    _rows_or_none(under_test, planted(1), scorer)
    if _rows_or_none(under_test, of, scorer) != first:
        raise Broken("a latent's rows differ after another one was scored: a scorer must not remember latents.")
    if first is None:
        raise NotChecked("it has no value for the latents of the kit")
    plan = scorer.plan(of)
    responses = respond(of, plan)
    kept = copy.deepcopy(responses)
    scorer.reduce(of, plan, responses)
    if not same(responses, kept):
        raise Broken("reduce() has changed the responses it was given. Work on a copy.")


def repeats_itself(under_test: ScorerUnderTest) -> None:
    """Values do not depend on the global random generators."""
    found = []
    for seed in (1, 2):
        seed_globally(seed)
        found.append(_rows_or_none(under_test, planted(0)))
    if found[0] != found[1]:
        raise Broken(
            "a latent's rows are others when the global random generators have another state: draw with "
            "np.random.default_rng(latent.index), say."
        )


def is_at_chance_for_noise(under_test: ScorerUnderTest) -> None:
    """The mean over latents that stand for nothing is its chance, within four standard errors."""
    values = under_test.values([meaningless(index) for index in range(N_LATENTS)])
    mean, error = float(np.mean(values)), _standard_error(values)
    if abs(mean - under_test.scorer.chance) > _STANDARD_ERRORS * error + _TOLERANCE:
        raise Broken(
            f"{len(values)} latents whose activations are random have a mean {under_test.scorer.metric} of {mean:.3f} "
            f"± {error:.3f}, but chance is {under_test.scorer.chance}: does the score see the activations of the test "
            "windows, or is chance another number?"
        )


def is_not_below_chance_for_a_word(under_test: ScorerUnderTest) -> None:
    """The mean over latents that stand for one word each is not below its chance."""
    values = under_test.values([planted(index) for index in range(N_LATENTS)])
    mean, error = float(np.mean(values)), _standard_error(values)
    if mean + _STANDARD_ERRORS * error < under_test.scorer.chance:
        raise Broken(
            f"{len(values)} latents that stand for one word each have a mean {under_test.scorer.metric} of {mean:.3f}, "
            f"below chance ({under_test.scorer.chance}): is the sign of the score turned round?"
        )


def does_not_mind_the_order_of_windows(under_test: ScorerUnderTest) -> None:
    """Shuffling a latent's windows leaves the mean over latents as it is, within four standard errors."""
    latents = [planted(index) for index in range(N_LATENTS)]
    changes = []
    for of in latents:
        generator = np.random.default_rng(of.index)
        before, after = under_test.value(of), under_test.value(_shuffled(of, generator))
        if before is not None and after is not None:
            changes.append(after - before)
    if len(changes) < 2:
        raise NotChecked("it has no value for the latents of the kit")
    change, error = float(np.mean(changes)), _standard_error(changes)
    if abs(change) > _STANDARD_ERRORS * error + _TOLERANCE:
        raise Broken(
            f"with the windows in another order the mean {under_test.scorer.metric} is {change:+.3f} ± {error:.3f} "
            "higher: tell active from silent windows by window.is_active, not by their place."
        )


def bears_latents_with_little_to_show(under_test: ScorerUnderTest) -> None:
    """Few windows, no dictionary, source, other latent or explanation: a value or harness.Undefined(reason)."""
    bare = dataclasses.replace(planted(0), direction=None, source=None, other=None)
    for what, of in {
        "without direction, source and other latent": bare,
        "without an explanation": dataclasses.replace(planted(0), explanation=None),
        "whose other has no explanation": dataclasses.replace(
            planted(0), other=dataclasses.replace(planted(1), explanation=None)
        ),
        "of the negative pole": dataclasses.replace(planted(0), sign=-1),
        "with one window of each class": latent(on_token(" word3"), 0, n=1),
        "without windows": dataclasses.replace(bare, explain=(), test=()),
    }.items():
        try:
            value = under_test.value(of)
        except Broken as broken:
            raise Broken(f"for a latent {what}: {broken}") from broken
        except Exception as error:
            raise Broken(
                f"a latent {what} makes it fail with {said(error)}. Raise harness.Undefined(reason)."
            ) from error
        if value is not None and not math.isfinite(value):
            raise Broken(f"the value is {value} for a latent {what}; raise harness.Undefined(reason).")


def checked_plan(asker: Scorer | Explainer, of: Latent) -> list[Any]:
    """The requests of a scorer or explainer about a latent; Broken if they are none."""
    plan: object = asker.plan(of)
    if not isinstance(plan, Sequence) or not all(type(request) in _ANSWERS for request in plan):
        raise Broken(f"plan() returned {plan!r:.80}; return a list of requests such as harness.Embed, or none.")
    return list(plan)


def respond(of: Latent, plan: Sequence[Any]) -> list[Any]:
    """The responses of the stand-ins to requests about a latent."""
    return [_ANSWERS[type(request)](of, request) for request in plan]


def _rows_or_none(under_test: ScorerUnderTest, of: Latent, scorer: Scorer | None = None) -> list[TableRow] | None:
    try:
        return under_test.rows(of, scorer)
    except Undefined:
        return None


def _standard_error(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1) / math.sqrt(len(values)))


def _shuffled(of: Latent, generator: np.random.Generator) -> Latent:
    def shuffle(windows: tuple[LatentWindow, ...]) -> tuple[LatentWindow, ...]:
        return tuple(windows[place] for place in generator.permutation(len(windows)))

    other = None if of.other is None else _shuffled(of.other, generator)
    return dataclasses.replace(of, explain=shuffle(of.explain), test=shuffle(of.test), other=other)


def same(a: Any, b: Any) -> bool:
    """Equality of what may hold tensors, which have no truth value."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if dataclasses.is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    return bool(a == b)


CHECKS: list[Check] = [
    says_what_it_is,
    gives_its_metric_in_its_range,
    says_what_it_may_of_windows,
    is_pure,
    repeats_itself,
    is_at_chance_for_noise,
    is_not_below_chance_for_a_word,
    does_not_mind_the_order_of_windows,
    bears_latents_with_little_to_show,
]
