"""Advice on errors: by what they are, not by their class."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from harness.cli import main as cli
from harness.errors import StoreError, remedy
from harness.files import making, writing


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "only be read"),
        (errno.EACCES, "who owns it"),
        (errno.EPERM, "who owns it"),
        (errno.EFBIG, "ulimit -f"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOMEM, "ulimit -v"),
        (errno.ENAMETOOLONG, "too long"),
        (errno.ENOENT, ""),
    ],
)
def test_advice_is_that_of_the_number(
    number: int, advice: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(number, os.strerror(number), "/some/where")
    assert advice in remedy(error) and bool(advice) == bool(remedy(error))

    def fails(_: object) -> None:
        raise error

    monkeypatch.setitem(cli._VERBS, "list", (fails, "fails"))
    assert cli.main(["list"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert told == f"error: /some/where: {os.strerror(number)}. {remedy(error)}".strip()
    assert ("room" in told) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_an_error_without_a_number_is_no_matter_of_room() -> None:
    """So are those of damaged tables, which pyarrow calls OSErrors."""
    assert remedy(OSError("Couldn't deserialize thrift: TProtocolException: Invalid data")) == ""


def test_tensors_that_find_no_room_say_where(tmp_path: Path) -> None:
    """In their own words they say neither the file nor what to do."""
    error = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    with pytest.raises(StoreError, match=rf"can't make {tmp_path}: .*os error 28.*Make room"), making(tmp_path):
        raise error
    with pytest.raises(StoreError, match=rf"can't write {tmp_path}: .*Make room"), writing(tmp_path):
        raise error


def test_what_fails_in_making_for_other_reasons_is_left_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), making(tmp_path / "model"):
        (tmp_path / "nothing").read_bytes()
