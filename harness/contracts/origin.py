"""Origins: the place that a decomposition was learnt at before it came here, for methods that bring one along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Place:
    """A site of a model of a suite, as a plan knows it: no model is loaded."""

    site: str
    """The name of the site, such as `resid_post.3`."""
    label: str
    """The label of the model."""
    model: str
    """The name of the model's plugin, such as `hf`."""
    parameters: Mapping[str, Any]
    """The parameters of the model, those left at their defaults included."""


@runtime_checkable
class Origin(Protocol):
    """The place that a decomposition is for; plans ask it before anything is fitted."""

    @property
    def words(self) -> str:
        """The place in its own words, for the column `trained_at`; or that it is not stated."""
        ...

    def against(self, place: Place) -> str | None:
        """Give the reason why the decomposition is not for this place, with which it is skipped; None if it is."""
        ...
