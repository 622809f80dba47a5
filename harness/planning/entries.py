"""Entries of a suite: a plugin with its parameters, and a model with its sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.contracts.origin import Origin
from harness.contracts.sites import parse_site
from harness.contracts.task import ComparedSite


@dataclass(frozen=True)
class Entry:
    """One plugin with one set of parameters."""

    kind: str
    name: str
    version: int
    params: Mapping[str, Any]
    """The parameters, those left at their defaults included."""
    identity: Any
    """The parameters, or other content, that results depend on; see `identity` of a spec."""
    label: str
    """`itda(k=40, max_atoms=4096)`: the parameters that differ from their defaults."""
    provides: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    origin: Origin | None = field(default=None, compare=False)
    """The place that what a method brings along was learnt at."""
    pairs: Callable[[ComparedSite, ComparedSite], bool] | None = field(default=None, compare=False)
    """A task's own function: whether it asks for a pair of sites."""
    file: str | None = field(default=None, compare=False)
    """The file that it came in, if it came as a single file."""
    base: Entry | None = field(default=None, compare=False)
    """The method of the suite from whose fits this one learns, where it needs a fit."""

    @property
    def call(self) -> dict[str, Any]:
        """The name and parameters with which a worker makes it."""
        return {"name": self.name, "params": dict(self.params)}

    @property
    def inputs(self) -> dict[str, Any]:
        """The entry's part of a content address."""
        return {"kind": self.kind, "name": self.name, "version": self.version, "parameters": self.identity}


@dataclass(frozen=True)
class ModelEntry:
    """A model of a family, and the sites to read."""

    entry: Entry
    label: str
    family: str
    sites: tuple[str, ...]
    shape: Mapping[str, int] | None
    """The `n_layers`, `width`, widths of inner sites and `n_parameters` that are known without loading the model."""
    control_of: str | None = None
    """The family of which this model is the untrained counterpart."""

    @property
    def has_own_rows(self) -> bool:
        """True for a model that brings activation rows of its own, and so needs no corpus."""
        return "rows" in self.entry.provides

    def lacks(self, site: str) -> str | None:
        """The reason why it has no such site, where that is known without loading it."""
        if not self.shape:
            return None
        n_layers, (kind, layer) = self.shape["n_layers"], parse_site(site)
        if layer >= n_layers:
            return f"{self.label} has {n_layers} blocks, 0 to {n_layers - 1}"
        return f"{self.label} has no {kind}" if self.width(site) == 0 else None

    def width(self, site: str) -> int | None:
        """The dimensions of a row at a site, where they are known without loading the model."""
        if not self.shape:
            return None
        place = parse_site(site)
        return self.shape.get(place.kind) if place.is_inner else self.shape["width"]
