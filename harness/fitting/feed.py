"""A feed for one learner, or a stack of several: batches cut from streams, its time counted, its errors its own."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.capturing.activations import Stream
from harness.contracts.decomposition import Decomposition
from harness.contracts.method import Batch, Info, Learner, Stack, Stackable
from harness.errors import PluginError
from harness.fitting.clocks import Clock
from harness.fitting.room import explained, memory_of
from harness.fitting.snapshots import Snapshot
from harness.registry.isolation import isolated


@dataclass
class Fitted:
    """The outcome for one learner: a decomposition, or an error with its traceback."""

    decomposition: Decomposition | None = None
    error: BaseException | None = None
    traceback: str = ""
    fit_seconds: float = 0.0
    """The learner's own time in start, partial_fit and finish, without that in which its code was compiled; of what a
    stack took, an equal share."""
    fit_cpu_seconds: float = 0.0
    """Processor time of the same steps, over all threads: hardly moved by what else runs on the machine. Of a learner
    on a card that of the thread which feeds it."""
    rows_seen: int = 0
    state_bytes: int = 0
    """Bytes of the tensors that the learner holds before finish; of those of a stack, an equal share."""
    n_stacked: int = 1
    """Number of learners that learnt in one computation and share its time and its tensors."""
    warnings: list[Warning] = field(default_factory=list)
    """Warnings that the learner's own code gave."""

    def share(self, n: int) -> Fitted:
        """The outcome of a stack of n, as it counts for one learner."""
        return replace(
            self,
            fit_seconds=self.fit_seconds / n,
            fit_cpu_seconds=self.fit_cpu_seconds / n,
            state_bytes=self.state_bytes // n,
            n_stacked=n,
            warnings=list(self.warnings),
        )


@dataclass
class Feed:
    """Cuts a stream into the batches of one learner, or several of equal length into those of a stack of learners."""

    members: Mapping[str, Learner]
    streams: Mapping[str, Stream]
    """The stream of each member, by name."""
    device: torch.device
    stack: Stack | None = None
    """The stack that the members form once started, where they are several."""
    bases: Mapping[str, Decomposition] = field(default_factory=dict)
    """The fit that each member learns from, by name, where it learns from one."""
    shares_mean: bool = False
    """True if the time in which the mean is taken is not the learner's own; see `Supply`."""
    batch_rows: int = 1
    """Read from the learner once, when it has started."""
    fitted: Fitted = field(default_factory=Fitted)
    passes_done: int = 0
    rows_done: int = 0
    """Rows of the current pass that the learner has had in batches."""
    rows_to_skip: int = 0
    """Number of the next rows to leave out: the learner had them before a checkpoint."""
    waiting: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """Rows and their places: [b, d] and [b], or [b, u, d] and [b, u] of u streams."""
    n_waiting: int = 0

    @cached_property
    def distinct(self) -> list[Stream]:
        """The streams of the members, each once."""
        return distinct(self.streams[name] for name in self.members)

    @property
    def learner(self) -> Learner | Stack:
        """The learner, or stack of learners, that is fed."""
        return self.stack or next(iter(self.members.values()))

    @property
    def name(self) -> str:
        """The name of the checkpoint: that of the first member."""
        return next(iter(self.members))

    @property
    def _members(self) -> list[list[Any]]:
        """The names and seeds that checkpoints are told apart by."""
        return [[name, self.streams[name].seed] for name in self.members]

    @cached_property
    def _clock(self) -> Clock:
        return Clock(self.device)

    def run(self, step: Callable[[], None], is_last: bool = False) -> None:
        """Run the learner's own code: its time is counted and whatever it raises costs it alone.

        Args:
            step: the code.
            is_last: wait for all of its steps; before that a device may be behind.
        """
        if self.fitted.error is not None:
            return
        self._clock.start()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            try:
                with isolated():
                    step()
                self._clock.reached()
                if is_last:
                    self._count(wait=True)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the plugin's own code; it may even call sys.exit
                self.fitted.traceback = traceback.format_exc()
                traceback.clear_frames(error.__traceback__)  # which hold its tensors, and the others need the memory
                self.fitted.error = self._told(error)
                self.waiting = []
        self.fitted.warnings += [warning.message for warning in caught if isinstance(warning.message, Warning)]
        self._clock.stop()
        self._count()

    def _told(self, error: BaseException) -> BaseException:
        if not (isinstance(error, torch.OutOfMemoryError) and torch.cuda.is_available()):
            return error
        return explained(error, type(self.learner).__name__, self.batch_rows, memory_of(self.device, error))

    def _count(self, wait: bool = False) -> None:
        seconds, cpu_seconds = self._clock.taken(wait)
        self.fitted.fit_seconds += seconds
        self.fitted.fit_cpu_seconds += cpu_seconds

    def start(self, infos: Mapping[int, Info]) -> None:
        """Make the stack, if there is to be one, and start the learner.

        Args:
            infos: by the id of the stream.
        """
        own = [replace(self._timed(infos[id(self.streams[name])]), base=self.bases.get(name)) for name in self.members]
        first = next(iter(self.members.values()))
        if len(self.members) > 1 and isinstance(first, Stackable):
            self.stack = first.stack(list(self.members.values()))
        for name in ("passes", "batch_rows"):
            value = getattr(self.learner, name, None)
            if not isinstance(value, int) or value < 1:
                raise PluginError(f"{type(self.learner).__name__}.{name} is {value!r}; give a whole number from 1 on.")
        if self.stack is not None:
            self.stack.start(own)
        else:
            first.start(own[0])
        self.batch_rows = self.learner.batch_rows

    def _timed(self, info: Info) -> Info:
        return replace(info, mean=partial(self._aside, info.mean)) if self.shares_mean else info

    def _aside(self, mean: Callable[[], Float[Tensor, " d"]]) -> Float[Tensor, " d"]:
        """Take the mean while the clock stands."""
        self._clock.stop()
        try:
            return mean()
        finally:
            self._clock.start()

    def push(self, blocks: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Add rows; full batches go to the learner.

        Args:
            blocks: rows and their places, by the id of the stream.
        """
        own = [blocks[id(stream)] for stream in self.distinct]
        x, index = own[0] if len(own) == 1 else (torch.stack(parts, dim=1) for parts in zip(*own, strict=True))
        skipped = min(self.rows_to_skip, len(x))
        self.rows_to_skip -= skipped
        x, index = x[skipped:], index[skipped:]
        while len(x):
            missing = self.batch_rows - self.n_waiting
            self.waiting.append((x[:missing], index[:missing]))
            self.n_waiting += len(x[:missing])
            x, index = x[missing:], index[missing:]
            if self.n_waiting == self.batch_rows:
                self.flush()

    def flush(self) -> None:
        """Hand over what waits, at the end of a pass as a smaller batch."""
        if not self.waiting:
            return
        # Always a copy: a learner may write into its batch, and the others must not see it.
        x = torch.cat([part for part, _ in self.waiting])
        index = torch.cat([part for _, part in self.waiting])
        self.waiting, self.n_waiting = [], 0
        self.run(partial(self._hand_over, x, index))
        self.fitted.rows_seen += len(x)
        self.rows_done += len(x)

    def _hand_over(self, x: Tensor, index: Tensor) -> None:
        if self.stack is None:
            next(iter(self.members.values())).partial_fit(_batch(self.distinct[0], x, index))
            return
        parts = zip(x.movedim(1, 0).contiguous(), index.unbind(1), strict=True) if x.ndim == 3 else [(x, index)]
        batches = {id(stream): _batch(stream, *part) for stream, part in zip(self.distinct, parts, strict=True)}
        self.stack.partial_fit([batches[id(self.streams[name])] for name in self.members])

    def end_pass(self) -> None:
        self.flush()
        self.passes_done, self.rows_done = self.passes_done + 1, 0

    def standing(self) -> tuple[Snapshot, dict[str, Any]]:
        """The state that `resume` needs, taken between two batches."""
        self._count(wait=True)
        fitted = self.fitted
        return Snapshot.of(self.learner), {
            "members": self._members,
            "passes_done": self.passes_done,
            "rows_done": self.rows_done,
            "rows_seen": fitted.rows_seen,
            "fit_seconds": fitted.fit_seconds,
            "fit_cpu_seconds": fitted.fit_cpu_seconds,
            "warnings": [str(warning) for warning in fitted.warnings],
        }

    def resume(self, snapshot: Snapshot, standing: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was taken.

        Raises:
            PluginError: it is of another learner, or another stack of them; this one may hold a part of it.
        """
        if standing["members"] != self._members:
            raise PluginError("it was taken of other learners, or of more or fewer in one stack")
        snapshot.restore(self.learner)
        self.passes_done, self.rows_done = standing["passes_done"], standing["rows_done"]
        self.rows_to_skip = self.rows_done
        self.fitted.rows_seen = standing["rows_seen"]
        self.fitted.fit_seconds += standing["fit_seconds"]
        self.fitted.fit_cpu_seconds += standing["fit_cpu_seconds"]
        self.fitted.warnings = [RuntimeWarning(text) for text in standing["warnings"]]


def distinct(streams: Iterable[Stream]) -> list[Stream]:
    """The streams, each once, in their order."""
    return list({id(stream): stream for stream in streams}.values())


def _batch(stream: Stream, x: Float[Tensor, "b d"], index: Int[Tensor, " b"]) -> Batch:
    rows, places = stream.activations.rows, index.cpu().numpy()
    return Batch(x, lambda: rows.iloc[places].reset_index(drop=True), lambda: stream.hashes[places])
