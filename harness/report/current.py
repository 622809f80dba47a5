"""The report as it was made, if nothing that it shows has changed since."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from harness.planning.keys import content_key
from harness.planning.plan import Plan
from harness.registry.redaction import Redaction
from harness.storage.made import Made, source_of
from harness.storage.store import Store

FOLDER = "report"


def current_report(plan: Plan, store: Store) -> Path | None:
    """The `index.html` of the report of these cells; None if there is none yet, or anything it shows has changed."""
    folder = store.results / FOLDER
    is_current = Made(store.results).is_current(FOLDER, report_source(source_of(plan, store), plan))
    return folder / "index.html" if is_current else None


def report_source(source: str, plan: Plan) -> str:
    """The name of all that a report is made from: that of the results, and the secrets which it hides."""
    return content_key([source, Redaction(asdict(plan.suite.config)).digest])
