"""Methods that bring along what was learnt elsewhere: skipped where they say so, and their mistakes told by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.planning.plan import Plan, build_plan
from harness.planning.resolver import resolve
from tests.support.toy_suites import catalog, no_preset, raw_suite


@dataclasses.dataclass(frozen=True)
class Origin:
    answer: Callable[[harness.Place], str | None]
    words: str = "toy resid_post.1"

    def against(self, place: harness.Place) -> str | None:
        return self.answer(place)


def _plan(folder: Path, origin: Any) -> Plan:
    found = catalog()
    registered = found.entries["method", "dense"]
    spec = dataclasses.replace(registered.spec, origin=lambda config: origin)
    found.entries["method", "dense"] = dataclasses.replace(registered, spec=spec)
    return build_plan(resolve(raw_suite(folder), found, no_preset))


def test_it_is_skipped_with_its_reason_and_all_that_rests_on_it(tmp_path: Path) -> None:
    def own(place: harness.Place) -> str | None:
        known = place.label == "model-a" and place.model == "toy" and place.parameters["dtype"] == "float32"
        return None if known and place.site == "resid_post.1" else "not its place"

    plan = _plan(tmp_path, Origin(own))
    for cell in [*plan.of_kind("fit"), *plan.of_kind("evaluation")]:
        at_home = (cell.columns["model"], cell.columns["site"]) == ("model-a", "resid_post.1")
        brought = cell.columns["method"] == "dense"
        assert cell.skipped == ("not its place" if brought and not at_home else None)
        assert cell.columns["trained_at"] == ("toy resid_post.1" if brought else None)


def test_what_is_no_origin_or_fails_is_told_with_the_name_of_the_method(tmp_path: Path) -> None:
    with pytest.raises(harness.ConfigError, match=r"method/dense .*origin gave 'here'; give a harness.Origin"):
        _plan(tmp_path, "here")
    with pytest.raises(harness.PluginError, match=r"method dense: origin.against\(model-a .*ZeroDivisionError"):
        _plan(tmp_path, Origin(lambda place: str(1 // 0)))
