"""A suite: what to compare with what. Its config is typed here, and its sweeps are expanded into entries.

An entry is a plugin's name alone (`pca`) or a mapping that names it under its kind, with its parameters
(`{method: pca, n_components: 64}`). A list where a parameter takes a single value is a grid axis.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from harness import parameters
from harness.errors import ConfigError, HarnessError
from harness.plugin_manager import Catalog
from harness.sites import parse_site

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Tokens:
    """How many activation rows each split holds, for every model alike."""

    fit: int
    evaluation: int

    def __post_init__(self) -> None:
        if self.fit < 1 or self.evaluation < 1:
            raise ValueError(f"fit {self.fit} and evaluation {self.evaluation} must be at least 1.")


@dataclass(frozen=True)
class Wandb:
    """Where tables go besides the local files."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "decomp-harness"
    entity: str | None = None


@dataclass(frozen=True)
class SuiteConfig:
    """Every key of a suite."""

    name: str
    models: list[str | dict]  # type: ignore[type-arg]  # checked against the plugin's own config
    corpus: str | dict  # type: ignore[type-arg]
    methods: list[str | dict]  # type: ignore[type-arg]
    tokens: Tokens
    sites: list[str] = field(default_factory=list)
    similarities: list[str | dict] = field(default_factory=list)  # type: ignore[type-arg]
    evaluations: list[str | dict] = field(default_factory=lambda: ["reconstruction"])  # type: ignore[type-arg]
    seeds: list[int] = field(default_factory=lambda: [0])
    context: int = 128
    evaluation_share: float = 0.2
    max_norm_multiple: float = 10.0
    max_disk_gb: float = 50.0
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "auto"
    plugin_files: list[str] = field(default_factory=list)
    wandb: Wandb = field(default_factory=Wandb)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise ValueError(f"name {self.name!r}: use letters, digits, '.', '_' and '-'; it names a folder.")
        if self.context < 2:
            raise ValueError(f"context is {self.context}; a window needs at least 2 tokens.")
        if not 0 < self.evaluation_share < 1:
            raise ValueError(f"evaluation_share is {self.evaluation_share}; give a share between 0 and 1.")
        if self.max_norm_multiple <= 1:
            raise ValueError(f"max_norm_multiple is {self.max_norm_multiple}; give a multiple above 1.")
        if not self.models or not self.seeds:
            raise ValueError("models and seeds need at least one entry each.")


@dataclass(frozen=True)
class Entry:
    """One plugin with one set of parameters."""

    kind: str
    name: str
    version: int
    params: Mapping[str, Any]
    """All parameters, defaults included."""
    identity: Any
    """What results depend on; see Spec.identity."""
    label: str
    """`itda(k=40, max_atoms=4096)`: the parameters that differ from their defaults."""
    provides: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

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
    """`n_layers` and `width` where they are known without loading the model."""


@dataclass(frozen=True)
class Suite:
    """A suite whose every entry exists and whose every parameter is right."""

    config: SuiteConfig
    corpus: Entry
    models: tuple[ModelEntry, ...]
    methods: tuple[Entry, ...]
    similarities: tuple[Entry, ...]
    evaluations: tuple[Entry, ...]


def resolve(raw: Mapping[str, Any], catalog: Catalog, preset: Callable[[str, str], dict[str, Any]]) -> Suite:
    """Check and expand a composed config; a ConfigError lists all problems at once.

    Args:
        raw: the composed config.
        catalog: the plugins there are.
        preset: (group, name) to the entry that `conf/<group>/<name>.yaml` holds; for models and corpora.
    """
    resolver = _Resolver(catalog, preset)
    config = resolver.attempt(lambda: parameters.build(SuiteConfig, raw))
    if config is None:
        # Entries are checked all the same: a user wants every problem at once.
        resolver.check_entries(raw)
        raise ConfigError(resolver.problems)
    config = dataclasses.replace(
        config,
        corpus=resolver.named("corpus", config.corpus, "corpus"),
        models=[resolver.named("model", item, f"models[{i}]") for i, item in enumerate(config.models)],
    )
    suite = Suite(
        config=config,
        corpus=resolver.corpus(config),
        models=tuple(resolver.models(config)),
        methods=tuple(resolver.entries("method", config.methods, "methods")),
        similarities=tuple(resolver.entries("similarity", config.similarities, "similarities")),
        evaluations=tuple(resolver.entries("evaluation", config.evaluations, "evaluations")),
    )
    if resolver.problems:
        raise ConfigError(resolver.problems)
    return suite


@dataclass
class _Resolver:
    catalog: Catalog
    preset: Callable[[str, str], dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    def attempt(self, step: Callable[[], Any], where: str = "") -> Any:
        try:
            return step()
        except ConfigError as error:
            self.problems += [f"{where}: {problem}" if where else problem for problem in error.problems]
        except HarnessError as error:
            self.problems.append(f"{where}: {error}" if where else str(error))
        return None

    def check_entries(self, raw: Mapping[str, Any]) -> None:
        for kind, key in (("method", "methods"), ("similarity", "similarities"), ("evaluation", "evaluations")):
            if isinstance(raw.get(key), list):
                self.entries(kind, raw[key], key)

    def entries(self, kind: str, raw: list[Any], where: str) -> list[Entry]:
        found = [entry for i, item in enumerate(raw) for entry in self.expand(kind, item, f"{where}[{i}]")]
        return list({str(entry.inputs): entry for entry in found}.values())

    def corpus(self, config: SuiteConfig) -> Any:
        found = self.expand("corpus", config.corpus, "corpus") if config.corpus is not None else []
        if len(found) > 1:
            self.problems.append("corpus: one corpus per suite; a list is not a sweep here.")
        return found[0] if found else None

    def models(self, config: SuiteConfig) -> list[ModelEntry]:
        found = []
        for i, raw in enumerate(config.models):
            where = f"models[{i}]"
            if not isinstance(raw, Mapping):
                continue  # its preset is unknown, which is a problem already
            item = dict(raw)
            label, family = item.pop("label", None), item.pop("family", None)
            sites = item.pop("sites", None) or config.sites
            self.check_sites(sites, where)
            for entry in self.expand("model", item, where, {"dtype": config.dtype, "device": config.device}):
                label = label or str(entry.params.get("path", entry.name))
                shape = self.attempt(lambda entry=entry: self.shape(entry), where)  # type: ignore[misc]
                found.append(ModelEntry(entry, label, family or label, tuple(dict.fromkeys(sites)), shape))
        labels = [model.label for model in found]
        for label in {label for label in labels if labels.count(label) > 1}:
            self.problems.append(f"models: two entries are labelled {label!r}; give each its own label.")
        return found

    def check_sites(self, sites: Any, where: str) -> None:
        if not sites or not isinstance(sites, list):
            self.problems.append(f"{where}.sites: name at least one site, such as [resid_post.6], here or as sites.")
            return
        for site in sites:
            self.attempt(lambda site=site: parse_site(site), where)  # type: ignore[misc]

    def shape(self, entry: Entry) -> Any:
        registered = self.catalog.find("model", entry.name)
        if registered.spec.shape is None:
            return None
        config = self.catalog.config("model", entry.name, dict(entry.params))
        return registered.resolve(registered.spec.shape)(config)

    def named(self, group: str, item: Any, where: str) -> Any:
        """A preset's content for a name, the item itself otherwise; a mapping may start from a `preset`."""
        if isinstance(item, str):
            return self.attempt(lambda: self.preset(group, item), where)
        if isinstance(item, Mapping) and "preset" in item:
            base = self.attempt(lambda: self.preset(group, item["preset"]), where)
            return None if base is None else base | {k: v for k, v in item.items() if k != "preset"}
        return item

    def expand(self, kind: str, item: Any, where: str, defaults: Mapping[str, Any] | None = None) -> list[Entry]:
        """The entries of one item: the product of its grid axes."""
        item = {kind: item} if isinstance(item, str) else item
        if not isinstance(item, Mapping) or not isinstance(item.get(kind), str):
            self.problems.append(f"{where}: {item!r}: write NAME, or {{{kind}: NAME, parameter: value, ...}}.")
            return []
        name = item[kind]
        registered = self.attempt(lambda: self.catalog.find(kind, name), where)
        if registered is None:
            return []
        fields = parameters.field_types(registered.spec.config) if registered.spec.config else {}
        params = {key: value for key, value in (defaults or {}).items() if key in fields}
        params |= {key: value for key, value in item.items() if key != kind}
        axes = {k: v for k, v in params.items() if isinstance(v, list) and not takes_list(fields.get(k, list))}
        entries = []
        for point in itertools.product(*axes.values()):
            chosen = params | dict(zip(axes, point, strict=True))
            entry = self.attempt(lambda chosen=chosen: self.entry(kind, name, chosen, where))  # type: ignore[misc]
            if entry is not None:
                entries.append(entry)
        self.problems = list(dict.fromkeys(self.problems))
        return entries

    def entry(self, kind: str, name: str, params: dict[str, Any], where: str) -> Entry:
        config = self.catalog.config(kind, name, params, where)
        spec = self.catalog.find(kind, name).spec
        resolved = dataclasses.asdict(config)
        identity = resolved
        if spec.identity is not None:
            identity = self.catalog.identity(kind, name, config)
        label = name + parameters.describe_changed(config)
        return Entry(kind, name, spec.version, resolved, identity, label, spec.provides, spec.needs)


def takes_list(annotation: Any) -> bool:
    """Whether a list is itself a value of this parameter."""
    text = str(annotation)
    return annotation is Any or "list" in text or "tuple" in text.lower() or "Sequence" in text
