"""The subject model, the one whose activations are decomposed, answers scorers that ask it for more than windows.

Texts become rows as in capture: special tokens, the first of each window and rows beyond `max_norm_multiple` are left
out. A latent's answers do not depend on which other latents are scored: windows run in fixed shapes, and the rest of
the work is done request by request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.capturing.batches import run_alike
from harness.capturing.capture import PlacedWindow, place
from harness.capturing.masking import max_norm
from harness.contracts.corpus import Document
from harness.contracts.decomposition import Codes, Decomposition, load
from harness.contracts.latent import Latent
from harness.contracts.model import HasHead, Model, Replay, RunsTexts, TextModel
from harness.contracts.requests import Activate, Activated, Promoted, Steer, Unembed
from harness.errors import PluginError, Undefined
from harness.latents.lens import Lens
from harness.registry.isolation import isolated
from harness.running.session import Session
from harness.storage.activation_store import StoredActivations
from harness.storage.store import require

# Of 20 windows of 32 tokens each, 4,096 wide: 170 MB.
_REQUESTS_AT_ONCE = 16


class Subject:
    """The model, and the decomposition that the scored latents are of; both are loaded when first asked."""

    def __init__(self, work: Mapping[str, Any], session: Session) -> None:
        """Find the model in the work of any cell of the group."""
        self._description: Any = work.get("subject")
        self._session = session
        self._fit: tuple[str, Decomposition] | None = None
        self.fit_key: str = work["fit"]
        """The fit whose latents are scored now."""

    @cached_property
    def model(self) -> TextModel:
        """The model, made when first asked for; Undefined where there are only rows."""
        model: Model = self._session.create("model", self._described["source"]["model"])
        if not isinstance(model, RunsTexts):
            raise Undefined("its rows are stored; there is no model to ask")
        return model

    @property
    def site(self) -> str:
        return str(self._described["source"]["site"])

    @property
    def _described(self) -> Mapping[str, Any]:
        if self._description is None:
            raise PluginError("the scorer asks the subject model. Say needs=('model',) or ('head',) in its Spec.")
        described: Mapping[str, Any] = self._description
        return described

    @property
    def decomposition(self) -> Decomposition:
        """The decomposition of `fit_key`."""
        if self._fit is None or self._fit[0] != self.fit_key:
            folder, _ = require(self._session.store, "fit", self.fit_key)
            self._fit = self.fit_key, load(folder, self._session.device)
        return self._fit[1]

    @cached_property
    def max_norm(self) -> float:
        """The norm beyond which rows are masked."""
        fit = StoredActivations(*require(self._session.store, "capture", self._description["fit_capture"]))
        return max_norm(fit, self._description["max_norm_multiple"])

    def place(self, texts: Sequence[str]) -> list[PlacedWindow]:
        """The windows of texts; their `document` is the number of the text."""
        documents = (Document(str(number), text) for number, text in enumerate(texts))
        return list(place(self.model, documents, self._described["source"]["context"]))

    def codes(self, latent: Latent, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Activations of the pole on rows, one at least; 0 on those that are masked."""
        found = torch.zeros(len(x), dtype=torch.float64)
        unmasked = x.norm(dim=1) <= self.max_norm
        if unmasked.any():
            with isolated():
                codes = self.decomposition.encode(x[unmasked].to(self._session.device))
            found[unmasked] = latent.sign * _column(codes, latent.index).cpu()
        return found.clamp(min=0).float()


class Activating:
    """Answers `Activate`. The windows of many requests are run together, which leaves few batches half empty."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._known: dict[tuple[int, int, Activate], list[Activated]] = {}

    def prepare(self, asked: Sequence[tuple[Latent, Activate]]) -> None:
        """Run the texts; what was prepared before is forgotten."""
        self._known = {}
        for first in range(0, len(asked), _REQUESTS_AT_ONCE):
            part = asked[first : first + _REQUESTS_AT_ONCE]
            for (latent, request), found in zip(part, self._activated(part), strict=True):
                self._known[latent.index, latent.sign, request] = found

    def answer(self, latent: Latent, request: Activate) -> list[Activated]:
        return list(self._known[latent.index, latent.sign, request])

    def _activated(self, asked: Sequence[tuple[Latent, Activate]]) -> Iterator[list[Activated]]:
        """The response to each request; codes are found request by request."""
        placed = [self._subject.place(request.texts) for _, request in asked]
        rows = iter(self._rows([own for of_request in placed for own in of_request]))
        for (latent, request), of_request in zip(asked, placed, strict=True):
            x = list(islice(rows, len(of_request)))
            activations = self._subject.codes(latent, torch.cat(x)) if x else torch.empty(0)
            found = [Activated((), ()) for _ in request.texts]
            for own, values in zip(of_request, activations.split([len(part) for part in x]), strict=True):
                number = int(own.document)
                found[number] = _extended(found[number], request.texts[number], own, values.tolist())
            yield found

    def _rows(self, placed: Sequence[PlacedWindow]) -> list[Float[Tensor, "t d"]]:
        """The unmasked rows of each window."""
        rows: list[Tensor] = [torch.empty(0)] * len(placed)
        for ran in run_alike(self._subject.model, [own.window for own in placed], self._subject.site):
            for number, x in zip(ran.places, ran.x, strict=True):
                keep = torch.from_numpy(placed[number].keep)
                rows[number] = x[: len(keep)][keep].float()
        return rows


class Steering:
    """Answers `Steer`, one addition at a time."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._replays: dict[str, tuple[Replay, int]] = {}

    def prepare(self, asked: Sequence[tuple[Latent, Steer]]) -> None:
        """Run the prompts."""
        for _, request in asked:
            self._replay(request.prompt)

    def answer(self, latent: Latent, request: Steer) -> Float[Tensor, "r v"]:
        replay, last = self._replay(request.prompt)
        found = []
        for addition in request.additions:
            x = replay.x.clone()
            x[0, last] += addition.to(x)
            found.append(replay.patched(x)[0, last].cpu().double().log_softmax(dim=0))
        return torch.stack(found)

    def _replay(self, prompt: str) -> tuple[Replay, int]:
        """The prompt, run once, and the place of its last token."""
        if prompt not in self._replays:
            placed = self._subject.place([prompt])
            if not placed or not placed[0].keep.any():
                raise Undefined(f"the prompt {prompt!r} has no token after the first")
            model = self._subject.model
            if not isinstance(model, HasHead):
                raise Undefined(f"its model, {type(model).__name__}, has no replay(): see harness.HasHead")
            last = int(np.flatnonzero(placed[0].keep)[-1])
            ids = torch.tensor(placed[0].window.ids)[None, : last + 1]
            self._replays[prompt] = model.replay(ids, self._subject.site), last
        return self._replays[prompt]


class Unembedding:
    """Answers `Unembed`; directions that many latents ask for are looked at once."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._known: dict[tuple[str, int], list[Promoted]] = {}

    @cached_property
    def _lens(self) -> Lens:
        return Lens(lambda: self._subject.model, self._subject.site)

    def prepare(self, asked: Sequence[tuple[Latent, Unembed]]) -> None:
        """Find the promoted tokens."""
        for latent, request in asked:
            self.answer(latent, request)

    def answer(self, latent: Latent, request: Unembed) -> list[Promoted]:
        directions = request.directions.float().contiguous()
        key = hashlib.sha256(directions.numpy().tobytes()).hexdigest(), request.n_tokens
        if key not in self._known:
            self._known[key] = [
                self._promoted(ids)
                for logits in self._lens.logits(directions)
                for ids in logits.topk(min(request.n_tokens, logits.shape[1])).indices
            ]
        return list(self._known[key])

    def _promoted(self, ids: Int[Tensor, " t"]) -> Promoted:
        model = self._lens.model
        return Promoted(ids, tuple(model.token_texts(ids.tolist())), model.unembedding(ids))


def _extended(before: Activated, text: str, placed: PlacedWindow, values: Sequence[float]) -> Activated:
    """Append the next window's tokens, but special ones, and their activations. The tokens add up to the text."""
    tokens, activations = list(before.tokens), list(before.activations)
    reached = sum(map(len, tokens))
    of_row = dict(zip(np.flatnonzero(placed.keep).tolist(), values, strict=True))
    for position, end in enumerate(placed.window.end):
        if end is not None:
            tokens.append(text[reached:end])
            activations.append(of_row.get(position, 0.0))
            reached = max(reached, end)
    return Activated(tuple(tokens), tuple(activations))


def _column(codes: Codes, index: int) -> Float[Tensor, " n"]:
    """The codes of one latent, what is taken twice added up."""
    if codes.indices is None:
        return codes.values[:, index].double()
    return (codes.values * (codes.indices == index)).double().sum(dim=1)
