"""Documents whose code is run as it stands: files are written, commands and programs run, outputs compared."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from harness.cli import main as cli

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMANDS = re.compile(r"(harness [^\n|&;<>()$`]*\n)+")
"""Commands of the harness and no other, with nothing that needs a shell but words in quotes."""
_TELL_WORDS = r"""harness() { printf '%s\0' "$@" $'\n'; }; """
_FILE_NAME = re.compile(r"^# (\S+\.\w+)$", re.MULTILINE)
_BASH = ["bash", "-euo", "pipefail", "-c"]


@dataclass(frozen=True)
class Block:
    """One block of code. What names its file in a comment on one of the first two lines is that file."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        head = "\n".join(self.text.splitlines()[:2])
        found = _FILE_NAME.search(head)
        return found[1] if found else None


def blocks(path: Path) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(path.read_text(encoding="utf-8"))]


@dataclass
class Reader:
    """Somebody who does what a document says, in one folder, to the letter.

    Commands of the harness run in this process, as bash reads their words, until something is installed: a process for
    each takes longer than all they do.
    """

    folder: Path
    cache: Path
    popen: type[subprocess.Popen]
    """Starts the workers of those commands."""
    environment: dict[str, str] = field(default_factory=dict)
    output: str = ""
    """Text that the last program or commands have printed."""
    is_failed: bool = False

    def follow(self, path: Path) -> None:
        """Do every block. A `text` block is what the block before it prints, among other things."""
        for block in blocks(path):
            if block.language == "text":
                self._compare(block.text)
            elif block.file:
                self._write(self.folder / block.file, block.text)
            elif block.language == "python":
                self._run([sys.executable, "-c", block.text])
            elif block.language == "sh" and _COMMANDS.fullmatch(block.text) and not self._site.exists():
                self._run_here(block.text)
            elif block.language == "sh":
                self._run([*_BASH, block.text])
            else:
                raise AssertionError(f"{path}: a block of {block.language} that is no file:\n{block.text}")
        self._check_no_failure()

    def _write(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def _run(self, command: list[str]) -> None:
        self._check_no_failure()
        ended = subprocess.run(command, cwd=self.folder, env=self._environment, capture_output=True, text=True)
        self.output, self.is_failed = f"{ended.stdout}\n{ended.stderr}", ended.returncode != 0

    def _run_here(self, text: str) -> None:
        self._check_no_failure()
        told = subprocess.run([*_BASH, _TELL_WORDS + text], cwd=self.folder, capture_output=True, text=True, check=True)
        commands = [command.split("\0")[:-1] for command in told.stdout.split("\n\0")[:-1]]
        printed = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            patch.chdir(self.folder)
            patch.setattr(subprocess, "Popen", self.popen)
            for name, value in {**self.environment, "HARNESS_CACHE": str(self.cache)}.items():
                patch.setenv(name, value)
            self.is_failed = any(cli.main(words) for words in commands)  # up to the first that fails, as in bash
        self.output = printed.getvalue()

    @property
    def _site(self) -> Path:
        """Where packages are installed: this must not touch the environment that runs the tests, nor the network."""
        return self.folder / ".site"

    @property
    def _environment(self) -> dict[str, str]:
        pip = {"PIP_TARGET": str(self._site), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {
            **os.environ,
            **pip,
            **self.environment,
            "PATH": path,
            "PYTHONPATH": str(self._site),
            "HARNESS_CACHE": str(self.cache),
        }

    def _compare(self, expected: str) -> None:
        printed = " ".join(self.output.split())
        for line in expected.splitlines():
            assert " ".join(line.split()) in printed, f"{line!r} is not in:\n{self.output}"
        if expected.startswith("error:"):
            assert self.is_failed, self.output
            self.is_failed = False

    def _check_no_failure(self) -> None:
        assert not self.is_failed, self.output
        assert "warning" not in self.output, self.output
