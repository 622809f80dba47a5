"""The side of a registered plugin that its Spec states, as far as checks ask for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.registry.metric import Metric
from harness.registry.plugin_manager import Catalog, Registered, load_catalog


@dataclass(frozen=True)
class Registration:
    """A registered thing with its parameters, found in the catalog of some plugin files."""

    kind: str
    name: str
    params: dict[str, Any]
    plugin_files: tuple[str, ...] = ()
    catalog: Catalog = field(init=False)
    config: Any = field(init=False)

    def __post_init__(self) -> None:
        """Look it up; a ConfigError says what is wrong with the name or the parameters."""
        catalog = load_catalog(self.plugin_files)
        object.__setattr__(self, "catalog", catalog)
        object.__setattr__(self, "config", catalog.config(self.kind, self.name, self.params))

    def create(self) -> Any:
        """A fresh instance."""
        return self.catalog.create(self.kind, self.name, self.params)

    @property
    def needs(self) -> tuple[str, ...]:
        """The words of the Spec's `needs` with these parameters."""
        return self.catalog.needs(self.kind, self.name, self.params)

    @property
    def provides(self) -> tuple[str, ...]:
        """The words of the Spec's `provides`."""
        return self._registered.spec.provides

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The metrics that the Spec declares."""
        return self._registered.spec.metrics

    @property
    def shape(self) -> Any:
        """The shape that the Spec states of a model; None where it states none."""
        return self.catalog.shape(self.kind, self.name, self.config)

    def pairs(self, a: Any, b: Any) -> Any:
        """The answer of a task's Spec to whether the task asks for this pair of sites."""
        return self._registered.ask("pairs", self.config, a, b)

    def identity(self, params: dict[str, Any]) -> Any:
        """The identity with other parameters; without one the parameters stand for themselves."""
        config = self.catalog.config(self.kind, self.name, params)
        return params if self._registered.spec.identity is None else self.catalog.identity(self.kind, self.name, config)

    @property
    def _registered(self) -> Registered:
        return self.catalog.find(self.kind, self.name)
