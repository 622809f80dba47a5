"""Windows is refused with one line, and asked for help it gives it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.cli import main as cli


def test_windows_is_refused_with_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert cli.main(["list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: harness does not run on Windows") and "WSL" in line
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0 and "verify" in capsys.readouterr().out


def test_the_refusal_comes_before_anything_that_windows_lacks() -> None:
    script = "import sys; sys.modules['fcntl'] = None; import harness.cli.main"
    subprocess.run([sys.executable, "-c", script], check=True)
