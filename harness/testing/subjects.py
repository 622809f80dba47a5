"""The object under test for each kind of plugin, from what makes an instance and, if it is registered, its Spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.testing.behaviours import BehaviourUnderTest
from harness.testing.corpora import CorpusUnderTest
from harness.testing.evaluation_trials import EvaluationUnderTest
from harness.testing.explainers import ExplainerUnderTest
from harness.testing.judges import JudgeUnderTest
from harness.testing.model_trials import ModelUnderTest
from harness.testing.registration import Registration
from harness.testing.scorers import ScorerUnderTest
from harness.testing.similarities import SimilarityUnderTest
from harness.testing.task_trials import TaskUnderTest
from harness.testing.trials import MethodUnderTest


def subject_of(kind: str, make: Callable[[], Any], declared: Registration | None) -> Any:
    """The instance's maker, wrapped for the checks of its kind; `declared` is None where no Spec is at hand."""
    needs = declared.needs if declared else None
    if kind == "similarity":
        return SimilarityUnderTest(make, of_decompositions=bool(needs), of_codes="codes" in (needs or ()))
    if kind == "judge":
        return JudgeUnderTest(make, declared.provides if declared else None)
    if kind == "method":
        return MethodUnderTest(make, declared.provides if declared else None)
    if kind == "model":
        return ModelUnderTest(make, declared.shape if declared else None)
    if kind == "corpus":
        return CorpusUnderTest(make, declared)
    if kind == "behaviour":
        return BehaviourUnderTest(make, declared)
    if kind == "evaluation":
        return EvaluationUnderTest(make, needs, declared.metrics if declared else None)
    if kind == "task":
        return TaskUnderTest(make, declared.pairs if declared else None, needs)
    return {"scorer": ScorerUnderTest, "explainer": ExplainerUnderTest}[kind](make)
