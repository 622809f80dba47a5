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
from harness.plugin_manager import Catalog, load_catalog
from harness.resolver import resolve
from harness.suite import Suite, SuiteConfig

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
        return _resolve(yaml.safe_load(path.read_text()))


def dump_resolved(config: SuiteConfig) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(dataclasses.asdict(config), sort_keys=False, allow_unicode=True)


def differences(stored: Path, config: SuiteConfig) -> list[str]:
    """`key: stored value -> value now` for every key in which a config differs from a stored one."""
    before = yaml.safe_load(stored.read_text())
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
    """Adds `conf/` of the working folder to where configs are found."""

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
        return _to_dict([f"suite={suite}", *rest])
    except (HydraException, OmegaConfBaseException):
        problems = list(filter(None, (_problem(suite, text) for text in rest)))
        raise ConfigError(problems or ["the overrides contradict each other"]) from None


def _to_dict(overrides: list[str]) -> dict[str, Any]:
    composed = hydra_compose("config", overrides=overrides)
    return dict(OmegaConf.to_container(composed, resolve=True))  # type: ignore[arg-type]  # the root is a mapping


def _lenient(override: str) -> str:
    """Let unknown keys through Hydra, so that they are reported together with all else and with suggestions."""
    if not _KEY_VALUE.match(override) or override[0] in "+~" or override.startswith("hydra."):
        return override
    return f"++{override}"


def _problem(suite: str, override: str) -> str | None:
    try:
        _to_dict([f"suite={suite}", override])
    except (HydraException, OmegaConfBaseException) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        return f"override {override.removeprefix('++')!r}: {reason}. Write key=value, quoted for the shell."
    return None


def _preset(group: str, name: str) -> dict[str, Any]:
    """The entry in `conf/<group>/<name>.yaml`."""
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    if name not in options:
        raise ConfigError(f"unknown {group} {name!r}.{suggest(name, options)}")
    composed = OmegaConf.to_container(hydra_compose(f"{group}/{name}"), resolve=True)
    return dict(composed[group])  # type: ignore[call-overload,index,arg-type]  # a mapping with the group's key
