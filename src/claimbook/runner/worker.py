"""The process that executes one notebook with papermill: `python -m claimbook.runner.worker`.

It reads one job as a JSON line on standard input and answers with JSON lines on standard output:

    {"event": "kernel", "pid": 4711}
    {"event": "cell", "index": 3, "count": 12}
    {"event": "finished"} or {"event": "failed", "cell": 3, "error": "ValueError", "message": "…"}

Standard input stays open while the supervisor lives. At its end the worker kills the kernel and goes, so that
a killed supervisor leaves nothing behind. Everything else about the run is the supervisor's.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO


def main() -> None:
    """Execute the job on standard input; exit code 0 whenever the last event says how it ended."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    job = json.loads(sys.stdin.readline())
    execute(job, answers)


def execute(job: dict[str, Any], answers: TextIO) -> None:
    """Execute a job: `notebook`, `output`, `folder`, `parameters`, and `cell_timeout` in seconds or null."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    kernel: list[int] = []

    def say(event: str, **fields: Any) -> None:
        if event == "kernel":
            kernel.append(fields["pid"])
        answers.write(json.dumps({"event": event, **fields}) + "\n")

    with _socket_folder() as sockets:
        threading.Thread(target=_die_with_supervisor, args=(kernel, sockets), daemon=True).start()
        _register_engine(say, sockets)
        try:
            execute_notebook(
                _notebook(Path(job["notebook"])),
                job["output"].replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
                parameters=job["parameters"],
                engine_name="claimbook",
                progress_bar=False,
                cwd=job["folder"],
                execution_timeout=job["cell_timeout"],
                autosave_cell_every=5,
            )
        except PapermillExecutionError as error:
            say("failed", cell=error.cell_index, error=error.ename, message=error.evalue)
        except CellTimeoutError as error:
            say("timed-out", message=str(error).splitlines()[0])
        except DeadKernelError:
            say("failed", error="KernelDied", message="the kernel was killed or ran out of memory")
        else:
            say("finished")


def _register_engine(say: Any, sockets: Path) -> None:
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine, papermill_engines

    class Client(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
        """papermill's client, over sockets of its own, telling where it is."""

        def create_kernel_manager(self) -> Any:
            manager = super().create_kernel_manager()
            if os.name == "posix":
                # ports are picked, freed, then bound: parallel runs can collide. Socket files cannot.
                manager.transport = "ipc"
                manager.ip = str(sockets / "kernel")
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

        def papermill_execute_cells(self) -> None:
            say("kernel", pid=self.km.provisioner.pid)
            super().papermill_execute_cells()

    class Engine(NBClientEngine):  # type: ignore[misc]
        """papermill's engine with our client."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            count = len(nb_man.nb.cells)
            client = Client(
                nb_man,
                timeout=options.get("execution_timeout"),
                startup_timeout=120,
                kernel_name=kernel_name,
                shutdown_kernel="immediate",
                on_cell_start=lambda cell, cell_index: say("cell", index=cell_index, count=count),
            )
            return client.execute()

    papermill_engines.register("claimbook", Engine)


def _notebook(path: Path) -> Any:
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.metadata.setdefault("kernelspec", {}).update(name="python3", language="python")
    return notebook


@contextmanager
def _socket_folder() -> Iterator[Path]:
    # not TMPDIR: a socket's path is limited to about 100 characters
    base = "/tmp" if os.path.isdir("/tmp") else None
    folder = Path(tempfile.mkdtemp(prefix="claimbook-", dir=base))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _die_with_supervisor(kernel: list[int], sockets: Path) -> None:
    """Wait for the end of standard input, then leave at once."""
    # not sys.stdin: a thread that waits inside it aborts the interpreter's own exit
    while os.read(0, 4096):
        pass
    for pid in kernel:
        with suppress(OSError):
            os.killpg(pid, signal.SIGKILL) if os.name == "posix" else os.kill(pid, signal.SIGTERM)
    shutil.rmtree(sockets, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
