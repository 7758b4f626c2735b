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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from claimbook.errors import RunError

GRACE = 2.0
"""Seconds that a node has to answer once the batch is told to stop."""


STARTS = 3
"""Attempts to start a cluster: Ray gives its processes 30 s to come up, which a busy machine may exceed."""


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
        if address is None or address == "local":
            # a socket's path is limited to about 100 characters, so not under TMPDIR
            folder = tempfile.mkdtemp(prefix="claimbook-ray-", dir="/tmp" if os.path.isdir("/tmp") else None)
            leaving.callback(shutil.rmtree, folder, ignore_errors=True)
            where: dict[str, Any] = {
                "address": "local",
                "num_cpus": processors,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        else:
            where = {"address": address}
        leaving.callback(ray.shutdown)
        for attempt in range(1, STARTS + 1):
            try:
                _knock(where["address"])
                with _our_signals(), _variable("RAY_USAGE_STATS_ENABLED", "0"):
                    ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
                break
            except Exception as error:  # of many classes, by what failed
                ray.shutdown()
                if attempt == STARTS or where["address"] != "local":
                    raise RunError(
                        f"Ray did not come up at {where['address']}: {first_line(error)}",
                        fix="look whether a cluster runs there (`ray status`); on a busy machine, try again",
                    ) from error
        yield


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


def first_line(error: BaseException) -> str:
    """What an error of Ray says in short; the rest is for its developers."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at a host and port: Ray would try for minutes, and print it."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()


@contextmanager
def _our_signals() -> Iterator[None]:
    """Ray installs a handler for SIGTERM; the command line's must stay, which ends a batch in order."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


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
