"""The tests that SECURITY.md rests on are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_what_security_rests_on_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "SECURITY.md").read_text(encoding="utf-8"))
    assert len(set(named)) > 10
    assert not [name for name in named if not (ROOT / name).exists()]
