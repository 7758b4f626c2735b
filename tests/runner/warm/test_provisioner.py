"""papermill and nbclient use the kernelspec `claimbook` unchanged, warm where that is possible."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from claimbook.runner.sockets import socket_folder
from claimbook.runner.warm import client
from claimbook.runner.warm.client import ForkServer, NotWarmError, shared_server
from claimbook.runner.warm.provisioner import SERVER_VARIABLE

IS_WARM = "import os, psutil; print(any('server.py' in w for w in psutil.Process(os.getppid()).cmdline()))"
"""The parent of a forked kernel is a keeper, a fork of the server."""


def test_plain_papermill_is_warm(server, make_notebook, tmp_path):
    make_notebook(tmp_path / "note.ipynb", "x: int = 1", IS_WARM, "print(x + 1)")
    command = [
        "papermill",
        "-k",
        "claimbook",
        "-p",
        "x",
        "41",
        "--cwd",
        str(tmp_path),
        "note.ipynb",
        "out.ipynb",
    ]
    variables = {**os.environ, "OMP_NUM_THREADS": "2", SERVER_VARIABLE: str(server.address()[0])}
    command = [sys.executable, "-m", *command]
    subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True)
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    printed = ["".join(output["text"]).strip() for cell in cells for output in cell["outputs"]]
    assert printed == ["True", "42"]


@pytest.mark.parametrize("shutdown", ["immediate", "graceful"])
def test_plain_nbclient_is_warm(server, outputs, shutdown):
    found = outputs(IS_WARM, server.address()[0], shutdown_kernel=shutdown)
    assert found[0]["text"] == "True\n"


def test_without_a_server_a_kernel_starts_cold_and_says_why(start, tmp_path):
    with start(tmp_path / "nobody") as kernel:
        assert "no fork server answers" in kernel.provisioner.why_cold
        assert kernel.provisioner.keeper is None
        assert kernel.printed(IS_WARM) == "False"


def test_two_kernels_at_once_know_nothing_of_each_other(server, start):
    address = server.address()[0]
    with start(address) as one, start(address) as other:
        one.printed("x = 1")
        assert other.printed("print('x' in globals())") == "False"
        assert one.provisioner.pid != other.provisioner.pid
        one.manager.shutdown_kernel(now=True)
        assert other.printed("print(6 * 7)") == "42"


def test_a_signal_reaches_the_kernel_and_its_end_is_seen(server, start):
    with start(server.address()[0]) as kernel:
        assert kernel.manager.is_alive()
        assert kernel.manager.has_kernel
        kernel.manager.signal_kernel(signal.SIGTERM)
        assert kernel.provisioner.process.wait(30) == -signal.SIGTERM
        assert not kernel.manager.is_alive()


def test_an_environment_too_large_for_one_packet_arrives_whole(server, start):
    with start(server.address()[0], {f"CLAIMBOOK_TEST_{n}": "상품" * 5000 for n in range(30)}) as kernel:
        assert kernel.provisioner.why_cold is None
        code = "import os; print(sum(len(os.environ[f'CLAIMBOOK_TEST_{n}']) for n in range(30)))"
        assert kernel.printed(code) == "300000"


def test_a_pipe_cannot_be_had_from_a_fork(server, start):
    with start(server.address()[0], stdout=subprocess.PIPE) as kernel:
        assert kernel.provisioner.why_cold == "a forked kernel has no pipes"


@pytest.fixture
def private(tmp_path, monkeypatch):
    """A folder of shared servers for this test, which are ended after it."""
    short = socket_folder()
    monkeypatch.setattr(client, "TEMPORARY", short)
    yield short
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(short) in word for word in process.cmdline()):
                process.kill()
                process.wait(5)
    shutil.rmtree(short)


def test_a_shared_server_is_started_once_found_again_and_private(private, gone):
    first = shared_server(["json"], os.environ)
    assert shared_server(["json"], os.environ) == first
    assert shared_server(["json"], {**os.environ, "OMP_NUM_THREADS": "7"}) != first
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700


def test_clients_that_come_at_once_start_one_shared_server(private):
    code = f"import pathlib; private = pathlib.Path({str(private)!r})\n"
    code += "from claimbook.runner.warm import client; client.TEMPORARY = private\n"
    code += "import os; print(client.shared_server(['json'], os.environ))"
    clients = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    found = {process.communicate(timeout=100)[0] for process in clients}
    assert len(found) == 1
    servers = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(private) in word and "socket" in word for word in process.cmdline()):
                servers.append(process.pid)
    assert len(servers) == 1


def test_a_shared_server_ends_when_nobody_has_asked_for_long(private, monkeypatch):
    monkeypatch.setattr(client, "SHARED_SECONDS", 0.3)
    address = shared_server([], os.environ)
    end = time.monotonic() + 20
    while address.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not address.exists()


def test_a_folder_that_others_may_enter_is_not_used(private):
    folder = private / f"claimbook-{os.getuid()}"
    folder.mkdir(mode=0o755)
    with pytest.raises(NotWarmError, match="not a folder of this user alone"):
        shared_server([], os.environ)


def test_kernels_of_a_server_that_was_named_outlive_the_batch_that_ended_it(start):
    with (
        ForkServer([], {**os.environ, "OMP_NUM_THREADS": "2"}) as server,
        start(server.address()[0]) as kernel,
    ):
        server.close()
        assert kernel.printed("print(6 * 7)") == "42"
