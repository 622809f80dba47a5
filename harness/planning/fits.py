"""The sites and the fits of a plan: later cells are named after them, rest on them and compare them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from harness.contracts.origin import Place
from harness.contracts.sites import Site, parse_site
from harness.contracts.task import ComparedSite
from harness.errors import PluginError, said
from harness.planning.cells import Cell
from harness.planning.entries import Entry, ModelEntry
from harness.planning.keys import content_key
from harness.planning.suite import SuiteConfig


@dataclass(frozen=True)
class CapturedSite:
    """A site of a model with the captures of its splits, that of the fit split holding one budget of tokens."""

    model: ModelEntry
    site: str
    fit_tokens: int
    captures: Mapping[str, Cell]
    max_norm_multiple: float
    draw: int | None = None
    """The seed that drew the documents for fitting; None where all seeds learn from the same ones."""

    @property
    def columns(self) -> dict[str, Any]:
        """The columns that name the site in tables."""
        return {"family": self.model.family, "model": self.model.label, "site": self.site}

    @property
    def label(self) -> str:
        return f"{self.model.label} {self.site}"

    @property
    def read_again(self) -> dict[str, Any]:
        """Instructions for capturing fit rows that are not stored while methods learn from them; none for others."""
        capture = self.captures["fit"]
        return {} if capture.work.get("store_rows", True) else {"source": capture.work, "site": self.site}

    @cached_property
    def for_tasks(self) -> ComparedSite:
        """The site as tasks see it."""
        n_layers = self.model.shape["n_layers"] if self.model.shape else None
        layer = parse_site(self.site).layer
        return ComparedSite(self.model.family, self.model.label, self.site, layer, n_layers, self.model.control_of)

    def refuses(self, method: Entry) -> str | None:
        """The reason why a method that brings along what it learnt elsewhere can't be used here, by its own word."""
        if method.origin is None:
            return None
        entry = self.model.entry
        try:
            return method.origin.against(Place(self.site, self.model.label, entry.name, entry.params))
        except (Exception, SystemExit) as error:  # the plugin's own code, which may call sys.exit
            told = f"origin.against({self.label}) raised {said(error)}"
            raise PluginError(f"method {method.name}: {told}") from error

    @cached_property
    def rank(self) -> tuple[str, Site]:
        """The sort key that decides which side of a pair the site is.

        It depends on content alone, so that pairs don't change with the order of a suite's entries.
        """
        return content_key(self.model.entry.inputs), parse_site(self.site)

    def rows(self, split: str = "evaluation") -> dict[str, Any]:
        """The rows of a split, and the fit rows whose norms decide which of them are masked."""
        return {
            "capture": self.captures[split].key,
            "fit_capture": self.captures["fit"].key,
            "max_norm_multiple": self.max_norm_multiple,
        }


@dataclass(frozen=True)
class Fit:
    """One method's fit at one site, with one seed."""

    site: CapturedSite
    method: Entry
    cell: Cell

    @property
    def name(self) -> str:
        """The decomposition in words, with which labels of other cells are built."""
        return self.cell.name

    @property
    def as_base(self) -> dict[str, str]:
        """The part that it has in the work, and in the key, of a fit that learns from it."""
        return {"base": self.cell.key}

    @cached_property
    def seed(self) -> int:
        return int(self.cell.columns["seed"])

    @cached_property
    def settings(self) -> str:
        """Method, parameters and budget of tokens: fits that agree in these may be compared."""
        return content_key({"method": self.method.inputs, "fit_tokens": self.site.fit_tokens})


def fit_group(site: CapturedSite, rows: Mapping[str, Any], base: Fit | None) -> str:
    """The group of the fits that share one reading of a capture's rows.

    Rows that are not stored are captured for all sites of a pass at once. What learns from a fit is done after it.
    """
    if base is not None:
        return content_key({"fits on": base.cell.group})
    return content_key({"fits of pass": site.captures["fit"].group} if site.read_again else {"fit rows": rows})


def unstored(config: SuiteConfig, split: str, corpus: Entry | None) -> dict[str, Any]:
    """Instructions for a capture whose rows are not to be stored; in no key, since the rows are the same."""
    if config.store_rows or split != "fit" or corpus is None:
        return {}
    names = ("store_rows", "max_norm_multiple", "max_held_gb")
    return {name: getattr(config, name) for name in names}
