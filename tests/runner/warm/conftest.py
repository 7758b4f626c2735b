"""A fork server for the tests, and kernels to talk to."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from claimbook.runner.warm.client import ForkServer
from claimbook.runner.warm.provisioner import SERVER_VARIABLE, WarmProvisioner

PRELOAD = ["numpy", "pyarrow.parquet", "matplotlib.pyplot", "tqdm.auto", "torch"]


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """One with torch, numpy and matplotlib, and two threads for its kernels."""
    with ForkServer(PRELOAD, {**os.environ, "OMP_NUM_THREADS": "2"}) as server:
        yield server


class Kernel:
    """A kernel that executes code and tells what it printed."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager = manager
        self.client = client

    @property
    def provisioner(self) -> WarmProvisioner:
        assert isinstance(self.manager.provisioner, WarmProvisioner)
        return self.manager.provisioner

    def printed(self, code: str, timeout: float = 60) -> str:
        """What code printed on standard output, and the message of its error."""
        texts = []

        def keep(message: dict[str, Any]) -> None:
            content = message["content"]
            if content.get("name") != "stderr":
                texts.append(content.get("text") or content.get("evalue") or "")

        self.client.execute_interactive(code, timeout=timeout, output_hook=keep, allow_stdin=False)
        return "".join(texts).strip()


@contextmanager
def running(
    address: Path | str, environment: Mapping[str, str] | None = None, **options: Any
) -> Iterator[Kernel]:
    """A kernel of the kernelspec `claimbook`, from the server at an address."""
    with tempfile.TemporaryDirectory(prefix="claimbook-test-", dir="/tmp") as sockets:  # a short path
        manager = KernelManager(kernel_name="claimbook", transport="ipc", ip=f"{sockets}/k")
        variables = {
            **os.environ,
            "OMP_NUM_THREADS": "2",
            SERVER_VARIABLE: str(address),
            **(environment or {}),
        }
        manager.start_kernel(env=variables, **options)
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield Kernel(manager, client)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


@pytest.fixture
def start() -> Callable[..., Any]:
    """`running`, for tests that cannot import this file."""
    return running


@pytest.fixture
def kernel(server: ForkServer) -> Iterator[Kernel]:
    """A warm kernel."""
    address, why = server.address()
    assert address, why
    with running(address) as kernel:
        assert kernel.provisioner.why_cold is None
        yield kernel


@pytest.fixture
def gone() -> Callable[..., bool]:
    """Whether processes end, within 10 s."""

    def wait(*pids: int) -> bool:
        alive = []
        for pid in pids:
            with suppress(psutil.NoSuchProcess):
                alive.append(psutil.Process(pid))
        end = time.monotonic() + 10
        while alive and time.monotonic() < end:
            alive = [p for p in alive if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
            time.sleep(0.05)
        return not alive

    return wait


@pytest.fixture
def outputs() -> Callable[..., list[Any]]:
    """The outputs of a cell that plain nbclient executes."""

    def execute(code: str, address: Path | None, **options: Any) -> list[Any]:
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
        NotebookClient(notebook, kernel_name="claimbook", **options).execute(
            env={**os.environ, "OMP_NUM_THREADS": "2", SERVER_VARIABLE: str(address)}
        )
        found: list[Any] = notebook.cells[0].outputs
        return found

    return execute
