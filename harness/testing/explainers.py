"""Checks of explainers. Their requests are answered by the stand-ins that `scorers` describes."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from harness.contracts.explainer import Explainer, to_explain
from harness.contracts.latent import Latent
from harness.contracts.requests import Failure
from harness.errors import Undefined, said
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.examples import latent, on_token, planted
from harness.testing.scorers import checked_plan, respond, same


class ExplainerUnderTest:
    """An explainer, by what makes a fresh one."""

    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Explainer]) -> None:
        self.make = make

    @cached_property
    def asks(self) -> bool:
        """True if it has requests about a latent."""
        return bool(checked_plan(self.make(), to_explain(planted(0))))

    def text(
        self,
        of: Latent,
        explainer: Explainer | None = None,
        answers: Callable[[Latent, Sequence[Any]], list[Any]] = respond,
    ) -> str | None:
        """The explanation of a latent's explain half, by a fresh explainer if none is given; None if undefined."""
        explainer, of = self.make() if explainer is None else explainer, to_explain(of)
        try:
            plan = checked_plan(explainer, of)
            found: object = explainer.reduce(of, plan, answers(of, plan))
        except Undefined as undefined:
            if not undefined.reason:
                raise Broken("harness.Undefined was raised without a reason; say why it has no explanation.") from None
            return None
        if not isinstance(found, str) or not found.strip():
            raise Broken(f"reduce() returned {found!r:.80}; return a text, or raise harness.Undefined(reason).")
        return found


def explains_a_word(under_test: ExplainerUnderTest) -> None:
    """It has a text for latents that stand for one word each, or says why not."""
    if all(under_test.text(planted(index)) is None for index in range(4)):
        raise NotChecked("it has no explanation for the latents of the kit")


def is_pure(under_test: ExplainerUnderTest) -> None:
    """The text is the same whatever was explained before; nothing that is given is changed."""
    of, explainer = to_explain(planted(0)), under_test.make()
    before = copy.deepcopy(of)
    first = under_test.text(of, explainer)
    if not same(of, before):
        raise Broken("the latent was changed: others look at the same one. Work on a copy.")
    under_test.text(planted(1), explainer)
    if under_test.text(of, explainer) != first:
        raise Broken("the text differs after another latent was explained: an explainer must not remember latents.")


def repeats_itself(under_test: ExplainerUnderTest) -> None:
    """Texts do not depend on the global random generators."""
    found = []
    for seed in (1, 2):
        seed_globally(seed)
        found.append(under_test.text(planted(0)))
    if found[0] != found[1]:
        raise Broken(
            "the text is another when the global random generators have another state: draw with "
            "np.random.default_rng(latent.index), say."
        )


def takes_no_failure_for_an_answer(under_test: ExplainerUnderTest) -> None:
    """Requests that have no answer lead to no explanation: harness.Undefined(reason), and no apology."""
    if not under_test.asks:
        raise NotChecked("it needs no judge, encoder or model")
    text = under_test.text(planted(0), answers=lambda of, plan: [Failure("not reached") for _ in plan])
    if text is not None:
        raise Broken(f"without an answer it says {text!r:.80}; raise harness.Undefined(reason).")


def bears_latents_with_little_to_show(under_test: ExplainerUnderTest) -> None:
    """Few windows, no dictionary, no source: a text or harness.Undefined(reason), nothing else."""
    bare = dataclasses.replace(planted(0), direction=None, source=None)
    for what, of in {
        "without direction and source": bare,
        "of the negative pole": dataclasses.replace(planted(0), sign=-1),
        "with one window of each class": latent(on_token(" word3"), 0, n=1),
        "without windows": dataclasses.replace(bare, explain=(), near_explain=()),
    }.items():
        try:
            under_test.text(of)
        except Broken as broken:
            raise Broken(f"for a latent {what}: {broken}") from broken
        except Exception as error:
            raise Broken(
                f"a latent {what} makes it fail with {said(error)}. Raise harness.Undefined(reason)."
            ) from error


CHECKS: list[Check] = [
    explains_a_word,
    is_pure,
    repeats_itself,
    takes_no_failure_for_an_answer,
    bears_latents_with_little_to_show,
]
