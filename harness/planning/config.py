"""Composes a suite from `conf/` and overrides with Hydra, and writes and reads the resolved form.

Configs come with the package; a `conf/` folder in the working folder adds to them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_module
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError, suggest
from harness.planning.resolver import resolve
from harness.planning.suite import Suite, SuiteConfig
from harness.registry.plugin_manager import Catalog, load_catalog

_CORPUS_NAME = re.compile(r"corpus=[\w.-]+")
_KEY_VALUE = re.compile(r"[^=]+=")


def compose(overrides: Sequence[str]) -> tuple[Suite, Catalog]:
    """The suite that `suite=S key=value ...` describes, and the plugins it was checked against."""
    with _hydra():
        # To Hydra `corpus=NAME` would be a choice from the group conf/corpus/, merged into what the suite has.
        corpora = [text.partition("=")[2] for text in overrides if _CORPUS_NAME.fullmatch(text)]
        suite = _choice(overrides)
        raw = _compose_raw([text for text in overrides if not _CORPUS_NAME.fullmatch(text)], suite)
        raw.setdefault("name", suite)
        return _resolve(raw | {"corpus": corpora[-1]} if corpora else raw)


def load_resolved(path: Path) -> tuple[Suite, Catalog]:
    """The suite that an earlier run wrote to `results/<name>/suite.yaml`."""
    with _hydra():
        return _resolve(_read(path))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path} can't be read: {reason}. `harness run` writes it anew.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is not a mapping. `harness run` writes it anew.")
    return content


def dump_resolved(config: SuiteConfig) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def differences(stored: Path, config: SuiteConfig) -> list[str]:
    """`key: stored value -> value now` for every key in which a config differs from a stored one."""
    try:
        before = _read(stored)
    except ConfigError as error:
        return [str(error)]
    now = yaml.safe_load(dump_resolved(config))
    keys = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys]


def _resolve(raw: Any) -> tuple[Suite, Catalog]:
    files = raw.get("plugin_files") or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"plugin_files: {files!r} is not a list of file names; write [acme.py].")
    catalog = load_catalog(tuple(files))
    return resolve(raw, catalog, _preset), catalog


class _WorkingFolder(SearchPathPlugin):
    """Adds `conf/` of the working folder to the places where configs are found."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        own = Path.cwd() / "conf"
        is_package = (own / "config.yaml").exists()  # the harness's own checkout
        if own.is_dir() and not is_package:
            search_path.append(provider="working folder", path=f"file://{own}")


@contextmanager
def _hydra() -> Iterator[None]:
    if _WorkingFolder not in Plugins.instance().discover(SearchPathPlugin):
        Plugins.instance().register(_WorkingFolder)
    GlobalHydra.instance().clear()
    with initialize_config_module("harness.conf", version_base="1.3"):
        yield


def _choice(overrides: Sequence[str]) -> str:
    """The chosen suite, or an error that lists the choices."""
    names = [text.partition("=")[2] for text in overrides if text.startswith("suite=")]
    choices = GlobalHydra.instance().config_loader().get_group_options("suite")
    if not names:
        raise ConfigError(f"which suite? Give suite=NAME. Valid: {', '.join(choices)}.")
    if names[-1] not in choices:
        raise ConfigError(f"suite: unknown suite {names[-1]!r}.{suggest(names[-1], choices)}")
    return names[-1]


def _compose_raw(overrides: Sequence[str], suite: str) -> dict[str, Any]:
    rest = [_lenient(text) for text in overrides if not text.startswith("suite=")]
    try:
        raw = _to_dict("config", [f"suite={suite}", *rest])
    except ConfigError:
        _to_dict("config", [f"suite={suite}"])  # raises if the suite itself is at fault
        raise ConfigError([problem for text in rest if (problem := _problem(suite, text))]) from None
    if "suite" in raw:
        raise ConfigError(f"conf/suite/{suite}.yaml: its first line must be `# @package _global_`.")
    return raw


def _to_dict(name: str, overrides: list[str]) -> dict[str, Any]:
    """Compose a config with Hydra; a ConfigError says what is wrong with the files or the overrides."""
    try:
        composed = OmegaConf.to_container(hydra_compose(name, overrides=overrides), resolve=True)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, UnicodeDecodeError) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        reason = " ".join(str(cause).split())
        raise ConfigError(f"{', '.join([name, *overrides])}: can't be composed: {reason}") from error
    return {str(key): value for key, value in composed.items()} if isinstance(composed, dict) else {}


def _lenient(override: str) -> str:
    """Let unknown keys through Hydra, so that they are reported with all other problems, and with suggestions."""
    if not _KEY_VALUE.match(override) or override[0] in "+~" or override.startswith("hydra."):
        return override
    return f"++{override}"


def _problem(suite: str, override: str) -> str | None:
    try:
        _to_dict("config", [f"suite={suite}", override])
    except ConfigError as error:
        reason = str(error).partition("can't be composed: ")[2]
        return f"override {override.removeprefix('++')!r}: {reason} Write key=value, quoted for the shell."
    return None


def _preset(group: str, name: str) -> dict[str, Any]:
    """The entry in `conf/<group>/<name>.yaml`."""
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    if name not in options:
        raise ConfigError(f"unknown {group} {name!r}.{suggest(name, options)}")
    composed = _to_dict(f"{group}/{name}", [])
    if not isinstance(composed.get(group), dict):
        raise ConfigError(f"conf/{group}/{name}.yaml is not a mapping of a {group} and its parameters.")
    return dict(composed[group])
