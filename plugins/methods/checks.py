"""Checks that the configs of methods share. Imports no torch."""

from __future__ import annotations


def at_least_one(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} is {getattr(config, name)}; give 1 or more.")
