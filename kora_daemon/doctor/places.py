"""Where files are: what holds them, how much room there is, who may write."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

MOUNTS = Path("/proc/self/mountinfo")

NETWORK = re.compile(
    "(nfs|cifs|smb|ncpfs|afs|ceph|gluster|lustre|gpfs|9p|davfs|fuse[.](sshfs|s3fs|gcs|gluster|rclone))"
)
"""File systems on whose locks and shared memory a write-ahead log can't rely."""
FLEETING = {"tmpfs": "gone with the next start of this host", "overlay": "gone with this container"}


class Mount(NamedTuple):
    """A file system, and where it begins."""

    kind: str
    point: str


def mount_of(path: Path) -> Mount | None:
    """The file system that holds a path, None where the system does not tell."""
    place = nearest(path).resolve()
    try:
        lines = MOUNTS.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        head, _, tail = line.partition(" - ")
        point = head.split()[4].encode("latin-1", "backslashreplace").decode("unicode_escape")
        # Of two at one place, the later one hides the earlier.
        if place.is_relative_to(point) and (found is None or len(point) >= len(found.point)):
            found = Mount(tail.split()[0], point)
    return found


def nearest(path: Path) -> Path:
    """The path, or the innermost folder of it that exists."""
    # Of a name that is too long, `Path.exists` raises.
    return next(one for one in (path, *path.absolute().parents) if os.path.exists(one))


def free_bytes(path: Path) -> int:
    """How much room there is for this user."""
    found = os.statvfs(nearest(path))
    return found.f_bavail * found.f_frsize


def can_write(folder: Path) -> bool:
    """Whether this user may make files in a folder."""
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=True)
