"""Uploads to W&B: of a run that lies on disk whole, so that a server that is gone, or hangs, takes nothing with it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from harness.errors import HarnessError

CONTACT_SECONDS = 30.0
"""Longest wait for a first answer of the server, all of it: one that drips costs no more."""
UPLOAD_SECONDS = 600.0
"""Longest time for an upload."""
MODES = ("disabled", "offline", "online")
"""Modes of logging, by how much leaves the machine."""
_SENDING = ("", "online", "run", "shared")
_DISABLED = ("disabled", "disable", "off", "false", "no", "none", "0")
_FALSE = ("", "0", "false", "no", "off", "n", "f")


class NotUploaded(HarnessError):
    """A run could not be sent; it lies on disk."""


def allowed_mode(own: str) -> str:
    """The mode that is left of a suite's own by the environment's WANDB_MODE and WANDB_DISABLED, however spelt.

    These hold back and never make it send more. A word that W&B does not know holds back what would be sent.
    """
    if _plain(os.environ.get("WANDB_DISABLED", "")) not in _FALSE:
        return "disabled"
    word = _plain(os.environ.get("WANDB_MODE", ""))
    asked = "online" if word in _SENDING else "disabled" if word in _DISABLED else "offline"
    return min(own, asked, key=MODES.index)


def upload(run: Path, server: str) -> str:
    """Upload an offline run, and mark it as uploaded; its address, if that was told, else the run's folder.

    Raises:
        NotUploaded: the reason, and how to send it later.
    """
    try:
        _contact(server)
        said = _sync(run)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise NotUploaded(
            f"W&B has not got the run ({_reason(error)}). It lies in {run}, whole; send it later with: wandb sync {run}"
        ) from error
    found = re.search(r"https?://\S+/runs/[\w-]+", said)
    return found[0] if found else str(run)


def _contact(server: str) -> None:
    """Raise an OSError that names the server if it gives no answer, or none but of an error of its own."""
    if not server.startswith(("http://", "https://")):
        raise ValueError(f"WANDB_BASE_URL {server!r} is no web address")
    found: list[str | None] = []
    asking = threading.Thread(target=lambda: found.append(_complaint(server)), daemon=True)  # it may never end
    asking.start()
    asking.join(CONTACT_SECONDS)
    why = found[0] if found else f": it has not answered within {CONTACT_SECONDS:g} s"
    if why is not None:
        raise OSError(f"{server}{why}")


def _complaint(server: str) -> str | None:
    """The words for what is wrong with a server; None if it answers."""
    try:
        with urllib.request.urlopen(server, timeout=CONTACT_SECONDS):  # noqa: S310  # looked at by the caller
            return None
    except urllib.error.HTTPError as error:
        error.close()
        return f" answers HTTP {error.code}" if error.code >= 500 else None
    except urllib.error.URLError as error:
        return f": {error.reason}"
    except Exception as error:  # no HTTP: http.client raises errors of its own
        return f": {_reason(error)}"


def _sync(run: Path) -> str:
    """The words of `wandb sync`, which ends with 0 even where the server refuses."""
    command = [sys.executable, "-m", "wandb", "sync", str(run)]
    process = subprocess.Popen(  # noqa: S603
        command,
        stdin=subprocess.DEVNULL,  # it would ask for a key
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=run.parent,
        start_new_session=True,  # with a process of its own, which is ended with it
    )
    try:
        said, _ = process.communicate(timeout=UPLOAD_SECONDS)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise
    if process.returncode or not any(run.glob("*.wandb.synced")):
        lines = [line.removeprefix("wandb:").strip() for line in said.splitlines()]
        raise ValueError(f"`wandb sync` says: {' '.join(line for line in lines if line)[-300:]}")
    return said


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it was not done within {error.timeout:g} s"
    return str(error) or type(error).__name__


def _plain(word: str) -> str:
    return re.sub(r"[^a-z0-9]", "", word.lower())
