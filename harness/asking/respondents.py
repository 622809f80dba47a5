"""Respondents to scorers and explainers: one for each kind of request, loaded when first asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any, Protocol

from torch import Tensor

from harness.asking.embedding import Embedder, unit_rows
from harness.asking.judging import Judging, usage_rows
from harness.asking.response_cache import ResponseCache
from harness.asking.subject import Activating, Steering, Subject, Unembedding
from harness.contracts.explainer import Explainer
from harness.contracts.latent import Latent
from harness.contracts.requests import (
    Activate,
    Choose,
    Embed,
    EmbedText,
    Failure,
    Generate,
    Likelihood,
    Request,
    Steer,
    Unembed,
)
from harness.contracts.scorer import Scorer
from harness.contracts.spending import JudgeRequest, Prices
from harness.errors import PluginError, Undefined
from harness.planning.cells import Cell
from harness.planning.keys import content_key
from harness.planning.suite import JUDGE
from harness.registry.isolation import isolated
from harness.running.session import Session


class Respondent(Protocol):
    """Answers one kind of request."""

    def prepare(self, asked: Sequence[tuple[Latent, Any]]) -> None:
        """Find the answers to all requests that will come; many at once are quicker than one by one."""
        ...

    def answer(self, latent: Latent, request: Any) -> Any:
        """The response, for the asker to keep."""
        ...


class Respondents:
    """Passes each request to whoever answers its kind."""

    def __init__(self, work: Mapping[str, Any], session: Session) -> None:
        judge = _JudgeRespondent(work.get("judge"), session)
        self._subject = Subject(work, session)
        self._judge = judge if work.get("judge") else None
        self._of: dict[type, Respondent] = {
            Embed: _JudgeAsEncoder(judge) if work["encoder"] == JUDGE else _Encoder(work["encoder"], session),
            **dict.fromkeys((Choose, Generate, Likelihood), judge),
            Activate: Activating(self._subject),
            Steer: Steering(self._subject),
            Unembed: Unembedding(self._subject),
        }

    def turn_to(self, cell: Cell) -> None:
        """Turn to another cell, and the latents of its fit; missing answers are counted anew."""
        self._subject.fit_key = cell.work["fit"]
        if self._judge:
            self._judge.turn_to(cell.key)

    @property
    def incomplete(self) -> str | None:
        """Words for the answers that are missing and a later run may get; None where none are."""
        if not (self._judge and self._judge.missing):
            return None
        return (
            f"{len(self._judge.missing)} answers of the judge are missing, the first of them because of: "
            f"{self._judge.missing[0]}. Run again: they are asked for once more."
        )

    def usage_rows(self, name: str) -> list[dict[str, Any]]:
        """Cost rows for the requests that the cell was the first to send, in all runs; none without a judge."""
        return self._judge.usage_rows(name) if self._judge else []

    def knows(self, request: object) -> bool:
        """True for a request of a kind that somebody answers."""
        return type(request) in self._of

    def prepare(self, asked: Sequence[tuple[Latent, Request]]) -> None:
        """Find the answers to all requests that will come."""
        for kind, respondent in self._of.items():
            if own := [(latent, request) for latent, request in asked if type(request) is kind]:
                respondent.prepare(own)

    def answer(self, latent: Latent, requests: Sequence[Request]) -> list[Any]:
        """A response to each request."""
        return [self._of[type(request)].answer(latent, request) for request in requests]


def planned(asker: Scorer | Explainer, latent: Latent, respondents: Respondents) -> list[Request] | Undefined:
    """The requests of a scorer or an explainer about a latent, or the reason why it has none."""
    try:
        with isolated():
            plan: object = asker.plan(latent)
    except Undefined as undefined:
        return undefined
    if not isinstance(plan, Sequence) or not all(map(respondents.knows, plan)):
        raise PluginError(f"{type(asker).__name__}.plan() returned {plan!r:.80}, not a list of requests such as Embed.")
    return list(plan)


class _Encoder:
    def __init__(self, encoder: Any, session: Session) -> None:
        self._encoder = encoder
        self._session = session

    @cached_property
    def _embedder(self) -> Embedder:
        if self._encoder is None:
            raise PluginError("the plugin asks for embeddings. Say needs=('embed',) in its Spec.")
        return Embedder(self._session.create("model", self._encoder))

    def prepare(self, asked: Sequence[tuple[Latent, Embed]]) -> None:
        self._embedder.read(text for _, request in asked for text in request.texts)

    def answer(self, latent: Latent, request: Embed) -> Tensor:
        return self._embedder.embed(request.texts)


class _JudgeRespondent:
    def __init__(self, judge: Any, session: Session) -> None:
        self.missing: list[str] = []
        """Reasons of the failures that were given as responses and may pass."""
        self._judge = judge
        self._session = session

    @cached_property
    def _judging(self) -> Judging:
        if self._judge is None:
            raise PluginError("the plugin asks a judge. Say needs=('choose',) in its Spec, or what else it asks for.")
        store, judge = self._session.store, self._judge
        suite = content_key({"results": str(store.results)})
        catalog = self._session.catalog
        beside = () if catalog.find("judge", judge["name"]).is_file else catalog.files
        cache = ResponseCache(store.cache / "judges", judge["inputs"], suite, self._session.warn, beside)
        make = partial(self._session.create, "judge", judge)
        budget = self._session.judge_budget
        return Judging(make, cache, self._session.progress, self._session.warn, self._prices, budget)

    @property
    def _prices(self) -> Prices:
        return Prices.of(self._judge["params"])

    def turn_to(self, cell: str) -> None:
        """Turn to another cell."""
        self.missing.clear()
        self._judging.cell = cell

    def usage_rows(self, name: str) -> list[dict[str, Any]]:
        return usage_rows(name, *self._judging.taken())

    def prepare(self, asked: Sequence[tuple[Latent, JudgeRequest]]) -> None:
        self._judging.ask([request for _, request in asked])

    def answer(self, latent: Latent, request: JudgeRequest) -> Any:
        response = self._judging.response(request)
        if isinstance(response, Failure) and response.transient:
            self.missing.append(response.reason)
        return response


class _JudgeAsEncoder:
    def __init__(self, judge: _JudgeRespondent) -> None:
        self._judge = judge
        self._widths: set[int] = set()
        """Widths of all embeddings so far."""

    def prepare(self, asked: Sequence[tuple[Latent, Embed]]) -> None:
        self._judge.prepare([(latent, EmbedText(text)) for latent, request in asked for text in request.texts])

    def answer(self, latent: Latent, request: Embed) -> Tensor:
        found = [self._judge.answer(latent, EmbedText(text)) for text in request.texts]
        for text, embedding in zip(request.texts, found, strict=True):
            if isinstance(embedding, Failure):
                raise Undefined(f"the judge has no embedding of {text!r:.80}: {embedding.reason}")
            self._widths.add(len(embedding))
        if len(self._widths) > 1:
            raise PluginError(
                f"the judge's embeddings have {' and '.join(map(str, sorted(self._widths)))} numbers; one model's have "
                "as many for each text. If another model has taken its name, take judges/responses.sqlite out of the "
                "cache: it holds what was answered before."
            )
        return unit_rows(request.texts, found)
