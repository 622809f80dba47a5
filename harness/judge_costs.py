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
from harness.scorers import Embed, Latent, LatentWindow, prompt_of
from harness.store import State

N_WINDOWS = 20
"""Of each class in each half; a test compares it with `latents.sampling`."""
N_TOKENS = 32
_WORD = " word"
_CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class JudgeCosts:
    """Upper bounds over the scores that are to do."""

    n_requests: int
    n_prompt_tokens: int
    """Roughly: a token is taken for four characters."""
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
    n_latents = plan.suite.config.latents
    return JudgeCosts(
        n_requests=n_latents * sum(n for n, _ in known),
        n_prompt_tokens=n_latents * sum(n_tokens for _, n_tokens in known),
        n_unknown_requests=len(costs) - len(known),
    )


def _costs_of_latent(call: str, catalog: Catalog) -> tuple[int, int] | None:
    """The requests of a scorer for one latent, and the tokens of their prompts."""
    scorer = json.loads(call)
    try:
        asked = catalog.create("scorer", scorer["name"], scorer["params"]).plan(_made_up(0, _made_up(1)))
        prompts = [prompt_of(request) for request in asked if not isinstance(request, Embed)]
    except Exception:  # the plugin's own code, on what is no latent of a decomposition
        return None
    return len(prompts), sum(len(prompt) for prompt in prompts) // _CHARACTERS_PER_TOKEN


def _made_up(index: int, other: Latent | None = None) -> Latent:
    """A latent with full windows, in each of which one token is active, at another place each time."""

    def window(number: int, is_active: bool) -> LatentWindow:
        activations = [float(is_active and place == number) for place in range(N_TOKENS)]
        return LatentWindow(f"document {number}", (_WORD,) * N_TOKENS, tuple(activations), is_active, "random")

    half = tuple(window(number, is_active) for is_active in (True, False) for number in range(N_WINDOWS))
    return Latent(index, 1, 0.0, half, half, other=other)
