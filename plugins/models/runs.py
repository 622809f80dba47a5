"""A batch of windows that a causal model runs again and again, with edits at its sites.

In each run the blocks that end before the first edited site are stubbed, and the head runs on the rows of the windows'
ends alone, where both are sound.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness import ConfigError, Edit, parse_site
from harness.plugins.models import hooks
from harness.plugins.models.hooks import Act, Done, Tap
from harness.plugins.models.stubs import Stubs
from harness.plugins.models.token_rows import TokenRows


class Runs:
    """Windows of one batch, filled up on the right. Streams between blocks are recorded when needed, on the CPU."""

    def __init__(
        self, stubs: Stubs, find_tap: Callable[[str], Tap], ids: Int[Tensor, "b t"], lengths: Int[Tensor, " b"]
    ) -> None:
        b, t = ids.shape
        if b == 0 or lengths.shape != (b,) or not bool(((lengths > 0) & (lengths <= t)).all()):
            raise ConfigError(f"runs: {b} windows of up to {t} tokens have lengths {lengths.tolist()}; give one each.")
        self._stubs, self._find_tap = stubs, find_tap
        self._mask = torch.arange(ids.shape[1]) < lengths[:, None]
        self.ids = ids.masked_fill(~self._mask, 0)
        self._ends = torch.arange(len(ids)), lengths - 1
        self._streams: dict[int, tuple[Tensor, torch.device]] = {}

    @torch.no_grad()
    def activations(
        self, sites: Sequence[str], edits: Mapping[str, Edit] | None = None
    ) -> dict[str, Float[Tensor, "b t w"]]:
        """The activations that go on from each site, behind its own edit; the pass goes no deeper than needed."""
        visits = self._visits(sites, edits)

        def end(tensor: Tensor) -> Tensor:
            if all(visits[site].x is not None for site in sites):
                raise Done
            return tensor

        self._run(visits, self.n_ended(visits) if edits else 0, [(visits[site].tap, end) for site in sites])
        return {site: visits[site].found() for site in sites}

    @torch.no_grad()
    def logits(self, edits: Mapping[str, Edit] | None = None) -> Float[Tensor, "b v"]:
        """The logits at the end of each window."""
        return self._logits(self._visits([], edits))

    @torch.no_grad()
    def all_logits(self, edits: Mapping[str, Edit] | None = None) -> Float[Tensor, "b t v"]:
        """The logits at every token."""
        visits = self._visits([], edits)
        return self._run(visits, self.n_ended(visits))

    def gradients(
        self,
        sites: Sequence[str],
        of: Callable[[Float[Tensor, "b v"]], Float[Tensor, ""]],
        edits: Mapping[str, Edit] | None = None,
    ) -> dict[str, Float[Tensor, "b t w"]]:
        """The gradient of `of(logits)` with respect to what goes on from each site, at the values that are there."""
        visits = self._visits(sites, edits, is_tracked=True)
        with torch.enable_grad():
            value = of(self._logits(visits))
            xs = [visits[site].found() for site in sites]
            if value.requires_grad:
                found = torch.autograd.grad(value, xs, materialize_grads=True)
            else:  # nothing leads from the sites to it
                found = tuple(torch.zeros_like(x) for x in xs)
        return dict(zip(sites, found, strict=True))

    @torch.no_grad()
    def record(self, site: str) -> Float[Tensor, "b t w"]:
        """The unedited activations at a site, on the CPU; the pass records what runs with an edit there need."""
        n, n_blocks = self.n_ended([site]), len(self._stubs.blocks)
        wanted = {k for k in (n, n_blocks) if k > 0 and self._stubs.are_sound(k, self.ids)}
        is_stream = n in wanted and site in (f"resid_post.{n - 1}", f"resid_pre.{n}")
        found = self._record(wanted, {} if is_stream else {site: self._find_tap(site)})
        tensor = self._streams[n][0] if is_stream else found[site].cpu()
        return self._tokens(tensor)

    @property
    def streams(self) -> list[Tensor]:
        """The streams that are recorded."""
        return [stream for stream, _ in self._streams.values()]

    def _record(self, n_stubbed: Collection[int], taps: Mapping[str, Tap]) -> dict[str, Tensor]:
        """The tensors at taps, and, kept, the streams that so many stubs hand on, from one pass."""
        wanted = {f"stream {n}": self._stubs.tap(n) for n in n_stubbed}
        found = hooks.read({**wanted, **taps}, lambda: self._stubs.forward(self.ids, self._mask))
        for n, stream in zip(n_stubbed, [found[name] for name in wanted], strict=True):
            self._streams[n] = stream.cpu(), stream.device
        return found

    def _tokens(self, tensor: Float[Tensor, ...]) -> Float[Tensor, "b t w"]:
        """The rows of the tokens."""
        b, t = self.ids.shape
        return self._stubs.rows.of(tensor.reshape(b, -1, tensor.shape[-1]), t)  # some modules see a batch in one row

    def n_ended(self, sites: Iterable[str]) -> int:
        """The number of blocks that end before the first of the sites; all if there is none."""
        places = [parse_site(site) for site in sites]
        return min((layer + (kind == "resid_post") for kind, layer in places), default=len(self._stubs.blocks))

    def _visits(
        self, sites: Sequence[str], edits: Mapping[str, Edit] | None, is_tracked: bool = False
    ) -> dict[str, _Visit]:
        edits = edits or {}
        return {
            site: _Visit(
                self._find_tap(site), self._stubs.rows, self.ids.shape, edits.get(site), is_tracked and site in sites
            )
            for site in dict.fromkeys([*edits, *sites])
        }

    def _logits(self, visits: Mapping[str, _Visit]) -> Float[Tensor, "b v"]:
        stubs, n_blocks = self._stubs, len(self._stubs.blocks)
        if not stubs.head_is_alone(self.ids):
            return self._run(visits, self.n_ended(visits))[self._ends]
        kept: list[Tensor] = []

        def keep(tensor: Tensor) -> Tensor:
            kept.append(self._tokens(tensor)[self._ends])
            raise Done

        self._run(visits, self.n_ended(visits), [(stubs.tap(n_blocks), keep)])
        return stubs.head(self.ids, kept[0])

    def _run(
        self, visits: Mapping[str, _Visit], n_stubbed: int, more: Sequence[tuple[Tap, Act]] = ()
    ) -> Float[Tensor, "b t v"]:
        acts: list[tuple[Tap, Act]] = [*((visit.tap, visit) for visit in visits.values()), *more]
        if n_stubbed == 0 or not self._stubs.are_sound(n_stubbed, self.ids):
            return self._stubs.run(self.ids, self._mask, acts)
        if n_stubbed not in self._streams:
            self._record([n_stubbed], {})
        stream, device = self._streams[n_stubbed]
        return self._stubs.run(self.ids, self._mask, acts, (n_stubbed, stream.to(device)))


class _Visit:
    """One site in one run: what arrives is edited, and `x` is what goes on."""

    def __init__(self, tap: Tap, rows: TokenRows, shape: torch.Size, edit: Edit | None, is_tracked: bool) -> None:
        self.tap, self._rows, self._shape, self._edit, self._is_tracked = tap, rows, shape, edit, is_tracked
        self.x: Tensor | None = None

    def __call__(self, tensor: Tensor) -> Tensor:
        copy, tokens = self._rows.split(tensor, self._shape)
        arrived = tokens.clone() if self.tap.scale == 1 else tokens * self.tap.scale
        if self._edit is None and not self._is_tracked:
            self.x = arrived
            return tensor
        x = arrived if self._edit is None else self._edit(arrived)
        if x.shape != tokens.shape:
            raise ConfigError(f"an edit gave {list(x.shape)}; what arrived is {list(tokens.shape)}. Keep its shape.")
        x = x.to(tokens)
        self.x = x.detach().requires_grad_() if self._is_tracked and not x.requires_grad else x
        placed: Tensor = _Placed.apply(self.x, tokens.detach().clone(), self.tap.scale)  # type: ignore[no-untyped-call]
        tokens.copy_(placed)
        return copy

    def found(self) -> Float[Tensor, "b t w"]:
        """The activations that went on."""
        if self.x is None:
            raise ConfigError("a site was not reached: its module was called less often than on other texts.")
        return self.x


class _Placed(torch.autograd.Function):
    """Puts x / scale in the place of a tensor, which keeps its own values, to the bit, where nothing is changed.

    The gradient is that of x / scale everywhere: a choice by `torch.where` would have none where nothing is changed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, tensor: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return torch.where(x == tensor * scale, tensor, x / scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient / ctx.scale, None, None
