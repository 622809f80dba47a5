"""One reading, many learners: every learner gets the batches it would get alone, and one that fails drops out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
import torch
from torch import Tensor

from harness.capturing import activations
from harness.capturing.activations import Stream
from harness.contracts.decomposition import Decomposition
from harness.contracts.method import Info, Learner, Resumable, Stackable
from harness.errors import PluginError
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.feed import Feed, Fitted, distinct
from harness.fitting.snapshots import Snapshot
from harness.fitting.supply import Supply, supplies


class Step(NamedTuple):
    """The place that a fit has come to."""

    pass_number: int
    n_passes: int
    n_done: int
    """Rows of this pass that were read."""
    n_rows: int

    @property
    def place(self) -> tuple[int, float]:
        """The pass, and the share of it that is read."""
        return self.pass_number, self.n_done / self.n_rows


Steps: TypeAlias = Generator[Step, None, dict[str, Fitted]]
"""A fit, block by block, and its outcome."""


def fit_together(
    learners: Mapping[str, Learner],
    stream: Stream | Mapping[str, Stream],
    device: torch.device,
    on_progress: Callable[[str, int, int], None] = lambda name, done, total: None,
    dtype: torch.dtype = torch.float32,
    checkpoints: Checkpoints | None = None,
    bases: Mapping[str, Decomposition] = MappingProxyType({}),
) -> dict[str, Fitted]:
    """Feed all learners from one replayed stream. Each result is bit-equal to that of the learner fed alone; where
    learners have a `stack_key` in common, equal up to rounding.

    With `checkpoints`, learners that say they are `resumable` go on from theirs, and end as they would have unbroken.

    Args:
        learners: by name.
        stream: of all, or of each by its name: the same rows in several orders, read side by side.
        device: where they learn.
        on_progress: told the pass, and rows done and to do in it.
        dtype: of the rows.
        checkpoints: where those of long fits are kept.
        bases: the fits that some of the learners learn from, by name.
    """
    streams = stream if isinstance(stream, Mapping) else dict.fromkeys(learners, stream)
    supply_of = supplies(distinct(streams.values()), device, dtype)
    (fitted,) = in_step([fit_in_steps(learners, streams, supply_of, device, dtype, checkpoints, bases)], on_progress)
    return fitted


def in_step(fits: Sequence[Steps], on_progress: Callable[[str, int, int], None]) -> list[dict[str, Fitted]]:
    """Take several fits to their ends side by side: the one that is furthest behind goes on.

    So all have opened a pass before one of them reads it, and all read about the same texts.
    """
    ended: dict[int, dict[str, Fitted]] = {}
    places = dict.fromkeys(range(len(fits)), (-1, 0.0))
    while places:
        number = min(places, key=places.__getitem__)
        try:
            step = next(fits[number])
        except StopIteration as stopped:
            ended[number] = stopped.value
            del places[number]
        else:
            places[number] = step.place
            on_progress(f"pass {step.pass_number + 1}/{step.n_passes}", step.n_done, step.n_rows)
    return [ended[number] for number in range(len(fits))]


def fit_in_steps(
    learners: Mapping[str, Learner],
    streams: Mapping[str, Stream],
    supply_of: Mapping[int, Supply],
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    checkpoints: Checkpoints | None = None,
    bases: Mapping[str, Decomposition] = MappingProxyType({}),
) -> Steps:
    """Feed learners as `fit_together` does, a block a step.

    Args:
        learners: by name.
        streams: of each learner.
        supply_of: each stream, by its id.
        device: where they learn.
        dtype: of the rows.
        checkpoints: where those of long fits are kept.
        bases: the fits that some of the learners learn from, by name.
    """
    infos = {id(one): _info(one, supply_of[id(one)], device, dtype) for one in distinct(streams.values())}
    shares_mean = any(supply.shares_mean for supply in supply_of.values())
    feeds = [Feed(members, streams, device, bases=bases, shares_mean=shares_mean) for members in _stacks(learners)]
    resumable = _start(feeds, infos, checkpoints)
    n_passes = max((feed.learner.passes for feed in _alive(feeds)), default=0)
    for pass_number in range(n_passes):
        feeding = [feed for feed in _alive(feeds) if feed.passes_done == pass_number < feed.learner.passes]
        for n_done, n_rows in _push(feeding, supply_of, pass_number, n_passes):
            if checkpoints:
                checkpoints.save_all({feed.name: feed.standing for feed in resumable if feed in feeding})
            yield Step(pass_number, n_passes, n_done, n_rows)
        for feed in feeding:
            feed.end_pass()
    ended = {name: fitted for feed in feeds for name, fitted in _end(feed).items()}
    return {name: ended[name] for name in learners}


def _start(feeds: list[Feed], infos: Mapping[int, Info], checkpoints: Checkpoints | None) -> list[Feed]:
    """Start all feeds, or let them go on from their checkpoints; the feeds that can be saved while they learn."""
    for feed in feeds:
        feed.run(partial(feed.start, infos))
    resumable = [feed for feed in feeds if isinstance(feed.learner, Resumable) and feed.learner.resumable]
    for feed in resumable:
        if checkpoints and (checkpoint := checkpoints.load(feed.name)):
            feed.run(partial(_go_on, feed, checkpoint, infos, checkpoints))
    return resumable


def _go_on(feed: Feed, checkpoint: tuple[Snapshot, Any], infos: Mapping[int, Info], checkpoints: Checkpoints) -> None:
    """Let a feed that has started go on from its checkpoint; of one that does not fit nothing stays."""
    try:
        feed.resume(*checkpoint)
    except PluginError as error:
        checkpoints.refuse(feed.name, str(error))
        feed.start(infos)


def _push(
    feeds: list[Feed], supply_of: Mapping[int, Supply], pass_number: int, n_passes: int
) -> Iterator[tuple[int, int]]:
    """Give the blocks of one pass to all feeds; the rows that were read, and those of the pass, before and after each.

    Blocks that all feeds had before they went on from their checkpoints are not read again.
    """
    read = distinct(stream for feed in feeds for stream in feed.distinct)
    if not read:
        return
    n_done = min(feed.rows_to_skip for feed in feeds) // activations.BLOCK_ROWS * activations.BLOCK_ROWS
    for feed in feeds:
        feed.rows_to_skip -= n_done
    opened = [supply_of[id(stream)].blocks(pass_number, n_passes, n_done) for stream in read]
    yield n_done, read[0].n_rows
    for parts in zip(*opened, strict=True):
        blocks = dict(zip(map(id, read), parts, strict=True))
        for feed in feeds:
            feed.push(blocks)
        n_done += len(parts[0][0])
        yield n_done, read[0].n_rows


def fed_together(learners: Mapping[str, Learner], streams: Mapping[str, Stream]) -> list[list[str]]:
    """Names of the learners to give to `fit_together` at one time: those of stacks over several streams, and of the
    others those of one stream.
    """
    stacks = [list(members) for members in _stacks(learners)]
    over_several = [name for names in stacks if len(distinct(streams[name] for name in names)) > 1 for name in names]
    others = [name for name in learners if name not in over_several]
    of_streams = [
        [name for name in others if streams[name] is one] for one in distinct(streams[name] for name in others)
    ]
    return [names for names in (over_several, *of_streams) if names]


def stack_key(learner: Learner) -> Hashable:
    """The key that learners who learn in one computation share; None for a learner that learns by itself."""
    key = learner.stack_key if isinstance(learner, Stackable) else None
    hash(key)
    return key


def _stacks(learners: Mapping[str, Learner]) -> list[dict[str, Learner]]:
    """The learners that learn in one computation; most learn by themselves."""
    stacks: dict[Hashable, dict[str, Learner]] = {}
    for name, learner in learners.items():
        key = stack_key(learner)
        stacks.setdefault(name if key is None else (type(learner), key), {})[name] = learner
    return list(stacks.values())


def _info(stream: Stream, supply: Supply, device: torch.device, dtype: torch.dtype) -> Info:
    return Info(stream.activations.width, stream.n_rows, stream.seed, device, dtype, supply.mean)


def _alive(feeds: list[Feed]) -> list[Feed]:
    return [feed for feed in feeds if feed.fitted.error is None]


def _end(feed: Feed) -> dict[str, Fitted]:
    """Finish the learners of a feed, and give the outcome for each."""
    feed.run(partial(_hand_out, feed), is_last=True)
    ended = {}
    for name, learner in feed.members.items():
        own = Feed({name: learner}, feed.streams, feed.device, fitted=feed.fitted.share(len(feed.members)))
        own.run(partial(_finish, learner, own.fitted), is_last=True)
        ended[name] = own.fitted
        decomposition = own.fitted.decomposition
        if decomposition is not None and decomposition.atoms is not None:
            decomposition.candidates = _candidates(feed.streams[name], decomposition.rows_until_full)
    return ended


def _hand_out(feed: Feed) -> None:
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


def _candidates(stream: Stream, n_seen: int | None) -> pd.DataFrame:
    """The identities of the rows that could have become atoms: the first `n_seen` of the stream, or all."""
    places = stream.keep if n_seen is None else stream.order(0)[:n_seen].sort().values
    rows = stream.activations.rows.iloc[places.cpu().numpy()]
    return rows[["document", "window", "position", "end"]].reset_index(drop=True)


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
