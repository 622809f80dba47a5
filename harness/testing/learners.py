"""Learners around a learner: they do to it what a fit in earnest may do, and watch."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from harness.contracts.decomposition import Codes, Decomposition
from harness.contracts.method import Batch, Info, Learner
from harness.errors import PluginError, Undefined
from harness.fitting.checkpoints import Checkpoints
from harness.fitting.snapshots import Snapshot

_TABLES = ("atoms", "candidates")


class Around:
    """A learner that hands everything on to another."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @property
    def passes(self) -> int:
        return int(self.learner.passes)

    @property
    def batch_rows(self) -> int:
        return int(self.learner.batch_rows)

    def start(self, info: Info) -> None:
        self.learner.start(info)

    def partial_fit(self, batch: Batch) -> None:
        self.learner.partial_fit(batch)

    def finish(self) -> Decomposition:
        return self.learner.finish()


class Overwriting(Around):
    """A learner that overwrites the rows it lent as soon as they have been used."""

    def partial_fit(self, batch: Batch) -> None:
        self.learner.partial_fit(batch)
        batch.x.fill_(float("nan"))


class HandedOver(Around):
    """A fit that after every batch goes on in a fresh learner, from a checkpoint."""

    def __init__(self, learner: Learner, make: Callable[[], Learner]) -> None:
        super().__init__(learner)
        self.make = make

    def start(self, info: Info) -> None:
        self.info = info
        self.learner.start(info)

    def partial_fit(self, batch: Batch) -> None:
        self.learner.partial_fit(batch)
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(lambda name: Path(folder) / name, _refuse, every_seconds=0, max_share=1e9)
            checkpoints.save_all({"learner": lambda: (Snapshot.of(self.learner), None)})
            saved = checkpoints.load("learner")
        assert saved is not None  # it was written just now
        self.learner = self.make()
        self.learner.start(self.info)
        saved[0].restore(self.learner)


def _refuse(reason: str) -> None:
    raise PluginError(reason)


class SeedWatch(TorchDispatchMode):
    """A watch on which operations of torch draw random numbers, and whether anybody asks for the seed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.drawn: set[str] = set()
        self.asked_for_seed = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.drawn.add(f"torch.{func.overloadpacket.__name__.removeprefix('_')}")
        return func(*args, **(kwargs or {}))

    def around(self, learner: Learner) -> Around:
        """The learner, told its seed only when it asks."""
        return _Watched(learner, self)


class _Watched(Around):
    def __init__(self, learner: Learner, watch: SeedWatch) -> None:
        super().__init__(learner)
        self.watch = watch

    def start(self, info: Info) -> None:
        watch = self.watch

        class WatchedInfo(Info):
            def __getattribute__(self, name: str) -> Any:
                if name == "seed":  # which info.generator() looks up too
                    watch.asked_for_seed = True
                return super().__getattribute__(name)

        given = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
        self.learner.start(WatchedInfo(**given))


def difference(a: Decomposition, b: Decomposition, x: Float[Tensor, "n d"]) -> str | None:
    """The name of something in which two decompositions are not equal to the bit, or what they make of x is not."""
    for name in ("signed", "n_latents"):  # first: what n_latents finds out may be kept as an attribute
        if getattr(a, name) != getattr(b, name):
            return f"{name} ({getattr(a, name)} and {getattr(b, name)})"
    (tensors_a, config_a), (tensors_b, config_b) = a.state(), b.state()
    # Only what both have: attributes may also be results that are kept for later. What is missed shows in use.
    for name in sorted(tensors_a.keys() & tensors_b.keys()):
        if not _equal(tensors_a[name], tensors_b[name]):
            return f"the tensor {name!r}"
    for name in sorted(config_a.keys() & config_b.keys()):
        if json.dumps(config_a[name]) != json.dumps(config_b[name]):
            return f"the attribute {name!r}"
    for name in _TABLES:
        one, other = getattr(a, name), getattr(b, name)
        if (one is None) != (other is None) or (one is not None and not one.equals(other)):
            return f"the table {name!r}"
    codes_a, codes_b = a.encode(x.clone()), b.encode(x.clone())
    if not _equal(codes_a.to_dense(a.n_latents), codes_b.to_dense(b.n_latents)):
        return "encode(x)"
    decoded_a, decoded_b = decoded_if_any(a, codes_a), decoded_if_any(b, codes_b)
    if decoded_a is None or decoded_b is None:
        return None if decoded_a is decoded_b else "decode(encode(x))"
    return None if _equal(decoded_a, decoded_b) else "decode(encode(x))"


def decoded_if_any(decomposition: Decomposition, codes: Codes) -> Float[Tensor, "n d"] | None:
    """The rows that codes stand for; None where the decomposition says that nothing can be decoded."""
    try:
        return decomposition.decode(codes)
    except Undefined:
        return None


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)
