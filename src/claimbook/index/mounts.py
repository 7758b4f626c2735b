"""Whether a folder lies on a network file system. Knows the kernel's table of mounts and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|9p|virtiofs|lustre|gpfs|beegfs.*|ceph|afs|glusterfs|pvfs2|orangefs|ncpfs|coda|davfs"
    r"|wekafs|fuse\.(?!overlayfs|fuse-overlayfs|gocryptfs|encfs|ecryptfs|mergerfs|ntfs|exfat|portal).*"
)
"""Kinds of file systems, as Linux calls them, whose locks or shared memory do not hold between machines. A
FUSE file system counts as one unless it is known to be local: sshfs, s3fs, gcsfuse, rclone are not."""


def is_network(path: Path, mountinfo: str | None = None) -> bool:
    """Whether SQLite's write-ahead log would be unsafe at a path, because other machines may write there.

    mountinfo: the text of /proc/self/mountinfo, for tests. Where the system has no such table, as on macOS
    and Windows, the answer is no, except for a Windows network path.
    """
    if mountinfo is None:
        try:
            mountinfo = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
        except OSError:
            return str(path).startswith("\\\\")
    return _NETWORK.fullmatch(_kind(path.resolve(), mountinfo)) is not None


def _kind(path: Path, mountinfo: str) -> str:
    """The file system kind of the deepest mount above a path; of two at one point the later hides the other.

    A line reads `36 35 98:0 /root /mount/point options … - kind source options`, see proc_pid_mountinfo(5).
    """
    kind, depth = "", -1
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields, described = before.split(" "), after.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(re.sub(r"\\([0-7]{3})", lambda escape: chr(int(escape[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= depth:
            kind, depth = described[0], len(point.parts)
    return kind
