"""Sites of one loaded model: where each is read, how wide it is, and how its columns group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from harness import SITE_KINDS, ConfigError, Undefined, parse_site
from harness.plugins.models import hooks
from harness.plugins.models.blocks import Block, find_tap
from harness.plugins.models.hooks import Tap
from harness.plugins.models.sizes import n_heads, width_of_heads


class SiteTaps:
    """Finds the tap of each site when it is first asked for."""

    def __init__(self, blocks: Sequence[Block], config: Mapping[str, Any], run: Callable[[], Any]) -> None:
        """Take what runs the model on the text that the blocks were found by."""
        self._blocks, self._config, self._run = blocks, config, run
        self.of = cache(self._find)
        self.width = cache(self._measure)

    @torch.no_grad()
    def _find(self, site: str) -> Tap:
        """The tap of a site."""
        kind, layer = parse_site(site)
        if layer >= len(self._blocks):
            raise ConfigError(f"site {site!r}: this model has the layers 0 to {len(self._blocks) - 1}.")
        # Blocks are run once more on what they were given, so the model is to be as it was then.
        self._run()
        try:
            return self._checked(kind, layer)
        except Undefined as undefined:
            valid = [f"{other}.{layer}" for other in SITE_KINDS if self._has(other, layer)]
            raise ConfigError(f"site {site!r}: {undefined.reason}. This layer has: {', '.join(valid)}.") from undefined

    def _checked(self, kind: str, layer: int) -> Tap:
        tap = find_tap(self._blocks, kind, layer)
        if kind == "attn_z" and (width := self._width_at(tap)) != width_of_heads(self._config, self._stream_width):
            raise Undefined(
                f"the {width} numbers that {type(tap.module).__name__} is given are not the outputs of "
                f"{n_heads(self._config) or 'a stated number of'} heads"
            )
        return tap

    def _has(self, kind: str, layer: int) -> bool:
        try:
            return bool(self._checked(kind, layer))
        except Undefined:
            return False

    def _measure(self, site: str) -> int:
        """The dimensions of a row at a site."""
        return self._width_at(self.of(site)) if parse_site(site).is_inner else self._stream_width

    def n_groups(self, site: str) -> int:
        """The number of heads at `attn_z`, and 1 elsewhere."""
        self.of(site)
        return (n_heads(self._config) or 1) if parse_site(site).kind == "attn_z" else 1

    @torch.no_grad()
    def _width_at(self, tap: Tap) -> int:
        return int(hooks.read({"": tap}, self._run)[""].shape[-1])

    @property
    def _stream_width(self) -> int:
        return int(self._blocks[-1].after.shape[-1])
