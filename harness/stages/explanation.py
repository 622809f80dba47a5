"""Explanations: the texts of an explainer on the sampled latents of a decomposition, made once for all scorers."""

from __future__ import annotations

import time
from typing import Any

from harness.asking.respondents import Respondents, planned
from harness.contracts.explainer import Explainer, to_explain
from harness.contracts.latent import Latent
from harness.contracts.requests import Request
from harness.errors import PluginError, Undefined
from harness.latents.explanations import Explanation, write_explanations
from harness.latents.sampled_latents import SampledLatent, SampledLatents
from harness.planning.cells import Cell
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.records import cost, row


def run(cells: list[Cell], session: Session) -> None:
    """Explain the sampled latents of decompositions; those with explanations in the store are left as they are."""
    sampled, respondents = SampledLatents(session.store), Respondents(cells[0].work, session)
    with session.missing(cells) as missing:
        for number, cell in enumerate(missing):
            with session.alone(cell):
                try:
                    respondents.turn_to(cell)
                    _explain(cell, sampled.of(cell.work), respondents, session)
                except Undefined as undefined:
                    session.skip(cell, undefined.reason)
            session.progress("explained", number + 1, len(missing))


def _explain(cell: Cell, poles: list[SampledLatent], respondents: Respondents, session: Session) -> None:
    if not poles:
        raise Undefined(f"no latent of {cell.columns['method']} has enough windows to be explained")
    started = time.perf_counter()
    name = cell.work["explainer"]["name"]
    explainer: Explainer = session.create("explainer", cell.work["explainer"])
    latents = [to_explain(pole.latent) for pole in poles]
    plans = [planned(explainer, latent, respondents) for latent in latents]
    asked = [(latent, plan) for latent, plan in zip(latents, plans, strict=True) if not isinstance(plan, Undefined)]
    respondents.prepare([(latent, request) for latent, plan in asked for request in plan])
    found = [_reduce(explainer, latent, plan, respondents) for latent, plan in zip(latents, plans, strict=True)]
    write_explanations(session.empty_folder(cell), found)
    rows = [*_rows(found, name, time.perf_counter() - started), *respondents.usage_rows(name)]
    session.commit(cell, rows, respondents.incomplete)  # scorers go on with what there is; the next run makes it anew


def _reduce(
    explainer: Explainer, latent: Latent, plan: list[Request] | Undefined, respondents: Respondents
) -> Explanation:
    try:
        if isinstance(plan, Undefined):
            raise plan
        responses = respondents.answer(latent, plan)
        with isolated():
            text: object = explainer.reduce(latent, plan, responses)
    except Undefined as undefined:
        return Explanation(latent.index, latent.sign, None, undefined.reason)
    if not isinstance(text, str) or not text.strip():
        raise PluginError(
            f"{type(explainer).__name__}.reduce() returned {text!r:.80}, not a text. Raise harness.Undefined(reason) "
            "where there is no explanation."
        )
    return Explanation(latent.index, latent.sign, text)


def _rows(found: list[Explanation], name: str, seconds: float) -> list[dict[str, Any]]:
    n, n_explained = len(found), sum(explanation.text is not None for explanation in found)
    share = row("interp", "explained_share", n_explained / n, n, higher_is_better=True)
    return [share, cost(f"explanation_seconds_{name}", seconds, n)]
