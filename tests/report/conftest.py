"""A browser that reads from disk and takes down whatever should not happen."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from harness.planning.plan import Plan
from harness.storage.store import Store
from tests.support.report_examples import HOSTILE, finished, report_of

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Visit:
    """A page that was opened, and what it did besides showing itself."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    """Console messages, uncaught errors, dialogs."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium from the system's packages."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("no Chromium among the system's programs; `apt-get install chromium` gives one")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=["--no-sandbox"])  # tests may run as root
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """`visit(path, **settings)`: the file in a fresh profile."""
    contexts = []

    def opened(path: Path, fragment: str = "", **settings: Any) -> Visit:
        context = browser.new_context(**settings)
        contexts.append(context)
        visited = Visit(context.new_page())
        page = visited.page
        page.on("request", lambda request: visited.requests.append(request.url))
        page.on("console", lambda message: visited.complaints.append(message.text))
        page.on("pageerror", lambda error: visited.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (visited.complaints.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri() + fragment)
        return visited

    yield opened
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A finished suite with more cards than the list shows at once."""
    return finished(tmp_path_factory.mktemp("report"), n_cards=60)


@pytest.fixture(scope="session")
def report(example: tuple[Plan, Store]) -> Path:
    """Its page."""
    return report_of(*example)


@pytest.fixture(scope="session")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with markup and scripts wherever text comes from outside."""
    return report_of(*finished(tmp_path_factory.mktemp("hostile"), HOSTILE))
