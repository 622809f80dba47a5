"""Finds plugins and holds what they registered. A plugin that fails is a problem to report, never the end of a command.

Built-ins, installed distributions and single files all come in the same way: a module with `harness_specs()`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from harness.errors import ConfigError, HarnessError, PluginError, bounded, said, suggest
from harness.registry import hookspecs, parameters
from harness.registry.spec_checks import check_spec, check_words, wrong_fields
from harness.registry.specs import KINDS, PluginSpec
from harness.version import __version__

ENTRY_POINT_GROUP = "harness.plugins"
BUILTINS_MODULE = "harness.plugins"
BUILT_IN = "built-in"
FILE_MODULE_PREFIX = "harness_plugin_file_"


@dataclass(frozen=True)
class Registered:
    """A spec together with where it came from."""

    spec: PluginSpec
    module: ModuleType
    source: str
    """`built-in`, `NAME VERSION` of a distribution, or the path of a file."""
    version: str
    """The distribution's version, or `sha256:` and the first digits for a file."""

    @property
    def is_file(self) -> bool:
        """True if it came as a single file, which its author may be editing."""
        return self.version.startswith("sha256:")

    def resolve(self, reference: Any) -> Any:
        """The object behind a factory or identity: itself, or the attribute that `"module:attribute"` names."""
        if not isinstance(reference, str):
            return reference
        module_name, attribute = reference.split(":")
        try:
            # A single file is loaded under a private name; its own stem must still lead to it.
            is_own_file = self.module.__name__ == FILE_MODULE_PREFIX + module_name
            module = self.module if is_own_file else importlib.import_module(module_name)
            return getattr(module, attribute)
        except BaseException as error:  # the plugin's own import; it may even call sys.exit
            _reraise_interrupt(error)
            raise self.wrong(f"cannot import {reference!r}: {said(error)}") from error

    def ask(self, field: str, *arguments: Any) -> Any:
        """The answer of the function that a field of the spec names; a PluginError says of which one where it fails."""
        function = self.resolve(getattr(self.spec, field))
        try:
            with redirect_stdout(sys.stderr):
                return function(*arguments)
        except HarnessError:  # addressed to the user, as where a file is missing
            raise
        except BaseException as error:  # the plugin's own code; it may even call sys.exit
            _reraise_interrupt(error)
            raise self.wrong(f"{field} raised {said(error)}") from error

    def wrong(self, problem: str) -> PluginError:
        """An error that names the plugin."""
        return PluginError(f"{self.spec.kind}/{self.spec.name} ({self.source}): {problem}")


@dataclass
class Catalog:
    """The specs that plugins registered, by kind and name, and the problems met on the way."""

    entries: dict[tuple[str, str], Registered] = field(default_factory=dict)
    clashes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    """A line for each plugin file that a suite has brought: why its code was run."""

    def names(self, kind: str) -> list[str]:
        return sorted(name for k, name in self.entries if k == kind)

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the single files among its plugins, without their folders."""
        return tuple(sorted({Path(own.source).name for own in self.entries.values() if own.is_file}))

    def find(self, kind: str, name: str) -> Registered:
        """The registered spec, or a ConfigError that suggests near names and mentions plugins that failed."""
        if kind not in KINDS:
            raise ConfigError(f"unknown kind {kind!r}.{suggest(str(kind), KINDS)}")
        if (kind, name) in self.entries:
            return self.entries[kind, name]
        if (kind, name) in self.clashes:
            raise ConfigError(
                f"{kind} {name!r} is offered by several plugins: {', '.join(self.clashes[kind, name])}. "
                "Uninstall or rename all but one."
            )
        failed = "".join(f" A plugin failed to load: {problem}" for problem in self.problems)
        tip = failed or " What is in a file of yours is found with plugin_files=[FILE.py]."
        raise ConfigError(f"unknown {kind} {name!r}.{suggest(str(name), self.names(kind))}{tip}")

    def create(self, kind: str, name: str, params: dict[str, Any]) -> Any:
        """An instance of a registered thing, its parameters checked."""
        registered = self.find(kind, name)
        config = self.config(kind, name, params)
        return registered.resolve(registered.spec.factory)(config)

    def config(self, kind: str, name: str, params: dict[str, Any], where: str = "") -> Any:
        """The checked config of a registered thing; an empty one where it has no parameters."""
        spec = self.find(kind, name).spec
        return parameters.build(spec.config or NoParameters, params, where or f"{kind}/{name}")

    def identity(self, kind: str, name: str, config: Any) -> Any:
        """The facts that results depend on where a parameter only names a place; None where parameters say it all."""
        registered = self.find(kind, name)
        if registered.spec.identity is None:
            return None
        identity = registered.ask("identity", config)
        try:
            json.dumps(identity, allow_nan=False, sort_keys=True)  # as keys of cells are made of it
        except (TypeError, ValueError) as error:
            advice = "give JSON: texts, numbers, lists and dicts of these"
            raise registered.wrong(f"identity gave {identity!r:.80}; {advice} ({error}).") from error
        return identity

    def shape(self, kind: str, name: str, config: Any) -> Mapping[str, int] | None:
        """The number of layers and the widths that the spec of a model states; None where it states none."""
        registered = self.find(kind, name)
        if getattr(registered.spec, "shape", None) is None:
            return None
        shape: Mapping[str, int] | None = registered.ask("shape", config)
        is_whole = isinstance(shape, Mapping) and all(isinstance(shape.get(key), int) for key in ("n_layers", "width"))
        if shape is not None and not is_whole:
            raise registered.wrong(f"shape gave {shape!r:.80}; give {{'n_layers': ..., 'width': ...}}, or None.")
        if shape is not None and not all(isinstance(value, int) and value >= 0 for value in shape.values()):
            raise registered.wrong(f"shape gave {shape!r:.80}; give whole numbers.")
        return shape

    def needs(self, kind: str, name: str, params: Mapping[str, Any]) -> tuple[str, ...]:
        """The needs of a registered thing with these parameters, in the words of its Spec's class."""
        registered = self.find(kind, name)
        needs = registered.spec.needs
        if isinstance(needs, tuple):
            return needs
        words = registered.ask("needs", self.config(kind, name, dict(params)))
        check_words(registered.spec, "needs", words)
        return tuple(words)

    def register(self, module: ModuleType, source: str, version: str) -> None:
        """Add what a module registers; anything wrong with it becomes a problem and leaves the rest as it was."""
        try:
            specs = _collect(module)
        except BaseException as error:  # what it gives may be as odd as the plugin
            self.problems.append(f"{source}: {_problem(error).rstrip('.')}. Nothing of it is offered.")
            return
        for spec in specs:
            try:
                check_spec(spec)
            except BaseException as error:
                rest = " The others of this plugin are offered." if len(specs) > 1 else ""
                self.problems.append(f"{source}: {_problem(error)}{rest}")
                continue
            key = (spec.kind, spec.name)
            if key in self.entries or key in self.clashes:
                self._clash(key, source)
            else:
                self.entries[key] = Registered(spec, module, source, version)

    def _clash(self, key: tuple[str, str], source: str) -> None:
        known = self.entries.get(key)
        if known and known.source == BUILT_IN:
            self.problems.append(f"{source}: {key[0]} {key[1]!r} is the name of a built-in. Choose another name.")
            return
        if known:
            self.clashes[key] = [known.source]
            del self.entries[key]
        self.clashes[key].append(source)
        self.problems.append(
            f"{source}: {key[0]} {key[1]!r} is also offered by {self.clashes[key][0]}. "
            "Neither can be used until one is renamed or uninstalled."
        )


@dataclass
class NoParameters:
    """The config of a spec without parameters."""


def load_catalog(plugin_files: tuple[str, ...] = (), entry_points: bool = True) -> Catalog:
    """Built-ins, then installed distributions, then single files; a file that has changed is read anew.

    `HARNESS_PLUGINS=off` leaves the installed distributions out, to find the one that misbehaves.
    """
    # A name is relative to the folder one stands in, which notebooks and programs change.
    states = tuple((str(Path(file).absolute()), _digest(Path(file))) for file in plugin_files)
    return _load_catalog(plugin_files, states, entry_points and os.environ.get("HARNESS_PLUGINS") != "off")


@functools.cache
def _load_catalog(plugin_files: tuple[str, ...], states: tuple[object, ...], entry_points: bool) -> Catalog:
    """The catalog of these files in these states, which nothing but the cache looks at."""
    catalog = Catalog()
    with redirect_stdout(sys.stderr):  # a plugin that prints would be taken for the answer of a command
        catalog.register(importlib.import_module(BUILTINS_MODULE), BUILT_IN, __version__)
        if entry_points:
            _load_entry_points(catalog)
        for path in plugin_files:
            _load_file(catalog, Path(path))
    return catalog


def _digest(path: Path) -> str:
    """The version of a file: that of its bytes; empty if it is none."""
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}" if path.is_file() else ""


def _collect(module: ModuleType) -> Sequence[PluginSpec]:
    """The specs of one module, asked through pluggy so that a misspelt hook is noticed."""
    manager = pluggy.PluginManager("harness")
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(module)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise PluginError(f"{error}. The one hook is harness_specs().") from error
    implementations = manager.hook.harness_specs.get_hookimpls()
    if not implementations:
        raise PluginError("has no hook. Define harness_specs() and mark it with @harness.hookimpl.")
    try:
        specs = implementations[0].function()  # not by manager.hook, which takes None for an empty answer
    except PluginError:  # from `harness.Spec`, addressed to the author
        raise
    except BaseException as error:  # the plugin's own code; it may even call sys.exit
        _reraise_interrupt(error)
        raise PluginError(f"harness_specs() raised {_told(error)}") from error
    if not isinstance(specs, list | tuple):
        raise PluginError(f"harness_specs() returned {specs!r:.80}. Return a list of Specs.")
    return specs


def _load_entry_points(catalog: Catalog) -> None:
    points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    for point in sorted(points, key=lambda p: (str(p.dist and p.dist.name), p.name)):
        source = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        try:
            module = point.load()
        except BaseException as error:  # the plugin's own import; it may even call sys.exit
            _reraise_interrupt(error)
            catalog.problems.append(f"{source}: cannot import {point.value!r}: {_told(error)}")
            continue
        if not isinstance(module, ModuleType):
            catalog.problems.append(f"{source}: entry point {point.name!r} names {point.value!r}; name a module.")
            continue
        catalog.register(module, source, point.dist.version if point.dist else "")


def _load_file(catalog: Catalog, path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"plugin_files: no file {str(path)!r} (working folder: {Path.cwd()}).")
    name = FILE_MODULE_PREFIX + path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"plugin_files: {str(path)!r} is not a Python file.")
    if any(registered.module.__name__ == name for registered in catalog.entries.values()):
        raise ConfigError(f"plugin_files: two files are named {path.name!r}. Rename one.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while the file runs
    try:
        # Not by the loader, which may take bytecode of an older file, as long and written in the same second.
        exec(compile(path.read_bytes(), path, "exec"), vars(module))  # noqa: S102
    except BaseException as error:  # the plugin's own import; it may even call sys.exit
        _reraise_interrupt(error)
        del sys.modules[name]
        catalog.problems.append(f"{path}: cannot import: {_told(error)}")
        return
    catalog.register(module, str(path), _digest(path))


def _told(error: BaseException) -> str:
    """An error of a plugin's own code in one sentence; where a spec's class has refused its fields, which it has."""
    explained = wrong_fields(error) if isinstance(error, TypeError) else ""
    if not explained:
        return said(error)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__)]
    return f"TypeError in line {lines[-1]}: {explained}"


def _problem(error: BaseException) -> str:
    """A sentence for what was found wrong with a plugin, or was raised by what it gave while it was looked at."""
    _reraise_interrupt(error)
    return bounded(str(error)) if isinstance(error, PluginError) else f"what it gives can't be read: {said(error)}"


def _reraise_interrupt(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt):
        raise error
