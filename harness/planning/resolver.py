"""Resolves what users write to a suite: finds every entry, checks every parameter, expands every sweep.

An entry is a plugin's name alone (`pca`) or a mapping that names it under its kind, with its parameters
(`{method: pca, n_components: 64}`). A list where a parameter takes a single value is a grid axis.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from harness.contracts.origin import Origin
from harness.contracts.sites import parse_site
from harness.contracts.spending import PRICES, Prices
from harness.errors import ConfigError, HarnessError, suggest
from harness.planning.bases import with_bases
from harness.planning.entries import Entry, ModelEntry
from harness.planning.executor import LocalExecutor, executor_of
from harness.planning.suite import JUDGE, Suite, SuiteConfig
from harness.registry import parameters
from harness.registry.metric import Metric
from harness.registry.plugin_manager import Catalog
from harness.registry.specs import MethodSpec, TaskSpec

_LISTS = {
    "method": "methods",
    "similarity": "similarities",
    "evaluation": "evaluations",
    "scorer": "scorers",
    "explainer": "explainers",
    "task": "tasks",
    "behaviour": "behaviours",
}
# The machine or the suite as a whole sets it; no result depends on it.
_DEVICE = "device"
# An encoder is asked for whole texts, so its site has no meaning; a model entry needs one all the same.
_ANY_SITE = "resid_post.0"


def resolve(raw: Mapping[str, Any], catalog: Catalog, preset: Callable[[str, str], dict[str, Any]]) -> Suite:
    """Check and expand a composed config; a ConfigError lists all problems at once.

    Args:
        raw: the composed config.
        catalog: all plugins.
        preset: (group, name) to the entry that `conf/<group>/<name>.yaml` holds; for models and corpora.
    """
    resolver = _Resolver(catalog, preset)
    suite = resolver.suite(raw)
    if suite is None or resolver.problems:
        raise ConfigError(list(dict.fromkeys(resolver.problems)))
    return suite


@dataclass
class _Resolver:
    catalog: Catalog
    preset: Callable[[str, str], dict[str, Any]]
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def collecting(self, where: str = "") -> Iterator[None]:
        """Turn errors raised inside into problems, so that what follows is still checked."""
        prefix = f"{where}: " if where else ""
        try:
            yield
        except ConfigError as error:
            self.problems += [problem if problem.startswith(where) else prefix + problem for problem in error.problems]
        except HarnessError as error:
            self.problems.append(f"{prefix}{error}")

    def suite(self, raw: Mapping[str, Any]) -> Suite | None:
        entries = {kind: self.entries(kind, raw.get(key), key) for kind, key in _LISTS.items()}
        with self.collecting():
            config = parameters.build(SuiteConfig, raw)
            corpus = self.from_preset("corpus", config.corpus, "corpus")
            models = [self.from_preset("model", item, f"models[{i}]") for i, item in enumerate(config.models)]
            encoder = config.encoder
            if encoder != JUDGE:
                encoder = self.from_preset("model", encoder, "encoder")
            executor = self.from_preset("executor", config.executor, "executor")
            config = dataclasses.replace(config, corpus=corpus, models=models, encoder=encoder, executor=executor)
            found = self.models(config)
            askers = [*entries["scorer"], *entries["explainer"]]
            self.explained(entries["scorer"], entries["explainer"])
            methods = entries["method"]
            with self.collecting():
                methods = with_bases(methods)
            return Suite(
                config=config,
                corpus=self.corpus(corpus, raw.get("corpus") is None, found),
                models=tuple(found),
                methods=tuple(methods),
                similarities=tuple(entries["similarity"]),
                evaluations=tuple(entries["evaluation"]),
                scorers=tuple(entries["scorer"]),
                explainers=tuple(entries["explainer"]),
                tasks=tuple(entries["task"]),
                behaviours=tuple(entries["behaviour"]),
                encoder=self.encoder(config, askers),
                judge=self.judge(config, askers),
                executor=executor_of(executor) if executor is not None else LocalExecutor(),
                metrics=self.metrics(entries["evaluation"]),
            )
        return None

    def entries(self, kind: str, raw: Any, where: str) -> list[Entry]:
        """The entries of a list, each once. Anything but a list is refused later, by the types of `SuiteConfig`."""
        items = raw if isinstance(raw, list) else []
        found = [entry for i, item in enumerate(items) for entry in self.expand(kind, item, f"{where}[{i}]")]
        once = list({str(entry.inputs): entry for entry in found}.values())
        names = [entry.name for entry in once]
        if kind == "evaluation" and (twice := next((name for name in names if names.count(name) > 1), None)):
            self.problems.append(
                f"{where}: {twice} with several parameters, which its table could not tell apart; give each a suite."
            )
        return once

    def metrics(self, evaluations: list[Entry]) -> dict[str, tuple[Metric, ...]]:
        """The metrics that each evaluation declares, by its name: those of the suite first."""
        names = dict.fromkeys([*(entry.name for entry in evaluations), *self.catalog.names("evaluation")])
        return {name: self.catalog.find("evaluation", name).spec.metrics for name in names}

    def corpus(self, item: Any, raw_is_missing: bool, models: list[ModelEntry]) -> Entry | None:
        if item is None:
            if raw_is_missing and not all(model.has_own_rows for model in models):
                self.problems.append("corpus: missing; the models need texts, such as corpus=wikipedia.")
            return None
        found = self.expand("corpus", item, "corpus")
        if len(found) > 1:
            self.problems.append("corpus: one corpus per suite; a list is not a sweep here.")
        return found[0] if found else None

    def explained(self, scorers: list[Entry], explainers: list[Entry]) -> None:
        """Check that scorers that need explanations have an explainer."""
        needy = [scorer.name for scorer in scorers if "explanation" in scorer.needs]
        if needy and not explainers:
            names = ", ".join(self.catalog.names("explainer"))
            self.problems.append(f"explainers: missing; {needy[0]} needs explanations. Name some of: {names}.")

    def encoder(self, config: SuiteConfig, askers: list[Entry]) -> ModelEntry | None:
        """The model that a scorer or explainer asks for embeddings; where none asks, it is not looked up."""
        asking = [asker.name for asker in askers if "embed" in asker.needs]
        if not asking or config.encoder == JUDGE:
            self.unasked("model", config.encoder, "encoder")
            return None
        if config.encoder is None:
            self.problems.append(
                f"encoder: missing; {asking[0]} asks for embeddings. Set encoder=minilm-l6, or encoder=judge if the "
                "judge provides them."
            )
        elif isinstance(config.encoder, Mapping):  # otherwise its preset is unknown, which is a problem already
            found = list(self.model({**config.encoder, "sites": [_ANY_SITE]}, config, "encoder"))
            if len(found) > 1:
                self.problems.append("encoder: one encoder per suite; a list is not a sweep here.")
            return found[0] if found else None
        return None

    def judge(self, config: SuiteConfig, askers: list[Entry]) -> Entry | None:
        """The judge, where a scorer or explainer asks one; it must be able to answer all of them."""
        needs = {need: asker.name for asker in askers for need in asker.needs if need in config.asked_of_judge}
        if not needs:
            self.unasked("judge", config.judge, "judge")
            return None
        judges = {name: self.catalog.find("judge", name).spec.provides for name in self.catalog.names("judge")}
        able = [name for name, provided in judges.items() if needs.keys() <= set(provided)]
        advice = f"Set judge={able[0]}." if able else "No judge here provides all that is needed."
        advice += " Or set encoder=minilm-l6: the judge is then not asked for embeddings." if "embed" in needs else ""
        if config.judge is None:
            need, asker = next(iter(needs.items()))
            self.problems.append(f"judge: missing; {asker} needs one that provides {need!r}. {advice}")
            return None
        found = self.expand("judge", config.judge, "judge")
        if len(found) > 1:
            self.problems.append("judge: one judge per suite; a list is not a sweep here.")
        for entry in found[:1]:
            for need in needs.keys() - set(entry.provides):
                self.problems.append(f"judge: {entry.name} lacks {need!r}, which {needs[need]} needs. {advice}")
        if not found:
            return None
        params = dict(found[0].params)
        if config.judge_budget.usd is not None and not Prices.of(params).are_known:
            self.problems.append(
                f"judge_budget.usd: the prices of judge {found[0].name} are not known. Set its {' and '.join(PRICES)}, "
                "or judge_budget.tokens instead."
            )
        if params.get(_DEVICE) == "auto":  # set only now, so that the label, a column of tables, does not name it
            params[_DEVICE] = config.device
        return dataclasses.replace(found[0], params=params)

    def unasked(self, kind: str, item: Any, where: str) -> None:
        """Check the words of an entry that nothing in the suite asks, but not what they lead to."""
        item = {kind: item} if isinstance(item, str) and item != JUDGE else item
        if isinstance(item, Mapping) and not isinstance(item.get(kind), str):
            self.expand(kind, item, where)
        elif isinstance(item, Mapping):
            with self.collecting(where):
                config = self.catalog.find(kind, item[kind]).spec.config
                known = parameters.field_types(config) if config else {}
                for key in item.keys() - {kind, "label", "family", "control_of", *known}:
                    self.problems.append(f"{where}.{key}: unknown key.{suggest(key, known)}")

    def models(self, config: SuiteConfig) -> list[ModelEntry]:
        own = [isinstance(item, Mapping) and bool(item.get("sites")) for item in config.models]
        if config.sites and all(own):
            self.problems.append("sites: every model names its own; these would not be read. Set models.0.sites=[...].")
        found = [
            model
            for i, item in enumerate(config.models)
            if isinstance(item, Mapping)  # otherwise its preset is unknown, which is a problem already
            for model in self.model(item, config, f"models[{i}]")
        ]
        for name, values in (
            ("label", [model.label for model in found]),
            ("content", [str(model.entry.inputs) for model in found]),
        ):
            if len(set(values)) < len(values):
                twice = next(model.label for model, value in zip(found, values, strict=True) if values.count(value) > 1)
                self.problems.append(f"models: two entries have the {name} of {twice!r}; give each model one entry.")
        self.sites(found)
        families = {model.family for model in found}
        for control in {model.control_of for model in found} - {None, *families}:
            self.problems.append(f"models: control_of names {control!r}; there are {', '.join(sorted(families))}.")
        for family in sorted(families):
            controls = sorted({model.family for model in found if model.control_of == family})
            if len(controls) > 1:
                self.problems.append(f"models: {', '.join(controls)} are all control_of {family}; name one.")
        return found

    def sites(self, models: list[ModelEntry]) -> None:
        """Check that of every site some model has the block, as far as that is known without loading them."""
        for site in dict.fromkeys(site for model in models for site in model.sites):
            asked = [model for model in models if site in model.sites]
            if all(model.lacks(site) for model in asked):
                lacking = "; ".join(str(model.lacks(site)) for model in asked[:3])
                self.problems.append(f"sites: no model has {site}: {lacking}.")

    def model(self, item: Mapping[str, Any], config: SuiteConfig, where: str) -> Iterator[ModelEntry]:
        params = dict(item)
        label, family, sites = params.pop("label", None), params.pop("family", None), params.pop("sites", None)
        control_of = params.pop("control_of", None)
        for key, value in (("label", label), ("family", family), ("control_of", control_of)):
            if value is not None and not (isinstance(value, str) and value):  # YAML reads 007 and no as 7 and false
                self.problems.append(f"{where}.{key}: {value!r} is no name; write it in quotes.")
                return
        sites = sites or config.sites
        if not sites or not isinstance(sites, list):
            self.problems.append(f"{where}.sites: name at least one site, such as [resid_post.6], here or as sites.")
            return
        n_problems = len(self.problems)
        for site in sites:
            with self.collecting(where):
                parse_site(site)
        if len(self.problems) > n_problems:
            return
        for entry in self.expand("model", params, where, {"dtype": config.dtype, _DEVICE: config.device}):
            name = str(label or entry.params.get("path") or entry.label)
            with self.collecting(where):
                sites = tuple(dict.fromkeys(sites))
                yield ModelEntry(entry, name, family or name, sites, self.shape(entry), control_of)

    def shape(self, entry: Entry) -> Mapping[str, int] | None:
        config = self.catalog.config("model", entry.name, dict(entry.params))
        return self.catalog.shape("model", entry.name, config)

    def from_preset(self, group: str, item: Any, where: str) -> Any:
        """The entry of a preset, given by its name or, with changes, as a mapping with `preset`; otherwise the item."""
        name = item.get("preset") if isinstance(item, Mapping) else item
        if not isinstance(name, str):
            return item
        with self.collecting(where):
            if item is name and name in self.catalog.names(group):
                return {group: name}
            changes = {key: value for key, value in item.items() if key != "preset"} if item is not name else {}
            return self.preset(group, name) | changes
        return None

    def expand(self, kind: str, item: Any, where: str, defaults: Mapping[str, Any] | None = None) -> list[Entry]:
        """The entries of one item: the product of its grid axes."""
        item = {kind: item} if isinstance(item, str) else item
        if not isinstance(item, Mapping) or not isinstance(item.get(kind), str):
            self.problems.append(f"{where}: {item!r}: write NAME, or {{{kind}: NAME, parameter: value, ...}}.")
            return []
        name, entries = item[kind], []
        with self.collecting(where):
            spec = self.catalog.find(kind, name).spec
            fields = parameters.field_types(spec.config) if spec.config else {}
            params = {key: value for key, value in (defaults or {}).items() if key in fields}
            params |= {key: value for key, value in item.items() if key != kind}
            axes = {
                key: value
                for key, value in params.items()
                if isinstance(value, list) and not parameters.takes_list(fields.get(key, list))
            }
            for point in itertools.product(*axes.values()):
                with self.collecting(where):
                    entries.append(self.entry(kind, name, params | dict(zip(axes, point, strict=True)), where))
        return entries

    def entry(self, kind: str, name: str, params: dict[str, Any], where: str) -> Entry:
        config = self.catalog.config(kind, name, params, where)
        registered = self.catalog.find(kind, name)
        spec, file = registered.spec, registered.source if registered.is_file else None
        resolved = dataclasses.asdict(config)
        if spec.identity is not None:
            identity = self.catalog.identity(kind, name, config)
        else:
            identity = {key: value for key, value in resolved.items() if key != _DEVICE}
        label = name + parameters.describe_changed(config)
        needs = self.catalog.needs(kind, name, params)
        pairs = registered.resolve(spec.pairs) if isinstance(spec, TaskSpec) else None
        asks = pairs and functools.partial(pairs, config)
        origin = self.origin(kind, name, config)
        return Entry(kind, name, spec.version, resolved, identity, label, spec.provides, needs, origin, asks, file)

    def origin(self, kind: str, name: str, config: Any) -> Origin | None:
        """The place that what a method brings along was learnt at; None for methods that learn here."""
        registered = self.catalog.find(kind, name)
        if not isinstance(registered.spec, MethodSpec) or registered.spec.origin is None:
            return None
        origin = registered.ask("origin", config)
        if not isinstance(origin, Origin):
            raise registered.wrong(f"origin gave {origin!r:.80}; give a harness.Origin, with words and against(place).")
        return origin
