"""Windows that a causal model has run, and can run again from one site on with other activations there.

No model is known by name. In a run from the site on, the blocks that end before it are stubbed: they don't run, and
hand on the residual stream that was recorded. The clean logits come in the same way, with all blocks stubbed, so that
the last norm, the head, scaling and soft-capping are the model's own. This is sound only if the residual stream is all
that later blocks see of earlier ones: that is checked, and where it does not hold the whole model runs each time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from harness import ConfigError, Undefined
from harness.plugins.models import hooks
from harness.plugins.models.blocks import Block
from harness.plugins.models.hooks import Tap
from harness.plugins.models.padding import differ
from harness.plugins.models.token_rows import TokenRows


class Replayer:
    """Runs windows so that they can be run again from one site on."""

    def __init__(
        self, forward: Callable[[Tensor], Tensor], blocks: Sequence[Block], tap: Tap, n_ended: int, rows: TokenRows
    ) -> None:
        """Take a model's blocks and `forward`, which maps ids to logits; `n_ended` blocks end before `tap`."""
        self.forward, self.blocks, self.tap, self.n_ended, self.rows = forward, blocks, tap, n_ended, rows
        last = blocks[-1]
        self._taps = {"site": tap, "last": Tap(last.call.module, last.call.number, "output", last.leaves)}
        if tap.module not in {block.call.module for block in blocks}:  # within a block, which has to run
            block = blocks[n_ended]
            self._taps["entering"] = Tap(block.call.module, block.call.number, "input", block.enters)
        self._is_sound: bool | None = None
        self._head_is_alone: bool | None = None
        self._stream: tuple[torch.device, torch.dtype] = torch.device("cpu"), torch.float32

    def run(self, ids: Int[Tensor, "b t"]) -> Replay:
        """Run windows, which have no padding, once."""
        if self._is_sound is None:
            self._is_sound = True
            self._is_sound = self._check(ids[:1])
        return Replay(self, ids, hooks.read(self._taps, lambda: self.forward(ids)))

    def rerun(self, ids: Int[Tensor, "b t"], n_stubbed: int, stream: Float[Tensor, ...]) -> Float[Tensor, "b t v"]:
        """The logits, the first `n_stubbed` blocks handing on `stream` if that is sound."""
        if not self._is_sound:
            return self.forward(ids)
        answers: dict[nn.Module, dict[int, Callable[[], Any]]] = defaultdict(dict)
        for block in self.blocks[:n_stubbed]:
            answers[block.call.module][block.call.number] = partial(_hand_on, block, stream)
        with hooks.stub(answers):
            return self.forward(ids)

    def unembed(self, ids: Int[Tensor, "1 t"], x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        """The logits where the last block hands on `x`, each row in a window of its own; `ids` may be any.

        Raises:
            Undefined: what comes after the last block can't be run alone.
        """
        if self._head_is_alone is None:
            replay = self.run(ids)
            self._stream = replay.device, replay.x.dtype
            self._head_is_alone = bool(self._is_sound) and self.run(ids[:, :1]).n_rows == 1
            # What comes after the last block may mix tokens, or go back to what entered earlier ones.
            self._head_is_alone = self._head_is_alone and not differ(self._head(ids, replay.x[0]), replay.logits()[0])
        if not self._head_is_alone:
            raise Undefined("its head can't be run alone: more than the residual stream leads to it")
        return self._head(ids, x)

    def _head(self, ids: Int[Tensor, "1 t"], x: Float[Tensor, "b d"]) -> Float[Tensor, "b v"]:
        return self.rerun(ids[:, :1].expand(len(x), 1), len(self.blocks), x[:, None].to(*self._stream))[:, 0]

    def _check(self, ids: Int[Tensor, "b t"]) -> bool:
        """True if stubs change no bit of the logits, neither with the clean activations nor with others."""
        replay = self.run(ids)
        others = replay.x.flip(1)
        whole = self.forward(ids)
        with hooks.write(self.tap, others, self.rows.first):
            whole_patched = self.forward(ids)
        self.forward(ids.flip(1))  # a block may have left in the model what a later one picks up
        try:
            pairs = [
                (replay.patched(others), whole_patched),
                (replay.patched(replay.x), whole),
                (replay.logits(), whole),
            ]
        except Exception:  # a later block misses what a stub has not done: it may raise anything
            return False
        return all(torch.equal(logits, expected) for logits, expected in pairs)


class Replay:
    """One batch of windows that has been run; its tensors are kept on the CPU."""

    def __init__(self, replayer: Replayer, ids: Int[Tensor, "b t"], found: dict[str, Tensor]) -> None:
        self._replayer, self._ids = replayer, ids
        self.device = found["last"].device
        self._last, site = found["last"].cpu(), found["site"].cpu()
        self._entering = found["entering"].cpu() if "entering" in found else site
        rows = site.reshape(len(ids), -1, site.shape[-1])  # some modules see all tokens of a batch in one row
        self.n_rows = rows.shape[1]
        self.x: Float[Tensor, "b t d"] = replayer.rows.of(rows, ids.shape[1])
        self.n_bytes = sum(tensor.nbytes for tensor in {site, self._last, self._entering})

    @torch.no_grad()
    def logits(self) -> Float[Tensor, "b t v"]:
        """The logits of the unhooked model."""
        return self._replayer.rerun(self._ids, len(self._replayer.blocks), self._last.to(self.device))

    @torch.no_grad()
    def patched(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t v"]:
        """The logits with `x` at the site."""
        if x.shape != self.x.shape:
            raise ConfigError(f"replay: x has shape {tuple(x.shape)}; the activations have {tuple(self.x.shape)}.")
        with hooks.write(self._replayer.tap, x, self._replayer.rows.first):
            return self._replayer.rerun(self._ids, self._replayer.n_ended, self._entering.to(self.device))


def _hand_on(block: Block, stream: Float[Tensor, ...]) -> Any:
    """The block's output with a copy of `stream` in its place, as blocks may write into it, and no other numbers."""
    output = block.call.output
    place = hooks.output_tensors(output)[block.leaves]
    return tree_map(lambda value: stream.clone() if value is place else value, output)
