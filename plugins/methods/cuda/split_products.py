"""Products of all rows with all atoms on tensor cores, as near to the exact ones as those in float32.

x = (hi + lo + ε)·2⁻¹¹ with hi and lo in float16, which holds 11 bits of a number: |lo| ≤ 2⁻¹¹|x| and |ε| ≤ 2⁻²²|x| in
each coordinate (scaled, so that for a row of norm 1 what falls below the range of float16 is too small to count).
Products of such numbers are exact in float32. Three of them are summed, lo·hi' + hi·lo' + hi·hi', and what is left out
is at most 3·2⁻²²·‖x‖·‖a‖. Tensor cores cut off where others round, so they sum over 64 dimensions only, small terms
first, and these sums are added up outside in float32. By Cauchy–Schwarz, with 2⁻²² for each term that is cut off,

    |c − c̃| ≤ (64·2⁻²² + 3·2⁻²² + d/64·2⁻²⁴)·‖x‖·‖a‖,

which from d = 273 on is less than the d·2⁻²⁴·‖x‖·‖a‖ of sums in float32.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from harness.plugins.methods.cuda.compilation import kernel, launch

_SCALE = 2.0**11
_LEAST_WIDTH = 273
# With fewer multiplications the product takes less time than what surrounds it.
_LEAST_SIZE = 2**33
# Four tiles of three stages take 192 KiB of a multiprocessor's shared memory.
_TILE, _DEPTH, _STAGES, _GROUP = 128, 64, 3, 8


def pays(x: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"]) -> bool:
    """True on a Hopper card, where these products are as good as those in float32 and the tensor cores are faster."""
    if x.device.type != "cuda" or torch.cuda.get_device_capability(x.device)[0] != 9:
        return False
    return x.shape[1] >= _LEAST_WIDTH and x.numel() * len(atoms) >= _LEAST_SIZE


def split_products(x: Float[Tensor, "n d"], atoms: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    """Products x · atomsᵀ of rows and atoms of norm 1 or 0."""
    n, d, m = *x.shape, len(atoms)
    out = x.new_empty(n, m)
    n_tiles = triton.cdiv(n, _TILE) * triton.cdiv(m, _TILE)
    launch(
        _multiply,
        (n_tiles,),
        *(*_halves(x), *_halves(atoms), out, n, m, d, _SCALE**-2),
        tile=_TILE,
        depth=_DEPTH,
        group=_GROUP,
        num_warps=8,
        num_stages=_STAGES,
    )
    return out


def _halves(x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
    scaled = x * _SCALE
    high = scaled.half()
    return high, (scaled - high.float()).half()


@kernel("n")
def _multiply(
    x_high, x_low, a_high, a_low, out, n, m, d, scale, tile: tl.constexpr, depth: tl.constexpr, group: tl.constexpr
):
    """One tile of the products. Programs that run at a time share rows: tiles go down `group` of them, then right."""
    place, n_down, n_right = tl.program_id(0), tl.cdiv(n, tile), tl.cdiv(m, tile)
    band = place // (group * n_right)
    n_in_band = tl.minimum(n_down - band * group, group)
    place -= band * group * n_right
    rows = (band * group + place % n_in_band) * tile + tl.arange(0, tile)
    columns = (place // n_in_band) * tile + tl.arange(0, tile)
    at_x = tl.where(rows < n, rows, 0).to(tl.int64)[:, None] * d
    at_a = tl.where(columns < m, columns, 0).to(tl.int64)[:, None] * d
    total = tl.zeros((tile, tile), tl.float32)
    for start in range(0, d, depth):
        over = start + tl.arange(0, depth)[None, :]
        xh = tl.load(x_high + at_x + over, mask=over < d, other=0.0)
        xl = tl.load(x_low + at_x + over, mask=over < d, other=0.0)
        ah = tl.trans(tl.load(a_high + at_a + over, mask=over < d, other=0.0))
        al = tl.trans(tl.load(a_low + at_a + over, mask=over < d, other=0.0))
        part = tl.dot(xl, ah)
        part = tl.dot(xh, al, part)
        part = tl.dot(xh, ah, part)
        total += part
    at_out = out + rows.to(tl.int64)[:, None] * m + columns[None, :]
    tl.store(at_out, total * scale, mask=(rows < n)[:, None] & (columns < m)[None, :])
