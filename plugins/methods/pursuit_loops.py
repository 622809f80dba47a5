"""The loops of matching pursuit that are compiled for a device: the one place that chooses between these and torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.plugins.methods.compile_time import compiling
from harness.plugins.methods.cuda.availability import runs_kernels
from harness.plugins.methods.pursued_rows import Limits, PursuedRows


class CompiledLoops(Protocol):
    """Loops that do all steps of a row, plain or non-negative, with the correlations of a Gram matrix."""

    def pursue(
        self,
        rows: PursuedRows,
        correlate: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b m"]],
        atoms: Float[Tensor, "m d"],
        gram: Float[Tensor, "c w"],
        limits: Limits,
        non_negative: bool,
    ) -> Int[Tensor, " r"]:
        """Fill in the rows' values, indices and error, but for the rows returned: these are left to the steps of torch.

        `correlate` gives residual · atomsᵀ; the Gram matrix may have room for more than m atoms.
        """
        ...

    def judge(
        self,
        atoms: Float[Tensor, "c d"],
        gram: Float[Tensor, "c w"],
        places: range,
        k: int,
        limits: Limits,
        non_negative: bool,
    ) -> Bool[Tensor, " p"]:
        """True for each of the atoms at these places whose error is above the tolerance after k steps with the atoms
        before it; of those at these places, it may take only the ones whose own error is above it.
        """
        ...


def loops_for(atoms: Float[Tensor, "m d"]) -> CompiledLoops | None:
    """The loops for the device and type of these atoms; None where the steps are those of torch."""
    if atoms.dtype != torch.float32:
        return None
    if atoms.device.type == "cpu":
        return _on_cpu()
    if runs_kernels(atoms.device):
        from harness.plugins.methods.cuda import pursuit as on_cuda  # imports Triton

        return on_cuda
    return None


def _on_cpu() -> CompiledLoops:
    with compiling():
        from harness.plugins.methods.cpu import pursuit
    return pursuit


if not torch.accelerator.is_available():
    _on_cpu()  # compiled now, which so counts in no fit's time; beside an accelerator they may never be needed
