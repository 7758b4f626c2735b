"""Folders for socket files: short paths, one process's own, gone when it is."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

TEMPORARY = Path("/tmp") if os.path.isdir("/tmp") else Path(tempfile.gettempdir())
"""A socket's path is limited to about 100 characters, so not TMPDIR where there is a shorter one."""
_DAY = 86_400.0


def socket_folder() -> Path:
    """A new folder for this process's sockets, which it removes itself.

    What killed processes have left is removed after a day: sooner, one that is only not seen from here, from
    inside a container say, would lose its sockets.
    """
    for left in TEMPORARY.glob("claimbook-*-*"):
        with suppress(OSError, ValueError):
            old = time.time() - left.stat().st_mtime > _DAY
            if old and not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"claimbook-{os.getpid()}-", dir=TEMPORARY))
