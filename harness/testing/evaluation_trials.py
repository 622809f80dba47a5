"""An evaluation on trial: made-up rows with documents, labels, a truth and a head, and decompositions of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.evaluation import EvaluationContext, ReplayedRows, TextRows
from harness.contracts.model import Truth
from harness.contracts.table_row import TableRow
from harness.errors import Undefined
from harness.registry.metric import Metric
from harness.testing.checks import NotChecked

N_DOCUMENTS, WIDTH = 96, 24
_FEATURES, _ACTIVE, _LATENTS, _VOCABULARY = 36, 4, 30, 16
_SINK_SHARE = 0.03


@dataclass(frozen=True)
class EvaluatedRows:
    """Rows in order of their documents, each of which is one window with a token before its rows and one after."""

    x: Float[Tensor, "n d"]
    masked: Bool[Tensor, " n"]
    documents: Int[Tensor, " n"]
    ids: Int[Tensor, " n"]
    codes: Float[Tensor, "n f"]
    dictionary: Float[Tensor, "f d"]
    labels: Sequence[Mapping[str, str]]

    def taken(self, places: Int[Tensor, " m"]) -> EvaluatedRows:
        """Some rows in another order; documents are numbered anew in the order in which they come."""
        old = self.documents[places]
        first = list(dict.fromkeys(old.tolist()))
        number = {document: i for i, document in enumerate(first)}
        return replace(
            self,
            x=self.x[places].clone(),
            masked=self.masked[places].clone(),
            documents=torch.tensor([number[document] for document in old.tolist()], dtype=torch.long),
            ids=self.ids[places],
            codes=self.codes[places],
            labels=[self.labels[document] for document in first],
        )

    @property
    def truth(self) -> Truth:
        """The features that the rows are made of, and their codes."""
        return Truth(self.dictionary, Codes(self.codes))

    def blocks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and mask, a number of rows at a time."""
        yield from zip(self.x.split(size), self.masked.split(size), strict=True)

    def replays(self, n_windows: int) -> Iterator[ReplayedRows]:
        """The windows, a number of documents at a time; one whose rows are all masked is left out."""
        kept = self.documents[~self.masked].unique()
        for chosen in kept.split(n_windows) if len(kept) else ():
            yield self._replayed([(self.documents == number).nonzero()[:, 0] for number in chosen.tolist()], chosen)

    def _replayed(self, windows: Sequence[Int[Tensor, " r"]], numbers: Int[Tensor, " b"]) -> ReplayedRows:
        shape = len(windows), max(map(len, windows)) + 1
        x, ids = torch.zeros(*shape, WIDTH), torch.zeros(shape, dtype=torch.long)
        places = torch.zeros(shape, dtype=torch.bool)
        has_next = torch.zeros(shape, dtype=torch.bool)
        for i, rows in enumerate(windows):
            x[i, 1 : len(rows) + 1] = self.x[rows].nan_to_num(0.0)
            ids[i, 1 : len(rows) + 1] = self.ids[rows]
            places[i, 1 : len(rows) + 1] = ~self.masked[rows]
            has_next[i, : len(rows)] = True
        counted = places & has_next
        of_window = numbers[:, None].expand(shape)
        next_ids = ids.roll(-1, dims=1)[counted]
        return ReplayedRows(_Causal(x), places, counted, next_ids, of_window[counted], torch.device("cpu"))


class _Causal:
    """Stands in for a model that goes on from the site: each token sees itself and the mean of those before it."""

    def __init__(self, x: Float[Tensor, "b t d"]) -> None:
        self.x = x
        self.n_bytes = x.nbytes

    def logits(self) -> Float[Tensor, "b t v"]:
        return self.patched(self.x)

    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        so_far = x.cumsum(dim=1) / torch.arange(1, x.shape[1] + 1)[:, None]
        return (x + so_far) @ _head()


@functools.cache
def _head() -> Float[Tensor, "d v"]:
    return torch.randn(WIDTH, _VOCABULARY, generator=torch.Generator().manual_seed(7)) / 4


def evaluated_rows() -> EvaluatedRows:
    """Documents of 4 to 11 rows; those on one topic have a feature that the others lack, and a few rows are sinks."""
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(4, 12, (N_DOCUMENTS,), generator=draw)
    documents = torch.arange(N_DOCUMENTS).repeat_interleave(lengths)
    n = len(documents)
    dictionary = nn.functional.normalize(torch.randn(_FEATURES, WIDTH, generator=draw), dim=1)
    codes = torch.rand(n, _FEATURES, generator=draw) + 0.5
    codes *= torch.rand(n, _FEATURES, generator=draw) < _ACTIVE / _FEATURES
    topic = torch.randint(2, (N_DOCUMENTS,), generator=draw)
    codes[:, 0] = torch.where(topic[documents] == 1, codes[:, 0] + (torch.rand(n, generator=draw) < 0.5), 0.0)
    x = codes @ dictionary + 0.05 * torch.randn(n, WIDTH, generator=draw)
    masked = torch.rand(n, generator=draw) < _SINK_SHARE
    x[masked] *= 30
    labels = [{"topic": ("law", "cookery")[number]} for number in topic.tolist()]
    ids = torch.randint(_VOCABULARY, (n,), generator=draw)
    return EvaluatedRows(x, masked, documents, ids, codes, dictionary, labels)


def rows_elsewhere(texts: Sequence[str]) -> TextRows:
    """Rows of other texts, one a word; they have little to do with the others."""
    words = [(number, word) for number, text in enumerate(texts) for word in text.split()]
    draw = torch.Generator().manual_seed(9)
    x = torch.randn(len(words), WIDTH, generator=draw)
    return TextRows(x, torch.tensor([number for number, _ in words], dtype=torch.long), [word for _, word in words])


class Directions(Decomposition):
    """The codes of a row are its largest products with directions; sparse, or the same ones dense."""

    def __init__(self, directions: Float[Tensor, "m d"], is_dense: bool = False, has_dictionary: bool = True) -> None:
        self.directions = directions
        self.is_dense = is_dense
        self.dictionary = directions if has_dictionary else None
        self.n_latents = len(directions)

    def encode(self, x: Float[Tensor, "n d"]) -> Codes:
        """The codes of the four directions that a row has most of."""
        products = x @ self.directions.T.to(x)
        indices = products.abs().topk(_ACTIVE, dim=1).indices
        codes = Codes(products.gather(1, indices), indices, self.n_latents)
        return Codes(codes.to_dense()) if self.is_dense else codes

    def decode(self, codes: Codes) -> Float[Tensor, "n d"]:
        """The sum of the directions by their codes."""
        return codes.to_dense(self.n_latents) @ self.directions.to(codes.values)


def directions(seed: int = 0, n_latents: int = _LATENTS, **kind: bool) -> Directions:
    """Directions, half of them near true features, half drawn at random."""
    draw = torch.Generator().manual_seed(100 + seed)
    noise = torch.randn(n_latents, WIDTH, generator=draw)
    near = evaluated_rows().dictionary[: n_latents // 2] + 0.05 * noise[: n_latents // 2]
    return Directions(nn.functional.normalize(torch.cat([near, noise[n_latents // 2 :]]), dim=1), **kind)


@dataclass
class Offered:
    """A context, and which of the things that not all contexts have were asked for."""

    rows: EvaluatedRows
    block_rows: int = 4096
    n_windows: int = 8
    absent: frozenset[str] = frozenset()
    asked: set[str] = field(default_factory=set)

    @cached_property
    def context(self) -> EvaluationContext:
        """The one context, with its `shared`, however often it is asked for."""
        rows = self.rows
        kept = rows.x[~rows.masked]
        return EvaluationContext(
            n_rows=len(rows.x),
            width=WIDTH,
            blocks=lambda: rows.blocks(self.block_rows),
            documents=rows.documents,
            replays=lambda: self._given("head", lambda: rows.replays(self.n_windows)),
            fit_mean=lambda: kept.double().mean(dim=0) if len(kept) else torch.zeros(WIDTH, dtype=torch.float64),
            labels=lambda: self._given("labels", lambda: rows.labels),
            truth=lambda: self._given("truth", lambda: rows.truth),
            tokens=lambda: self._given("texts", lambda: [f"t{number}" for number in rows.ids.tolist()]),
            elsewhere=lambda texts: self._given("texts", lambda: rows_elsewhere(texts)),
        )

    def _given(self, name: str, make: Callable[[], Any]) -> Any:
        self.asked.add(name)
        if name in self.absent:
            raise Undefined(f"this context has no {name}")
        return make()


class EvaluationUnderTest:
    """An evaluation, by what makes a fresh one, and what its Spec needs and declares (None: no Spec is at hand)."""

    stuck_in: str | None = None

    def __init__(
        self,
        make: Callable[[], Any],
        needs: Sequence[str] | None = None,
        metrics: tuple[Metric, ...] | None = None,
    ) -> None:
        self.make = make
        self.needs = needs
        self.metrics = metrics

    @cached_property
    def outcome(self) -> Any:
        """The answer on ordinary rows, or the exception that came instead."""
        try:
            return self.evaluate(Offered(self.rows))
        except Exception as error:  # the plugin's own code
            return error

    @property
    def rows(self) -> EvaluatedRows:
        """Ordinary rows, for the caller to spoil."""
        return evaluated_rows()

    def evaluate(self, offered: Offered, decomposition: Decomposition | None = None, evaluation: Any = None) -> Any:
        """The answer of an evaluation, a fresh one if none is given; what it gives one by one is gathered in a list."""
        evaluation = self.make() if evaluation is None else evaluation
        found: object = evaluation.evaluate(decomposition or directions(), offered.context)
        return list(found) if isinstance(found, Iterator) else found

    def table(
        self, offered: Offered, decomposition: Decomposition | None = None, evaluation: Any = None
    ) -> dict[str, TableRow]:
        """The table rows by their metric."""
        if not are_table_rows(self.outcome):
            raise NotChecked("nothing to check before `gives_table_rows` holds")
        return {row.metric: row for row in self.evaluate(offered, decomposition, evaluation)}


def are_table_rows(found: object) -> bool:
    """True for rows of tables in any collection, as runs take them."""
    return isinstance(found, Iterable) and all(isinstance(row, TableRow) for row in found)
