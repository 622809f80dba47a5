"""File systems: whether other machines write to a folder as well, and whether two names are one there."""

from __future__ import annotations

import os
from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
_SHARED = {
    *("nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "lustre", "gpfs", "beegfs", "glusterfs", "ocfs2", "gfs2"),
    *("orangefs", "pvfs2", "panfs", "9p", "wekafs", "vboxsf", "virtiofs", "fhgfs", "daos"),
}
_OF_THIS_MACHINE = {"fuseblk", "fuse.lxcfs", "fuse.gvfsd-fuse", "fuse.portal", "fuse.fuse-overlayfs"}


def is_shared(folder: Path) -> bool:
    """True if a folder is on a network disk, as far as the system tells: Linux does."""
    try:
        mounts = _MOUNTS.read_text()
    except OSError:
        return False
    kind = _kind_of(os.path.realpath(folder), mounts)
    return kind in _SHARED or (kind.startswith("fuse") and kind not in _OF_THIS_MACHINE)


def other_spelling(folder: Path) -> Path | None:
    """The folder as the disk spells it, where it takes another name for the same, such as one in capitals."""
    if not folder.exists() or folder.name in os.listdir(folder.parent):  # noqa: PTH208  # only names are asked for
        return None
    return next((path for path in folder.parent.iterdir() if path.samefile(folder)), None)


def _kind_of(folder: str, mounts: str) -> str:
    """The kind of the file system that holds a folder: that of the longest mount point above it, the last of equals."""
    found, kind_found = "", ""
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.encode().decode("unicode_escape")  # spaces are written as \040
        is_above = folder == point or folder.startswith(point.rstrip("/") + "/")
        if is_above and len(point) >= len(found):
            found, kind_found = point, kind
    return kind_found
