"""What the harness asks of each kind of plugin, and the small things it hands to them.

Nothing here needs to be subclassed: any object with these attributes will do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.decomposition import Codes, Decomposition

if TYPE_CHECKING:
    from harness.scorers import Verdict


@dataclass(frozen=True)
class Document:
    """One text of a corpus. The id is stable: for plain texts, the first 16 hex digits of its sha256."""

    id: str
    text: str
    labels: Mapping[str, str] = field(default_factory=dict)


def document_id(text: str) -> str:
    """The stable id of a plain text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Corpus(Protocol):
    """A source of texts."""

    def documents(self) -> Iterator[Document]:
        """Every document, in the same order each time."""
        ...


@dataclass(frozen=True)
class Window:
    """Up to `context` consecutive tokens of a document, as the model will see them."""

    ids: Sequence[int]
    special: Sequence[bool]
    """True for tokens that the tokenizer added or that are control tokens."""
    start: Sequence[int | None]
    """Character offsets in the document; None without a fast tokenizer and for tokens that stand for no text."""
    end: Sequence[int | None]


class Model(Protocol):
    """Something whose activations can be read."""

    n_layers: int
    width: int
    tokenizer_hash: str

    def windows(self, texts: Sequence[str], context: int) -> list[list[Window]]:
        """For each text, its consecutive windows."""
        ...

    def activations(
        self, ids: Int[Tensor, "b t"], mask: Bool[Tensor, "b t"], sites: Sequence[str]
    ) -> dict[str, Float[Tensor, "b t d"]]:
        """The activations at every site; the forward pass goes no deeper than needed. False in `mask` is padding."""
        ...


class Replay(Protocol):
    """A batch of windows that a model has run, and can run again from one site on.

    A model that has a language-model head offers `replay(ids, site) -> Replay`, which raises `Undefined` with the
    reason where next tokens can't be predicted. What `ids` hold after a window's end is without effect on it.
    """

    x: Float[Tensor, "b t d"]
    """The activations at the site, on the CPU."""
    n_bytes: int

    def logits(self) -> Float[Tensor, "b t v"]:
        """The logits of the unhooked model."""
        ...

    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """The logits with `x` at the site; those of the unhooked model, bit for bit, where nothing is changed."""
        ...


@dataclass(frozen=True)
class Info:
    """What a learner is told before the first batch."""

    width: int
    n_rows: int
    """Rows of one pass."""
    seed: int
    device: torch.device
    dtype: torch.dtype
    mean: Callable[[], Float[Tensor, " d"]]
    """The mean of the rows in float64, taken when called; costs a reading of the rows."""

    def generator(self, name: str) -> torch.Generator:
        """A CPU generator of its own for each purpose: adding one does not shift the numbers of another."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Batch:
    """Rows of the stream. `x` is only lent: clone what is to be kept."""

    x: Float[Tensor, "b d"]
    make_rows: Callable[[], pd.DataFrame] = field(repr=False)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The identity of each row of `x`; made only when asked for."""
        return self.make_rows()


class Learner(Protocol):
    """One configured instance of a method, learning from a stream.

    What else it may have:

    - `resumable = True`: it is saved from time to time, and after a crash goes on in a new instance that has been
      started. All it has learnt must then be in attributes that `harness.snapshots` follows, and its objects made in
      `start`;
    - `stack_key`: of the learners of one site's rows, those of one class whose keys are equal (and hashable, and not
      None) learn in one computation, `stack(learners)` of their class, which gives a `Stack`.
    """

    passes: int
    batch_rows: int

    def start(self, info: Info) -> None: ...

    def partial_fit(self, batch: Batch) -> None: ...

    def finish(self) -> Decomposition: ...


class Stack(Protocol):
    """Two or more learners that learn in one computation, saved like a learner of its own.

    It is given what each would be given alone, in the order of the learners: those of one seed the same `Info` and the
    same `Batch`. What each learns must be what it would learn alone, up to rounding, whichever the others are: a run
    that was cut off and goes on may have fewer. Time and state count as shared equally.
    """

    passes: int
    batch_rows: int

    def start(self, infos: Sequence[Info]) -> None: ...

    def partial_fit(self, batches: Sequence[Batch]) -> None: ...

    def unstack(self) -> None:
        """Hand each learner what it has learnt. `finish` of each is called next: there one alone may fail."""
        ...


class Similarity(Protocol):
    """A metric between two representations (row-aligned tensors), two decompositions, or their codes: `s(a, b, x, y)`.

    Where `streams`, it also has `update(x, y)`, `merge(other)`, `compute()` and `reset()`. What else it may have:

    - `anchor_places(n_rows)`, the places of rows it wants to see first, and `anchors(x, y)`, which is given them;
    - `statistics`, a class as `JointStatistics` describes, and `compute_from(of_pair)`: the value from what that class
      says of one pair. Metrics that name the same class share its work, for all pairs of places, in one reading;
    - `quick_statistics`, a class like it that is asked first: where what it says of a pair makes `compute_from` raise
      `Imprecise`, the rows are read again for `statistics`;
    - `of_side(side, rows)`, one or several tensors, and `of_sides(of_x, of_y)`, the value from what that says of either
      side ("x", "y"). A side's work is then done once for all that it is compared with;
    - where it streams, `update_sides(of_x, of_y)` in place of `of_sides`: `update` by what `of_side` says of new rows,
      which may depend on the anchors of that side and on no other state.
    """

    higher_is_more_similar: bool
    range: tuple[float, float]
    symmetric: bool
    invariant_to: frozenset[str]
    streams: bool

    def __call__(self, x: Any, y: Any) -> float: ...


class JointStatistics(Protocol):
    """What some metrics need to know of many pairs of places, from one reading of their rows.

    A pair's numbers must not depend on which other pairs are there: a run that was cut off and goes on has fewer.
    """

    def __init__(self, pairs: Sequence[tuple[str, str]], same_rows: Mapping[str, str]) -> None:
        """The pairs that will be asked for; `same_rows` names, for a place that is another one shuffled, that one."""

    def update(self, rows: Mapping[str, Float[Tensor, "b d"]], masked: Mapping[str, Bool[Tensor, " b"]]) -> None:
        """The next rows of all places, aligned; a pair leaves out what either side masks (it may not be finite)."""
        ...

    def pair(self, x: str, y: str, without_x: Float[Tensor, "j d1"], without_y: Float[Tensor, "k d2"]) -> Any:
        """What `compute_from` takes; `without_x` are all rows of x, shown before, that y masks and x does not."""
        ...


class Evaluation(Protocol):
    """A judgement of one decomposition."""

    def evaluate(self, decomposition: Decomposition, context: EvaluationContext) -> list[TableRow]: ...


@dataclass(frozen=True)
class DocumentSums:
    """A metric as a ratio of sums over documents: its value is Σ numerator / Σ denominator.

    Both lists have one item for each document of the context, in its order (0 and 0 where a document adds nothing).
    Intervals come from drawing documents anew.
    """

    numerator: list[float]
    denominator: list[float]


@dataclass(frozen=True)
class TableRow:
    """One metric of one cell. `value` is None where it can't be computed, and `reason` says why."""

    metric: str
    value: float | None
    n: int
    """What the value rests on: rows for most metrics."""
    higher_is_better: bool | None = None
    reason: str | None = None
    documents: DocumentSums | None = None
    """Given for metrics that leaderboards compare; without it a metric gets no interval."""
    verdicts: Sequence[Verdict] = ()
    """What a scorer said of the windows that the metric was made of."""


@dataclass(frozen=True)
class ReplayedRows:
    """The unmasked evaluation rows of some windows, with the model that goes on from them.

    Whatever is put in place of the rows, all else (special tokens, first positions, sinks) keeps its own activations.
    """

    replay: Replay
    places: Bool[Tensor, "b t"]
    """Where the rows are."""
    counted: Bool[Tensor, "b t"]
    """Which of them have a token of text after them in their window: its n predictions are judged."""
    next_ids: Int[Tensor, " n"]
    """The tokens that are predicted."""
    documents: Int[Tensor, " n"]
    """For every prediction the number of its document, as in the context."""
    device: torch.device

    @property
    def rows(self) -> Float[Tensor, "r d"]:
        """The rows themselves, in float32."""
        return self.replay.x[self.places].to(self.device, torch.float32)

    def logits(self) -> Float[Tensor, "n v"]:
        """What the unhooked model predicts."""
        return self._counted(self.replay.logits())

    def patched(self, rows: Float[Tensor, "r d"]) -> Float[Tensor, "n v"]:
        """What the model predicts with `rows` in place of its own."""
        x = self.replay.x.clone()
        x[self.places] = rows.to(x)
        return self._counted(self.replay.patched(x))

    def _counted(self, logits: Float[Tensor, "b t v"]) -> Float[Tensor, "n v"]:
        return logits[self.counted.to(logits.device)]


@dataclass(frozen=True)
class Truth:
    """What rows were made of, where that is known: x = codes · dictionary, and noise."""

    dictionary: Float[Tensor, "f d"]
    """The direction of every feature."""
    codes: Codes
    """How active the features are in each row."""


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation may look at. `blocks` can be walked any number of times, always in the same order."""

    n_rows: int
    width: int
    blocks: Callable[[], Iterator[tuple[Float[Tensor, "b d"], Bool[Tensor, " b"]]]]
    """Pairs of float32 rows and their mask; True marks rows that are left out of masked metrics (sinks)."""
    documents: Int[Tensor, " n"]
    """For every row the number of its document, from 0 on in the order of the rows."""
    replays: Callable[[], Iterator[ReplayedRows]] | None = None
    """The rows again, batch by batch, with the model that they come from; walked like `blocks`, in an order of its
    own. Raises `Undefined` where the model has no head."""
    fit_mean: Callable[[], Float[Tensor, " d"]] | None = None
    """The mean of the unmasked fit rows in float64, on the CPU; costs a reading of them."""
    labels: Callable[[], Sequence[Mapping[str, str]]] | None = None
    """The labels of each document, by its number. Raises `Undefined` where there is no corpus that could have them."""
    truth: Callable[[], Truth] | None = None
    """The features that the rows were made of. Raises `Undefined` where nobody knows them."""
    shared: dict[str, Any] = field(default_factory=dict)
    """What evaluations keep here is there for the next decomposition of the same rows."""

    @property
    def n_documents(self) -> int:
        return int(self.documents.max()) + 1 if self.n_rows else 0
