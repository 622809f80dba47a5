"""What a plan will ask its judge, told before anything is asked. Needs no torch.

Scorers are pure, so they can be asked what they would ask: of a latent that is made up, with as many windows as latents
are shown by at most. Real latents have fewer, some requests are the same for several latents, and what was answered
before is not asked again: the numbers are upper bounds, but for texts with tokens longer than `_WORD`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from harness.keys import canonical_json
from harness.plan import Plan
from harness.plugin_manager import Catalog
from harness.scorers import Choose, Generate, Latent, LatentWindow, Likelihood
from harness.spending import Prices, Usage, at_most
from harness.store import State

N_WINDOWS = 20
"""Of each class in each half; a test compares it with `latents.sampling`."""
N_TOKENS = 32
_WORD = " word"


@dataclass(frozen=True)
class JudgeCosts:
    """Upper bounds over the scores that are to do."""

    n_requests: int
    n_prompt_tokens: int
    """Roughly: a token is taken for four characters."""
    n_answer_tokens: int
    usd: float | None
    """None where the prices are not known."""
    n_unknown_requests: int
    """Scores by a scorer that can't say what it asks of a latent that is made up."""


def judge_costs(plan: Plan, states: Mapping[str, State], catalog: Catalog) -> JudgeCosts:
    """Over the cells that a run would do."""
    todo = [plan.cells[key] for key, state in states.items() if state.name in ("to do", "failed")]
    asking = [cell for cell in todo if cell.kind == "scoring" and "judge" in cell.task]
    scorers = {canonical_json(cell.task["scorer"]) for cell in asking}
    of_latent = {call: _costs_of_latent(call, catalog) for call in scorers}
    costs = [of_latent[canonical_json(cell.task["scorer"])] for cell in asking]
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


def _costs_of_latent(call: str, catalog: Catalog) -> Usage | None:
    """What the requests of a scorer for one latent take."""
    scorer = json.loads(call)
    try:
        asked = catalog.create("scorer", scorer["name"], scorer["params"]).plan(_made_up(0, _made_up(1)))
        judged = [request for request in asked if isinstance(request, Choose | Generate | Likelihood)]
    except Exception:  # the plugin's own code, on what is no latent of a decomposition
        return None
    return sum(map(at_most, judged), Usage())


def _made_up(index: int, other: Latent | None = None) -> Latent:
    """A latent with full windows, in each of which one token is active, at another place each time."""

    def window(number: int, is_active: bool) -> LatentWindow:
        activations = [float(is_active and place == number) for place in range(N_TOKENS)]
        return LatentWindow(f"document {number}", (_WORD,) * N_TOKENS, tuple(activations), is_active, "random")

    half = tuple(window(number, is_active) for is_active in (True, False) for number in range(N_WINDOWS))
    return Latent(index, 1, 0.0, half, half, other=other)
