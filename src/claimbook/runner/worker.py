"""The process that executes notebooks, one after another: `python -m claimbook.runner.worker SOCKETS`.

SOCKETS is the folder of its kernels' sockets, which it removes at its end. It reads each job as a JSON line
on standard input and answers with JSON lines on standard output:

    {"event": "kernel", "kind": "warm", "why": null, "pid": 7, "keeper": 6}, once the kernel is up
    {"event": "cell", "index": 3, "count": 12}
    {"event": "finished"} or {"event": "failed", "cell": 3, "error": "ValueError", "message": "…"}

Standard input stays open while the supervisor lives. At its end the worker kills the kernel and goes, so that
a killed supervisor leaves nothing behind. Every job gets a kernel of its own; papermill is imported once.
Everything else about the run is the supervisor's.
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import shutil
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

NOT_NEEDED = ("rfc3987_syntax", "pyarrow")
"""Optional modules that papermill, or what it needs, would import here: 3.9 s for jsonschema's check of IRIs,
0.4 s for files in Hadoop. What is None in sys.modules cannot be imported; both do without."""


def main() -> None:
    """Execute the jobs on standard input until it ends."""
    _adopt_orphans()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    sockets = Path(sys.argv[1])
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def say(event: str, **fields: Any) -> None:
        answers.write(json.dumps({"event": event, **fields}) + "\n")

    threading.Thread(target=_read_jobs, args=(jobs, sockets), daemon=True).start()
    try:
        sys.modules.update(dict.fromkeys(NOT_NEEDED))  # type: ignore[arg-type]
        from claimbook.runner.execution import execute

        while True:
            execute(jobs.get(), sockets, say)
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def _adopt_orphans() -> None:
    """Become the parent of what a dead kernel leaves behind, so that it is found and ended (Linux)."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def _read_jobs(jobs: queue.SimpleQueue[dict[str, Any]], sockets: Path) -> None:
    """Pass jobs on until standard input ends, then kill the kernel and leave at once."""
    # not sys.stdin: a thread that waits inside it aborts the interpreter's own exit
    pending = b""
    while chunk := os.read(0, 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    _kill_children()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(0)


def _kill_children() -> None:
    """Kill all processes below this one, and what they started meanwhile."""
    killed: set[psutil.Process] = set()
    while found := set(psutil.Process().children(recursive=True)) - killed:
        for child in found:
            with suppress(psutil.Error):  # it has ended, or is another user's
                child.kill()
        killed |= found


if __name__ == "__main__":
    main()
