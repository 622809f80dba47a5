"""Network disks are told from those of the machine, and names from others that mean the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.storage import filesystem

MOUNTS = r"""/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/me/fast tmpfs rw 0 0
/dev/sdb1 /two\040words xfs rw 0 0
server:/b /two\040words/shared lustre rw 0 0
s3 /bucket fuse.s3fs rw 0 0
/dev/sdc1 /ntfs fuseblk rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "is_shared"),
    [
        ("/work", False),
        ("/home", True),
        ("/home/me", True),
        ("/homeless", False),
        ("/home/me/fast/cache", False),
        ("/two words", False),
        ("/two words/shared/x", True),
        ("/bucket/x", True),
        ("/ntfs", False),
    ],
)
def test_the_mount_that_holds_a_folder_decides(
    folder: str, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    monkeypatch.setattr(filesystem, "_MOUNTS", mounts)
    assert filesystem.is_shared(Path(folder)) == is_shared


def test_a_system_that_does_not_tell_has_disks_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(filesystem, "_MOUNTS", tmp_path / "none")
    assert not filesystem.is_shared(tmp_path)


def test_two_names_of_one_folder_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smoke").mkdir()
    assert filesystem.other_spelling(tmp_path / "smoke") is None
    assert filesystem.other_spelling(tmp_path / "Smoke") is None  # another one here
    (tmp_path / "Smoke").symlink_to("smoke")
    # As a disk would list them that takes both for one.
    monkeypatch.setattr(filesystem.os, "listdir", lambda folder: ["smoke"])
    assert filesystem.other_spelling(tmp_path / "Smoke") in (tmp_path / "smoke", tmp_path / "Smoke")
