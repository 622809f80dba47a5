"""The loops of matching pursuit in Triton: one program does all steps of a row, whose state stays in registers.

`m_block` and `d_block` are the powers of two that hold the atoms and the dimensions; beyond these, numbers are 0.
"""
# Triton looks up what annotations name, and refuses all but its own.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton.language as tl

from harness.plugins.methods.cuda.compilation import kernel


@kernel()
def _nearest(
    pick, near, n_near, r, atoms, atom_stride, d,
    m_block: tl.constexpr, d_block: tl.constexpr, non_negative: tl.constexpr,
):  # fmt: skip
    """The first of the atoms `near` that has the largest strength in float64; `pick` where none is a number."""
    over_m, over_d = tl.arange(0, m_block), tl.arange(0, d_block)
    largest = tl.sum(tl.zeros([d_block], tl.float64), 0) - 2.0
    while n_near > 0:
        j = tl.min(tl.where(near, over_m, m_block), 0)
        atom = tl.load(atoms + j.to(tl.int64) * atom_stride + over_d, mask=over_d < d, other=0.0)
        strength = tl.sum(r.to(tl.float64) * atom.to(tl.float64), 0)
        if not non_negative:
            strength = tl.abs(strength)
        better = strength > largest
        pick = tl.where(better, j, pick)
        largest = tl.where(better, strength, largest)
        near = near & (over_m != j)
        n_near -= 1
    return pick


@kernel()
def _strongest(
    c, allowed, r, margin, atoms, atom_stride, d,
    m_block: tl.constexpr, d_block: tl.constexpr, non_negative: tl.constexpr, most_near: tl.constexpr,
):  # fmt: skip
    """The first allowed atom with the largest strength, that strength, and how many come within the margin of it: of so
    many, up to `most_near`, the pick is the largest in float64.
    """
    over_m = tl.arange(0, m_block)
    if non_negative:
        strengths = tl.where(c < 0, 0.0, c)
    else:
        strengths = c
    strengths = tl.where(allowed, tl.abs(strengths), 0.0)  # without the sign of what is no number
    # Floats from 0 up are ordered as the integers of the same bits are: with the place below them, largest first, one
    # reduction finds both.
    bits = strengths.to(tl.int32, bitcast=True).to(tl.int64)
    top = tl.max((bits << 32) | (m_block - 1 - over_m).to(tl.int64), 0)
    pick = (m_block - 1 - (top & 0xFFFFFFFF)).to(tl.int32)
    best = (top >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    near = (strengths >= tl.maximum(best - margin, 0.0)) & (strengths > 0.0)
    n_near = tl.sum(near.to(tl.int32), 0)
    if (n_near > 1) & (n_near <= most_near):
        pick = _nearest(pick, near, n_near, r, atoms, atom_stride, d, m_block, d_block, non_negative)
    return pick, best, n_near


@kernel()
def _pursue_row(
    r, c, allowed, error, atoms, gram, values, indices, k, atom_stride, gram_stride, d, tolerance, margin, least,
    m_block: tl.constexpr, d_block: tl.constexpr, non_negative: tl.constexpr, most_near: tl.constexpr,
    keeps: tl.constexpr,
):  # fmt: skip
    """The error of the residual `r` with correlations `c` after the last step, and whether the row was given up, since
    more atoms came near the strongest than `most_near`. `keeps` stores the steps.
    """
    over_m, over_d = tl.arange(0, m_block), tl.arange(0, d_block)
    step = 0
    going = error > tolerance  # it may be no number
    is_open = going & (error <= tolerance)  # False
    while going & (step < k):
        pick, best, n_near = _strongest(
            c, allowed, r, margin, atoms, atom_stride, d, m_block, d_block, non_negative, most_near
        )
        is_open = n_near > most_near
        is_over = is_open
        if non_negative:
            is_over = is_open | (best <= least)
            is_open = is_open & (best > least)
        if is_over:
            going = False
        else:
            atom = tl.load(atoms + pick.to(tl.int64) * atom_stride + over_d, mask=over_d < d, other=0.0)
            coefficient = tl.sum(r * atom, 0)
            r = r - coefficient * atom
            error = tl.sum(r * r, 0)
            if keeps:
                tl.store(values + step, coefficient)
                tl.store(indices + step, pick.to(tl.int64))
            going = error > tolerance
            step += 1
            if going & (step < k):
                row = tl.load(gram + pick.to(tl.int64) * gram_stride + over_m, mask=allowed, other=0.0)
                c = c - coefficient * row
    return error, is_open


@kernel("m", "k", "correlation_stride")
def pursue(
    unit, correlations, atoms, gram, values, indices, errors, open_rows, m, d, k, correlation_stride, atom_stride,
    gram_stride, tolerance, margin, least, m_block: tl.constexpr, d_block: tl.constexpr, non_negative: tl.constexpr,
    most_near: tl.constexpr,
):  # fmt: skip
    """Pursue one row with the first m atoms: fill in its values, indices and error, or say that it was given up."""
    place = tl.program_id(0).to(tl.int64)
    over_m, over_d = tl.arange(0, m_block), tl.arange(0, d_block)
    allowed = over_m < m
    c = tl.load(correlations + place * correlation_stride + over_m, mask=allowed, other=0.0)
    r = tl.load(unit + place * d + over_d, mask=over_d < d, other=0.0)
    error, is_open = _pursue_row(
        r, c, allowed, tl.load(errors + place), atoms, gram, values + place * k, indices + place * k, k, atom_stride,
        gram_stride, d, tolerance, margin, least, m_block, d_block, non_negative, most_near, True,
    )  # fmt: skip
    tl.store(errors + place, error, mask=is_open == 0)
    tl.store(open_rows + place, is_open.to(tl.int8))


@kernel("first", "n", "k")
def judge(
    atoms, gram, is_above, first, n, d, k, atom_stride, gram_stride, tolerance, margin, least,
    m_block: tl.constexpr, d_block: tl.constexpr, non_negative: tl.constexpr,
):  # fmt: skip
    """Judge n atoms one after the other, from the first place on. Their correlations are their rows of the Gram matrix;
    each may take the atoms before it but those that were judged not to be above the tolerance.
    """
    over_m, over_d = tl.arange(0, m_block), tl.arange(0, d_block)
    barred = over_m < 0
    for i in range(n):
        place = (first + i).to(tl.int64)
        allowed = (over_m < place) & (barred == 0)
        c = tl.load(gram + place * gram_stride + over_m, mask=allowed, other=0.0)
        r = tl.load(atoms + place * atom_stride + over_d, mask=over_d < d, other=0.0)
        one = tl.sum(r * 0.0, 0) + 1.0
        error, _ = _pursue_row(
            r, c, allowed, one, atoms, gram, is_above, is_above, k, atom_stride, gram_stride, d, tolerance, margin,
            least, m_block, d_block, non_negative, m_block, False,
        )  # fmt: skip
        above = error > tolerance
        tl.store(is_above + i, above.to(tl.int8))
        barred = barred | ((over_m == place) & (above == 0))
