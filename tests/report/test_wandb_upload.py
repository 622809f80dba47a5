"""Uploads to servers that are gone, ail or hang: each costs its time, and the run stays."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from harness.report import wandb_upload
from harness.report.wandb_upload import NotUploaded, allowed_mode, upload
from tests.support.loopback import answering, serving


@pytest.mark.parametrize(
    ("own", "environment", "allowed"),
    [
        ("online", {}, "online"),
        *(
            ("online", {"WANDB_MODE": word}, "offline")
            for word in ("offline", " OffLine", "dryrun", "dry-run", "what?")
        ),
        *(
            ("online", {"WANDB_MODE": word}, "disabled")
            for word in ("disabled", "DISABLED ", "Disable", "off", "false")
        ),
        *(("online", {"WANDB_MODE": word}, "online") for word in ("", "Online", "run")),
        ("offline", {"WANDB_MODE": "online"}, "offline"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"),
        *(("offline", {"WANDB_DISABLED": word}, "disabled") for word in ("true", "1", "YES", "on")),
        *(("online", {"WANDB_DISABLED": word}, "online") for word in ("", "false", "0", "No")),
    ],
)
def test_the_environment_holds_back_however_it_is_spelt(
    own: str, environment: dict[str, str], allowed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_MODE", "WANDB_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    for name, word in environment.items():
        monkeypatch.setenv(name, word)
    assert allowed_mode(own) == allowed


class Ails(BaseHTTPRequestHandler):
    def log_message(self, *args: Any) -> None: ...

    def do_GET(self) -> None:
        self.send_response(500)
        self.end_headers()


def _not_uploaded(run: Path, server: str) -> str:
    with pytest.raises(NotUploaded) as caught:
        upload(run, server)
    assert f"It lies in {run}, whole; send it later with: wandb sync {run}" in str(caught.value)
    return str(caught.value)


def test_a_server_that_ails_is_named(tmp_path: Path) -> None:
    with serving(Ails) as server:
        assert f"{server} answers HTTP 500" in _not_uploaded(tmp_path, server)
    assert "Connection refused" in _not_uploaded(tmp_path, server)  # it is gone
    assert "is no web address" in _not_uploaded(tmp_path, "file:///etc/passwd")


@pytest.mark.parametrize("word", [b"", b"H", b"HTTP/1.1 200 OK\r\nX: "])
def test_a_server_that_hangs_or_drips_costs_its_time(
    word: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_upload, "CONTACT_SECONDS", 0.5)

    def drips(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(word)
        while not over.wait(0.05):
            connection.sendall(word[-1:])

    with answering(drips) as server:
        started = time.monotonic()
        assert re.search("timed out|not answered within", _not_uploaded(tmp_path, server))
        assert time.monotonic() - started < 10


class Leads(Ails):
    """Sends whoever asks to another place, for ever or to a file."""

    to = "/v1/on"

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.to)
        self.end_headers()


def test_a_server_that_leads_on_is_not_followed_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stand_in(tmp_path, "raise SystemExit(1)", monkeypatch)
    with serving(Leads) as server:
        for to in (Leads.to, "file:///etc/passwd", server):
            monkeypatch.setattr(Leads, "to", to)
            assert "`wandb sync` says" in _not_uploaded(tmp_path, server)  # it is there, at least


class Greets(Ails):
    def do_GET(self) -> None:
        self.send_response(404)
        self.end_headers()


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("import time; time.sleep(60)", "not done within 0.2 s"),
        ("print('wandb: ERROR no such project')", "`wandb sync` says: ERROR no such project"),
        ("raise SystemExit(1)", "`wandb sync` says"),
    ],
)
def test_an_upload_that_hangs_or_fails_is_told(
    program: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with 0 where a server refuses: what counts is its mark."""
    monkeypatch.setattr(wandb_upload, "UPLOAD_SECONDS", 0.2 if "sleep" in program else 60.0)
    _stand_in(tmp_path, program, monkeypatch)
    with serving(Greets) as server:
        assert reason in _not_uploaded(tmp_path, server)


def test_an_upload_that_is_done_says_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = f"open({str(tmp_path / 'run-a.wandb.synced')!r}, 'w'); print('done: https://wandb.ai/me/p/runs/abc ...')"
    _stand_in(tmp_path, program, monkeypatch)
    with serving(Greets) as server:
        assert upload(tmp_path, server) == "https://wandb.ai/me/p/runs/abc"


def _stand_in(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another program run in place of `python -m wandb sync`."""
    script = folder / "python"
    script.write_text(f"#!{sys.executable}\n{program}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
