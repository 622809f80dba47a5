"""A source of texts under test, a corpus or a behaviour: its first items are read once for all checks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar

from harness.testing.checks import NotChecked
from harness.testing.items import first_items
from harness.testing.registration import Registration

ItemT = TypeVar("ItemT")


class SourceUnderTest(Generic[ItemT]):
    """A source, by what makes a fresh one, and its Spec if it is registered."""

    kind: ClassVar[str]
    first_check: ClassVar[str]
    """The check that tells what is wrong with items that can't be had."""
    stuck_in: str | None = None

    def __init__(self, make: Callable[[], Any], declared: Registration | None = None) -> None:
        self.make = make
        self._declared = declared
        self._has_failed = False

    @cached_property
    def source(self) -> Any:
        """One for most checks."""
        return self.make()

    @cached_property
    def items(self) -> list[ItemT]:
        """The first items, as they came the first time; that they are none is the first check's to tell."""
        if self._has_failed:
            raise NotChecked(f"nothing to check before `{self.first_check}` holds")
        self._has_failed = True
        items: list[ItemT] = first_items(self.kind, self.source)
        self.look_at(items)
        self._has_failed = False
        return items

    def look_at(self, items: Sequence[object]) -> None:
        """Raise `Broken` for items that no other check could do anything with."""

    @property
    def declared(self) -> Registration:
        """The registration with its Spec; NotChecked where there is none."""
        if self._declared is None:
            raise NotChecked(f"it is tried where the {self.kind} is given by its name, as `harness check` does")
        return self._declared
