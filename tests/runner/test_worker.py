"""The worker: what it says of a job, what it saves, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from claimbook.runner.sockets import socket_folder
from claimbook.runner.warm.client import ForkServer


class Worker:
    """A real worker process, and what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sockets = socket_folder()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "claimbook.runner.worker", str(self.sockets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def begin(self, notebook: Path, warm: Path | None = None, **environment: str) -> None:
        job = {
            "notebook": str(notebook),
            "output": str(self.folder / "out.ipynb"),
            "folder": str(self.folder),
            "parameters": {"x": 5},
            "environment": environment,
            "warm": str(warm) if warm else None,
        }
        assert self.process.stdin
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        assert self.process.stdout
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def rest(self) -> list[dict[str, Any]]:
        said = [self.next()]
        while said[-1]["event"] not in ("finished", "failed"):
            said.append(self.next())
        return said

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=10)
        self.process.stdout.close()

    def saved(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "out.ipynb").read_text())
        return found

    def printed(self) -> list[str]:
        cells = self.saved()["cells"]
        return ["".join(o["text"]).strip() for cell in cells for o in cell.get("outputs", ()) if "text" in o]


@pytest.fixture
def worker(tmp_path) -> Iterator[Worker]:
    folder = tmp_path / "실험 하나 {x}"
    folder.mkdir()
    worker = Worker(folder)
    yield worker
    if worker.process.poll() is None:
        worker.end()


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer(["numpy"], os.environ) as server:
        yield server


def until_gone(*pids: int) -> bool:
    end = time.monotonic() + 10
    while any(psutil.pid_exists(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(psutil.pid_exists(pid) for pid in pids)


WHERE = "import os; print(x, os.environ['CLAIMBOOK_TEST_MARK'], os.path.basename(os.getcwd()))"


def test_a_job_runs_warm_then_cold_in_one_worker(worker, server, make_notebook):
    make_notebook(worker.folder / "note.ipynb", "x: int = 1", WHERE)
    kinds = []
    for warm in (server.address()[0], None):
        worker.begin(worker.folder / "note.ipynb", warm, CLAIMBOOK_TEST_MARK="상품")
        kernel, *cells, last = worker.rest()
        assert kernel["event"] == "kernel"
        assert kernel["why"] is None
        assert (kernel["keeper"] is None) == (kernel["kind"] == "cold")
        kinds.append(kernel["kind"])
        assert cells == [{"event": "cell", "index": n, "count": 3} for n in range(3)]
        assert last == {"event": "finished"}
        assert worker.printed() == ["5 상품 실험 하나 {x}"]
        assert until_gone(kernel["pid"])
    assert kinds == ["warm", "cold"]


def test_a_server_that_is_not_there_is_said_as_the_reason(worker, make_notebook, tmp_path):
    make_notebook(worker.folder / "note.ipynb", "x: int = 1")
    worker.begin(worker.folder / "note.ipynb", tmp_path / "nobody")
    kernel, *_, last = worker.rest()
    assert kernel["kind"] == "cold"
    assert "no fork server answers" in kernel["why"]
    assert last == {"event": "finished"}


def test_a_failure_is_said_with_its_cell_and_a_dead_kernel_as_such(worker, server, make_notebook):
    note = worker.folder / "note.ipynb"
    make_notebook(note, "x: int = 1", "raise ValueError('the shelf is empty')", "print('never')")
    worker.begin(note, server.address()[0])
    assert worker.rest()[-1] == {
        "event": "failed",
        "cell": 2,
        "error": "ValueError",
        "message": "the shelf is empty",
    }
    assert worker.printed() == []
    make_notebook(note, "x: int = 1", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    worker.begin(note, server.address()[0])
    assert worker.rest()[-1] == {
        "event": "failed",
        "error": "KernelDied",
        "message": "the kernel was ended by SIGKILL, by hand or since memory ran out",
    }


def test_a_kernel_that_ends_by_itself_is_told_from_one_that_was_killed(worker, server, make_notebook):
    note = worker.folder / "note.ipynb"
    make_notebook(note, "x: int = 1", "import os; os._exit(3)")
    for address in (server.address()[0], None):
        worker.begin(note, address)
        assert worker.rest()[-1]["message"] == "the kernel ended by itself, with exit code 3"
    make_notebook(note, "x: int = 1", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    worker.begin(note, server.address()[0])
    assert worker.rest()[-1]["message"] == "the kernel was ended by SIGSEGV"


def test_output_that_takes_long_to_arrive_is_waited_for(worker, server, make_notebook):
    note = worker.folder / "note.ipynb"
    make_notebook(note, "x: int = 1", "for _ in range(15):\n    print('x' * 2_000_000)")
    worker.begin(note, server.address()[0])
    assert worker.rest()[-1] == {"event": "finished"}


def test_what_a_library_raises_is_the_failure_of_its_run_alone(worker, server, make_notebook):
    note = worker.folder / "note.ipynb"
    note.write_text("{}")
    worker.begin(note, server.address()[0])
    last = worker.rest()[-1]
    assert last["event"] == "failed"
    assert last["message"].startswith("while executing the notebook: ")
    make_notebook(note, "x: int = 1")
    worker.begin(note, server.address()[0])
    assert worker.rest()[-1] == {"event": "finished"}


def test_what_a_cell_printed_is_saved_while_it_runs_and_outlasts_a_kill(worker, server, make_notebook):
    make_notebook(
        worker.folder / "note.ipynb",
        "x: int = 1",
        "print('so far', flush=True)\nimport time; time.sleep(600)",
    )
    worker.begin(worker.folder / "note.ipynb", server.address()[0])
    kernel = worker.next()
    while worker.next().get("index") != 2:
        pass
    end = time.monotonic() + 30
    while worker.printed() != ["so far"] and time.monotonic() < end:
        time.sleep(0.1)
    worker.process.kill()
    assert worker.printed() == ["so far"]
    assert [path.name for path in worker.folder.glob(".*")] == []
    assert until_gone(kernel["pid"], kernel["keeper"])


@pytest.mark.parametrize("warm", [True, False])
def test_the_end_of_its_input_ends_worker_and_kernel(worker, server, make_notebook, warm):
    make_notebook(worker.folder / "note.ipynb", "x: int = 1", "import time; time.sleep(600)")
    worker.begin(worker.folder / "note.ipynb", server.address()[0] if warm else None)
    kernel = worker.next()
    assert kernel["kind"] == ("warm" if warm else "cold")
    while worker.next().get("index") != 2:
        pass
    worker.end()
    assert until_gone(kernel["pid"])


def test_a_worker_that_is_interrupted_leaves_no_socket_folder(worker, make_notebook):
    make_notebook(worker.folder / "note.ipynb", "x: int = 1")
    worker.begin(worker.folder / "note.ipynb")
    assert worker.rest()[-1] == {"event": "finished"}
    assert worker.sockets.exists()
    worker.process.send_signal(signal.SIGINT)
    assert worker.process.wait(timeout=60) != 0
    assert not worker.sockets.exists()


def test_secrets_are_not_saved(worker, make_notebook, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_TEST_TOKEN", "shelf-secret-7")
    again = Worker(worker.folder)
    make_notebook(
        worker.folder / "note.ipynb", "x: int = 1", "import os; print(os.environ['CLAIMBOOK_TEST_TOKEN'])"
    )
    again.begin(worker.folder / "note.ipynb")
    assert again.rest()[-1] == {"event": "finished"}
    assert again.printed() == ["***"]
    again.end()
    assert again.process.returncode == 0 != -signal.SIGKILL
