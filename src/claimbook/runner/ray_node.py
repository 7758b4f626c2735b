"""What the Ray engine has on a node: a host for what its runs share, and the slots where they are made.

Ray makes an actor of each class. They take and give plain data alone: text, numbers, bytes. A slot is the
local one (`supervise.Slot`), so limits, time-outs and records are the same. Knows nothing of the workspace
that the runs belong to, nor of their ledger.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

import claimbook
from claimbook.experiments import Experiment
from claimbook.records import Run, Step, decode_json, encode_json
from claimbook.runner import parcel, ray_cluster
from claimbook.runner.engine import Update
from claimbook.runner.slots import Limits, Place, environment
from claimbook.runner.supervise import Slot
from claimbook.surroundings import distributions

LOOK = 0.5
"""Seconds that a look waits for a run to end."""
RESULTS = ("notebook.ipynb", "items.parquet", "metrics.jsonl")
"""What is brought back of a run; the finishing line, which says that all is there, comes last."""
_INSTALLED_PATH = [path for path in (os.environ.get("PYTHONPATH"),) if path]


class NodeHost:
    """What the runs of a batch share on a node: unpacked workspaces, and the fork server of their kernels."""

    def __init__(self, limits: dict[str, Any], preload: list[str] | None) -> None:
        self._folder = ray_cluster.own_folder("claimbook-node-")
        self._limits = Limits(**limits)
        self._preload = preload
        self._servers = ExitStack()
        self._addresses: dict[str, Any] = {}
        self._lock = threading.Lock()

    def package(self) -> tuple[str, str]:
        """Version and digest of the claimbook that is installed here."""
        return claimbook.__version__, parcel.package_digest()

    def receive(
        self, files: parcel.Files, notebook: str, parameters: dict[str, Any], fingerprints: dict[str, Any]
    ) -> tuple[str, list[str]]:
        """Unpack a parcel. Returns the workspace's root here, and what in it is not as it should be."""
        with self._lock:
            root = parcel.unpack(files, self._folder)
            return str(root), parcel.differences(root, notebook, parameters, fingerprints)

    def fork_server(self, root: str) -> tuple[str | None, str | None]:
        """The socket of the fork server for a workspace, or None and why kernels start cold."""
        from claimbook.runner.warm.client import ForkServer

        if self._preload is None:
            return None, None
        with self._lock:
            if root not in self._addresses:
                _let_interrupts_through()
                variables = {**os.environ, **environment(self._limits, Place()), **_import_path(root)}
                server = self._servers.enter_context(ForkServer(self._preload, variables))
                self._addresses[root] = server.address
        socket, why = self._addresses[root]()
        return None if socket is None else str(socket), why

    def stop(self) -> None:
        """End the fork server; kernels that run go on."""
        self._servers.close()

    def leave(self) -> None:
        """End the fork server and remove what was unpacked."""
        self.stop()
        ray_cluster.remove(self._folder)


class NodeSlot:
    """A place where runs are made one after another, with a worker process of its own."""

    def __init__(self, limits: dict[str, Any], gpu_share: float | None) -> None:
        self._limits = Limits(**limits)
        # Ray says by this variable which GPUs are ours; without a share we have none
        gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "") if gpu_share else ""
        self._place = Place(gpu=gpu, gpu_share=gpu_share or 1.0)
        self._root: str | None = None
        self._open = ExitStack()
        self._slot: Slot | None = None
        self._made: _Made | None = None

    def node(self) -> str:
        """The id of the node that it has come to lie on."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def begin(self, host: Any, root: str, experiment: str, run: bytes, notebook: str, cold: bool) -> None:
        """Begin a run in an unpacked workspace; `look` tells how it goes."""
        if root != self._root:
            self._move(host, root)
        assert self._slot is not None
        folder = Experiment(Path(root) / "experiments" / experiment)
        record = decode_json(run, Run, "the run")
        record = msgspec.structs.replace(record, environment=distributions())
        folder.save_run(record, durable="no")
        self._made = _Made(self._slot, folder, record, Path(root) / notebook, cold)

    def look(self, seen: int, stop: bool) -> dict[str, Any]:
        """What is new: `update` and `steps`, the bytes of metrics.jsonl behind the first `seen`.

        Once the run has ended: `run` and `files` instead. Waits up to `LOOK` seconds for that. stop: end it.
        """
        assert self._made is not None
        if stop:
            self._made.stop()
        return self._made.result() if self._made.ended(LOOK) else self._made.news(seen)

    def end(self) -> None:
        """Leave neither worker nor kernel."""
        if self._made is not None:
            self._made.stop()
            self._made.ended(2.0)
        self._open.close()

    def _move(self, host: Any, root: str) -> None:
        """Have the worker, and the kernels, import from another workspace: a new worker."""
        import ray

        def warm() -> tuple[Path | None, str | None]:
            try:
                socket, why = ray.get(host.fork_server.remote(root))
            except ray.exceptions.RayError:
                return None, "the node's fork server is gone"
            return (None if socket is None else Path(socket)), why

        self._open.close()
        os.environ.update(_import_path(root))
        self._slot = self._open.enter_context(Slot(self._limits, self._place, warm))
        self._root = root


class _Made:
    """A run under way in a thread of its own."""

    def __init__(self, slot: Slot, experiment: Experiment, run: Run, notebook: Path, cold: bool) -> None:
        self._experiment = experiment
        self._run = run
        self._update = Update()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._make, args=(slot, notebook, cold), daemon=True)
        _let_interrupts_through()
        self._thread.start()

    def _make(self, slot: Slot, notebook: Path, cold: bool) -> None:
        try:
            self._run = slot.run(self._experiment, self._run, notebook, self._stop, self._take, cold=cold)
        except BaseException as error:
            self._error = error

    def _take(self, update: Update) -> None:
        self._update = update

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does within so many seconds."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def stop(self) -> None:
        self._stop.set()

    def news(self, seen: int) -> dict[str, Any]:
        steps = _steps_behind(seen, self._experiment.metrics_path(self._run.id))
        return {"update": msgspec.to_builtins(self._update), "steps": steps}

    def result(self) -> dict[str, Any]:
        """What came of it; nothing of it stays here."""
        if self._error is not None:
            raise self._error
        folder = self._experiment.run_folder(self._run.id)
        files = {name: path.read_bytes() for name in RESULTS if (path := folder / name).exists()}
        shutil.rmtree(folder, ignore_errors=True)
        return {"run": msgspec.json.encode(encode_json(self._run)), "files": files}


def _steps_behind(seen: int, path: Path) -> bytes:
    """The whole lines of metrics.jsonl from a byte on, up to the finishing line.

    That one comes with the results: where it stands, the item scores must be there already.
    """
    try:
        with path.open("rb") as file:
            file.seek(seen)
            lines = file.read().split(b"\n")[:-1]
    except FileNotFoundError:
        return b""
    found = b""
    with suppress(msgspec.MsgspecError):
        for line in lines:
            msgspec.json.decode(line, type=Step)
            found += line + b"\n"
    return found


def _import_path(root: str) -> dict[str, str]:
    """The variable by which kernels find the project's sources, which are not installed here."""
    return {"PYTHONPATH": os.pathsep.join([root, f"{root}/src", *_INSTALLED_PATH])}


def _let_interrupts_through() -> None:
    """Ray blocks SIGINT in its processes, and a kernel would inherit that."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
