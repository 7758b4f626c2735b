"""A real MLflow server on a loopback port, and runs that look like anyone's."""

from __future__ import annotations

import base64
import http.client
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import psutil
import pytest

from claimbook.experiments import Experiment, this_process
from claimbook.records import Finish, ItemScores, Run, Step, Verdict
from claimbook.workspace import Workspace

ROOT = Path(__file__).parent.parent.parent
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
START = 180
"""Seconds that the server may take to answer."""


@dataclass(frozen=True)
class TrackingServer:
    """A running `mlflow server` with its store in SQLite."""

    address: str
    database: Path

    def count(self, table: str, run_id: str) -> int:
        """Rows that the server's database holds for a run."""
        with sqlite3.connect(self.database) as connection:
            query = f"select count(*) from {table} where run_uuid = ?"
            return int(connection.execute(query, (run_id,)).fetchone()[0])

    def change(self, statement: str, *values: str) -> None:
        """Change the server's database behind its back."""
        with sqlite3.connect(self.database) as connection:
            connection.execute(statement, values)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrackingServer]:
    """`mlflow server`, stopped with all its children when the tests are done."""
    program = os.environ.get("CLAIMBOOK_TEST_MLFLOW", str(ROOT / ".venv-peers" / "mlflow" / "bin" / "mlflow"))
    if shutil.which(program) is None:
        pytest.skip("no mlflow server: `make peers`, or name one in CLAIMBOOK_TEST_MLFLOW")
    folder = tmp_path_factory.mktemp("mlflow")
    found = TrackingServer(f"http://127.0.0.1:{free_port()}", folder / "mlflow.db")
    command = [program, "server", "--host", "127.0.0.1", "--port", found.address.rpartition(":")[2]]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{found.database}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = {**os.environ, **QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until_it_answers(f"{found.address}/health", process, folder / "log")
            yield found
        finally:
            stop(process)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers; fails when one of them outlives that."""
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    os.killpg(process.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=10)
    for member in alive:
        member.kill()
    _, alive = psutil.wait_procs(alive, timeout=10)
    assert not alive


@pytest.fixture
def client(server: TrackingServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """MLflow's own client, as a team would use it and as the tests look at the server."""
    for name, value in {**QUIET, "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}.items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=server.address)


@pytest.fixture
def guarded(server: TrackingServer) -> Iterator[str]:
    """host:port of a proxy before the server that lets in nobody but user `team`, password `ssh!hush`."""
    proxy = ThreadingHTTPServer(("127.0.0.1", 0), guard(server.address.removeprefix("http://")))
    thread = Thread(target=proxy.serve_forever)
    thread.start()
    yield f"127.0.0.1:{proxy.server_port}"
    proxy.shutdown()
    proxy.server_close()
    thread.join()


def guard(behind: str) -> type[BaseHTTPRequestHandler]:
    wanted = "Basic " + base64.b64encode(b"team:ssh!hush").decode()

    class Guard(BaseHTTPRequestHandler):
        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Authorization") != wanted:
                self.answer(401, b"You are not authenticated.")
                return
            connection = http.client.HTTPConnection(behind)
            headers = {"Content-Type": self.headers.get("Content-Type") or "application/octet-stream"}
            connection.request(self.command, self.path, body, headers)
            response = connection.getresponse()
            self.answer(response.status, response.read())
            connection.close()

        def answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

    return Guard


@pytest.fixture
def experiment(toy: Workspace) -> Experiment:
    """An experiment whose slug no other test uses: the server is the same for all."""
    slug = f"mug-{uuid.uuid4().hex[:12]}"
    shutil.move(toy.experiments / "toy", toy.experiments / slug)
    return Experiment.of(toy, slug)


@pytest.fixture
def add_run(experiment: Experiment) -> Callable[..., Run]:
    """Write a run: recall@1 is 0.75 over four items of two products, the loss falls in three steps.

    It began at 2026-11-24T00:00:00Z, 1795478400 seconds after the epoch, and took ten seconds.
    """
    losses = (2.0, 1.0, 0.5)

    def add(arm: str = "baseline", seed: int = 0, **changes: Any) -> Run:
        fields: dict[str, Any] = {
            "id": f"{arm}-s{seed}-20261124-000000-abcdef",
            "experiment": experiment.slug,
            "arm": arm,
            "seed": seed,
            "kind": "confirmatory",
            "why_exploratory": [],
            "seal": "5" * 64,
            "notebook": "toy",
            "parameters": {"loss": "sigmoid", "lr": 0.002, "shuffle": False, "crops": [1, 2], "seed": seed},
            "fingerprints": {"notebook": "a" * 64, "code": {"shelf.py": "b" * 64}, "data": "d" * 64},
            "environment": {"python": "3.11.7", "torch": "2.13.0"},
            "git": {"commit": "c" * 40, "diff": None},
            "status": "finished",
            "started": "2026-11-24T00:00:00.000Z",
            "process": this_process(),
            "ended": "2026-11-24T00:00:10.000Z",
            "seconds": 10.0,
            "metrics": {"recall@1": 0.75},
            "chance": {"recall@1": 0.25},
        }
        run = Run(**{**fields, **changes})
        lines: list[Step | Finish] = [
            Step(step=number, values={"loss": loss}, at=float(number)) for number, loss in enumerate(losses)
        ]
        if run.status == "finished":
            scores = ItemScores.of(
                {"item": ["a", "b", "c", "d"], "cluster": ["m", "m", "n", "n"], "recall@1": [1, 1, 1, 0]}
            )
            digest = experiment.save_items(run.id, scores)
            run = msgspec.structs.replace(run, items_sha256=digest)
            lines.append(Finish(metrics=run.metrics, chance=run.chance, items_sha256=digest))
            experiment.notebook_path(run.id).write_text('{"cells": []}')
        experiment.save_run(run)
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        (experiment.run_folder(run.id) / "metrics.jsonl").write_bytes(text)
        return run

    return add


@pytest.fixture
def verdict(experiment: Experiment) -> Verdict:
    """A supported verdict under the seal that `add_run` names: 0.6 against 0.2."""
    return Verdict(
        experiment=experiment.slug,
        outcome="supported",
        reasons=[],
        seal="5" * 64,
        kind="superiority",
        scope="method",
        metric="hit@1",
        direction="higher",
        margin=0.05,
        alpha=0.05,
        effect=0.4,
        interval=[0.39, 0.41],
        p=0.03125,
        p_adjusted=0.03125,
        family={experiment.slug: 0.03125},
        smallest_p=0.03125,
        equivalent=False,
        units=6,
        means={"baseline": 0.2, "treatment": 0.6},
        pairs=[],
        controls=[],
        replication=None,
        data="d" * 64,
        data_description="tiny: 12 pictures",
        our_scale=None,
        paper_scale=None,
    )
