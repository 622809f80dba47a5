"""Methods that learn from the fits of another method of the suite, which their parameter `of` names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from harness.errors import ConfigError, suggest
from harness.planning.entries import Entry


def with_bases(methods: Sequence[Entry]) -> list[Entry]:
    """The methods with those that they learn from, each after its own.

    `of` is the name of a method, or its whole label where the suite has several of that name.

    Raises:
        ConfigError: a method that a suite lacks, several that `of` may mean, or methods that wait for each other.
    """
    named, problems = dict[int, int](), list[str]()
    for place, method in enumerate(methods):
        if "fit" in method.needs:
            try:
                named[place] = _base_of(method, methods)
            except ConfigError as error:
                problems += error.problems
    if problems:
        raise ConfigError(problems)
    found: dict[int, Entry] = {}
    for place in _in_order(methods, named):
        base = found[named[place]] if place in named else None
        found[place] = dataclasses.replace(methods[place], base=base)
    return list(found.values())


def _base_of(method: Entry, methods: Sequence[Entry]) -> int:
    """The place of the method that another one learns from."""
    of, labels = str(method.params["of"]), [other.label for other in methods]
    found = [place for place, other in enumerate(methods) if of in (other.name, other.label)]
    found = [place for place in found if methods[place].label == of] or found
    if not found:
        hint = suggest(of, {other.name for other in methods if other is not method})
        raise ConfigError(
            f"methods: {method.label} learns from the fits of {of!r}, which this suite lacks.{hint} Add it to methods."
        )
    if len(found) > 1:
        several = "; ".join(labels[place] for place in found)
        raise ConfigError(
            f"methods: {method.label}: of={of!r} may be any of {several}. Write one of them in full, in quotes; a list "
            "of them is a grid."
        )
    return found[0]


def _in_order(methods: Sequence[Entry], named: Mapping[int, int]) -> list[int]:
    """The places of methods, as they stand but for those that stand before the one that they learn from."""
    try:
        TopologicalSorter({place: [base] for place, base in named.items()}).prepare()
    except CycleError as error:
        circle = " -> ".join(methods[place].label for place in reversed(error.args[1]))
        raise ConfigError(
            f"methods: {circle}: none of them can be fitted first. Let `of` name a method that learns from rows."
        ) from None
    order: dict[int, None] = {}
    for place in range(len(methods)):
        before = [place]
        while before[-1] in named:
            before.append(named[before[-1]])
        order |= dict.fromkeys(reversed(before))
    return list(order)
