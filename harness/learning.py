"""One stream, many learners: every learner gets the batches it would get alone, and one that fails drops out."""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from harness.activations import Stream
from harness.checkpoints import Checkpoints
from harness.contracts import Batch, Info, Learner, Stack
from harness.decomposition import Decomposition
from harness.errors import PluginError
from harness.isolation import isolated
from harness.snapshots import Snapshot


@dataclass
class Fitted:
    """How one learner fared: a decomposition, or an error with its traceback."""

    decomposition: Decomposition | None = None
    error: BaseException | None = None
    traceback: str = ""
    fit_seconds: float = 0.0
    """The learner's own time in start, partial_fit and finish; of what a stack took, an equal share."""
    fit_cpu_seconds: float = 0.0
    """Processor time of the same, over all threads: hardly moved by what else runs on the machine."""
    rows_seen: int = 0
    state_bytes: int = 0
    """Of the tensors that the learner holds before finish; of those of a stack, an equal share."""
    n_stacked: int = 1
    """How many learners learnt in one computation and share its time and its tensors."""
    warnings: list[Warning] = field(default_factory=list)
    """What the learner's own code warned of."""

    def share(self, n: int) -> Fitted:
        """That of one learner in a stack of n."""
        return replace(
            self,
            fit_seconds=self.fit_seconds / n,
            fit_cpu_seconds=self.fit_cpu_seconds / n,
            state_bytes=self.state_bytes // n,
            n_stacked=n,
            warnings=list(self.warnings),
        )


@dataclass
class _Feed:
    """Cuts the stream into the batches of one learner, or of a stack of several."""

    members: Mapping[str, Learner]
    stream: Stream
    device: torch.device
    stack: Stack | None = None
    """Of the members, from the start on, where they are several."""
    batch_rows: int = 1
    """Read from the learner once, when it has started."""
    fitted: Fitted = field(default_factory=Fitted)
    passes_done: int = 0
    rows_done: int = 0
    """Of the pass under way, in batches that the learner has had."""
    rows_to_skip: int = 0
    """Of the next rows that come: the learner had them before a checkpoint."""
    waiting: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    n_waiting: int = 0

    @property
    def learner(self) -> Learner | Stack:
        """What is fed."""
        return self.stack or next(iter(self.members.values()))

    @property
    def name(self) -> str:
        """Of the checkpoint: the first member's."""
        return next(iter(self.members))

    def run(self, step: Callable[[], None]) -> None:
        """Run the learner's own code: its time is counted and whatever it raises costs it alone."""
        if self.fitted.error is not None:
            return
        _wait_for(self.device)
        started, cpu_started = time.perf_counter(), time.process_time()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            try:
                with isolated():
                    step()
                _wait_for(self.device)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # the plugin's own code; it may even call sys.exit
                self.fitted.error = error
                self.fitted.traceback = traceback.format_exc()
        self.fitted.warnings += [warning.message for warning in caught if isinstance(warning.message, Warning)]
        self.fitted.fit_seconds += time.perf_counter() - started
        self.fitted.fit_cpu_seconds += time.process_time() - cpu_started

    def push(self, x: Tensor, index: Tensor) -> None:
        """Add rows of the stream; full batches go to the learner."""
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
        rows = self.stream.activations.rows
        batch = Batch(x, lambda: rows.iloc[index.cpu().numpy()].reset_index(drop=True))
        self.run(lambda: self.learner.partial_fit(batch))
        self.fitted.rows_seen += len(x)
        self.rows_done += len(x)

    def end_pass(self) -> None:
        self.flush()
        self.passes_done, self.rows_done = self.passes_done + 1, 0

    def standing(self) -> tuple[Snapshot, dict[str, Any]]:
        """What `resume` needs, between two batches."""
        fitted = self.fitted
        return Snapshot.of(self.learner), {
            "members": list(self.members),
            "passes_done": self.passes_done,
            "rows_done": self.rows_done,
            "rows_seen": fitted.rows_seen,
            "fit_seconds": fitted.fit_seconds,
            "fit_cpu_seconds": fitted.fit_cpu_seconds,
            "warnings": [str(warning) for warning in fitted.warnings],
        }

    def resume(self, snapshot: Snapshot, standing: Mapping[str, Any]) -> None:
        """Go on where a checkpoint was taken; one of a stack of other learners is of no use."""
        if standing.get("members") != list(self.members):
            return
        snapshot.restore(self.learner)
        self.passes_done, self.rows_done = standing["passes_done"], standing["rows_done"]
        self.rows_to_skip = self.rows_done
        self.fitted.rows_seen = standing["rows_seen"]
        self.fitted.fit_seconds += standing["fit_seconds"]
        self.fitted.fit_cpu_seconds += standing["fit_cpu_seconds"]
        self.fitted.warnings = [RuntimeWarning(text) for text in standing["warnings"]]


def fit_together(
    learners: Mapping[str, Learner],
    stream: Stream,
    device: torch.device,
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    dtype: torch.dtype = torch.float32,
    checkpoints: Checkpoints | None = None,
) -> dict[str, Fitted]:
    """Feed all learners from one replayed stream. Each result is bit-equal to that of the learner fed alone; where
    learners have a `stack_key` in common, equal up to rounding.

    With `checkpoints`, learners that say they are `resumable` go on from theirs, and end as they would have unbroken.
    """
    info = Info(stream.activations.width, stream.n_rows, stream.seed, device, dtype, partial(_mean, stream, device))
    feeds = [_Feed(members, stream, device) for members in _stacks(learners)]
    for feed in feeds:
        feed.run(partial(_start, feed, info))
    resumable = [feed for feed in feeds if getattr(feed.learner, "resumable", False)]
    for feed in resumable:
        if checkpoints and (checkpoint := checkpoints.load(feed.name)):
            feed.run(partial(feed.resume, *checkpoint))
    n_passes = max((feed.learner.passes for feed in _alive(feeds)), default=0)
    for pass_number in range(n_passes):
        feeding = [feed for feed in _alive(feeds) if feed.passes_done == pass_number < feed.learner.passes]
        if not feeding:
            continue
        n_done = 0
        for x, index in stream.blocks(pass_number):
            x = x.to(device, dtype)
            for feed in feeding:
                feed.push(x, index)
            n_done += len(x)
            on_progress(f"pass {pass_number + 1}/{n_passes}", n_done, stream.n_rows)
            if checkpoints:
                checkpoints.save_all({feed.name: feed.standing for feed in resumable if feed in feeding})
        for feed in feeding:
            feed.end_pass()
    ended = {name: fitted for feed in feeds for name, fitted in _end(feed).items()}
    return {name: ended[name] for name in learners}


def _stacks(learners: Mapping[str, Learner]) -> list[dict[str, Learner]]:
    """The learners that learn in one computation; most learn by themselves."""
    stacks: dict[Hashable, dict[str, Learner]] = {}
    for name, learner in learners.items():
        key = getattr(learner, "stack_key", None)
        stacks.setdefault(name if key is None else (type(learner), key), {})[name] = learner
    return list(stacks.values())


def _mean(stream: Stream, device: torch.device) -> Float[Tensor, " d"]:
    total = torch.zeros(stream.activations.width, dtype=torch.float64, device=device)
    for x, _ in stream.blocks(0):
        total += x.to(device).sum(dim=0, dtype=torch.float64)
    return total / stream.n_rows


def _alive(feeds: list[_Feed]) -> list[_Feed]:
    return [feed for feed in feeds if feed.fitted.error is None]


def _start(feed: _Feed, info: Info) -> None:
    if len(feed.members) > 1:
        first: Any = feed.learner
        feed.stack = type(first).stack(list(feed.members.values()))
    learner = feed.learner
    for name in ("passes", "batch_rows"):
        value = getattr(learner, name, None)
        if not isinstance(value, int) or value < 1:
            raise PluginError(f"{type(learner).__name__}.{name} is {value!r}; give a whole number from 1 on.")
    learner.start(info)
    feed.batch_rows = learner.batch_rows


def _end(feed: _Feed) -> dict[str, Fitted]:
    """How each learner fared."""
    feed.run(partial(_hand_out, feed))
    ended = {}
    for name, learner in feed.members.items():
        own = _Feed({name: learner}, feed.stream, feed.device, fitted=feed.fitted.share(len(feed.members)))
        own.run(partial(_finish, learner, own.fitted))
        ended[name] = own.fitted
        decomposition = own.fitted.decomposition
        if decomposition is not None and decomposition.atoms is not None:
            decomposition.candidates = _candidates(feed.stream)
    return ended


def _hand_out(feed: _Feed) -> None:
    feed.fitted.state_bytes = state_bytes(feed.learner)
    if feed.stack is not None:
        feed.stack.unstack()


def _finish(learner: Learner, fitted: Fitted) -> None:
    decomposition = learner.finish()
    if not isinstance(decomposition, Decomposition):
        raise PluginError(
            f"{type(learner).__name__}.finish() returned {type(decomposition).__name__}, not a "
            "harness.Decomposition. Subclass it."
        )
    for name, tensor in decomposition.state()[0].items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise PluginError(f"{type(decomposition).__name__}.{name} holds NaN or infinite values after the fit.")
    fitted.decomposition = decomposition


def _candidates(stream: Stream) -> pd.DataFrame:
    """The identities of the rows that could have become atoms."""
    rows = stream.activations.rows.iloc[stream.keep.cpu().numpy()]
    return rows[["document", "window", "position", "end"]].reset_index(drop=True)


def _wait_for(device: torch.device) -> None:
    """An accelerator runs behind the program: without waiting, a learner's work would be timed as another's."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def state_bytes(learner: object) -> int:
    """Bytes of the tensors that a learner holds, through modules, lists and dicts; shared storage counts once."""
    storages: dict[int, int] = {}
    seen: set[int] = set()

    def walk(value: object) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
        elif isinstance(value, Mapping):
            for item in value.values():
                walk(item)
        elif isinstance(value, (list, tuple, set)):
            for item in value:
                walk(item)
        elif hasattr(value, "__dict__") and not isinstance(value, type):
            walk(vars(value))

    walk(learner)
    return sum(storages.values())
