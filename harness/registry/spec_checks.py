"""Rules for specs: checked when a plugin is loaded, so that a slip of the pen is found at once."""

from __future__ import annotations

import dataclasses
import re

from harness.errors import PluginError, suggest
from harness.registry.metric import check_metrics
from harness.registry.parameters import field_types
from harness.registry.specs import SPEC_CLASSES, PluginSpec

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPTIONAL = ("identity", "shape")
_REFERENCES = ("factory", "pairs", *_OPTIONAL)


def check_spec(spec: object) -> None:
    """Raise a PluginError, addressed to the plugin's author, where a spec breaks the rules."""
    if not isinstance(spec, PluginSpec) or spec.kind not in SPEC_CLASSES:
        raise PluginError(
            f"harness_specs() returned {spec!r}, which is not a harness.Spec. Return a list of Specs, such as "
            "harness.MethodSpec(...)."
        )
    where = _where(spec)
    if not isinstance(spec.name, str) or not _NAME.fullmatch(spec.name):
        raise PluginError(
            f"{where}: bad name {spec.name!r}. A name starts with a lower case letter and holds only "
            "lower case letters, digits and '_'."
        )
    if not isinstance(spec.version, int) or isinstance(spec.version, bool) or spec.version < 1:
        raise PluginError(f"{where}: version is {spec.version!r}; give a whole number from 1 on.")
    _check_config(spec.config, where)
    for name in _REFERENCES:
        value = getattr(spec, name, None)
        is_left_out = value is None and (name in _OPTIONAL or not hasattr(spec, name))
        if not is_left_out and not _is_reference(value):
            raise PluginError(f"{where}: {name} is {value!r}; give 'module:attribute' or a callable.")
    if isinstance(spec.needs, tuple):
        check_words(spec, "needs", spec.needs)
    elif not _is_reference(spec.needs):
        raise PluginError(f"{where}: needs is {spec.needs!r}; give a tuple, 'module:attribute' or a callable.")
    check_words(spec, "provides", spec.provides)
    check_metrics(spec.metrics, where)


def check_words(spec: PluginSpec, field: str, words: object) -> None:
    """Raise a PluginError where `words`, which stand in a field or were computed for it, are not all valid there."""
    where, valid = _where(spec), spec.words.get(field, ())
    if not isinstance(words, tuple):
        raise PluginError(f"{where}: {field} is {words!r}; give a tuple of words.{suggest(str(words), valid)}")
    for word in words:
        if word not in valid:
            raise PluginError(f"{where}: {field}: unknown word {word!r}.{suggest(str(word), valid)}")


def _where(spec: PluginSpec) -> str:
    return f"Spec {spec.kind}/{spec.name}"


def _check_config(config: object, where: str) -> None:
    if config is None:
        return
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise PluginError(f"{where}: config is {config!r}; give a dataclass (the class, not an instance) or None.")
    try:
        field_types(config)
    except Exception as error:  # annotations are the plugin's own code
        raise PluginError(
            f"{where}: the annotations of {config.__name__} can't be evaluated: {type(error).__name__}: {error}. "
            "Import what they name outside `if TYPE_CHECKING`."
        ) from error


def _is_reference(value: object) -> bool:
    return callable(value) or (isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value) is not None)
