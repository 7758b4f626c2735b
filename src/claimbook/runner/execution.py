"""papermill as a run needs it: kernels warm or cold, sockets of their own, notebooks saved as they go.

Knows one job at a time; where jobs come from is the worker's. Loads papermill when it is imported.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_core.utils import run_sync
from nbclient.exceptions import DeadKernelError
from papermill import execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from papermill.iorw import LocalHandler, papermill_io
from papermill.translators import PythonTranslator, papermill_translators

from claimbook.records.experiment import Value
from claimbook.runner.parameters import injected_source, notebook_parameters
from claimbook.runner.warm.provisioner import WarmProvisioner
from claimbook.surroundings import redacted
from claimbook.workspace import write_bytes

SAVE_SECONDS = 2.0
"""How long output may wait to be saved while its cell runs."""

Say = Callable[..., None]


class KernelNotStartedError(RuntimeError):
    """A kernel that died, or was silent, before it first answered."""


def execute(job: dict[str, Any], sockets: Path, say: Say) -> None:
    """Execute a job and say how it ended.

    job: `notebook`, `output`, `folder` (where the kernel works), `parameters`, `environment` (variables that
    its kernel gets on top of ours), `warm` (the socket of a fork server, or None for a cold kernel).
    sockets: a folder with a short path.
    """
    output = Path(job["output"])
    papermill_io.register(output.anchor, _WholeFiles())
    papermill_engines.register("claimbook", _Engine)
    try:
        papermill_translators.register("python", _translator(Path(job["notebook"])))
        execute_notebook(
            _notebook(Path(job["notebook"])),
            str(output).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
            parameters=job["parameters"],
            engine_name="claimbook",
            progress_bar=False,
            autosave_cell_every=0,  # it saves when output comes; ours also when no more comes
            job=job,
            sockets=sockets,
            say=say,
        )
    except PapermillExecutionError as error:
        say("failed", cell=error.cell_index, error=error.ename, message=error.evalue)
    except DeadKernelError as error:
        say("failed", error="KernelDied", message=str(error))
    except Exception as error:  # whatever a library raises is this run's failure, and the worker goes on
        message = redacted(f"while executing the notebook: {error}")
        say("failed", error=type(error).__name__, message=message)
    else:
        write_bytes(output, output.read_bytes())  # this time to outlast a power cut
        say("finished")


def _translator(notebook: Path) -> type[PythonTranslator]:
    """papermill's way to write parameters, each as the type that the notebook declares."""
    declared = notebook_parameters(notebook)

    class Declared(PythonTranslator):  # type: ignore[misc]
        @classmethod
        def codify(cls, parameters: dict[str, Value], comment: str = "") -> str:
            return injected_source(parameters, declared)

    return Declared


class _WholeFiles(LocalHandler):  # type: ignore[misc]  # papermill has no types
    """Files that are replaced whole, so that a crash leaves the last state."""

    def write(self, text: str, path: str) -> None:
        write_bytes(Path(path), text.encode(), durable="no")


class _Engine(NBClientEngine):  # type: ignore[misc]
    """papermill's engine with our client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, job: dict[str, Any], sockets: Path, say: Say, **_: Any
    ) -> Any:
        client = _Client(nb_man, job, sockets, say, kernel_name=kernel_name)
        environment = {**os.environ, **job["environment"]}
        return client.execute(env=environment, cwd=job["folder"])


class _Client(PapermillNotebookClient):  # type: ignore[misc]
    """papermill's client; its kernels are this interpreter's, and it saves while a cell runs."""

    def __init__(self, nb_man: Any, job: dict[str, Any], sockets: Path, say: Say, **options: Any) -> None:
        count = len(nb_man.nb.cells)
        super().__init__(
            nb_man,
            timeout=None,  # the supervisor watches cells and the whole run
            startup_timeout=120,
            iopub_timeout=3600,  # for output that is still on its way: nbclient gives 100 MB no more than 4 s
            shutdown_kernel="immediate",
            on_cell_start=lambda cell, cell_index: say("cell", index=cell_index, count=count),
            **options,
        )
        self._job = job
        self._sockets = sockets
        self._say = say
        self._unsaved = False
        self._death = "the kernel died"

    def create_kernel_manager(self) -> Any:
        manager = super().create_kernel_manager()
        manager.client_factory = _Connection
        manager.kernel_id = uuid.uuid4().hex
        if os.name == "posix":
            # ports are picked, freed, then bound: parallel runs can collide. Socket files cannot.
            manager.transport = "ipc"
            manager.ip = str(self._sockets / manager.kernel_id[:8])
        # this very interpreter, whatever a kernelspec of the user says
        launcher = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        manager.kernel_spec.argv = [*launcher, "--HistoryManager.enabled=False"]
        if self._job["warm"]:
            manager.provisioner = WarmProvisioner(
                kernel_id=manager.kernel_id,
                kernel_spec=manager.kernel_spec,
                parent=manager,
                server=self._job["warm"],
            )
        return manager

    async def async_start_new_kernel(self, **kwargs: Any) -> None:
        await super().async_start_new_kernel(**kwargs)
        kernel = self.km.provisioner
        keeper = getattr(kernel, "keeper", None)
        kind, why = "warm" if keeper else "cold", getattr(kernel, "why_cold", None)
        self._say("kernel", kind=kind, why=why, pid=kernel.pid, keeper=keeper)

    start_new_kernel = run_sync(async_start_new_kernel)

    async def async_execute_cell(self, *args: Any, **kwargs: Any) -> Any:
        saving = asyncio.ensure_future(self._save_as_it_goes())
        try:
            return await super().async_execute_cell(*args, **kwargs)
        except DeadKernelError:
            raise DeadKernelError(self._death) from None
        finally:
            saving.cancel()

    execute_cell = run_sync(async_execute_cell)

    async def _async_check_alive(self) -> None:
        """nbclient's own, which does not say how a kernel died."""
        try:
            await super()._async_check_alive()
        except DeadKernelError:
            process = self.km.provisioner.process
            if process is not None and process.returncode is not None:
                self._death = _death(process.returncode)
            raise

    async def _save_as_it_goes(self) -> None:
        seconds = 0.0
        while True:
            await asyncio.sleep(max(SAVE_SECONDS, 10 * seconds))  # large notebooks take long to write
            if self._unsaved:
                self._unsaved = False
                began = time.monotonic()
                with suppress(OSError):  # the save at the cell's end will say so
                    self.nb_man.save()
                seconds = time.monotonic() - began

    def process_message(self, *args: Any, **kwargs: Any) -> Any:
        self._unsaved = True
        return super().process_message(*args, **kwargs)

    def output(self, outs: Any, msg: Any, display_id: Any, cell_index: int) -> Any:
        """Record a cell's output without the secrets that a traceback or a print may hold."""
        made = super().output(outs, msg, display_id, cell_index)
        if made is not None:
            _redact(made)
        return made


class _Connection(AsyncKernelClient):
    """jupyter_client's connection to a kernel, ready as soon as the kernel answers and its output arrives.

    jupyter_client waits until there was no output for 0.2 s besides. nbclient needs no such quiet: it looks
    whose each message is.
    """

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Raises KernelNotStartedError when the kernel dies, or does not answer within seconds."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        while not await self._answers():
            if not await self._async_is_alive():
                raise KernelNotStartedError("the kernel died before it answered")
            if time.monotonic() > deadline:
                raise KernelNotStartedError(f"the kernel did not answer within {timeout:g} s")

    async def _answers(self) -> bool:
        self.kernel_info()
        with suppress(Empty):
            await self.shell_channel.get_msg(timeout=1)
            await self.iopub_channel.get_msg(timeout=0.2)
            return True
        return False


def _death(code: int) -> str:
    """How a kernel died that was not told to, by its exit code as Popen has it."""
    if code >= 0:
        return f"the kernel ended by itself, with exit code {code}"
    name = signal.Signals(-code).name
    why = ", by hand or since memory ran out" if name == "SIGKILL" else ""
    return f"the kernel was ended by {name}{why}"


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
