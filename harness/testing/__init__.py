"""The conformance kit: does a plugin keep what its kind promises?

    findings = harness.testing.check_method(lambda: harness.create("method", "acme", k=8))
    harness.testing.raise_problems(findings)

or, in a file of tests, one test for each check:

    @harness.testing.conforms("method", lambda: harness.create("method", "acme", k=8))
    def test_acme(check):
        check()

`harness check method/acme k=8` does the same from the command line, in a process of its own.

Importing this package is cheap: the checks, which need torch, are imported when first used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from harness.errors import ConfigError, suggest
from harness.testing.findings import Finding

if TYPE_CHECKING:
    from harness.testing.checks import Check

__all__ = [
    "CHECKED_KINDS",
    "Finding",
    "check_behaviour",
    "check_corpus",
    "check_evaluation",
    "check_explainer",
    "check_judge",
    "check_method",
    "check_model",
    "check_monitor",
    "check_scorer",
    "check_similarity",
    "check_task",
    "conforms",
    "raise_problems",
]

_MODULES = {
    "method": "methods",
    "similarity": "similarities",
    "scorer": "scorers",
    "explainer": "explainers",
    "judge": "judges",
    "model": "models",
    "corpus": "corpora",
    "behaviour": "behaviours",
    "evaluation": "evaluations",
    "task": "tasks",
}
CHECKED_KINDS = tuple(_MODULES)
Make = Callable[[], Any] | str
"""A function that makes a fresh instance each time; or the name of something registered, with parameters beside it."""
Test = TypeVar("Test", bound=Callable[..., Any])


def check_method(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of methods on fresh learners."""
    return _findings("method", make, params)


def check_similarity(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of similarities on fresh metrics.

    Whether it compares rows or decompositions is what the `needs` of its Spec say; give a metric of decompositions by
    its name, then.
    """
    return _findings("similarity", make, params)


def check_scorer(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of scorers on fresh scorers."""
    return _findings("scorer", make, params)


def check_judge(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of judges. They ask about fifty short requests, which may cost something."""
    return _findings("judge", make, params)


def check_explainer(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of explainers on fresh explainers."""
    return _findings("explainer", make, params)


def check_model(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of models: on windows of a few short texts, or on the rows that a model has of its own."""
    return _findings("model", make, params)


def check_corpus(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of corpora on their first documents.

    Whether ids are the same in another process, and whether the identity follows the texts, is tried where the corpus
    is given by its name.
    """
    return _findings("corpus", make, params)


def check_behaviour(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of behaviours on their first contrasts.

    Whether they are the same in another process, whether the control exchanges answers and whether the identity follows
    files is tried where the behaviour is given by its name.
    """
    return _findings("behaviour", make, params)


def check_evaluation(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of evaluations on made-up rows that have documents, labels, a truth and a head."""
    return _findings("evaluation", make, params)


def check_task(make: Make, /, **params: Any) -> list[Finding]:
    """Run all checks of tasks.

    They judge made-up similarities of the families `small` (four models), `large` (three deeper ones), `kin` (three of
    the shape of `small`) and `untrained` (the control of `small`); give a task that wants families some of these.
    """
    return _findings("task", make, params)


def check_monitor(make: Callable[..., Any], /) -> list[Finding]:
    """Run all checks of monitors on those that `make(decomposition, fitted, unseen)` calibrates.

    Monitors are no plugins: what they must have stands in `harness/testing/monitors.py`.
    """
    from harness.testing.checks import run_check
    from harness.testing.monitors import CHECKS, MonitorUnderTest

    under_test = MonitorUnderTest(make)
    return [run_check(check, under_test) for check in CHECKS]


def raise_problems(findings: Iterable[Finding]) -> None:
    """Raise an AssertionError that tells all problems, if there are any."""
    problems = [f"{finding.check}: {finding.problem}" for finding in findings if finding.problem is not None]
    if problems:
        raise AssertionError("\n\n".join(problems))


def conforms(kind: str, make: Make, /, **params: Any) -> Callable[[Test], Test]:
    """Make of a test that takes `check` one test for each check of a kind; a check that does not apply is skipped."""
    import pytest

    from harness.testing.checks import run_check

    checks, subject = _checks_of(kind), _subject(kind, make, params)

    def bound(check: Check) -> Callable[[], None]:
        def run() -> None:
            finding = run_check(check, subject)
            if finding.not_checked is not None:
                pytest.skip(finding.not_checked)
            if finding.problem is not None:
                pytest.fail(f"{finding.check}: {finding.problem}", pytrace=False)

        return run

    return pytest.mark.parametrize("check", [pytest.param(bound(check), id=check.__name__) for check in checks])


def _findings(kind: str, make: Make, params: dict[str, Any]) -> list[Finding]:
    from harness.testing.checks import run_check

    subject = _subject(kind, make, params)
    return [run_check(check, subject) for check in _checks_of(kind)]


def _checks_of(kind: str) -> list[Check]:
    """List the checks of a kind, in the order in which they are written."""
    if kind not in CHECKED_KINDS:
        raise ConfigError(f"there are no checks for {kind!r}.{suggest(kind, CHECKED_KINDS)}")
    return list(importlib.import_module(f"harness.testing.{_MODULES[kind]}").CHECKS)


def _subject(kind: str, make: Make, params: dict[str, Any], plugin_files: tuple[str, ...] = ()) -> Any:
    """The object that the checks of a kind are run on; remembers what several of them need."""
    from harness.testing.registration import Registration
    from harness.testing.subjects import subject_of

    if isinstance(make, str):
        # What is wrong with the parameters is said here, before any check.
        declared = Registration(kind, make, params, plugin_files)
        return subject_of(kind, declared.create, declared)
    if params:
        raise ConfigError(f"parameters ({', '.join(params)}) go with a name; what makes an instance knows its own.")
    return subject_of(kind, make, None)
