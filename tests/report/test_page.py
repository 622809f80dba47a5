"""The report's files: complete, escaped, the same each time, small where people wait."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import StoreError
from harness.latents.lookup import Explained
from harness.planning.plan import Plan
from harness.report.current import current_report
from harness.report.latents import _as_read, _read_cards, script_json
from harness.report.page import write_report
from harness.report.sheets import sheet
from harness.storage.records import UPSTREAM_FAILED, Record, read_record
from harness.storage.store import Store
from harness.tables.results import Results
from harness.views.missing import failure_view
from tests.support.report_examples import HOSTILE, N_SCORED, finished, report_of


class _Tags(HTMLParser):
    """Which elements there are, and whether they are closed in order."""

    VOID = ("meta", "input", "link", "br", "path", "use")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.ids += [value for name, value in attributes if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def _parsed(page: Path) -> _Tags:
    tags = _Tags()
    tags.feed(page.read_text(encoding="utf-8"))
    assert not tags.open
    return tags


def test_the_page_is_well_formed_whatever_the_texts(report: Path, hostile_report: Path) -> None:
    expected, found = _parsed(report), _parsed(hostile_report)
    assert set(found.seen) == set(expected.seen) and found.seen.count("script") == 2 and "img" not in found.seen
    for tags in (expected, found):
        assert len(tags.ids) == len(set(tags.ids))


def test_nothing_points_to_the_network(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\"'\s<)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}  # names, never fetched
    assert not re.search(r"@import|<link|src=\"", text)


def test_everything_measured_is_on_it(report: Path) -> None:
    text = report.read_text(encoding="utf-8")
    for part in (
        "model-a",
        "model-b",
        "resid_post.1",
        "no luck",
        "the model has no head",
        "too few windows",
    ):
        assert part in text, part
    for part in ("torch", "2.11.0", "max_norm_multiple", "3.2 MB", "2026-01-02", "12.5%", "over latents and seeds"):
        assert part in text, part
    assert "nan" not in re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL).lower().split()


def test_the_same_results_give_the_same_files(example: tuple[Plan, Store], report: Path) -> None:
    before = {path: path.read_bytes() for path in report.parent.rglob("*.*")}
    (report.parent / "latents" / "of-an-earlier-run.js").touch()
    assert report_of(*example) == report
    assert before == {path: path.read_bytes() for path in report.parent.rglob("*.*")}


def _inodes(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_ino for path in folder.rglob("*.js")}


def test_only_what_shows_something_new_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, store = finished(tmp_path)
    folder = report_of(plan, store).parent
    drawn, before = [], _inodes(folder / "latents")
    monkeypatch.setattr("harness.report.plots.svg", lambda *_: drawn.append(1) or "<svg></svg>")
    scored = plan.of_kind("scoring")[0]
    record = store.record(scored.key)
    assert record is not None and current_report(plan, store) == folder / "index.html"
    # A secret of the environment, which is hidden from now on, and a hand's work: nothing is taken over.
    monkeypatch.setenv("API_TOKEN", "first-secret")
    assert current_report(plan, store) is None
    monkeypatch.delenv("API_TOKEN")
    rows = [row | ({"value": 0.75} if row["metric"] == "auroc" else {}) for row in record.rows]
    store.write_record(scored.key, replace(record, rows=rows))
    assert current_report(plan, store) is None
    report_of(plan, store)
    after = _inodes(folder / "latents")
    number = [cell.key for cell in plan.of_kind("latents")].index(scored.work["latents"])
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if name.split("/")[0].removesuffix(".js") == str(number)} and not drawn
    assert "0.75" in (folder / "latents" / str(number) / "0.js").read_text()
    (folder / "latents" / "0.js").write_text("by hand")
    report_of(plan, store)
    assert "by hand" not in (folder / "latents" / "0.js").read_text() and drawn


def test_results_and_their_report_read_each_record_once(example: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, before = example
    store = Store(before.results, before.cache)
    read: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "harness.storage.store.read_record",
            lambda path, with_rows: read.append(path) or read_record(path, with_rows=with_rows),
        )
        report_of(plan, store)
    assert sorted(read) == sorted({str(store.record_path(key)) for key in plan.cells})


_NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9) | st.just(0.0) | st.just(-0.0)


@given(st.lists(st.text() | _NUMBERS | st.booleans() | st.sampled_from(["\ud83d", "\x7f", "\\u00e9", "\n"])))
def test_cards_are_read_as_people_read_them(values: list[object]) -> None:
    found = _read_cards(json.dumps({"cards": [{"values": values}]}).encode())
    assert json.dumps(found) == json.dumps({"cards": [{"values": _as_read(values)}]})


def test_a_report_that_fails_leaves_the_old_one(example: tuple[Plan, Store], report: Path) -> None:
    plan, store = example
    before = report.read_bytes()
    results = Results.of(plan, store)
    with pytest.raises(KeyError):
        write_report(plan, store, replace(results, leaderboard=results.leaderboard.drop(columns="pareto")))
    assert report.read_bytes() == before
    assert [path.name for path in store.results.glob(".report.*.tmp")] == []


def test_a_report_that_can_not_take_its_place_leaves_the_old_one(
    example: tuple[Plan, Store], report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last step fails, as on a disk that went away."""
    before, renamed, rename = report.read_bytes(), list[str](), Path.rename

    def failing(path: Path, target: Path) -> Path:
        renamed.append(path.name)
        if len(renamed) == 2:
            raise OSError("the disk went away")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="went away"):
        report_of(*example)
    monkeypatch.undo()
    assert renamed[0] == "report" and report.read_bytes() == before
    assert [path.name for path in report.parents[1].glob(".report.*.tmp")] == []


def test_cells_without_numbers_are_named(tmp_path: Path) -> None:
    plan, store = finished(tmp_path, n_cards=1)
    fit = plan.of_kind("fit")[-1]
    lost = [cell for cell in plan.cells.values() if fit.key in cell.upstream]
    for cell in lost:
        store.write_record(cell.key, Record("skipped", UPSTREAM_FAILED, f"{fit.label} failed: no luck"))
    failed, skipped = sheet(failure_view(Results.of(plan, store).tables, plan)).rows
    assert [value.text for value in failed] == ["failed", "ValueError: no luck ", "1", fit.label]
    name = "dense(k=8) on model-b resid_post.1, 1,000 tokens"
    assert [value.text for value in skipped] == ["skipped", f"{fit.label} failed: no luck", str(len(lost)), name]


def test_cards_lie_beside_the_page(report: Path) -> None:
    folder = report.parent / "latents"
    assert len(list(folder.glob("*.js"))) == 12  # decompositions
    assert len(list((folder / "0").glob("*.js"))) == 60
    assert "word7" not in report.read_text(encoding="utf-8")
    card = json.loads((folder / "0" / "1.js").read_text().partition(" = ")[2].rstrip(";\n"))
    assert card["index"] == 7 and card["scores"][0]["value"] == 0.52 and len(card["test"]) == 5
    assert [len(score["verdicts"]) for score in card["scores"]] == [0, 6]


def test_a_metric_beside_the_main_one_has_a_line_and_stands_on_cards_once(report: Path) -> None:
    page = report.read_text(encoding="utf-8")
    sheet, _, _ = page.partition('id="interpretability"')[2].partition("</section>")
    kinds = [row for row in sheet.split("<tr")[1:] if ">kinds<" in row]
    assert len(kinds) == 2 * 3 and all(" to " in row and ">retrieval<" in row for row in kinds)
    card = json.loads((report.parent / "latents" / "0" / "1.js").read_text().partition(" = ")[2].rstrip(";\n"))
    retrieval = card["scores"][1]
    assert len(card["scores"]) == 2 and retrieval["chance"] == 0.5
    assert [one["value"] for one in retrieval["others"] if one["metric"] == "kinds"] == [1.1]
    about = json.loads(page.partition('id="decompositions">')[2].partition("</script>")[0])
    assert [scorer["metric"] for scorer in about[0]["scorers"]] == ["auroc", "auroc"]


def test_a_score_that_is_undefined_has_its_reason(report: Path) -> None:
    card = (report.parent / "latents" / "0" / f"{N_SCORED - 1}.js").read_text().partition(" = ")[2].rstrip(";\n")
    score = json.loads(card)["scores"][0]
    assert score["value"] is None and score["reason"].startswith("too few windows")


def test_a_judge_that_guesses_is_said_to_be_too_weak_and_an_encoder_is_not(tmp_path: Path) -> None:
    page = report_of(*finished(tmp_path, n_cards=1, judge="chooser")).read_text(encoding="utf-8")
    about = json.loads(page.partition('id="decompositions">')[2].partition("</script>")[0])
    asking = about[0]["scorers"][2]
    assert asking["judge"] == "chooser" and asking["low"] < 0.5 < asking["high"]
    assert asking["weak"] == f"judge too weak: chance 0.5 lies in [{asking['low']:.3g}, {asking['high']:.3g}]"
    assert [scorer["weak"] for scorer in about[0]["scorers"][:2]] == [None, None]
    sheet, _, _ = page.partition('id="interpretability"')[2].partition("</section>")
    assert f"<small>{asking['weak']}</small>" in sheet and "scorers that ask no judge tell which" in sheet


def test_cards_that_are_gone_are_said_to_be_gone(tmp_path: Path) -> None:
    plan, store = finished(tmp_path, n_cards=1)
    store.discard("latents", plan.of_kind("latents")[0].key)
    page = report_of(plan, store)
    assert '"missing":true' in page.read_text() and not (page.parent / "latents" / "0.js").exists()


@pytest.mark.parametrize("damage", [lambda content: content[:-9], lambda content: content.replace(b"0.", b"1.", 1)])
def test_damaged_cards_are_named_and_not_shown(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    plan, store = finished(tmp_path, n_cards=1)
    path = store.artefact("latents", plan.of_kind("latents")[0].key) / "cards.json"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(
        StoreError, match=rf"{path.parent}.* is .*(damaged|corrupt).* Run the suite again.*: it is made anew"
    ):
        report_of(plan, store)
    with pytest.raises(StoreError, match=r"is .*(damaged|corrupt)"):
        Explained(plan, store, plan.of_kind("latents")[0]).sampled()


def test_of_several_reports_at_once_each_waits_for_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, store = finished(tmp_path)
    results, written = Results.of(plan, store), threading.Event()
    monkeypatch.setattr("harness.report.page._write", lambda *_: written.set())
    with filelock.FileLock(store.results / ".report.lock"):
        other = threading.Thread(target=write_report, args=(plan, store, results))
        other.start()
        assert not written.wait(0.2)
    other.join(10)
    assert written.is_set()


def test_a_suite_without_latents_or_scores_has_a_page(tmp_path: Path) -> None:
    plan, store = finished(tmp_path)
    done = {key for key, cell in plan.cells.items() if cell.kind in ("capture", "fit")}
    for key in plan.cells.keys() - done:
        store.record_path(key).unlink()
    page = report_of(plan, store)
    assert "example" in page.read_text() and "Latents</h2>" not in page.read_text()


@given(st.text() | st.just(HOSTILE))
def test_json_in_a_script_is_inert_and_whole(text: str) -> None:
    written = script_json({"text": text})
    assert not set("<>&\u2028\u2029") & set(written) and written.isascii()
    assert json.loads(written) == {"text": text}


def test_json_in_a_script_takes_no_nan() -> None:
    with pytest.raises(ValueError):
        script_json(np.nan)


def test_no_torch_is_imported() -> None:
    code = "import sys, harness.report, harness.report.plots; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
