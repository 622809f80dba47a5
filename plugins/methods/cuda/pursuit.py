"""Matching pursuit of float32 rows on a CUDA device, in Triton: one launch for all steps of all rows.

In torch each step takes a dozen launches and six passes through the correlations, and waits for the device to say which
rows go on. Here a row's correlations and its residual stay in the registers of one program, and of each step one row of
the Gram matrix and one atom are read. The picks are those of torch's steps: what is within the margin of doubt is
decided in float64. Values differ from those of torch by rounding: by at most 1e-5 of the row's norm in tests.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.plugins.methods.cuda import pursuit_kernels
from harness.plugins.methods.cuda.compilation import block, launch
from harness.plugins.methods.cuda.split_products import pays, split_products
from harness.plugins.methods.pursued_rows import Limits, PursuedRows

# A dictionary that grows is compiled for at each power of two; below this, one block does for all.
_LEAST_ATOMS = 1024
# Atoms that are compared in float64 one after the other. More than these come near the strongest where next to nothing
# is left of a row, and nearly all atoms do.
_MOST_NEAR = 64


def pursue(
    rows: PursuedRows,
    correlate: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b m"]],
    atoms: Float[Tensor, "m d"],
    gram: Float[Tensor, "c w"],
    limits: Limits,
    non_negative: bool,
) -> Int[Tensor, " r"]:
    """Fill in the rows' values, indices and error, but for the rows returned, whose values and indices mean nothing.

    `correlate` gives residual · atomsᵀ where tensor cores don't. The Gram matrix may have room for more than m atoms.
    """
    unit = rows.residual
    (m, d), k = atoms.shape, rows.values.shape[1]
    assert unit.is_contiguous() and atoms.is_contiguous() and rows.values.is_contiguous()
    assert rows.indices.is_contiguous() and rows.error.is_contiguous()
    correlations = split_products(unit, atoms) if pays(unit, atoms) else correlate(unit)
    m_block = block(m, _LEAST_ATOMS)
    is_open = torch.empty(len(unit), dtype=torch.int8, device=unit.device)
    launch(
        pursuit_kernels.pursue,
        (len(unit),),
        *(unit, correlations, atoms, gram, rows.values, rows.indices, rows.error, is_open),
        *(m, d, k, correlations.stride(0), atoms.stride(0), gram.stride(0), *limits),
        m_block=m_block,
        d_block=block(d),
        non_negative=non_negative,
        most_near=_MOST_NEAR,
        num_warps=_warps(m_block),
    )
    return is_open.nonzero().squeeze(1)


def judge(
    atoms: Float[Tensor, "c d"], gram: Float[Tensor, "c w"], places: range, k: int, limits: Limits, non_negative: bool
) -> Bool[Tensor, " p"]:
    """True for each of the atoms at these places whose error is above the tolerance after k steps with the atoms before
    it; of those at these places, it may take only the ones whose own error is above it.

    One program judges them all, since each waits for the one before.
    """
    is_above = torch.zeros(len(places), dtype=torch.int8, device=atoms.device)
    if not len(places):
        return is_above.bool()
    m_block = block(places.stop, _LEAST_ATOMS)
    launch(
        pursuit_kernels.judge,
        (1,),
        *(atoms, gram, is_above, places.start, len(places), atoms.shape[1], k, atoms.stride(0), gram.stride(0)),
        *limits,
        m_block=m_block,
        d_block=block(atoms.shape[1]),
        non_negative=non_negative,
        num_warps=max(16, _warps(m_block)),  # one program has a multiprocessor for itself
    )
    return is_above.bool()


def _warps(m_block: int) -> int:
    """Warps of a program. Beyond 16,384 atoms not all of a row's state fits the registers, and some is spilt."""
    return 4 if m_block <= 2048 else 8 if m_block <= 8192 else 16 if m_block <= 16384 else 32
