"""The process that executes notebooks with papermill, one after another: `python -m claimbook.runner.worker`.

It reads each job as a JSON line on standard input and answers with JSON lines on standard output:

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
import tempfile
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from claimbook.surroundings import redacted


def main() -> None:
    """Execute the jobs on standard input until it ends."""
    _adopt_orphans()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    # a socket's path is limited to about 100 characters, so not under TMPDIR
    sockets = Path(tempfile.mkdtemp(prefix="claimbook-", dir="/tmp" if os.path.isdir("/tmp") else None))
    jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def say(event: str, **fields: Any) -> None:
        answers.write(json.dumps({"event": event, **fields}) + "\n")

    threading.Thread(target=_read_jobs, args=(jobs, sockets), daemon=True).start()
    _register_engine(say, sockets)
    while True:
        execute(jobs.get(), say)


def _adopt_orphans() -> None:
    """Become the parent of what a dead kernel leaves behind, so that it is found and ended (Linux)."""
    if sys.platform == "linux":
        set_child_subreaper = 36
        ctypes.CDLL(None).prctl(set_child_subreaper, 1, 0, 0, 0)


def execute(job: dict[str, Any], say: Callable[..., None]) -> None:
    """Execute a job and say how it ended.

    job: `notebook`, `output`, `folder` (where the kernel works), `parameters`, and `environment` (its
    variables).
    """
    from nbclient.exceptions import DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    os.environ.update(job["environment"])
    try:
        execute_notebook(
            _notebook(Path(job["notebook"])),
            job["output"].replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
            parameters=job["parameters"],
            engine_name="claimbook",
            progress_bar=False,
            cwd=job["folder"],
            autosave_cell_every=5,
        )
    except PapermillExecutionError as error:
        say("failed", cell=error.cell_index, error=error.ename, message=error.evalue)
    except DeadKernelError:
        say("failed", error="KernelDied", message="the kernel was killed or ran out of memory")
    else:
        say("finished")


def _register_engine(say: Callable[..., None], sockets: Path) -> None:
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
        """papermill's client, its kernels this interpreter's and over sockets of their own."""

        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            if os.name == "posix":
                # ports are picked, freed, then bound: parallel runs can collide. Socket files cannot.
                manager.transport = "ipc"
                manager.ip = str(sockets / uuid.uuid4().hex[:8])
            # this very interpreter, whatever a kernelspec of the user says
            manager.kernel_spec.argv = [
                sys.executable,
                "-m",
                "ipykernel_launcher",
                "-f",
                "{connection_file}",
                "--HistoryManager.enabled=False",
            ]
            return manager

        def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
            """Record a cell's output without the secrets that a traceback or a print may hold."""
            made = super().output(outs, msg, display_id, cell_index)
            if made is not None:
                _redact(made)
            return made

    class Engine(NBClientEngine):  # type: ignore[misc]
        """papermill's engine with our client."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            count = len(nb_man.nb.cells)
            client = Client(
                nb_man,
                timeout=None,  # the supervisor watches the whole run
                startup_timeout=120,
                kernel_name=kernel_name,
                shutdown_kernel="immediate",
                on_cell_start=lambda cell, cell_index: say("cell", index=cell_index, count=count),
            )
            return client.execute()

    papermill_engines.register("claimbook", Engine)


def _redact(output: dict[str, Any]) -> None:
    for field in ("text", "evalue"):
        if field in output:
            output[field] = redacted(output[field])
    if "traceback" in output:
        output["traceback"] = [redacted(line) for line in output["traceback"]]
    shown = output.get("data", {})
    for kind, value in shown.items():
        if kind.startswith("text/") and isinstance(value, str):
            shown[kind] = redacted(value)


def _notebook(path: Path) -> Any:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.setdefault("kernelspec", {}).update(name="python3", language="python")
    return notebook


def _read_jobs(jobs: queue.SimpleQueue[dict[str, Any]], sockets: Path) -> None:
    """Pass jobs on until standard input ends, then kill the kernel and leave at once."""
    # not sys.stdin: a thread that waits inside it aborts the interpreter's own exit
    pending = b""
    while chunk := os.read(0, 65536):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            jobs.put(json.loads(line))
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            child.kill()
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
