"""The report as people meet it: opened from disk in a real browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from harness.storage.store import read_checked
from tests.support.report_examples import finished, report_of

WIDE = {"viewport": {"width": 1280, "height": 900}}
NARROW = {"viewport": {"width": 390, "height": 844}}


def _column(page: Any, table: str, n: int) -> list[str]:
    return [text.split()[0] for text in page.locator(f"{table} tbody tr > :nth-child({n})").all_inner_texts()]


def test_it_opens_from_disk_and_asks_no_network(report: Path, visit: Any) -> None:
    visited = visit(report, **WIDE)
    visited.page.locator("#listing .open").first.click()
    visited.page.locator("dialog[open] .context").first.wait_for()
    assert visited.requests and all(url.startswith("file://") for url in visited.requests)
    assert visited.complaints == []
    loaded = [url.partition("/report/")[2] for url in visited.requests]
    assert loaded == ["index.html", "latents/0.js", "latents/0/0.js"]  # the other cards stay on disk


def test_plots_are_drawn(report: Path, visit: Any) -> None:
    page = visit(report, **WIDE).page
    plots = page.locator(".plots svg")
    assert plots.count() == 3 * 2  # places
    box = plots.first.bounding_box()
    assert box["width"] > 250 and box["height"] > 200
    marker = plots.first.locator("use").last.bounding_box()
    assert box["x"] < marker["x"] < box["x"] + box["width"] and marker["width"] > 3
    assert "1 − explained variance" in plots.first.text_content()
    assert page.locator("#similarity .maps svg").count() == 3
    assert page.locator("#models .maps svg").count() == 3 * 2  # scores of two models


def test_a_table_is_sorted_by_click_and_by_keyboard(report: Path, visit: Any) -> None:
    page = visit(report, **WIDE).page
    table = "#methods article:first-of-type table"
    head = page.locator(f"{table} th", has_text="explained variance")
    before = _column(page, table, 3)
    assert head.get_attribute("aria-sort") == "none" and before == sorted(before)
    head.get_by_role("button").click()
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert _column(page, table, 3) == sorted(before, reverse=True)
    page.keyboard.press("Enter")  # the heading has the focus
    assert head.get_attribute("aria-sort") == "ascending" and _column(page, table, 3) == sorted(before)
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    assert page.locator(f"{table} [aria-sort=ascending]").inner_text() == "CE increase (nats)"
    assert head.get_attribute("aria-sort") == "none"


def test_the_list_of_latents_is_paged_sorted_and_filtered(report: Path, visit: Any) -> None:
    page = visit(report, **WIDE).page
    rows = page.locator("#listing tbody tr")
    page.locator("#shown", has_text="1 to 50 of 60").wait_for()
    assert rows.count() == 50
    page.get_by_role("button", name="Next").click()
    assert rows.count() == 10 and page.locator("#next").is_disabled()
    score = page.locator("#listing th", has_text="lookup").get_by_role("button")
    score.click()
    assert _column(page, "#listing", 8)[:3] == ["0.5", "0.52", "0.54"]
    score.click()
    assert _column(page, "#listing", 8)[:3] == ["0.78", "0.76", "0.74"]
    assert _column(page, "#listing", 8)[15] == "–"  # what has no value is last both ways
    page.get_by_label("Filter").fill("word7")
    assert rows.count() == 1 and "word7" in rows.inner_text()
    page.get_by_label("Filter").fill("no such token")
    assert rows.count() == 0 and page.locator("#shown").inner_text() == "none of 60 fits the filter"
    page.locator("#decomposition").select_option("1")  # the filter stays, and says that it is why
    page.locator("#shown", has_text="none of 60 fits the filter").wait_for()
    page.get_by_role("button", name="Clear the filter").click()
    assert rows.count() == 50 and page.locator("#clear").is_hidden()


def test_the_list_is_kept_to_a_range_of_any_number_it_shows(report: Path, visit: Any) -> None:
    page = visit(report, **WIDE).page
    rows = page.locator("#listing tbody tr")
    page.locator("#shown", has_text="1 to 50 of 60").wait_for()
    names = page.locator("#ranged option").all_inner_texts()
    assert names == ["latent", "density", "active rows", "documents", "largest", "lookup", "retrieval"]
    page.locator("#ranged").select_option("lookup")
    page.get_by_label("from").fill("0.6")
    page.get_by_label("to", exact=True).fill("0.7")
    assert sorted(_column(page, "#listing", 8)) == ["0.6", "0.62", "0.64", "0.66", "0.68", "0.7"]
    page.locator("#listing th", has_text="density").get_by_role("button").click()
    densities = [float(text.rstrip("%")) for text in _column(page, "#listing", 3)]
    assert densities == sorted(densities) and len(densities) == 6
    page.get_by_label("Filter").fill("word7")  # together
    assert rows.count() == 1
    page.locator("#ranged").select_option("density")  # as shares, not percent
    assert rows.count() == 0
    page.get_by_role("button", name="Clear the filter").click()
    page.get_by_label("to", exact=True).fill("0.001")
    assert set(_column(page, "#listing", 3)) == {"0.1%"}


def test_a_card_shows_what_scorers_said_of_each_window(report: Path, visit: Any) -> None:
    visited = visit(report, "#latent/0/1", **WIDE)
    card = visited.page.locator("dialog[open]")
    card.locator(".verdict").first.wait_for()
    table = card.locator(".scores tbody tr")
    first, second = (table.nth(i).locator("td").all_inner_texts() for i in range(2))
    assert first[:3] == ["1", "lookup: auroc", "0.52"] and second[0] == "2" and second[3] == "0.5"
    assert "to" in first[-1]  # the interval of the mean
    assert float(second[2]) - 0.52 == pytest.approx(float(second[5].replace("−", "-")), abs=0.002)
    card.locator("summary").last.click()
    said = card.get_by_role("group", name="verdicts")
    by_text = {}
    for group in said.all():
        sample = group.locator("xpath=ancestor::li").locator("small").first.inner_text()
        by_text.setdefault(sample, []).append(group.inner_text().split())
    assert by_text == {"top": [["2✓"]], "quantile": [["2✓"]], "random": [["2✗"]], "silent": [["2–"], ["2✓", "2✗"]]}
    marks = card.locator(".verdict")
    assert marks.filter(has_text="✗").first.get_attribute("aria-label") == "retrieval: no, score 2.5: wrong"
    assert marks.filter(has_text="–").get_attribute("title").startswith("retrieval: no answer (HTTP 500")
    assert "shown “a <<mark>>" in marks.last.get_attribute("title")
    assert visited.complaints == []


def test_the_list_starts_where_there_are_latents(tmp_path: Path, visit: Any) -> None:
    plan, store = finished(tmp_path, n_cards=1)
    key = plan.of_kind("latents")[0].key
    cards = json.loads(read_checked(store, "latents", key, "cards.json"))
    units = {"total": 0, "dead": 0, "rare": 0, "no_contrast": 0}
    work = store.work_folder("latents", key)
    work.mkdir()
    (work / "cards.json").write_text(json.dumps({**cards, "units": units, "cards": []}))
    store.commit("latents", key, {})
    page = visit(report_of(plan, store), **WIDE).page
    page.locator("#shown", has_text="1 to 1 of 1").wait_for()
    chosen = page.locator("#decomposition")
    assert chosen.input_value() == "1" and "512 poles" in page.locator("#units").inner_text()
    assert "(no latents)" in chosen.locator("option").first.inner_text()
    chosen.select_option("0")
    page.locator("#units", has_text="It has no latents").wait_for()
    assert page.locator("#listing").is_hidden() and page.locator("#shown").inner_text() == ""


def test_a_card_opens_by_click_and_by_keyboard_and_escape_closes_it(report: Path, visit: Any) -> None:
    page = visit(report, **WIDE).page
    second = page.locator("#listing .open").nth(1)
    second.focus()
    page.keyboard.press("Enter")
    card = page.locator("dialog[open]")
    card.locator(".context").first.wait_for()
    assert card.get_by_role("heading", name="Latent 7 −").is_visible()
    assert page.url.endswith("#latent/0/1")
    page.keyboard.press("Escape")
    assert card.count() == 0 and second.evaluate("button => button === document.activeElement")
    page.locator("#listing tbody tr").nth(2).click()
    card.get_by_role("heading", name="Latent 14 +").wait_for()
    card.get_by_role("button", name="7", exact=True).click()  # its nearest latent has a card too
    card.get_by_role("heading", name="Latent 7 −").wait_for()
    assert page.evaluate("document.activeElement.id") == "card-title"  # what was clicked is no more
    card.get_by_role("button", name="Close").click()
    assert card.count() == 0
    assert page.evaluate("document.activeElement.textContent") == "14 +"  # the row it began with


def test_a_card_shows_what_it_holds(report: Path, visit: Any) -> None:
    page = visit(report, "#latent/0/1", **WIDE).page  # a link leads to the card itself
    card = page.locator("dialog[open]")
    card.locator(".context").first.wait_for()
    assert card.locator(".histogram rect").count() == 20
    assert card.locator(".source mark").inner_text() == "river"
    text = card.inner_text()
    assert all(part in text for part in ("density_2", "promoted", "suppressed", "lookup: auroc", "3 of 4", "75%"))
    token = card.locator(".context .negative").first
    assert float(token.get_attribute("title")) / 9 == pytest.approx(_alpha(token), abs=0.01)
    assert card.locator(".positive").count() == 0 and "↵" in card.locator(".contexts").first.inner_text()
    assert card.locator("details .context span").count() == 0  # silent windows are not coloured
    assert card.locator(".side .token").all_inner_texts()[:4] == ["␣word1", "␣nobody", "↵", "∅"]


def _alpha(token: Any) -> float:
    colour = token.evaluate("span => getComputedStyle(span).backgroundColor")
    found = re.fullmatch(r"rgba?\(\d+, \d+, \d+(?:, ([\d.]+))?\)", colour)
    return float(found[1] or 1)


def test_hostile_text_is_only_text(hostile_report: Path, visit: Any) -> None:
    visited = visit(hostile_report, **WIDE)
    page = visited.page
    for n in range(3):
        page.goto(hostile_report.as_uri() + f"#latent/0/{n}")
        page.reload()
        page.locator("dialog[open] .context").first.wait_for()
        page.locator("dialog[open] summary").first.click()
        page.locator("dialog[open] summary").last.click()
    title = page.locator(".verdict", has_text="–").get_attribute("title")
    assert "HTTP 500 <script>alert(1)</script>" in title and "\u2028" not in title and "\ufffdcba\ufffd" in title
    assert visited.complaints == []
    assert page.locator("img").count() == 0
    assert page.locator("script:not([src])").count() == 2  # the data and the program, as written
    assert "<script>alert(1)</script>" in page.locator("h3").first.inner_text()
    assert "<img src=x onerror=alert(2)>" in page.locator(".context").first.inner_text()
    assert "<script>alert(1)</script>" in page.locator("#missing").inner_text()
    assert not {"\u202e", "\u200b"} & set(page.content())  # nothing turns a line around or hides in it
    assert "\ufffdcba\ufffd" in page.locator("#methods h3").first.inner_text()


def test_even_markup_that_came_through_would_not_run(report: Path, visit: Any) -> None:
    visited = visit(report)
    visited.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=alert(1)>')")
    visited.page.wait_for_timeout(100)
    assert visited.complaints and all("Content Security Policy" in text for text in visited.complaints)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_is_readable(report: Path, visit: Any, scheme: str) -> None:
    page = visit(report, "#latent/0/1", color_scheme=scheme, **NARROW).page
    page.locator("dialog[open] .context").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("dialog").evaluate("dialog => dialog.scrollWidth <= dialog.clientWidth")
    ink, paper = (_luminance(page, f"getComputedStyle(document.body).{name}") for name in ("color", "backgroundColor"))
    assert (paper > ink) == (scheme == "light") and _contrast(ink, paper) > 7
    muted = _luminance(page, "getComputedStyle(document.querySelector('.hint')).color")
    assert _contrast(muted, paper) > 4.5
    for kind in ("right", "wrong", "none"):
        colour = _luminance(page, f"getComputedStyle(document.querySelector('.verdict.{kind}')).color")
        panel = _luminance(page, "getComputedStyle(document.querySelector('dialog')).backgroundColor")
        assert _contrast(colour, panel) > 4.5
    for sign in ("positive", "negative"):  # at full strength
        style = f"getComputedStyle(document.documentElement).getPropertyValue('--{sign}')"
        assert _contrast(ink, _luminance(page, style)) > 4.5


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_link_leads_to_a_heading_that_nothing_covers(report: Path, visit: Any, size: Any) -> None:
    page = visit(report, reduced_motion="reduce", **size).page
    for link in page.locator("nav a").all():
        link.click()
        top = page.locator(f"{link.get_attribute('href')} h2").evaluate("h2 => h2.getBoundingClientRect().top")
        assert top >= max(0, page.locator("nav").evaluate("nav => nav.getBoundingClientRect().bottom"))


def test_what_is_missing_is_named_and_not_squeezed(report: Path, visit: Any) -> None:
    page = visit(report, **NARROW).page
    metric = page.locator("#missing").get_by_text("loss_recovered", exact=True)
    lines = "cell => { const all = new Range(); all.selectNodeContents(cell); return all.getClientRects().length }"
    assert metric.evaluate(lines) == 1
    which = page.locator("#missing td", has_text="; and").first
    assert which.locator("p").last.is_hidden()
    which.locator("summary").click()
    assert which.locator("p").last.is_visible() and which.locator("p").count() > 2


def test_a_long_error_is_cut_until_it_is_opened(hostile_report: Path, visit: Any) -> None:
    error = visit(hostile_report, **NARROW).page.locator("#missing summary", has_text="no luck")
    before = error.bounding_box()["height"]
    error.click()
    assert before < 100 and error.bounding_box()["height"] > 5 * before


def _luminance(page: Any, expression: str) -> float:
    """Relative luminance after WCAG 2.2."""
    channels = [int(part) / 255 for part in re.findall(r"\d+", page.evaluate(expression))[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def _contrast(a: float, b: float) -> float:
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def test_a_missing_card_says_what_to_do(report: Path, visit: Any, tmp_path: Path) -> None:
    alone = tmp_path / "index.html"
    alone.write_bytes(report.read_bytes())
    page = visit(alone).page
    page.locator("#units", has_text="latents/0.js is missing: write the report anew").wait_for()
