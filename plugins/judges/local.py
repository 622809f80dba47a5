"""A judge that is run here: any causal language model of transformers.

choose: log p(choice | prompt) = Σ log p(token | prompt, the tokens of the choice before it), in natural logarithms.
likelihood: the same sum over the tokens of a text after a context.
generate: the likeliest token at each step, until the model ends its answer.
embed: not provided, as the states of a causal model make poor embeddings; a suite's `encoder` runs a sentence encoder.

A prompt is what the tokenizer's chat template makes of `system` and `user`, ready for the answer; without a template it
is both texts and "Answer:". What texts hold that looks like the template's own tokens is taken apart first.

The keys and values of a prompt's beginning, up to the last blank line of `user` (or of a context), are computed once
for all requests that share them; each batch works on a copy (delphi's surprisal scorer hands one cache from batch to
batch, which the model lengthens each time). Batches have fixed shapes, given by the beginning and the request alone,
so the requests beside it change nothing of an answer.
"""

from __future__ import annotations

import copy
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import harness
from harness.plugins.judges import LocalConfig
from harness.plugins.judges.identity import PACKAGED
from harness.plugins.judges.prompts import Prompts
from harness.plugins.models import HFConfig
from harness.plugins.models.checkpoint import check_left_over, find_device, load_module, load_tokenizer
from harness.plugins.models.packaged import find_folder

# On a CPU 4 rows are read at the rate of 8, and fewer places stay empty where few requests are alike.
_BATCH_ROWS = {"cpu": 4}
_BATCH_ROWS_ELSEWHERE = 8
_LENGTH_STEP = 16
_REQUESTS_AT_ONCE = 256
"""Number of requests among which rows of one shape are looked for; their answers are handed out together."""
_GENERATED_ROWS = 8
"""Number of answers generated together: on two cores, 8 of 128 tokens take 2.5 times as long as one."""
_GENERATED_LENGTH_STEP = 64
_GENERATED_AT_ONCE = 64
"""Number of answers handed out together: fewer than of scores, as each takes longer and would be lost in a crash."""

Ids = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """The tokens of a prompt, whose last `n_scored` places predict the tokens that are scored."""

    beginning: Ids
    """The beginning that other rows share; at least one token."""
    rest: Ids
    n_scored: int

    @property
    def n_padded(self) -> int:
        """Length of `rest` with padding."""
        return _padded(len(self.rest), _LENGTH_STEP)

    @property
    def n_kept(self) -> int:
        """Number of last places that are read: rounded up to a power of 2, so that more rows have one shape."""
        return min(self.n_padded, 1 << (self.n_scored - 1).bit_length())


class Local:
    """A local language model that scores and continues prompts."""

    def __init__(self, config: LocalConfig) -> None:
        path = str(find_folder(PACKAGED)) if config.path is None else config.path
        of_model = HFConfig(path, config.revision, config.dtype)
        self._device = find_device(config.device)
        loaded = load_module(AutoModelForCausalLM, of_model, {})
        if loaded.missing:
            raise harness.ConfigError(f"judge local: {path!r} lacks the weights {', '.join(loaded.missing)}.")
        lists = [module for module in loaded.module.modules() if isinstance(module, nn.ModuleList)]
        check_left_over(loaded, [layer for layers in lists for layer in layers], path)
        self._model: Any = loaded.module.to(self._device)
        is_alone = _positions_depend_on_length(self._model.config)
        self._batch_rows = 1 if is_alone else _BATCH_ROWS.get(self._device.type, _BATCH_ROWS_ELSEWHERE)
        self._generated_rows = 1 if is_alone else _GENERATED_ROWS
        self._prompts = Prompts(load_tokenizer(of_model))

    def choose(self, requests: Sequence[harness.Choose]) -> Iterator[tuple[float, ...]]:
        """The log-probabilities of the choices as the judge's answer."""
        for part in _parts(requests, _REQUESTS_AT_ONCE):
            asked = [self._prompts.choices(request) for request in part]
            scored = iter(self._scores([(ids, choice) for ids, choices in asked for choice in choices]))
            yield from (tuple(next(scored) for _ in choices) for _, choices in asked)

    def likelihood(self, requests: Sequence[harness.Likelihood]) -> Iterator[tuple[float, int]]:
        """The log-probabilities of texts, and their numbers of tokens."""
        for part in _parts(requests, _REQUESTS_AT_ONCE):
            asked = [self._prompts.continuation(request) for request in part]
            for (_, text), score in zip(asked, self._scores(asked), strict=True):
                yield score, len(text)

    def generate(self, requests: Sequence[harness.Generate]) -> Iterator[str]:
        """The likeliest continuations, in batches of prompts of one padded length and one limit of tokens."""
        for part in _parts(requests, _GENERATED_AT_ONCE):
            asked = [sum(self._prompts.of(request.system, request.user), ()) for request in part]
            groups: dict[tuple[int, int], list[int]] = defaultdict(list)
            for place, (ids, request) in enumerate(zip(asked, part, strict=True)):
                groups[self._shape(len(ids), request.max_tokens), request.max_tokens].append(place)
            answers: dict[int, str] = {}
            for (n_tokens, limit), places in groups.items():
                for batch in _parts(places, self._generated_rows):
                    found = self._continuations([asked[place] for place in batch], n_tokens, limit)
                    answers |= zip(batch, found, strict=True)
            yield from (answers[place] for place in range(len(part)))

    @torch.no_grad()
    def _continuations(self, prompts: Sequence[Ids], n_tokens: int, limit: int) -> list[str]:
        """The answers to up to a batch of prompts; what is missing of a batch is filled with the first."""
        ids = torch.full((self._generated_rows, n_tokens), self._prompts.padding)
        mask = torch.zeros_like(ids)
        for place in range(self._generated_rows):
            prompt = prompts[place] if place < len(prompts) else prompts[0]
            ids[place, n_tokens - len(prompt) :] = torch.tensor(prompt)
            mask[place, n_tokens - len(prompt) :] = 1
        found = self._model.generate(
            ids.to(self._device),
            attention_mask=mask.to(self._device),
            max_new_tokens=limit,
            do_sample=False,
            use_cache=True,
            pad_token_id=self._prompts.padding,
        )
        return [self._prompts.text(self._until_end(row.tolist())) for row in found[: len(prompts), n_tokens:]]

    def _shape(self, n_tokens: int, limit: int) -> int:
        """The length with padding of a prompt, which must not take the place of its answer."""
        padded = _padded(n_tokens, 1 if self._generated_rows == 1 else _GENERATED_LENGTH_STEP)
        most = getattr(self._model.config, "max_position_embeddings", None) or padded + limit
        return max(n_tokens, min(padded, most - limit))

    def _until_end(self, answer: list[int]) -> list[int]:
        """Cut an answer at its end; the rest is padding up to the longest answer of the batch."""
        ends = self._model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        return list(itertools.takewhile(lambda token: token not in ends, answer))

    def _scores(self, asked: Sequence[tuple[tuple[Ids, Ids], Ids]]) -> list[float]:
        """The log-probability of each target after its prompt, which is in two parts; 0 for an empty target."""
        wanted: dict[Row, dict[Ids, float]] = defaultdict(dict)
        rows = [Row(beginning, rest + target[:-1], len(target)) for (beginning, rest), target in asked]
        for row, (_, target) in zip(rows, asked, strict=True):
            wanted[row][target] = 0.0
        for beginning, batches in _by_beginning([row for row in wanted if row.n_scored], self._batch_rows).items():
            read = self._read(beginning)
            for batch in batches:
                for row, found in zip(batch, self._continue(read, batch), strict=True):
                    for target in wanted[row]:
                        places = torch.tensor(target)[:, None]
                        wanted[row][target] = float(found[-row.n_scored :].gather(1, places).double().sum())
        return [wanted[row][target] for row, (_, target) in zip(rows, asked, strict=True)]

    @torch.no_grad()
    def _read(self, beginning: Ids) -> Any:
        """The keys and values of a beginning."""
        ids = torch.tensor([beginning], device=self._device)
        return self._model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    @torch.no_grad()
    def _continue(self, read: Any, rows: Sequence[Row]) -> Float[Tensor, "n s v"]:
        """The log-probabilities of the tokens after the last places of up to a batch of rows of one shape."""
        n_read, n_tokens, n_kept = len(rows[0].beginning), rows[0].n_padded, rows[0].n_kept
        ids = torch.full((self._batch_rows, n_tokens), self._prompts.padding)
        mask = torch.zeros(self._batch_rows, n_read + n_tokens, dtype=torch.long)
        mask[:, :n_read] = 1
        for place, row in enumerate(rows):
            ids[place, n_tokens - len(row.rest) :] = torch.tensor(row.rest)
            mask[place, n_read + n_tokens - len(row.rest) :] = 1
        cache = copy.deepcopy(read)
        cache.batch_repeat_interleave(self._batch_rows)
        logits: Tensor = self._model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=(mask.cumsum(dim=1) - 1)[:, n_read:].to(self._device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=n_kept,
        ).logits
        return logits[: len(rows), -n_kept:].float().log_softmax(dim=-1).cpu()


def _positions_depend_on_length(config: Any) -> bool:
    """True if the longest row of a batch changes the position encodings of the others, as dynamic RoPE does."""
    rope = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [rope, *(part for part in rope.values() if isinstance(part, dict))]  # or one for each kind of layer
    return any(part.get("rope_type", part.get("type")) in ("dynamic", "longrope") for part in kinds)


def _padded(n: int, step: int) -> int:
    return -(-n // step) * step


def _parts(requests: Sequence[Any], n: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(requests), n):
        yield requests[first : first + n]


def _by_beginning(rows: Sequence[Row], batch_rows: int) -> dict[Ids, list[Sequence[Row]]]:
    """Batches of rows of one shape."""
    groups: dict[Ids, dict[tuple[int, int], list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.beginning][row.n_padded, row.n_kept].append(row)
    return {
        beginning: [batch for group in of_shape.values() for batch in _parts(group, batch_rows)]
        for beginning, of_shape in groups.items()
    }
