"""File systems that several machines share, where SQLite's locks do not hold."""

import os
from pathlib import Path

from sktransfer.utils import warn_caller

_TABLE = "/proc/mounts"  # of Linux
_SHARED = {
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.gcsfuse",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "nfs",
    "nfs4",
    "orangefs",
    "smb3",
    "smbfs",
    "wekafs",
}


def warn_if_shared(folder: str) -> None:
    """Warn of a store on a file system that several machines may share."""
    kind = file_system_of(folder)
    if kind in _SHARED:
        warn_caller(
            f"The folder {folder!r} of `memory` is on a network file system ({kind}). "
            "Its SQLite file may be damaged if several machines write to it. Give a "
            "folder on the local disk of each machine."
        )


def file_system_of(folder: str) -> str | None:
    """Return the type of the file system of a folder, such as "ext4" or "nfs4".

    The folder need not exist. The result is None where there is no table of mounts.
    """
    try:
        lines = Path(_TABLE).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    path, innermost, found = os.path.realpath(folder), "", None
    for _, mounted, kind, *_ in map(str.split, lines):
        point = _unescaped(mounted)
        holds = path == point or path.startswith(point.rstrip("/") + "/")
        if holds and len(point) >= len(innermost):  # the last of equals hides others
            innermost, found = point, kind
    return found


def _unescaped(text):
    r"""Undo the escapes of a table of mounts: ``\040`` is a space."""
    for code in ("040", "011", "012", "134"):
        text = text.replace(f"\\{code}", chr(int(code, 8)))
    return text
