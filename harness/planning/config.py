"""Composes a suite from `conf/` and overrides with Hydra, and writes and reads the resolved form.

Configs come with the package; a `conf/` folder in the working folder adds to them.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.resolvers import oc

from harness.errors import ConfigError, suggest
from harness.files import write_bytes
from harness.planning import overrides as own_overrides
from harness.planning import own_configs
from harness.planning.resolver import resolve
from harness.planning.suite import Suite, SuiteConfig
from harness.planning.yaml_texts import check_numbers, check_references, checked_text
from harness.registry.known_files import admit
from harness.registry.plugin_manager import Catalog, load_catalog
from harness.registry.redaction import is_secret_name

_COMMAND_LINE = "the command line"
_OF_RUNS = ("executor", "cell_minutes", "store_rows", "max_held_gb")
"""Keys that say how a suite is run, and may be others for every run."""
_DEFAULTS: dict[str, Any] = {
    field.name: [] if field.default_factory is list else field.default
    for field in dataclasses.fields(SuiteConfig)
    if field.default_factory is list or isinstance(field.default, int | float | str | None)
}


def compose(overrides: Sequence[str], *, only_reads: bool = False) -> tuple[Suite, Catalog]:
    """The suite that `suite=S key=value ...` describes, and the plugins it was checked against.

    Args:
        overrides: as the command line has them.
        only_reads: for verbs that show what there is: plugin files that the suite itself names must be known.
    """
    with _hydra():
        suite = _choice(overrides)
        raw = _compose_raw([text for text in overrides if not text.startswith("suite=")], suite)
        raw.setdefault("name", default_name(suite))
        named_by = None if only_reads else f"suite {suite!r}"
        return _resolve(raw, _COMMAND_LINE if _named_files(overrides) else named_by, f"conf/suite/{suite}.yaml")


def default_name(suite: str) -> str:
    """The name of a suite's results where none is given; one in a folder, `sub/deep`, is `sub.deep`."""
    return suite.replace("/", ".")


def load_resolved(path: Path, overrides: Sequence[str] = ()) -> tuple[Suite, Catalog]:
    """The suite that an earlier run wrote to `results/<name>/suite.yaml`.

    Somebody else may have written it: a plugin file that it names must be known, or be named by `plugin_files=[...]`
    among the overrides, which then stands for all that the suite names.
    """
    with _hydra():
        raw, named = _read(path), _named_files(overrides)
        if named:
            raw["plugin_files"] = own_overrides.value_of(named)
        return _resolve(raw, _COMMAND_LINE if named else None, str(path))


def write_resolved(path: Path, config: SuiteConfig) -> None:
    """Write the resolved config for people and later commands, with a checksum of all that follows it."""
    text = dump_resolved(config)
    write_bytes(path, f"{_first_line(text)}\n{text}".encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        text = checked_text(path)
        content = yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, ConfigError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} can't be read: {reason}. `harness run` writes it anew.") from None
    first, _, rest = text.partition("\n")
    if first.startswith("#") and first != _first_line(rest):  # earlier versions began with a key
        raise ConfigError(
            f"{path} is not as `harness run` wrote it: it was edited, or is damaged. To change a suite, give its "
            "keys to `harness run` as key=value: it writes the file anew. An edited one is read once its first "
            "line is taken out."
        )
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a mapping. `harness run` writes it anew.")
    check_numbers(content)
    return content


def dump_resolved(config: SuiteConfig) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def _first_line(text: str) -> str:
    checksum = hashlib.sha256(text.encode()).hexdigest()[:32]
    return f"# checksum {checksum}: `harness run` writes this file anew; other values go on its command line, key=value"


def differences(stored: Path, config: SuiteConfig) -> list[str]:
    """`key: stored value -> value now` for every key that results depend on and a stored config has otherwise."""
    try:
        before = _read(stored)
    except ConfigError as error:
        return [str(error)]
    now = yaml.safe_load(dump_resolved(config))
    before = _DEFAULTS | before  # a key that is newer than the file had no other value
    keys = [key for key in {**before, **now} if key not in _OF_RUNS and before.get(key) != now.get(key)]
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys]


def _named_files(overrides: Sequence[str]) -> str | None:
    """The override that names plugin files, if there is one; of several the last counts."""
    return next((text for text in reversed(overrides) if text.startswith("plugin_files=")), None)


def _resolve(raw: Any, named_by: str | None, found_in: str) -> tuple[Suite, Catalog]:
    check_numbers(raw)
    files = raw.get("plugin_files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"plugin_files: {files!r} is not a list of file names; write [acme.py].")
    loaded = [admit(file, named_by, found_in) for file in files]
    catalog = dataclasses.replace(load_catalog(tuple(files)), loaded=loaded)
    return resolve(raw, catalog, _preset), catalog


@contextmanager
def _hydra() -> Iterator[None]:
    own_configs.register()
    GlobalHydra.instance().clear()
    OmegaConf.register_new_resolver("oc.env", _of_environment, replace=True)
    try:
        with _without_groups_of_hydra(), initialize_config_module("harness.conf", version_base="1.3"):
            yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


@contextmanager
def _without_groups_of_hydra() -> Iterator[None]:
    """Leave out Hydra's configs of its own logging, launching and help: three quarters of the time, read by nobody."""
    store = ConfigStore.instance()
    usual = store.load("hydra/config.yaml")
    store.store("config", HydraConf(defaults=[]), group="hydra", provider=usual.provider)
    try:
        yield
    finally:
        store.store("config", usual.node, group="hydra", provider=usual.provider)


def _of_environment(name: str, *default: str | None) -> str | None:
    """The value of `${oc.env:NAME}`, unless it is a secret: what a suite holds is in its results, for all to read."""
    if is_secret_name(name):
        raise ConfigError(f"${{oc.env:{name}}} would write a secret into all results. Give its name instead of it.")
    return oc.env(name, *default)


def _choice(overrides: Sequence[str]) -> str:
    """The chosen suite, or an error that lists the choices."""
    names = list(dict.fromkeys(text.partition("=")[2] for text in overrides if text.startswith("suite=")))
    choices = _options("suite")
    if not names:
        raise ConfigError(f"which suite? Give suite=NAME. Valid: {', '.join(choices)}.")
    if len(names) > 1:
        raise ConfigError(f"suite: {' and '.join(names)} are given; give one.")
    try:
        _check(names[0], "suite", choices)
    except ConfigError as error:
        raise ConfigError(f"suite: {error}") from None
    return names[0]


def _options(group: str) -> list[str]:
    """The configs of a group, those in folders below it as `folder/name`."""
    loader = GlobalHydra.instance().config_loader()
    folders = loader.get_group_options(group, ObjectType.GROUP)
    below = [f"{folder}/{name}" for folder in folders for name in _options(f"{group}/{folder}")]
    return [*loader.get_group_options(group), *below]


def _check(name: str, group: str, choices: Sequence[str]) -> None:
    """Raise a ConfigError if a config does not exist, or is not the one that a user means."""
    if name not in choices:
        raise ConfigError(f"unknown {group} {name!r}.{own_configs.unread(group, name)}{suggest(name, choices)}")
    own_configs.refuse_hidden(group, name)


def _compose_raw(overrides: Sequence[str], suite: str) -> dict[str, Any]:
    config = _composed("config", [f"suite={suite}"])
    if "suite" in config:
        raise ConfigError(f"conf/suite/{suite}.yaml: its first line must be `# @package _global_`.")
    own_overrides.apply(overrides, config, _options)
    return own_overrides.with_presets(_resolved(config, f"suite {suite}"), _options)


def _composed(name: str, chosen: list[str]) -> DictConfig:
    """Compose a config with Hydra; a ConfigError says what is wrong with the files."""
    with _refusing(", ".join([name, *chosen])):
        return hydra_compose(name, overrides=chosen)


def _resolved(config: DictConfig, where: str) -> dict[str, Any]:
    """A config as plain values, which may refer to each other as `${key}`."""
    with _refusing(where):
        check_references(OmegaConf.to_container(config, resolve=False))
        values = OmegaConf.to_container(config, resolve=True)
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    """Turn errors of Hydra and of the files it reads into a ConfigError: of a strange file Hydra says all sorts."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        advice = " Save the file as UTF-8." if isinstance(cause, UnicodeDecodeError) else ""
        raise ConfigError(f"{where}: can't be composed: {own_configs.reason_of(cause)}{advice}") from error


def _preset(group: str, name: str) -> dict[str, Any]:
    """The entry in `conf/<group>/<name>.yaml`."""
    _check(name, group, _options(group))
    where = f"conf/{group}/{name}.yaml"
    entry: Any = _resolved(_composed(f"{group}/{name}", []), where)
    for part in f"{group}/{name}".split("/")[:-1]:  # Hydra puts what a file holds below the names of its folders
        entry = entry.get(part) if isinstance(entry, dict) else None
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is not a mapping of a {group} and its parameters.")
    return entry
