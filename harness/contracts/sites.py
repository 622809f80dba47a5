"""Sites, where activations are read: `<kind>.<layer>`, with blocks counted from 0."""

from __future__ import annotations

import re
from typing import NamedTuple

from harness.errors import ConfigError, suggest

SITE_KINDS = ("resid_post", "resid_pre", "mlp_out", "attn_out", "mlp_act", "attn_z")
"""Kinds of sites."""


class Site(NamedTuple):
    """A place in a model.

    `resid_pre` and `resid_post` are the residual stream before and after the block; `attn_out` and `mlp_out` are what
    attention and the MLP add to it. `attn_z` and `mlp_act` are what the last linear maps of these two are given: the
    heads' outputs, each a group of columns, and the MLP's neurons. They may be wider than the residual stream.
    """

    kind: str
    """One of `SITE_KINDS`."""
    layer: int
    """Number of the block, from 0 on."""

    @property
    def is_inner(self) -> bool:
        """True for `mlp_act` and `attn_z`, whose rows have another basis than the residual stream, and other widths."""
        return self.kind in ("mlp_act", "attn_z")


def parse_site(text: str) -> Site:
    """`resid_post.15` as a Site."""
    match = re.fullmatch(r"([a-z_]+)\.(0|[1-9][0-9]*)", text) if isinstance(text, str) else None
    if match is None:
        raise ConfigError(f"site {text!r}: write <kind>.<layer>, such as resid_post.6. Kinds: {', '.join(SITE_KINDS)}.")
    kind, layer = match[1], int(match[2])
    if kind not in SITE_KINDS:
        raise ConfigError(f"site {text!r}: unknown kind {kind!r}.{suggest(kind, SITE_KINDS)}")
    return Site(kind, layer)
