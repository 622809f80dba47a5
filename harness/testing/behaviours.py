"""Checks of behaviours: contrasts that can be compared place by place, in groups that can be told apart."""

from __future__ import annotations

from collections.abc import Sequence

from harness.contracts.behaviour import Contrast
from harness.testing.checks import Broken, Check, NotChecked, seed_globally
from harness.testing.followed_files import follows_files
from harness.testing.items import first_items
from harness.testing.repeated_items import same_elsewhere, same_items
from harness.testing.source_trials import SourceUnderTest

_MIN_GROUPS = 4
_TEXTS = ("clean", "patch", "right", "wrong", "group")
_LEAST_EXCHANGED, _MOST_EXCHANGED = 0.25, 0.75
"""Shares of contrasts that a control exchanges at least and at most: half, as far as luck goes."""


class BehaviourUnderTest(SourceUnderTest[Contrast]):
    """A behaviour and its first contrasts."""

    kind, first_check = "behaviour", "gives_contrasts"

    def look_at(self, items: Sequence[object]) -> None:
        """Refuse what is no contrast of texts."""
        for number, contrast in enumerate(items):
            if not isinstance(contrast, Contrast):
                raise Broken(
                    f"contrast {number} is a {type(contrast).__name__}; give harness.Contrast({', '.join(_TEXTS)})."
                )
            for name in _TEXTS:
                value = getattr(contrast, name)
                if not isinstance(value, str) or not value.strip():
                    raise Broken(f"{name} of contrast {number} is {value!r:.40}; give a text that is not blank.")


def gives_contrasts(under_test: BehaviourUnderTest) -> None:
    """contrasts() gives harness.Contrasts of texts that are not blank, in at least four groups: two to find, two to
    judge.
    """
    n_groups = len({contrast.group for contrast in under_test.items})
    if n_groups < _MIN_GROUPS:
        raise Broken(
            f"{len(under_test.items)} contrasts in {n_groups} groups; give at least {_MIN_GROUPS} groups, and ten "
            "or more for intervals."
        )


def asks_a_question(under_test: BehaviourUnderTest) -> None:
    """Right and wrong differ, and so do clean and patch."""
    for number, contrast in enumerate(under_test.items):
        for one, other in (("right", "wrong"), ("clean", "patch")):
            if getattr(contrast, one).strip() == getattr(contrast, other).strip():
                raise Broken(f"{one} and {other} of contrast {number} are both {getattr(contrast, one)!r:.60}.")


def keeps_words_in_their_places(under_test: BehaviourUnderTest) -> None:
    """Clean and patch have as many words, since their activations are compared place by place."""
    for number, contrast in enumerate(under_test.items):
        n_clean, n_patch = (len(text.split()) for text in (contrast.clean, contrast.patch))
        if n_clean != n_patch:
            raise Broken(
                f"contrast {number}: clean has {n_clean} words, patch {n_patch} ({contrast.clean!r:.60}, "
                f"{contrast.patch!r:.60}); leave it out, or fill it up."
            )


def keeps_groups_apart(under_test: BehaviourUnderTest) -> None:
    """No text is in two groups: a circuit would be judged on what it was found on."""
    group_of: dict[str, str] = {}
    for number, contrast in enumerate(under_test.items):
        for text in (contrast.clean, contrast.patch):
            if group_of.setdefault(text, contrast.group) != contrast.group:
                raise Broken(
                    f"contrast {number}: {text!r:.60} is of group {contrast.group!r:.40}, and of "
                    f"{group_of[text]!r:.40}; let group be the lexical item, not a number of the pair."
                )


def repeats_itself(under_test: BehaviourUnderTest) -> None:
    """The contrasts come again in the same order: a second time, from a fresh instance, whatever the random states."""
    before = under_test.items
    for seed, when, behaviour in (
        (1, "the second time", under_test.source),
        (2, "from a fresh instance", under_test.make()),
    ):
        seed_globally(seed)
        advice = "draw with random.Random(seed), the seed being a parameter, and keep no place in the instance."
        same_items(before, first_items("behaviour", behaviour), when, advice)


def is_the_same_in_another_process(under_test: BehaviourUnderTest) -> None:
    """Contrasts and their order are the same in another process, where hash() of a text is another number."""
    advice = "seed with numbers or texts, not with hash(), and go through no set of texts."
    same_elsewhere(under_test.declared, under_test.items, advice)


def exchanges_answers_in_its_control(under_test: BehaviourUnderTest) -> None:
    """Right and wrong have changed places in about half of the same contrasts with `shuffled: true`."""
    declared, own = under_test.declared, under_test.items
    if not hasattr(declared.config, "shuffled"):
        raise NotChecked("it has no parameter `shuffled`")
    params = declared.params | {"shuffled": not declared.config.shuffled}
    other = first_items("behaviour", declared.catalog.create("behaviour", declared.name, params))
    if [(one.clean, one.patch, one.group) for one in own] != [(one.clean, one.patch, one.group) for one in other]:
        raise Broken("`shuffled` changes more than answers; use harness.shuffled_answers(contrasts, seed).")
    changed = [(a.right, a.wrong) != (b.right, b.wrong) for a, b in zip(own, other, strict=True)]
    if not _LEAST_EXCHANGED <= sum(changed) / len(changed) <= _MOST_EXCHANGED:
        raise Broken(
            f"`shuffled` exchanges answers in {sum(changed)} of {len(changed)} contrasts, not in half of them; use "
            "harness.shuffled_answers(contrasts, seed)."
        )


def follows_its_files_in_its_identity(under_test: BehaviourUnderTest) -> None:
    """The identity changes when a letter does in a file that parameters name, even if its size and date do not."""
    follows_files(under_test.declared)


CHECKS: list[Check] = [
    gives_contrasts,
    asks_a_question,
    keeps_words_in_their_places,
    keeps_groups_apart,
    repeats_itself,
    is_the_same_in_another_process,
    exchanges_answers_in_its_control,
    follows_its_files_in_its_identity,
]
