"""Costs of a judge as a plan tells them: no more is asked, and knowing it takes no torch."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import harness
from harness.asking import judge_costs
from harness.asking.judge_costs import JudgeCosts
from harness.latents import sampling, windows
from harness.planning.plan import build_plan
from harness.planning.resolver import resolve
from harness.registry.plugin_manager import load_catalog
from harness.storage.states import State
from harness.testing.examples import planted

N_LATENTS = 7


def _raw(**changes: Any) -> dict[str, Any]:
    return {
        "name": "judged",
        "models": [{"model": "random_weights", "sites": ["resid_post.0"]}],
        "corpus": "synthetic",
        "tokens": {"fit": 1000, "evaluation": 200, "interp": 300},
        "methods": [{"method": "pca", "n_components": 4}, {"method": "kmeans", "n_latents": 4, "k": 1}],
        "scorers": ["token_lookup", "choice_detection", "choice_fuzzing"],
        "latents": N_LATENTS,
        "explainers": ["token_statistics"],
        "judge": "local",
    } | changes


def _costs(**changes: Any) -> JudgeCosts:
    catalog = load_catalog()
    plan = build_plan(resolve(_raw(**changes), catalog, lambda group, name: {}))
    return judge_costs.judge_costs(plan, {key: State("to do") for key in plan.cells}, catalog)


def test_the_made_up_latent_has_as_many_windows_as_there_can_be() -> None:
    n_explain = sampling.N_TOP + sampling.N_QUANTILE + sampling.N_RANDOM
    assert judge_costs.N_WINDOWS == n_explain == sampling.N_TEST == sampling.N_SILENT
    assert judge_costs.N_TOKENS == windows.WINDOW_TOKENS


def test_requests_are_those_of_full_latents() -> None:
    costs = _costs()
    n_methods, n_texts, n_explanations = 2, 40, 3
    assert costs.n_requests == n_methods * N_LATENTS * 2 * n_texts * n_explanations
    assert 50 < costs.n_prompt_tokens / costs.n_requests < 300
    assert costs.n_answer_tokens == costs.n_requests and costs.usd == 0  # one token each, of a judge that is run here
    assert costs.n_unknown_requests == 0
    asked = harness.create("scorer", "choice_detection").plan(planted(0, n=20))
    assert len(asked) == n_texts * n_explanations


def test_a_judge_that_is_the_encoder_is_asked_for_each_text() -> None:
    scorers = ["token_lookup", "embedding_intruder", "example_embedding"]
    prices = {"usd_per_million_prompt_tokens": 2, "usd_per_million_answer_tokens": 1}
    http = {"judge": "openai_http", "model": "m"} | prices
    costs = _costs(scorers=scorers, encoder="judge", judge=http)
    latent = planted(0, n=20)
    n_texts = [len(request.texts) for name in scorers[1:] for request in harness.create("scorer", name).plan(latent)]
    n_methods = 2
    assert costs.n_requests == n_methods * N_LATENTS * sum(n_texts) and costs.n_unknown_requests == 0
    assert costs.n_prompt_tokens == costs.n_requests * 40 and costs.n_answer_tokens == 0  # 32 times " word"
    assert costs.usd == pytest.approx(costs.n_prompt_tokens * 2e-6)
    assert _costs(scorers=scorers, encoder={"model": "random_weights"}, judge=http) == JudgeCosts(0, 0, 0, 0.0, 0)


def test_a_suite_that_asks_nobody_costs_nothing() -> None:
    assert _costs(scorers=["token_lookup"], judge=None) == JudgeCosts(0, 0, 0, 0.0, 0)


def test_it_needs_no_torch() -> None:
    code = """
import json, sys
from harness.asking.judge_costs import _costs_of_latent
from harness.registry.plugin_manager import load_catalog
for name in ("choice_detection", "choice_fuzzing", "surprisal", "simulation", "intruder", "detection", "fuzzing"):
    calls = {"scorer": {"name": name, "params": {}}, "explainer": {"name": "token_statistics", "params": {}}}
    assert _costs_of_latent(json.dumps(calls), load_catalog())
sys.exit("torch" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
