"""Overrides of a suite in Hydra's grammar, applied so that every one of them counts.

Hydra would take `corpus=NAME` for a choice from the group `conf/corpus/`, and lose what stands below a key that another
override sets later.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from harness.errors import ConfigError
from harness.planning.yaml_texts import MAX_DEPTH

MAX_LENGTH = 2**13
"""Length of the longest override: Hydra takes 5 s for a list of so many digits."""
_PRESET = "preset"
_HINT = " Write key=value, quoted for the shell."


class _Place(NamedTuple):
    """Keys that hold plugins: an entry each, or a list of entries."""

    kind: str
    is_list: bool
    has_presets: bool


_PLACES = {
    "corpus": _Place("corpus", is_list=False, has_presets=True),
    "encoder": _Place("model", is_list=False, has_presets=True),
    "executor": _Place("executor", is_list=False, has_presets=True),
    "judge": _Place("judge", is_list=False, has_presets=False),
    "models": _Place("model", is_list=True, has_presets=True),
    "methods": _Place("method", is_list=True, has_presets=False),
    "similarities": _Place("similarity", is_list=True, has_presets=False),
    "evaluations": _Place("evaluation", is_list=True, has_presets=False),
    "scorers": _Place("scorer", is_list=True, has_presets=False),
    "explainers": _Place("explainer", is_list=True, has_presets=False),
    "tasks": _Place("task", is_list=True, has_presets=False),
    "behaviours": _Place("behaviour", is_list=True, has_presets=False),
}


def apply(overrides: Sequence[str], config: DictConfig, presets: Callable[[str], Sequence[str]]) -> None:
    """Change a composed config by `key=value`, `key.below=value` and `~key`; a ConfigError lists all that are wrong.

    Keys that the config lacks are added: who resolves it reports them with the near ones.

    Args:
        overrides: as the command line has them, in any order; of several for one key the last counts. Numbers of list
            entries are those of the suite: entries are deleted after all else, the last one first.
        config: the config to change.
        presets: the names of the presets of a kind.
    """
    parsed, problems = [], []
    for text in overrides:
        try:
            parsed.append(_parse(text))
        except (ConfigError, HydraException, ValueError) as error:  # a number that is too long for Python
            problems.append(_problem(text, error) + _HINT)
    for override in sorted(parsed, key=_turn):
        try:
            with open_dict(config):
                _apply_one(override, config, presets)
        except (ConfigError, OmegaConfBaseException, LookupError, ValueError) as error:
            problems.append(_problem(str(override.input_line), error))
    if problems:
        raise ConfigError(problems)


def value_of(override: str) -> Any:
    """The value in `key=value`."""
    try:
        return _parse(override).value()
    except (ConfigError, HydraException) as error:
        raise ConfigError(_problem(override, error) + _HINT) from None


def with_presets(values: Mapping[str, Any], presets: Callable[[str], Sequence[str]]) -> dict[str, Any]:
    """A composed config in which entries that are a preset's name alone say so: a plugin may have that name too."""

    def spelt_out(entry: Any, place: _Place) -> Any:
        is_preset = isinstance(entry, str) and place.has_presets and entry in presets(place.kind)
        return _spelt_out(entry, place, presets) if is_preset else entry

    spelt = dict(values)
    for key in _PLACES.keys() & values.keys():
        place, value = _PLACES[key], values[key]
        is_list = place.is_list and isinstance(value, list)
        spelt[key] = [spelt_out(entry, place) for entry in value] if is_list else spelt_out(value, place)
    return spelt


def _parse(text: str) -> Override:
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"it has {len(text):,} characters, and may have {MAX_LENGTH:,}. Put it in a suite file.")
    if _depth(text) > MAX_DEPTH:
        raise ConfigError(f"it is nested more than {MAX_DEPTH} deep. Take brackets or dots out.")
    override = OverridesParser.create().parse_override(text)
    if override.is_sweep_override():
        raise ConfigError("a sweep is a list here: [value1,value2]; a text with commas has quotes of its own.")
    if override.package is not None or not all(_parts(override)):
        raise ConfigError("no key of a suite.")
    return override


def _depth(text: str) -> int:
    """The number of brackets that are open at most, or of keys that follow each other."""
    depths = itertools.accumulate((sign in "[{") - (sign in "]}") for sign in text)
    return max(*depths, text.partition("=")[0].count("."), 0)


def _turn(override: Override) -> tuple[bool, int, int]:
    """The place in the order of work: what stands below a key comes after the key itself, wherever it was written.

    Entries of lists are deleted when all else is done, from the last one on: until then each has its number.
    """
    *above, last = _parts(override)
    if override.is_delete() and last.isdigit():
        return True, -len(above), -int(last)
    return False, len(above), 0


def _parts(override: Override) -> list[str]:
    return str(override.key_or_group).split(".")


def _apply_one(override: Override, config: DictConfig, presets: Callable[[str], Sequence[str]]) -> None:
    parts = _parts(override)
    place = _PLACES.get(parts[0])
    depth = 1 + place.is_list if place else 0
    if place and place.is_list and parts[1:] and not OmegaConf.is_list(config.get(parts[0])):
        raise ConfigError(f"{parts[0]} is no list here, so it has no entry {parts[1]}. Write {parts[0]}=[...] as well.")
    entry = ".".join(parts[:depth])
    if place and len(parts) > depth and isinstance(named := OmegaConf.select(config, entry), str):
        OmegaConf.update(config, entry, _spelt_out(named, place, presets), merge=False)
    if override.is_delete():
        if override.value_type is not None:
            key = override.key_or_group
            raise ConfigError(f"~ deletes a key whatever its value. Write ~{key}, or {key}=value to set it.")
        _delete(config, parts)
        return
    value = override.value()
    # An entry that is named anew has nothing left of the one that stood there before.
    is_new = place and len(parts) == depth and isinstance(value, dict) and (place.kind in value or _PRESET in value)
    OmegaConf.update(config, override.key_or_group, value, merge=not is_new, force_add=True)


def _spelt_out(name: str, place: _Place, presets: Callable[[str], Sequence[str]]) -> dict[str, str]:
    """An entry that is only a name, as a mapping that takes parameters."""
    is_preset = place.has_presets and name in presets(place.kind)
    return {_PRESET if is_preset else place.kind: name}


def _delete(config: DictConfig, parts: Sequence[str]) -> None:
    holder: Any = OmegaConf.select(config, ".".join(parts[:-1])) if parts[1:] else config
    if isinstance(holder, DictConfig) and parts[-1] in holder:
        del holder[parts[-1]]
    elif OmegaConf.is_list(holder) and parts[-1].isdigit() and int(parts[-1]) < len(holder):
        del holder[int(parts[-1])]
    else:
        raise ConfigError("there is no such key to delete.")


def _problem(text: str, error: Exception) -> str:
    return f"override {text!r:.200}: {' '.join(str(error).split()):.1000}"
