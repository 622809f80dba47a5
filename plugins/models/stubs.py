"""Runs of a part of a model: the blocks that end before it are stubbed.

No model is known by name. A stubbed block does not run, and hands on the residual stream that was recorded. What comes
after the last block runs in the same way, with all blocks stubbed, so that the last norm, the head, scaling and
soft-capping are the model's own. This is sound only if the residual stream is all that later blocks see of earlier
ones: that is checked, and where it does not hold the whole model runs each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness import Undefined
from harness.plugins.models import hooks
from harness.plugins.models.blocks import Block
from harness.plugins.models.hooks import Act, Tap
from harness.plugins.models.padding import differ
from harness.plugins.models.token_rows import TokenRows

_TRIAL_TOKENS = 8

Forward = Callable[[Int[Tensor, "b t"], Bool[Tensor, "b t"]], Float[Tensor, "b t v"]]
"""A function that gives the logits of windows, whose padding the mask tells."""


class Stubs:
    """Runs the later blocks of a model, or what comes after them."""

    def __init__(self, forward: Forward, blocks: Sequence[Block], rows: TokenRows) -> None:
        self.forward, self.blocks, self.rows = forward, blocks, rows
        self._sound: dict[int, bool] = {0: True}
        self._head_is_alone: bool | None = None
        self._like = torch.empty(0)

    def tap(self, n_ended: int) -> Tap:
        """The place of the stream that so many blocks have led to, from 1 on."""
        block = self.blocks[n_ended - 1]
        return Tap(block.call.module, block.call.number, "output", block.leaves)

    def run(
        self,
        ids: Int[Tensor, "b t"],
        mask: Bool[Tensor, "b t"],
        acts: Sequence[tuple[Tap, Act]] = (),
        stubbed: tuple[int, Float[Tensor, ...]] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """The logits, with acts at taps and so many blocks handing on a stream; None where an act is `Done`."""
        answers: dict[nn.Module, dict[int, Callable[[], Any]]] = defaultdict(dict)
        n_stubbed, stream = stubbed or (0, torch.empty(0))
        for block in self.blocks[:n_stubbed]:
            answers[block.call.module][block.call.number] = partial(_hand_on, block, stream)
        with hooks.stub(answers):
            logits: Tensor = hooks.run(acts, lambda: self.forward(ids, mask))
            return logits

    def are_sound(self, n_stubbed: int, ids: Int[Tensor, "b t"]) -> bool:
        """True if so many stubs change no bit of the logits, as a trial on the first window says."""
        if n_stubbed not in self._sound:
            self._sound[n_stubbed] = self._check(n_stubbed, *self._trial(ids))
        return self._sound[n_stubbed]

    def _trial(self, ids: Int[Tensor, "b t"]) -> tuple[Int[Tensor, "1 t"], Bool[Tensor, "1 t"]]:
        """The first window; a text where that has one token, which would hide what a block leaves to later ones."""
        window = ids[:1] if ids.shape[1] > 1 else self.rows.text(_TRIAL_TOKENS)[None]
        return window, torch.ones_like(window, dtype=torch.bool)

    @torch.no_grad()
    def _check(self, n_stubbed: int, ids: Int[Tensor, "1 t"], mask: Bool[Tensor, "1 t"]) -> bool:
        tap = self.tap(n_stubbed)
        stream = hooks.read({"stream": tap}, lambda: self.forward(ids, mask))["stream"]
        cases: list[list[tuple[Tap, Act]]] = [[], [(tap, partial(self._flipped, ids.shape))]]
        expected = [self.run(ids, mask, acts) for acts in cases]
        self.run(ids.flip(1), mask)  # a block may have left in the model what a later one picks up
        try:
            found = [self.run(ids, mask, acts, (n_stubbed, stream)) for acts in cases]
        except Exception:  # a later block misses what a stub has not done: it may raise anything
            return False
        return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))

    def _flipped(self, shape: torch.Size, tensor: Tensor) -> Tensor:
        """The tensor with the tokens' rows in the opposite order."""
        flipped, tokens = self.rows.split(tensor, shape)
        tokens.copy_(tokens.flip(1))
        return flipped

    def head_is_alone(self, ids: Int[Tensor, "b t"]) -> bool:
        """True if the logits of a row of the stream after the last block depend on nothing else."""
        if self._head_is_alone is None:
            self._head_is_alone = self.are_sound(len(self.blocks), ids) and self._check_head(*self._trial(ids))
        return self._head_is_alone

    @torch.no_grad()
    def _check_head(self, ids: Int[Tensor, "1 t"], mask: Bool[Tensor, "1 t"]) -> bool:
        x, one = (self._last(ids[:, :n], mask[:, :n]) for n in (ids.shape[1], 1))
        self._like = one.new_empty(0)
        if len(one) != 1:  # there are rows that are no token's
            return False
        # What comes after the last block may mix tokens, or go back to what entered earlier ones.
        return not differ(self._head(ids, x), self.forward(ids, mask)[0])

    def _last(self, ids: Int[Tensor, "1 t"], mask: Bool[Tensor, "1 t"]) -> Float[Tensor, "r d"]:
        x = hooks.read({"last": self.tap(len(self.blocks))}, lambda: self.forward(ids, mask))["last"]
        return x.reshape(-1, x.shape[-1])

    def head(self, ids: Int[Tensor, "b t"], x: Float[Tensor, "n d"]) -> Float[Tensor, "n v"]:
        """The logits where the last block hands on `x`, each row in a window of its own; `ids` may be any.

        Raises:
            Undefined: what comes after the last block can't be run alone.
        """
        if not self.head_is_alone(ids):
            raise Undefined("its head can't be run alone: more than the residual stream leads to it")
        return self._head(ids, x.to(self._like))

    def _head(self, ids: Int[Tensor, "b t"], x: Float[Tensor, "n d"]) -> Float[Tensor, "n v"]:
        ids = ids[:1, :1].expand(len(x), 1)
        return self.run(ids, torch.ones_like(ids, dtype=torch.bool), (), (len(self.blocks), x[:, None]))[:, 0]


def _hand_on(block: Block, stream: Float[Tensor, ...]) -> Any:
    """The block's output with a copy of `stream` in its place, as blocks may write into it, and no other numbers."""
    output = block.call.output
    place = hooks.output_tensors(output)[block.leaves]
    return tree_map(lambda value: stream.clone() if value is place else value, output)
