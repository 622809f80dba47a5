"""Finds a transformer's blocks, and what each sublayer adds, by watching small forward passes.

No model is known by name. Blocks are the calls of a module list's members where each hands its output on as the input
of the next (so layers shared by several blocks count as often as they are called), as many as the config numbers. A
sublayer is the module whose output, added to the residual stream, gives what the block gives: that is checked on
numbers, and where nothing adds up the site is refused. What enters such a module, neurons or heads, is a site where the
module is linear in it, row by row, which is checked on numbers as well.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from harness import ConfigError, Undefined
from harness.plugins.models.hooks import Call, Slot, Tap, argument_tensors, output_tensors, watch

_TOLERANCE = 1e-5
_INNER = {"mlp_act": "mlp_out", "attn_z": "attn_out"}
"""Sites that are the input of the module whose output is another site."""
_INNER_OF = {out: kind for kind, out in _INNER.items()}
_ATTENTION = re.compile(r"att(entio)?n", re.IGNORECASE)
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe", re.IGNORECASE)


@dataclass(frozen=True)
class Block:
    """One block: where the residual stream enters and leaves it, and the call it was found by."""

    call: Call
    enters: Slot
    leaves: Slot

    @property
    def before(self) -> Float[Tensor, "1 t d"]:
        return self.call.inputs[self.enters]

    @property
    def after(self) -> Float[Tensor, "1 t d"]:
        return self.call.outputs[self.leaves]


def find_blocks(model: nn.Module, forward: Callable[[], Any], n_tokens: int, n_expected: int | None) -> list[Block]:
    """The blocks of `model`, in order, from one forward pass over a single window of `n_tokens`."""
    owners: dict[nn.Module, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList):
            owners |= dict.fromkeys(module, path)
    siblings: dict[tuple[Call | None, str], list[Call]] = {}
    for call in watch(owners, forward):
        siblings.setdefault((call.parent, call.path), []).append(call)
    chains = [chain for calls in siblings.values() if (chain := _chain(calls, n_tokens))]

    def rank(chain: Sequence[Block]) -> tuple[bool, int, int]:
        return len(chain) == n_expected, -chain[0].call.depth, len(chain)

    # What lies inside blocks may be a chain too: a T5 block is a list of two sublayers.
    best = max(chains, key=rank, default=[])
    # One call hands nothing on, so where several are alone any of them might be the one block.
    if not best or (len(best) == 1 and sum(rank(chain) == rank(best) for chain in chains) > 1):
        raise ConfigError(
            f"{type(model).__name__}: found no blocks. Only models can be read that keep their blocks in a module list "
            "and hand a [batch, token, width] residual stream from each to the next."
        )
    _check_numbers(model, best, n_expected, [call for calls in siblings.values() for call in calls])
    return best


def _check_numbers(model: nn.Module, blocks: Sequence[Block], n_expected: int | None, calls: Sequence[Call]) -> None:
    """Refuse blocks that the model's config numbers otherwise, such as where a text passes some of them by, or where
    others of their kind stand before or after them.
    """
    kinds, depth = {type(block.call.module) for block in blocks}, blocks[0].call.depth
    n_alike = sum(type(call.module) in kinds and call.depth == depth for call in calls)
    if n_expected not in (None, len(blocks)) or n_alike > len(blocks):
        raise ConfigError(
            f"{type(model).__name__}: its config numbers {n_expected} layers, and a text runs through {n_alike} of one "
            f"kind, {len(blocks)} of which hand one stream on: sites would be named after other layers than they are "
            "of. This model can't be read."
        )


def _chain(calls: Sequence[Call], n_tokens: int) -> list[Block]:
    """The calls as blocks; an empty list if they don't pass one tensor on from each to the next."""
    if not all(any(call.module.children()) for call in calls):
        return []  # a layer of weights is no block
    following = calls[1] if len(calls) > 1 else calls[0]
    for (leaves, output), (enters, x) in itertools.product(calls[0].outputs.items(), following.inputs.items()):
        if x.shape != output.shape or x.ndim != 3 or x.shape[0] != 1 or x.shape[1] < n_tokens:
            continue
        if all(
            leaves in call.outputs
            and enters in later.inputs
            and torch.allclose(call.outputs[leaves], later.inputs[enters], rtol=0, atol=0, equal_nan=True)
            for call, later in itertools.pairwise(calls)
        ) and all(enters in call.inputs and leaves in call.outputs for call in (calls[0], calls[-1])):
            return [Block(call, enters, leaves) for call in calls]
    return []


def find_tap(blocks: Sequence[Block], kind: str, layer: int) -> Tap:
    """The tap at which a site is read.

    Raises:
        Undefined: no single module gives it; the reason says what there is.
    """
    block = blocks[layer]
    if kind == "resid_pre":
        return Tap(block.call.module, block.call.number, "input", block.enters)
    if kind == "resid_post":
        return Tap(block.call.module, block.call.number, "output", block.leaves)
    out = _INNER.get(kind, kind)
    taps = find_sublayers(block)
    others = {other.call.module for other in blocks} - {block.call.module}
    # A sublayer that other blocks have too is called by them in between: its calls can't be counted.
    if out not in taps or any(taps[out].module in set(other.modules()) for other in others):
        about = "this" if out == kind else f"{out}, whose input it would be,"
        raise Undefined(f"no one module of {type(block.call.module).__name__} adds {about} to the residual stream")
    if kind not in taps:
        name = type(taps[out].module).__name__
        raise Undefined(f"{out} is the output of {name}, which is not linear in its input, row by row")
    return taps[kind]


def find_sublayers(block: Block) -> dict[str, Tap]:
    """Taps of `attn_out` and `mlp_out`, as far as the block has them, and of what enters them linearly.

    The block alone is run once more, in float32: in less, rounding hides which modules add up.
    """
    module = block.call.module
    args, kwargs = tree_map(_to_float32, block.call.arguments)
    result: list[Any] = []
    inside = {child: path for path, child in module.named_modules() if child is not module}
    calls = watch(inside, lambda: result.append(functional_call(module, _weights(module), args, kwargs)))
    start, end = block.before.float(), output_tensors(result[0])[block.leaves].cpu()
    terms = _explain(start, end, _candidates(calls, start), calls)
    if terms is None:
        return {}
    # The calls were counted within this block; earlier calls of the block have called the same modules.
    n_calls = Counter(call.module for call in calls)
    taps: dict[str, Tap] = {}
    for kind, term in _name(terms, module).items():
        called = term.call.module
        number = block.call.number * n_calls[called] + term.call.number
        taps[kind] = Tap(called, number, "output", term.slot, term.scale)
        if _is_linear(term):
            taps[_INNER_OF[kind]] = Tap(called, number, "input", next(iter(term.call.inputs)))
    return taps


def _weights(module: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers of a module, in float32."""
    # Parameters as such, for where weights lie on disk what brings them in makes each anew in its class.
    weights: dict[str, Tensor] = {}
    weights |= {name: nn.Parameter(_to_float32(value), False) for name, value in module.named_parameters()}
    return weights | {name: _to_float32(value) for name, value in module.named_buffers()}


@dataclass(frozen=True)
class _Term:
    """Something that is added to the residual stream."""

    call: Call
    slot: Slot
    value: Float[Tensor, "1 t d"]
    scale: float = 1.0


def _is_linear(term: _Term) -> bool:
    """True if the term's module has one input and is affine in it, row by row: f(x + y) = f(x) + f(y) − f(0), where y
    changes one row and no other row of f.
    """
    call = term.call
    if len(call.inputs) != 1:
        return False
    [slot], [x] = call.inputs, call.inputs.values()
    device = argument_tensors(*call.arguments)[slot].device
    weights = _weights(call.module)

    def f(x: Tensor) -> Tensor:
        args, kwargs = tree_map(_to_float32, call.arguments)
        args = tuple(x.to(device) if i == slot else value for i, value in enumerate(args))
        kwargs = {name: x.to(device) if name == slot else value for name, value in kwargs.items()}
        return output_tensors(functional_call(call.module, weights, args, kwargs))[term.slot].cpu().double()

    x = x.float()
    y = torch.zeros_like(x)
    y.flatten(0, -2)[0] = x.flatten(0, -2)[-1]
    both, of_x, of_y, of_zero = (f(value) for value in (x + y, x, y, torch.zeros_like(x)))
    rows = (both - of_x).flatten(0, -2)
    return _is_close(both - of_x, of_y - of_zero, of_x) and not rows[1:].abs().max() > _TOLERANCE * of_x.abs().max()


def _candidates(calls: Sequence[Call], like: Float[Tensor, "1 t d"]) -> list[_Term]:
    """All module outputs that have the residual stream's size; of equal ones the first, which lies deepest."""
    candidates: list[_Term] = []
    for call in calls:
        for slot, tensor in call.outputs.items():
            if tensor.numel() != like.numel() or tensor.shape[-1] != like.shape[-1]:
                continue
            value = tensor.reshape(like.shape).double()
            if not any(torch.equal(value, known.value) for known in candidates):
                candidates.append(_Term(call, slot, value))
    return candidates


def _explain(
    start: Float[Tensor, "1 t d"], end: Float[Tensor, "1 t d"], candidates: Sequence[_Term], calls: Sequence[Call]
) -> list[_Term] | None:
    """The terms, in order, that lead from `start` to `end`; None if no terms and norms do.

    In pre-norm blocks end = start + terms. In post-norm ones the stream itself goes through norms, which are undone
    from the end: `end = norm(y)` and `end = norm(y) + term` lead back to y.
    """
    if _is_close(start, end, start):
        return []
    terms = _sum(start, end, candidates, n_most=2)
    if terms is not None:
        return terms
    for index, call in enumerate(calls):
        x, normed = call.inputs.get(0), call.outputs.get(0)
        if x is None or normed is None or any(call.module.children()) or not x.shape == normed.shape == end.shape:
            continue
        last = [] if _is_close(normed, end, end) else _sum(normed, end, candidates, n_most=1)
        earlier = None if last is None else _explain(start, x, candidates, calls[:index])
        if last is not None and earlier is not None:
            return earlier + last
    return None


def _sum(
    start: Float[Tensor, "1 t d"], end: Float[Tensor, "1 t d"], candidates: Sequence[_Term], n_most: int
) -> list[_Term] | None:
    """Up to `n_most` terms with start + their sum = end; if there are none, two terms with a factor each."""
    delta = end.double() - start.double()
    sums = [list(terms) for n in range(1, n_most + 1) for terms in itertools.combinations(candidates, n)]
    best = min(sums, key=lambda terms: float((delta - _total(terms)).norm()), default=None)
    if best is not None and _is_close(_total(best), delta, start):
        return best
    for pair in itertools.combinations(candidates, 2) if n_most > 1 else ():
        columns = torch.stack([term.value.flatten() for term in pair], dim=1)
        scales = torch.linalg.lstsq(columns, delta.flatten()[:, None]).solution.flatten().tolist()
        scaled = [replace(term, scale=scale) for term, scale in zip(pair, scales, strict=True)]
        if min(scales) > 0 and _is_close(_total(scaled), delta, start):
            return scaled
    return None


def _total(terms: Sequence[_Term]) -> Tensor:
    return torch.stack([term.scale * term.value for term in terms]).sum(dim=0)


def _is_close(a: Tensor, b: Tensor, stream: Tensor) -> bool:
    """True if a and b agree in every row, up to the rounding of float32 sums in a stream of this size."""
    error = (a.double() - b.double()).norm(dim=-1)
    return bool((error <= _TOLERANCE * (b.double().norm(dim=-1) + stream.double().norm(dim=-1))).all())


def _name(terms: Sequence[_Term], block: nn.Module) -> dict[str, _Term]:
    """Name the one or two terms: `attn_out` is the attention's and `mlp_out` the MLP's.

    Attention goes by the names of the modules around it, for a block may mix tokens by other means (a state space).
    """
    attention = [bool(_ATTENTION.search(_names(block, term.call.path))) for term in terms]
    if len(terms) == 1:
        kind = "attn_out" if attention[0] else "mlp_out" if _MLP.search(_names(block, terms[0].call.path)) else None
        return {kind: terms[0]} if kind else {}
    if len(terms) != 2:
        return {}
    first, second = (1, 0) if attention == [False, True] else (0, 1)
    return {"attn_out": terms[first], "mlp_out": terms[second]} if any(attention) else {"mlp_out": terms[second]}


def _names(block: nn.Module, path: str) -> str:
    """The path of a module within the block, and the classes along it."""
    parts = path.split(".")
    classes = [type(block.get_submodule(".".join(parts[: i + 1]))).__name__ for i in range(len(parts))]
    return " ".join([path, *classes])


def _to_float32(value: Any) -> Any:
    """A copy, for the block may write into what it is given."""
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(torch.float32, copy=True) if is_float else value
