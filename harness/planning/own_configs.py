"""Configs in `conf/` of the working folder, which add to those of the package."""

from __future__ import annotations

import io
from importlib.resources import files
from pathlib import Path
from typing import Any

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from harness.errors import ConfigError
from harness.planning.yaml_texts import checked_text

_SCHEME = "working-folder"
_HYDRA = "hydra"


class OwnConfigs(ConfigSource):
    """Files as people have them: with a byte order mark in front, and beside hidden ones of their file system."""

    @staticmethod
    def scheme() -> str:
        return _SCHEME

    def load_config(self, config_path: str) -> ConfigResult:
        try:
            text = checked_text(self._file(config_path))
            header, config = self._get_header_dict(text), OmegaConf.load(io.StringIO(text))
        except UnicodeDecodeError:
            raise
        except Exception as error:  # of a strange file the loaders say all sorts
            raise ConfigError(f"conf/{self._normalize_file_name(config_path)}: {reason_of(error)}") from error
        if _sets_hydra(header.get("package"), config):
            raise ConfigError(
                f"conf/{self._normalize_file_name(config_path)} has settings of Hydra's own (`hydra`), which the "
                "harness does not read: it composes with Hydra, and runs by itself. Take them out; results lie in "
                "`results/<name>/` of the working folder."
            )
        return ConfigResult(self.provider, self.full_path(), config, header)

    def available(self) -> bool:
        return self.is_group("")

    def is_group(self, config_path: str) -> bool:
        return (Path(self.path) / config_path).is_dir()

    def is_config(self, config_path: str) -> bool:
        return self._file(config_path).is_file()

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        found: list[str] = []
        for path in sorted((Path(self.path) / config_path).iterdir()):
            if not path.name.startswith("."):
                self._list_add_result(found, f"{config_path}/{path.name}", path.name, results_filter)
        return found

    def _file(self, config_path: str) -> Path:
        return Path(self.path) / self._normalize_file_name(config_path)


class _WorkingFolder(SearchPathPlugin):
    """Adds `conf/` of the working folder behind the package's: a `conf/config.yaml` there is another project's."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if _folder().is_dir():
            search_path.append(provider="working folder", path=f"{_SCHEME}://{_folder()}")


def reason_of(error: BaseException) -> str:
    """The words of an error, with its type where they may say too little by themselves."""
    if isinstance(error, RecursionError):
        return "it is nested too deep, or refers to itself."
    words = " ".join(str(error).split())
    is_of_files = isinstance(error, ConfigError | HydraException | OmegaConfBaseException | YAMLError | OSError)
    return f"{words if is_of_files and words else f'{type(error).__name__}: {words}':.800}"


def _sets_hydra(package: str | None, config: Any) -> bool:
    """True if a file sets Hydra itself: in a block, as its package, or by a choice in its defaults."""
    if not isinstance(config, DictConfig):
        return False
    choices = [word for entry in config.get("defaults") or [] if isinstance(entry, DictConfig) for word in entry]
    groups = [str(word).removeprefix("override ").lstrip("/ ") for word in choices]
    return any(name.replace("/", ".").split(".")[0] == _HYDRA for name in (*config, package or "", *groups))


def register() -> None:
    """Let Hydra find the configs of the working folder; a ConfigError in a results folder, which others may send."""
    if _folder().is_dir() and Path.cwd().parent.name == "results" and Path("suite.yaml").is_file():
        raise ConfigError(
            f"{_folder()} lies in a results folder, so its configs are not read: they may name code to run. Stand in "
            "the folder that holds results/."
        )
    for plugin in (OwnConfigs, _WorkingFolder):
        if plugin not in Plugins.instance().discover(plugin.__base__):
            Plugins.instance().register(plugin)


def refuse_hidden(group: str, name: str) -> None:
    """Raise a ConfigError if a file of the working folder would not be read, as the package has one of its name."""
    own = _folder() / group / f"{name}.yaml"
    package = Path(str(files("harness.conf"))) / group / f"{name}.yaml"
    if own.is_file() and package.is_file() and own.read_bytes() != package.read_bytes():
        raise ConfigError(f"conf/{group}/{name}.yaml: the harness comes with a {group} {name!r}. Rename yours.")


def unread(group: str, name: str) -> str:
    """A hint where a name is that of a file, or nearly; nothing where there is none such."""
    plain = name.removesuffix(".yaml").removeprefix(f"conf/{group}/")
    if plain != name:
        return f" Give the name alone: {group}={plain}."
    folder, stem = (_folder() / group / name.lstrip("/")).parent, Path(name).name
    found = [path for path in folder.glob("*") if path.stem == stem and path.suffix.lower() in (".yaml", ".yml")]
    found = [path for path in found if path.suffix != ".yaml"]
    return f" conf/{group}/{found[0].relative_to(_folder() / group)} is not read: rename it to .yaml." if found else ""


def _folder() -> Path:
    return Path.cwd() / "conf"
