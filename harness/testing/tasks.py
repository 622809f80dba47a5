"""Checks of tasks: knowing earns more than guessing, and saying the same of all pairs earns nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.contracts.task import ComparedSite, TaskScore
from harness.errors import Undefined
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.task_trials import (
    N_GUESSES,
    TRUTH,
    Said,
    TaskUnderTest,
    are_scores,
    constant,
    guessing,
    knowing,
    undefined,
    value_of,
)

_ROUNDING = 1e-9
_GAIN = 0.25
"""Share of the way from guesses to the truth that one who knows nothing may come by chance."""


def gives_scores(under_test: TaskUnderTest) -> None:
    """score() gives TaskScores, its main metric among them: finite sums [models, models], in their bounds."""
    found = under_test.outcome
    if isinstance(found, Undefined):
        raise Broken(f"has no score for the families small, large, kin and untrained ({found.reason}).")
    if isinstance(found, Exception):
        raise found
    if not are_scores(found) or not found:
        raise Broken(f"score() gave {found!r:.60}; give a list or tuple of harness.TaskScores.")
    main = getattr(under_test.make(), "metric", "missing")
    if main not in {score.metric for score in found}:
        raise Broken(f"its main metric is {main!r}, but score() gives {sorted({score.metric for score in found})}.")
    names = [(score.metric, score.family) for score in found]
    if len(set(names)) < len(names):
        raise Broken("score() gives one metric of one family twice; add the sums up.")
    for score in found:
        _check_score(score, len({site.model for site in under_test.sites}))


def _check_score(score: TaskScore, n_models: int) -> None:
    for name in ("numerator", "denominator"):
        sums = np.asarray(getattr(score, name), float)
        if sums.shape != (n_models, n_models) or not np.isfinite(sums).all():
            expected = [n_models, n_models]
            raise Broken(f"the {name} of {score.metric} is {list(sums.shape)}; give finite numbers {expected}.")
    if (np.asarray(score.denominator) < 0).any():
        raise Broken(f"a denominator of {score.metric} is negative; it counts answers.")
    value, (low, high) = value_of(score), score.bounds
    if value is None or not low - _ROUNDING <= value <= high + _ROUNDING:
        raise Broken(f"{score.metric} of {score.family} is {value}, outside its bounds {(low, high)}.")
    if not isinstance(score.n, int) or score.n < 1:
        raise Broken(f"n of {score.metric} is {score.n!r}; give how many answers were counted.")


def asks_for_pairs(under_test: TaskUnderTest) -> None:
    """The pairs of its Spec say True or False of any two sites, True of some, and the same each time."""
    pairs = _pairs(under_test)
    sites = under_test.sites
    found = {(i, j): pairs(a, b) for i, a in enumerate(sites) for j, b in enumerate(sites)}
    if wrong := [value for value in found.values() if not isinstance(value, bool)]:
        raise Broken(f"pairs(config, a, b) gave {wrong[0]!r}; give True or False.")
    if not any(found.values()):
        raise Broken("pairs(config, a, b) asks for no two of the sites: nothing would be compared.")
    for (i, j), value in found.items():
        if pairs(replace(sites[i]), replace(sites[j])) != value:
            raise Broken(
                f"pairs(config, a, b) changes its mind about {sites[i]} and {sites[j]}; compare by ==, not by is."
            )


def looks_at_no_other_pairs(under_test: TaskUnderTest) -> None:
    """Scores do not change where pairs that its Spec does not ask for have no values and no rows."""
    sites, n = under_test.sites, len(under_test.sites)
    asked = np.array([[_asks(under_test, a, b) for b in sites] for a in sites])
    all_there, only_asked = knowing(sites), knowing(sites)
    only_asked.alike[~asked] = only_asked.unrelated[~asked] = math.nan
    only_asked.may_see = lambda i, j: bool(asked[i, j])
    _same(
        under_test.scores(all_there),
        under_test.scores(only_asked),
        f"with {int((~asked).sum())} of {n * n} values left out that its Spec does not ask for",
        "pairs must name every pair that score() looks at.",
    )


def needs_what_it_says(under_test: TaskUnderTest) -> None:
    """The `needs` of its Spec are ("values",) where it reads those, and ("rows",) where it reads shared rows."""
    if under_test.needs is None:
        raise NotChecked("its Spec is not at hand; it is tried where the task is given by its name")
    used = "rows" if under_test.is_of_rows else "values"
    if tuple(under_test.needs) != (used,):
        raise Broken(f"needs is {tuple(under_test.needs)}, but it reads {used}: say needs=({used!r},).")


def does_not_mind_the_order_of_sites(under_test: TaskUnderTest) -> None:
    """The sites of each model in another order, models mixed, give the same scores."""
    said = knowing(under_test.sites)
    before = under_test.scores(said)
    # Models keep their order, which says something: they are met in it.
    order = sorted(range(len(said.sites)), key=lambda place: ((said.sites[place].layer * 5 + 1) % 7, place))
    models = list(dict.fromkeys(site.model for site in said.sites))
    heads = [next(place for place in order if said.sites[place].model == model) for model in models]
    order = [*heads, *(place for place in order if place not in heads)]
    after = under_test.scores(knowing([said.sites[place] for place in order]))
    _same(before, after, "with sites in another order", "take sites by their layer, not by their place in the list.")


def repeats_itself(under_test: TaskUnderTest) -> None:
    """Equal comparisons give equal scores: from a fresh instance, after others, whatever the random states."""
    task, found = under_test.make(), []
    for seed in (1, 2):
        seed_globally(seed)
        found.append(under_test.scores(knowing(under_test.sites), task))
        under_test.scores(guessing(under_test.sites, 0), task)
    found.append(under_test.scores(knowing(under_test.sites)))
    for after in found[1:]:
        _same(found[0], after, "a second time", "keep nothing of other comparisons, and draw by a seed of its own.")


def leaves_its_input_alone(under_test: TaskUnderTest) -> None:
    """Neither the values of the comparisons nor shared rows are written into."""
    said, before = knowing(under_test.sites), knowing(under_test.sites)
    under_test.scores(said)
    for name in ("alike", "unrelated"):
        if not np.array_equal(getattr(said, name), getattr(before, name)):
            raise Broken(f"score() has changed comparisons.{name}; copy what is written into.")
    if not all(torch.equal(rows, copy) for rows, copy in said.lent):
        raise Broken("score() has changed shared rows, which others read too: use x + noise, not x += noise.")


def counts_what_is_undefined_as_wrong(under_test: TaskUnderTest) -> None:
    """Undefined values (NaN, or compare raises) are counted like any others, and are wrong answers."""
    before = under_test.scores(knowing(under_test.sites))
    for every in (1, 2):
        after = under_test.scores(undefined(under_test.sites, every))
        for name, score in before.items():
            if name not in after or not np.array_equal(score.denominator, after[name].denominator):
                raise Broken(f"{name[0]} of {name[1]} judges other answers where values are undefined: leave none out.")
    _check_gain(under_test, undefined(under_test.sites), "for a similarity that is undefined everywhere")


def tells_who_knows_from_who_guesses(under_test: TaskUnderTest) -> None:
    """The main metric is better for a similarity that is right about everything than for any that guesses."""
    knows = under_test.goodness(knowing(under_test.sites))
    guesses = _guesses(under_test)
    if not knows > max(guesses):
        raise Broken(
            f"{under_test.make().metric} is {abs(knows):.3g} for a similarity that is right about everything, and up "
            f"to {abs(max(guesses)):.3g} for one that draws its values: is higher_is_better the wrong way round? Right "
            f"is that {TRUTH}."
        )


def does_not_reward_a_constant(under_test: TaskUnderTest) -> None:
    """A similarity that says the same of all pairs, unrelated ones too, gets no more than one that guesses."""
    if under_test.is_of_rows:
        raise NotChecked("it compares changed rows: whether a value stays, a constant answers rightly")
    for value in (0.5, 1.0):
        _check_gain(under_test, constant(under_test.sites, value), f"for one that says {value} of all pairs")
    nothing, knows = constant(under_test.sites, 0.0), knowing(under_test.sites)
    metrics = {metric for metric, _ in under_test.scores(knows)}
    if all(under_test.goodness(nothing, metric) >= under_test.goodness(knows, metric) for metric in metrics):
        raise Broken(
            "a similarity that says 0 of all pairs is as good by every metric as one that is right: count ties as "
            "wrong, or give a metric beside it that such a one fails."
        )


def _check_gain(under_test: TaskUnderTest, said: Said, whom: str) -> None:
    knows, guesses = under_test.goodness(knowing(under_test.sites)), float(np.mean(_guesses(under_test)))
    value = under_test.goodness(said)
    if not knows > guesses:
        raise NotChecked(f"nothing to check before `{tells_who_knows_from_who_guesses.__name__}` holds")
    if not value <= guesses + _GAIN * (knows - guesses):
        raise Broken(
            f"{under_test.make().metric} is {abs(value):.3g} {whom}, where guesses have {abs(guesses):.3g} and the "
            f"truth {abs(knows):.3g}: ties and undefined values are wrong answers; ask with > and not with >=."
        )


def _guesses(under_test: TaskUnderTest) -> list[float]:
    return [under_test.goodness(guessing(under_test.sites, seed)) for seed in range(N_GUESSES)]


def _pairs(under_test: TaskUnderTest) -> Any:
    if under_test.pairs is None:
        raise NotChecked("its Spec is not at hand; it is tried where the task is given by its name")
    return under_test.pairs


def _asks(under_test: TaskUnderTest, a: ComparedSite, b: ComparedSite) -> bool:
    pairs = _pairs(under_test)
    return bool(pairs(a, b) or pairs(b, a))


Scores = dict[tuple[str, str], TaskScore]


def _same(before: Scores, after: Scores, when: str, advice: str) -> None:
    if before.keys() != after.keys():
        raise Broken(f"it gives {sorted(after)} {when}, and {sorted(before)} else: {advice}")
    for name, score in before.items():
        for part in ("numerator", "denominator"):
            sums, others = (np.asarray(getattr(own, part), float) for own in (score, after[name]))
            if not np.allclose(sums, others, rtol=0, atol=1e-9):
                values = value_of(score), value_of(after[name])
                raise Broken(f"{name[0]} of {name[1]} has other {part}s {when} ({values[0]} and {values[1]}): {advice}")


CHECKS: list[Check] = [
    gives_scores,
    asks_for_pairs,
    looks_at_no_other_pairs,
    needs_what_it_says,
    does_not_mind_the_order_of_sites,
    repeats_itself,
    leaves_its_input_alone,
    counts_what_is_undefined_as_wrong,
    tells_who_knows_from_who_guesses,
    does_not_reward_a_constant,
]
