"""Members and parents of latents, as the cells of a plan have left them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.latents import relatives
from harness.latents.relatives import Relatives
from harness.planning.cells import Cell
from harness.planning.plan import Plan
from harness.storage.records import Record
from harness.storage.store import Store
from tests.support.toy_suites import plan_of, raw_suite

GROUPS = [[{"index": 4, "sign": 1, "weight": 0.9}, {"index": 7, "sign": -1, "weight": 0.5}], []]
DEEPER = [[{"index": 0, "sign": 1, "weight": 0.2}]]


def finished(folder: Path, *methods: Any) -> tuple[Plan, Store]:
    """Cards of the latents 4 and 0 of every decomposition, and groups as their methods would have made them."""
    raw = raw_suite(folder, methods=list(methods), similarities=[], sites=["mlp_out.2"], seeds=[0])
    plan = plan_of(raw | {"models": raw["models"][:1], "tokens": {"fit": 1000, "evaluation": 200, "interp": 300}})
    store = Store(folder / "results" / "example", folder / "cache")
    for cell in plan.of_kind("latents"):
        at = json.loads(cell.columns["method_config"]).get("at")
        groups = {None: {}, 3: {"depth": 1, "groups": GROUPS}, 5: {"depth": 2, "groups": DEEPER}}
        groups[4] = groups[3]  # other members in the place of the groups' own
        work = store.work_folder("latents", cell.key)
        work.mkdir(parents=True)
        cards = [{"index": index, "sign": 1} for index in (4, 0)]
        (work / "cards.json").write_text(json.dumps({**groups[at], "cards": cards}))
        store.commit("latents", cell.key, {})
        store.write_record(cell.key, Record("done"))
    return plan, store


def of_method(plan: Plan, label: str) -> Cell:
    return next(cell for cell in plan.of_kind("latents") if plan.suite.label("method", cell.columns) == label)


def test_members_and_parents_are_found_at_the_depth_where_they_are(tmp_path: Path) -> None:
    first, random = {"method": "grouping", "of": "dense"}, {"method": "grouping", "of": "grouping(of=dense)", "at": 4}
    deeper = {"method": "grouping", "of": "grouping(of=dense)", "at": 5}
    plan, store = finished(tmp_path, "dense", "atomic", first, random, deeper)
    found, cells = Relatives(plan, store), {label: of_method(plan, label) for label in ("dense", "grouping(of=dense)")}
    dense = {"method": "dense", "latents": cells["dense"].key}
    members = [
        {**dense, "place": 0, "index": 4, "sign": 1, "weight": 0.9},
        {**dense, "place": None, "index": 7, "sign": -1, "weight": 0.5},
    ]
    of_groups = found.of(cells["grouping(of=dense)"])
    assert of_groups[0, 1]["members"] == members and of_groups[1, 1]["members"] == []
    assert [parent["method"] for parent in of_groups[0, 1]["parents"]] == ["grouping(of=grouping(of=dense), at=5)"]
    of_dense = found.of(cells["dense"])
    assert [(parent["method"], parent["index"], parent["weight"]) for parent in of_dense[7, -1]["parents"]] == [
        ("grouping(of=dense)", 0, 0.5),
        ("grouping(of=grouping(of=dense), at=4)", 0, 0.5),  # of dense's latents, though it learnt from groups
    ]
    assert not found.of(of_method(plan, "atomic"))


def test_no_cards_are_read_where_there_are_no_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = finished(tmp_path, "dense", "atomic")
    monkeypatch.setattr(relatives, "read_checked", lambda *_: pytest.fail("cards were read"))
    assert not any(Relatives(plan, store).of(cell) for cell in plan.of_kind("latents"))


def test_what_is_not_there_has_no_part(tmp_path: Path) -> None:
    plan, store = finished(tmp_path, "dense", {"method": "grouping", "of": "dense"})
    groups = of_method(plan, "grouping(of=dense)")
    store.discard("latents", groups.key)
    assert not Relatives(plan, store).of(of_method(plan, "dense"))
    assert not Relatives(plan, store).of(groups)
