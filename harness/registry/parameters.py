"""Parameters against a config dataclass: the one place where a wrong key or value is found.

Used for suites, for the entries of a sweep and for `harness.create`, so that all three refuse the same things in
the same words. Needs nothing but the standard library: it runs where Hydra is not installed.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from harness.errors import ConfigError, suggest
from harness.registry.meanings import meanings

T = TypeVar("T")


class _Wrong(Exception):
    """One value that does not fit its annotation; becomes one line of a ConfigError."""


def build(config: type[T], params: Mapping[str, Any], where: str = "") -> T:
    """An instance of the dataclass `config`, or a ConfigError that lists every problem with its full key."""
    problems: list[str] = []
    instance = _build(config, params, where, problems)
    if problems:
        raise ConfigError(problems)
    return instance


def field_types(config: type) -> dict[str, Any]:
    """Field name to resolved annotation, in declaration order; without fields that are not parameters."""
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in dataclasses.fields(config) if field.init}


def describe(config: type) -> list[dict[str, str]]:
    """Name, type, default and meaning of every parameter, for people; the meaning is empty where there is none."""
    hints, meaning_of = field_types(config), meanings(config)
    described = []
    for field in dataclasses.fields(config):
        if field.name not in hints:
            continue
        if field.default is not dataclasses.MISSING:
            default = in_yaml(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = in_yaml(field.default_factory())
        else:
            default = "required"
        described.append(
            {
                "name": field.name,
                "type": type_name(hints[field.name]),
                "default": default,
                "meaning": meaning_of.get(field.name, ""),
            }
        )
    return described


def in_yaml(value: Any) -> str:
    """A value as a user would write it in a suite."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {in_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(in_yaml, value))}]"
    return repr(value)


def describe_changed(config: Any) -> str:
    """`(k=40, max_atoms=4096)`: the parameters that differ from their defaults; nothing if none does.

    Those with `field(repr=False)` stay out: no result depends on them.
    """
    changed = [
        f"{field.name}={getattr(config, field.name)}"
        for field in dataclasses.fields(config)
        if field.init and field.repr and getattr(config, field.name) not in (field.default, _default_made(field))
    ]
    return f"({', '.join(changed)})" if changed else ""


def _default_made(field: dataclasses.Field[Any]) -> Any:
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def takes_list(annotation: Any) -> bool:
    """True if a list is itself a value of this parameter."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(takes_list(option) for option in get_args(annotation))
    return annotation is Any or annotation in (list, tuple) or get_origin(annotation) in (list, tuple)


def type_name(annotation: Any) -> str:
    """The annotation as a user would write it."""
    if get_origin(annotation) is Literal:
        return " | ".join(repr(choice) for choice in get_args(annotation))
    if get_origin(annotation) in (Union, types.UnionType):
        return " | ".join(type_name(option) for option in get_args(annotation))
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation.__name__
    return str(annotation).replace("typing.", "")


def _build(config: type[T], params: Mapping[str, Any], where: str, problems: list[str]) -> T:
    found = len(problems)
    hints = field_types(config)
    prefix = f"{where}." if where else ""
    values: dict[str, Any] = {}
    for key, value in params.items():
        if key not in hints:
            problems.append(f"{prefix}{key}: unknown key.{suggest(str(key), hints)}")
            continue
        try:
            values[key] = _convert(value, hints[key], f"{prefix}{key}", problems)
        except _Wrong as wrong:
            problems.append(f"{prefix}{key}: {wrong}")
    for field in dataclasses.fields(config):  # type: ignore[arg-type]  # T is any dataclass
        has_default = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
        if field.init and not has_default and field.name not in params:
            problems.append(f"{prefix}{field.name}: missing; it has no default ({type_name(hints[field.name])}).")
    if len(problems) > found:
        return None  # type: ignore[return-value]  # build() raises before anyone sees it
    try:
        return config(**values)
    except (ValueError, TypeError) as error:
        problems.append(f"{where}: {error}" if where else str(error))
        return None  # type: ignore[return-value]


def _convert(value: Any, annotation: Any, where: str, problems: list[str]) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any:
        return value
    if origin is Literal:
        if any(value == choice and type(value) is type(choice) for choice in arguments):
            return value
        raise _Wrong(f"{value!r} is not a choice.{suggest(str(value), map(str, arguments))}")
    if origin in (Union, types.UnionType):
        return _convert_union(value, annotation, where, problems)
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        if dataclasses.is_dataclass(value):
            return value
        if not isinstance(value, Mapping):
            raise _Wrong(f"{value!r} is not a mapping with the keys {', '.join(field_types(annotation))}.")
        return _build(annotation, value, where, problems)
    if origin in (list, tuple) or annotation in (list, tuple):
        return _convert_sequence(value, annotation, where, problems)
    if origin is dict or annotation is dict:
        if not isinstance(value, Mapping):
            raise _Wrong(f"{value!r} is not a mapping.")
        return dict(value)
    return _convert_scalar(value, annotation)


def _convert_union(value: Any, annotation: Any, where: str, problems: list[str]) -> Any:
    nested: list[str] = []
    for option in get_args(annotation):
        attempt: list[str] = []
        try:
            converted = _convert(value, option, where, attempt)
        except _Wrong:
            continue
        if not attempt:
            return converted
        nested = nested or attempt
    if not nested:
        raise _Wrong(f"{value!r} is not of type {type_name(annotation)}.")
    problems += nested


def _convert_sequence(value: Any, annotation: Any, where: str, problems: list[str]) -> Any:
    if hasattr(value, "tolist"):  # arrays and tensors, from Python
        value = value.tolist()
    if isinstance(value, (str, Mapping)) or not isinstance(value, Sequence):
        raise _Wrong(f"{value!r} is not a list; write [{'' if value is None else value}].")
    wanted = tuple if get_origin(annotation) is tuple or annotation is tuple else list
    arguments = get_args(annotation) or (Any,)
    is_fixed = wanted is tuple and arguments != (Any,) and arguments[-1] is not ...
    if is_fixed and len(value) != len(arguments):
        raise _Wrong(f"{value!r} has {len(value)} items, not {len(arguments)}.")
    items = []
    for i, item in enumerate(value):
        try:
            items.append(_convert(item, arguments[i if is_fixed else 0], f"{where}[{i}]", problems))
        except _Wrong as wrong:
            raise _Wrong(f"item {i}: {wrong}") from None  # the first says it all: a list may hold thousands
    return wanted(items)


def _convert_scalar(value: Any, annotation: Any) -> Any:
    if annotation is type(None):
        if value is None:
            return None
    elif annotation is float:  # of any library: numpy's numbers are registered with `numbers`
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            if not math.isfinite(value):
                raise _Wrong(f"{value!r} is no finite number.")
            return float(value)
    elif annotation is int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
    elif isinstance(annotation, type) and isinstance(value, annotation):
        return value
    raise _Wrong(f"{value!r} is not of type {type_name(annotation)}.")
