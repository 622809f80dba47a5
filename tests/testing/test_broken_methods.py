"""Methods that each break one promise: the check that is there for it finds it, and tells the author what to do."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import harness
from harness.testing import check_method
from harness.testing.checks import run_check
from harness.testing.methods import CHECKS
from harness.testing.trials import MethodUnderTest


class Rotated(harness.Decomposition):
    """Coordinates in a rotated frame, around the mean: conforms."""

    def __init__(self, dictionary: Tensor, mean: Tensor) -> None:
        self.dictionary = dictionary
        self.mean = mean

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes((x - self.mean.to(x.dtype)) @ self.dictionary.T.to(x.dtype))

    def decode(self, codes: harness.Codes) -> Tensor:
        dtype = codes.values.dtype
        return codes.values @ self.dictionary.to(dtype) + self.mean.to(dtype)


class Good:
    """A random rotation around the mean."""

    passes = 1
    batch_rows = 100
    kind = Rotated

    def start(self, info: harness.Info) -> None:
        self.info = info
        self.total = torch.zeros(info.width, dtype=torch.float64, device=info.device)
        self.rotation = self.draw(info).to(info.device, info.dtype)

    def draw(self, info: harness.Info) -> Tensor:
        return torch.linalg.qr(torch.randn(info.width, info.width, generator=info.generator("rotation")))[0]

    def partial_fit(self, batch: harness.Batch) -> None:
        self.total += batch.x.sum(dim=0, dtype=torch.float64)

    def finish(self) -> harness.Decomposition:
        return self.kind(self.rotation, (self.total / self.info.n_rows).to(self.info.dtype))


class Transposed(Rotated):
    """The classic: components in columns."""

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes((x - self.mean.to(x.dtype)) @ self.dictionary.to(x.dtype))

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values @ self.dictionary.T.to(codes.values.dtype) + self.mean.to(codes.values.dtype)


class TransposedTall(Rotated):
    @property
    def dictionary(self) -> Tensor:  # type: ignore[override]
        return self.rotation.T

    @dictionary.setter
    def dictionary(self, rotation: Tensor) -> None:
        self.rotation, self.n_latents = rotation[:6], 6

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes((x - self.mean.to(x.dtype)) @ self.dictionary.to(x.dtype))

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values @ self.dictionary.T.to(codes.values.dtype) + self.mean.to(codes.values.dtype)


class CentresTheBatch(Rotated):
    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes((x - x.mean(dim=0)) @ self.dictionary.T.to(x.dtype))


class WrongShape(Rotated):
    def decode(self, codes: harness.Codes) -> Tensor:
        return super().decode(codes).flatten()


class IndicesTooLarge(Rotated):
    def encode(self, x: Tensor) -> harness.Codes:
        values, indices = super().encode(x).values.topk(3, dim=1)
        return harness.Codes(values, indices + 1, len(self.dictionary))

    def decode(self, codes: harness.Codes) -> Tensor:
        return super().decode(harness.Codes(codes.to_dense(len(self.dictionary) + 1)[:, 1:]))


class WritesIntoItsInput(Rotated):
    def encode(self, x: Tensor) -> harness.Codes:
        x -= self.mean.to(x.dtype)
        return harness.Codes(x @ self.dictionary.T.to(x.dtype))


class WritesIntoCodes(Rotated):
    def decode(self, codes: harness.Codes) -> Tensor:
        codes.values.clamp_(min=0)
        return super().decode(codes)


class LosesItsMean(Rotated):
    @classmethod
    def from_state(cls, tensors: dict[str, Tensor], config: dict[str, Any]) -> LosesItsMean:
        return cls(tensors["dictionary"], torch.zeros_like(tensors["mean"]))


class SaysUnsigned(Rotated):
    signed = False


class ExitsInEncode(Rotated):
    def encode(self, x: Tensor) -> harness.Codes:
        sys.exit("no more")


class MixesDevices(Rotated):
    def decode(self, codes: harness.Codes) -> Tensor:
        return super().decode(codes) + torch.zeros(len(self.mean))


class GlobalSeed(Good):
    def draw(self, info: harness.Info) -> Tensor:
        return torch.linalg.qr(torch.randn(info.width, info.width))[0]


class GlobalNumpySeed(Good):
    def draw(self, info: harness.Info) -> Tensor:
        return torch.linalg.qr(torch.from_numpy(np.random.randn(info.width, info.width)))[0]


class ClockSeed(Good):
    def draw(self, info: harness.Info) -> Tensor:
        return torch.linalg.qr(torch.from_numpy(np.random.default_rng().normal(size=(info.width, info.width))))[0]


class FixedSeed(Good):
    def draw(self, info: harness.Info) -> Tensor:
        return torch.linalg.qr(torch.randn(info.width, info.width, generator=torch.Generator().manual_seed(0)))[0]


class KeepsBatch(Good):
    def partial_fit(self, batch: harness.Batch) -> None:
        super().partial_fit(batch)
        self.first = getattr(self, "first", batch.x[0])

    def finish(self) -> harness.Decomposition:
        return Rotated(self.rotation, self.first)


class Standardises(Good):
    """0/0 for a column that is constant."""

    def partial_fit(self, batch: harness.Batch) -> None:
        super().partial_fit(batch)
        self.scale = batch.x.std(dim=0)

    def finish(self) -> harness.Decomposition:
        return Rotated(torch.diag(1 / self.scale), torch.zeros_like(self.scale))


class NeedsTwoRows(Good):
    def partial_fit(self, batch: harness.Batch) -> None:
        super().partial_fit(batch)
        self.last = batch.x.std(dim=0)  # NaN for one row

    def finish(self) -> harness.Decomposition:
        return Rotated(self.rotation, torch.where(self.last > 0, self.last, self.last))


class IgnoresTheDevice(Good):
    def start(self, info: harness.Info) -> None:
        super().start(info)
        self.total = torch.zeros(info.width, dtype=torch.float64)


class ForgetsInACheckpoint(Good):
    resumable = True

    def start(self, info: harness.Info) -> None:
        super().start(info)
        self.seen = lambda: None  # functions are not followed
        self.seen.total = torch.zeros(info.width, dtype=torch.float64, device=info.device)

    def partial_fit(self, batch: harness.Batch) -> None:
        self.seen.total += batch.x.sum(dim=0, dtype=torch.float64)

    def finish(self) -> harness.Decomposition:
        self.total = self.seen.total
        return super().finish()


class Resumes(Good):
    resumable = True


class Stacks(Good):
    """A learner whose stack feeds each member."""

    stack_key = "same"

    @classmethod
    def stack(cls, learners: list[Good]) -> Any:
        return Together(learners)


class Together:
    passes, batch_rows = Good.passes, Good.batch_rows

    def __init__(self, members: list[Good]) -> None:
        self.members = members

    def start(self, infos: Sequence[harness.Info]) -> None:
        for member, info in zip(self.members, infos, strict=True):
            member.start(info)

    def partial_fit(self, batches: Sequence[harness.Batch]) -> None:
        for member, batch in zip(self.members, batches, strict=True):
            member.partial_fit(batch)

    def unstack(self) -> None:
        pass


class FirstTwice(Together):
    def partial_fit(self, batches: Sequence[harness.Batch]) -> None:
        self.members[0].partial_fit(batches[0])
        super().partial_fit(batches)


class MixesItsStack(Stacks):
    @classmethod
    def stack(cls, learners: list[Good]) -> Any:
        return FirstTwice(learners)


class Exits(Good):
    def partial_fit(self, batch: harness.Batch) -> None:
        sys.exit(3)


class Returns(Good):
    def finish(self) -> Any:
        return self.rotation


class UnitNorm(Rotated):
    """0/0 for a row of zeros."""

    def encode(self, x: Tensor) -> harness.Codes:
        return harness.Codes(x / x.norm(dim=1, keepdim=True))

    def decode(self, codes: harness.Codes) -> Tensor:
        return codes.values @ self.dictionary.to(codes.values.dtype)


def giving(kind: type[harness.Decomposition]) -> type[Good]:
    return type(f"Gives{kind.__name__}", (Good,), {"kind": kind})


BROKEN: dict[type, tuple[str, str]] = {
    giving(Transposed): ("has_the_dictionary_it_decodes_with", "transposed?"),
    giving(TransposedTall): ("has_the_dictionary_it_decodes_with", r"\[24, 6\]; give \[n_latents, d\], here \[6, 24\]"),
    giving(CentresTheBatch): ("encodes_row_by_row", r"encode\(x\)\[0:7\] differs from encode\(x\[0:7\]\)"),
    giving(WrongShape): ("decodes_to_rows", "give a row for each row"),
    giving(IndicesTooLarge): ("codes_are_well_formed", "indices go from 1 to 24 with n_latents 24"),
    giving(WritesIntoItsInput): ("leaves_its_input_alone", "has changed x"),
    giving(WritesIntoCodes): ("leaves_its_input_alone", "has changed the codes"),
    giving(LosesItsMean): ("comes_back_from_disk", "the tensor 'mean'"),
    giving(SaysUnsigned): ("is_signed_as_it_says", "say signed = True"),
    giving(ExitsInEncode): (
        "codes_are_well_formed",
        r"sys.exit\('no more'\) was called in encode .*test_broken_methods",
    ),
    giving(MixesDevices): ("follows_the_device", "in decode .*test_broken_methods"),
    giving(UnitNorm): ("bears_zero_rows", "in 3 of 300 rows"),
    GlobalSeed: ("repeats_itself", "global random state: .*info.generator"),
    GlobalNumpySeed: ("repeats_itself", "global random state"),
    ClockSeed: ("repeats_itself", "two fits of the same rows with the same seed: .*no clock"),
    FixedSeed: ("takes_its_seed_from_info", r"torch.randn.*neither info.generator"),
    KeepsBatch: ("keeps_no_batch", r"overwritten after each partial_fit.*clone"),
    Standardises: ("bears_a_constant_column", "holds NaN or infinite"),
    NeedsTwoRows: ("ends_with_a_batch_of_one", "holds NaN or infinite"),
    IgnoresTheDevice: ("follows_the_device", "in partial_fit .*device=info.device"),
    ForgetsInACheckpoint: ("goes_on_from_a_checkpoint", "the tensor 'mean' is another one"),
    MixesItsStack: ("learns_the_same_in_a_stack", "the tensor 'mean' of learner 0 in a stack"),
    Exits: ("learns", r"sys.exit\(3\) was called in partial_fit .*test_broken_methods"),
    Returns: ("learns", "not a harness.Decomposition"),
}


@pytest.mark.parametrize("make", BROKEN, ids=lambda make: make.__name__)
def test_it_is_found(make: Callable[[], Any]) -> None:
    name, message = BROKEN[make]
    (check,) = [check for check in CHECKS if check.__name__ == name]
    found = run_check(check, MethodUnderTest(make))
    assert found.problem is not None, found
    assert re.search(message, found.problem, re.DOTALL), found.problem


@pytest.mark.parametrize(
    ("make", "provides", "problem"),
    [
        (Stacks, ("stacks",), None),
        (Good, ("dictionary",), None),
        (Stacks, ("dictionary",), 'does not say provides=("stacks",)'),
        (Good, ("stacks",), "have no stack_key and stack()"),
    ],
)
def test_what_stacks_says_so(make: Callable[[], Any], provides: tuple[str, ...], problem: str | None) -> None:
    (check,) = [check for check in CHECKS if check.__name__ == "says_whether_it_stacks"]
    found = run_check(check, MethodUnderTest(make, provides)).problem
    assert found is None if problem is None else problem in str(found)


def test_an_exit_is_named_where_a_library_has_put_its_own_in_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hooks.py").write_text("import sys\noriginal = sys.exit\ndef leave(code):\n    original(code)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "exit", importlib.import_module("hooks").leave)
    test_it_is_found(Exits)


def test_what_does_not_learn_fails_nothing_else() -> None:
    outcomes = {finding.check: finding.outcome for finding in check_method(Exits)}
    assert outcomes.pop("learns") == "fails"
    assert set(outcomes.values()) == {"not checked"}


# What breaks only one promise fails only one check, else authors could not tell what is wrong.
@pytest.mark.parametrize(
    "make", [giving(Transposed), giving(SaysUnsigned), GlobalNumpySeed, FixedSeed, KeepsBatch, MixesItsStack]
)
def test_nothing_else_is_found(make: Callable[[], Any]) -> None:
    failing = [finding.check for finding in check_method(make) if finding.outcome == "fails"]
    name = next(name for kind, (name, _) in BROKEN.items() if kind.__name__ == make.__name__)
    assert failing == [name]


@pytest.mark.parametrize("make", [Good, Resumes, Stacks])
def test_what_conforms_passes(make: Callable[[], Any]) -> None:
    findings = check_method(make)
    assert not [finding for finding in findings if finding.outcome == "fails"]
    (device,) = [finding for finding in findings if finding.check == "follows_the_device"]
    assert device.outcome == "holds"
