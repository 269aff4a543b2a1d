"""Which file system a path lies on, as /proc/mounts says; SQLite needs a local one."""

import re
from pathlib import Path

MOUNTS = Path("/proc/mounts")
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *("afs", "beegfs", "ceph", "cifs", "davfs", "glusterfs", "gpfs", "lustre", "ncpfs"),
        *("nfs", "nfs4", "smb2", "smb3", "smbfs"),
        *("ceph-fuse", "davfs2", "gcsfuse", "goofys", "rclone", "s3fs", "sshfs"),
    )
)


def file_system_of(mounts: str, path: str) -> str | None:
    """Return the type of the file system that holds the absolute `path`, None if none does.

    `mounts` is the text of /proc/mounts: one mount per line as device, mount point, type and more,
    blanks and backslashes within a field as three octal digits (proc(5), getmntent(3)). Of mounts
    at one point the last one hides the others.
    """
    longest, found = -1, None
    for line in mounts.splitlines():
        fields = [_unescaped(field) for field in line.split(" ")]
        if len(fields) < 3:
            continue
        point = fields[1].rstrip("/")
        if len(point) >= longest and (path == point or path.startswith(f"{point}/")):
            longest, found = len(point), fields[2]
    return found


def is_network(file_system: str) -> bool:
    """Whether a type of file system is served over a network, where SQLite's locks do not hold."""
    return file_system.removeprefix("fuse.") in NETWORK_FILE_SYSTEMS


def file_system_here(path: Path) -> str | None:
    """Return the type of the file system `path` is on, None where the system does not tell."""
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return None
    return file_system_of(mounts, str(path.expanduser().resolve()))


def _unescaped(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
