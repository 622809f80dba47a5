"""Folders that compiled code is read from: whoever can write there has code run by whoever reads it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def others_may_write(folder: Path) -> bool:
    """True if a folder, or the place of its name, is another user's, or open to others; False where none can tell."""
    if not hasattr(os, "getuid"):
        return False
    folder = folder.resolve()
    while not folder.exists():  # who makes it will be its owner
        folder = folder.parent
    is_ours = folder.stat().st_uid in (0, os.getuid()) or bool(folder.stat().st_mode & stat.S_ISVTX)
    return not is_ours or any(_is_open(place) for place in (folder, *folder.parents))


def _is_open(folder: Path) -> bool:
    """True if others may put something in place of what lies in a folder; in one like /tmp all have only their own."""
    found = folder.stat()
    if found.st_mode & stat.S_ISVTX:
        return False
    return bool(found.st_mode & stat.S_IWOTH or (found.st_mode & stat.S_IWGRP and not _is_alone_in(found.st_gid)))


def _is_alone_in(group: int) -> bool:
    """True for the group that many systems give to each user, which has no other members."""
    import grp
    import pwd

    try:
        own, members = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return members.gr_gid == own.pw_gid and not set(members.gr_mem) - {own.pw_name} and members.gr_name == own.pw_name
