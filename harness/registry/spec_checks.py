"""Rules for specs: checked when a plugin is loaded, so that a slip of the pen is found at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from harness.errors import PluginError, suggest
from harness.registry.metric import Metric, check_metrics
from harness.registry.parameters import field_types
from harness.registry.specs import SPEC_CLASSES, PluginSpec

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_OPTIONAL = ("identity", "shape", "origin")
_REFERENCES = ("factory", "pairs", *_OPTIONAL)
_TABLES = (
    *("cost", "similarity", "interp", "tasks", "circuits", "circuit_scores"),
    *("leaderboard", "interpretability", "model_similarities", "task_scores", "similarity_ranks"),
)
"""Tables and boards of results that are not of an evaluation, which has one of its own name."""


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
    if not isinstance(spec.summary, str):
        raise PluginError(f"{where}: summary is {spec.summary!r:.80}; give one line of text.")
    if spec.kind == "evaluation" and spec.name in _TABLES:
        raise PluginError(f"{where}: results have a table of that name themselves; give it another one.")
    _check_config(spec.config, where)
    for name in _REFERENCES:
        value = getattr(spec, name, None)
        is_left_out = value is None and (name in _OPTIONAL or not hasattr(spec, name))
        if not is_left_out and not _is_reference(value):
            raise PluginError(f"{where}: {name} is {value!r}; give 'module:attribute' or a callable.")
    if isinstance(spec.needs, tuple):
        check_words(spec, "needs", spec.needs)
    elif not _is_reference(spec.needs):
        advice = f"give a tuple{_comma(spec.needs)}, 'module:attribute' or a callable."
        raise PluginError(f"{where}: needs is {spec.needs!r}; {advice}")
    check_words(spec, "provides", spec.provides)
    if spec.kind == "method" and spec.needs != () and "of" not in _fields(spec.config):
        raise PluginError(
            f"{where}: it needs a fit, so its config must have a field `of: str`, which names the method."
        )
    check_metrics(spec.metrics, where)


def wrong_fields(error: TypeError) -> str:
    """The fields that the class of a spec or metric has, where the error says that others were given; else nothing."""
    told = re.match(r"(\w+)\.__init__\(\) (.*)", str(error))
    classes: tuple[type, ...] = (*SPEC_CLASSES.values(), Metric)
    cls = next((cls for cls in classes if told and cls.__name__ == told[1]), None)
    if told is None or cls is None:
        return ""
    fields = [field.name for field in dataclasses.fields(cls)]
    unknown = re.search(r"unexpected keyword argument '(\w+)'", told[2])
    if unknown:
        return f"{cls.__name__} has no field {unknown[1]!r}.{suggest(unknown[1], fields)}"
    missing = re.search(r"missing .*arguments?: (.*)", told[2])
    problem = f"lacks {missing[1]}" if missing else told[2]
    return f"{cls.__name__} {problem}. Its fields: {', '.join(fields)}."


def check_words(spec: PluginSpec, field: str, words: object) -> None:
    """Raise a PluginError where `words`, which stand in a field or were computed for it, are not all valid there."""
    where, valid = _where(spec), spec.words.get(field, ())
    if not isinstance(words, tuple):
        near = "" if words in valid else suggest(str(words), valid)
        raise PluginError(f"{where}: {field} is {words!r}; give a tuple of words{_comma(words)}.{near}")
    for word in words:
        if word not in valid:
            raise PluginError(f"{where}: {field}: unknown word {word!r}.{suggest(str(word), valid)}")


def _comma(words: object) -> str:
    """The way to write a tuple of one word, for an author who gave the word alone."""
    return f" (write ({words!r},), with the comma)" if isinstance(words, str) else ""


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


def _fields(config: type | None) -> Collection[str]:
    return field_types(config) if config is not None else ()


def _is_reference(value: object) -> bool:
    return callable(value) or (isinstance(value, str) and re.fullmatch(r"[\w.]+:\w+", value) is not None)
