"""Costs of a plan's judge, estimated before anything is asked. Needs no torch.

Scorers and explainers are pure, so they can be asked what they would ask: of a latent that is made up, with as many
windows as latents are shown by at most. Real latents have fewer, some requests are the same for several latents, and
what was answered before is not asked again: the numbers are upper bounds, but for texts with tokens longer than
`_WORD`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.contracts.explainer import Explainer, HasMaxCharacters, to_explain
from harness.contracts.latent import NEAR, Latent, LatentWindow
from harness.contracts.requests import Choose, Embed, EmbedText, Generate, Likelihood, Request
from harness.contracts.scorer import Scorer
from harness.contracts.spending import JudgeRequest, Prices, Usage, at_most
from harness.planning.cells import Cell
from harness.planning.keys import canonical_json
from harness.planning.plan import Plan
from harness.planning.suite import JUDGE
from harness.registry.plugin_manager import Catalog
from harness.storage.states import State

N_WINDOWS = 20
"""Windows of each class in each half; a test compares the number with `latents.sampling`."""
N_TOKENS = 32
_WORD = " word"


@dataclass(frozen=True)
class JudgeCosts:
    """Upper bounds over the scores and explanations that are to do."""

    n_requests: int
    n_prompt_tokens: int
    """An estimate: a token is taken for four characters."""
    n_answer_tokens: int
    usd: float | None
    """US dollars; None where the prices are not known."""
    n_unknown_requests: int
    """Cells whose plugin can't say what it asks of a latent that is made up."""


def judge_costs(plan: Plan, states: Mapping[str, State], catalog: Catalog) -> JudgeCosts:
    """Add up the costs of the cells that a run would do."""
    todo = [plan.cells[key] for key, state in states.items() if state.is_todo]
    asking = [_asking(cell, plan) for cell in todo if cell.kind in ("explanation", "scoring") and "judge" in cell.work]
    of_latent = {who: _costs_of_latent(who, catalog) for who in set(asking)}
    costs = [of_latent[who] for who in asking]
    known = [cost for cost in costs if cost is not None]
    n_latents, judge = plan.suite.config.latents, plan.suite.judge
    whole = sum((cost for cost in known for _ in range(n_latents)), Usage())
    return JudgeCosts(
        n_requests=whole.n_requests,
        n_prompt_tokens=whole.n_prompt_tokens,
        n_answer_tokens=whole.n_answer_tokens,
        usd=Prices.of(judge.params).usd(whole) if judge else 0.0,
        n_unknown_requests=len(costs) - len(known),
    )


def _asking(cell: Cell, plan: Plan) -> str:
    """The scorer and explainer of a cell that ask its judge, as JSON, with a mark where the judge is the encoder."""
    calls = {part: cell.work[part] for part in ("scorer", "explainer") if part in cell.work}
    if "explanation" in cell.work:
        calls["explainer"] = plan.cells[cell.work["explanation"]].work["explainer"]
    return canonical_json(calls | ({"encoder": JUDGE} if cell.work["encoder"] == JUDGE else {}))


def _costs_of_latent(asking: str, catalog: Catalog) -> Usage | None:
    """Usage of the requests about one latent; None where the scorer or explainer cannot say them in advance."""
    calls = json.loads(asking)
    try:
        latent = _made_up(0)
        if "explainer" in calls:
            explainer: Explainer = catalog.create("explainer", **calls["explainer"])
            asked = explainer.plan(to_explain(latent))
            if "scorer" in calls:
                latent = replace(latent, explanation=_longest(explainer, latent, asked))
        if "scorer" in calls:
            scorer: Scorer = catalog.create("scorer", **calls["scorer"])
            asked = scorer.plan(replace(latent, other=replace(latent, index=1)))
        requests = list(_of_judge(asked, calls.get("encoder") == JUDGE))
    except Exception:  # the plugin's own code, on what is no latent of a decomposition
        return None
    return sum(map(at_most, requests), Usage())


def _of_judge(asked: Sequence[Request], is_encoder: bool) -> Iterator[JudgeRequest]:
    """The requests that go to the judge."""
    for request in asked:
        if isinstance(request, Choose | Generate | Likelihood):
            yield request
        elif isinstance(request, Embed) and is_encoder:
            yield from map(EmbedText, request.texts)


def _longest(explainer: Explainer, latent: Latent, asked: Sequence[Request]) -> str:
    """The longest explanation to expect: the explainer's own text, or as many words as it lets its judge write."""
    if not asked:
        return str(explainer.reduce(to_explain(latent), [], []))
    longest = _WORD * max(request.max_tokens for request in asked if isinstance(request, Generate))
    return longest[: explainer.max_characters] if isinstance(explainer, HasMaxCharacters) else longest


def _made_up(index: int) -> Latent:
    """A latent with full windows, in each of which one token is active, at another place each time."""

    def windows(sample: str, is_active: bool = False) -> tuple[LatentWindow, ...]:
        activations = [[float(is_active and place == n) for place in range(N_TOKENS)] for n in range(N_WINDOWS)]
        return tuple(
            LatentWindow(f"document {n}", (_WORD,) * N_TOKENS, tuple(own), is_active, sample)
            for n, own in enumerate(activations)
        )

    half = (*windows("random", is_active=True), *windows("silent"))
    near = tuple(window for sample in NEAR for window in windows(sample))
    return Latent(index, 1, 0.0, half, half, near_explain=near, near_test=near)
