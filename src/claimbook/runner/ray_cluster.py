"""A Ray cluster: reached or started here, which nodes have room for a run, and waiting for their answers.

Knows nothing of runs. Ray is loaded when a cluster is asked for and not before: it is an extra.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from claimbook.errors import RunError
from claimbook.experiments import is_alive, this_process
from claimbook.records import Process
from claimbook.runner.sockets import TEMPORARY

GRACE = 2.0
"""Seconds that a node has to answer once the batch is told to stop."""
STARTS = 3
"""Attempts to start a cluster: Ray gives its processes 30 s to come up, which a busy machine may exceed."""
_OWNER = "owner.json"
_FOLDER = "CLAIMBOOK_RAY_FOLDER"
"""The variable by which the processes of a cluster that was started here are known, whoever adopts them."""


class StoppedError(Exception):
    """The batch was told to stop, and the node did not answer in time."""


@dataclass(frozen=True)
class Needs:
    """What a run takes of its node while it is made."""

    cpus: int
    gpus: float = 0.0

    def room(self, resources: Mapping[str, float]) -> int:
        """How many runs fit beside each other on a node with these resources."""
        room = int(resources.get("CPU", 0) // self.cpus)
        gpus = int(resources.get("GPU", 0))
        if self.gpus == 0:
            return room
        # Ray never lays a share over two GPUs; 1e-9: three times a third is one
        by_gpu = gpus * int(1 / self.gpus + 1e-9) if self.gpus < 1 else int(gpus / self.gpus)
        return min(room, by_gpu)

    def __str__(self) -> str:
        return f"{self.cpus} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str
    """For people: host, address, and how its id begins."""
    room: int


def load() -> Any:
    """The library. Raises RunError when it is not installed."""
    if (loaded := sys.modules.get("ray")) is not None:  # slots ask from several threads
        return loaded
    try:
        # what a cluster's processes report would be printed among our lines; Ray reads this as it is imported
        with _variable("RAY_DEDUP_LOGS_SKIP_REGEX", ".*"):
            import ray
    except ImportError:
        raise RunError("Ray is not installed", fix="pip install 'claimbook[ray]'") from None
    return ray


@contextmanager
def connected(address: str | None, processors: int) -> Iterator[None]:
    """A cluster: the one at an address, or one on this machine with so many logical processors.

    Left again when this is left, and ended when it was started here. Raises RunError when there is none, or
    when Ray does not come up.
    """
    ray = load()
    with ExitStack() as leaving:
        where: dict[str, Any] = {"address": address}
        if address is None or address == "local":
            folder = own_folder("claimbook-ray-", TEMPORARY)  # Ray's sockets lie there
            leaving.callback(remove, folder)
            where = {
                "address": "local",
                "num_cpus": processors,
                "include_dashboard": False,
                "_temp_dir": str(folder),
            }
        leaving.callback(ray.shutdown)
        _join(where)
        yield


def own_folder(prefix: str, parent: Path | None = None) -> Path:
    """A new temporary folder that this process owns; those that killed ones left behind are removed."""
    parent = parent or Path(tempfile.gettempdir())
    for mark in parent.glob(f"{prefix}*/{_OWNER}"):
        with suppress(OSError, msgspec.MsgspecError):
            owner = msgspec.json.decode(mark.read_bytes(), type=Process)
            if owner.host == this_process().host and not is_alive(owner):
                remove(mark.parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    (folder / _OWNER).write_bytes(msgspec.json.encode(this_process()))
    return folder


def remove(folder: Path) -> None:
    """Remove a folder that a process owned, and end what lives of a cluster that was started in it."""
    _end_processes(folder)
    shutil.rmtree(folder, ignore_errors=True)


def nodes(needs: Needs) -> list[Node]:
    """The nodes that are up and have room for a run."""
    alive = [node for node in load().nodes() if node["Alive"]]
    found = [
        Node(
            id=node["NodeID"],
            name=f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, node {node['NodeID'][:8]})",
            room=needs.room(node["Resources"]),
        )
        for node in alive
    ]
    return [node for node in found if node.room]


def answer(reference: Any, stop: threading.Event) -> Any:
    """What a remote call returns; it may take for ever, but not after `stop`.

    Raises StoppedError when `GRACE` seconds have gone by since, and what Ray raises when the actor is gone.
    """
    ray = load()
    deadline = None
    while not ray.wait([reference], timeout=0.2)[0]:
        if stop.is_set():
            deadline = deadline or time.monotonic() + GRACE
            if time.monotonic() > deadline:
                raise StoppedError
    return ray.get(reference)


def in_short(error: BaseException) -> str:
    """What an error of Ray says in one line; the rest is for its developers."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    traceback = any(line.startswith("File ") for line in lines)
    return (lines[-1] if traceback else lines[0]).rstrip(".")


def _join(where: Mapping[str, Any]) -> None:
    """Start the cluster, or join it."""
    ray, local = load(), where["address"] == "local"
    for attempt in range(1, STARTS + 1):
        try:
            _knock(where["address"])
            with _our_signals(), ExitStack() as variables:
                variables.enter_context(_variable("RAY_USAGE_STATS_ENABLED", "0"))
                if local:
                    variables.enter_context(_variable(_FOLDER, where["_temp_dir"]))
                    # else a process of Ray that gives itself a name loses its variables by it
                    variables.enter_context(_variable("SPT_NOENV", "1"))
                ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
            return
        except Exception as error:  # of many classes, by what failed
            ray.shutdown()
            if local:
                _end_processes(Path(where["_temp_dir"]))
            if attempt == STARTS or not local:
                raise RunError(
                    f"Ray did not come up at {where['address']}: {in_short(error)}",
                    fix="look whether a cluster runs there (`ray status`); on a busy machine, try again",
                ) from error


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at a host and port: Ray would try for minutes, and print it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


def _end_processes(folder: Path) -> None:
    """End what lives of the cluster that was started in a folder.

    Ray ends what it started only once all of that has come up, and does not wait until it is gone.
    """
    deadline = time.monotonic() + 10.0  # one that hangs inside the system does not die
    while time.monotonic() < deadline:
        living = [process for process in psutil.process_iter() if _started_in(folder, process)]
        if not living:
            return
        for process in living:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(living, timeout=1.0)


def _started_in(folder: Path, process: psutil.Process) -> bool:
    try:
        return process.environ().get(_FOLDER) == str(folder)
    except psutil.Error:  # another user's, or gone
        return False


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray installs a handler for SIGTERM; the command line's must stay, which ends a batch in order."""
    ours = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit:  # Ray's handler was there already
        if callable(ours):
            ours(signal.SIGTERM, None)
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ours)


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
    """An environment variable, for as long as this is not left; one that is set already stays as it is."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
