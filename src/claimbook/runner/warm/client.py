"""The client's side of warm kernels: fork servers, of a batch or a user's own, and kernels forked by them.

Knows how servers are started, found, restarted and ended. Knows nothing of Jupyter or of notebooks.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import IO, Any

from filelock import FileLock

from claimbook.runner.sockets import TEMPORARY, socket_folder
from claimbook.runner.warm import server
from claimbook.surroundings import redacted

READY_SECONDS = 180.0
"""How long a server may import, and a kernel start: a cold disk takes a minute to give torch."""

RESTARTS = 5
"""How often a batch's server is restarted before its kernels start cold."""

SHARED_SECONDS = 300.0
"""How long a shared server lives without a kernel."""

_NOT_HERE = None if sys.platform == "linux" else "warm kernels need Linux"


class NotWarmError(Exception):
    """No kernel can be forked. Its text is the reason, for whoever starts a cold one instead."""


class ForkedKernel:
    """A kernel and its keeper, in the shape of subprocess.Popen.

    Its end is reported once all that it had started is gone too. `close` ends all of them.
    """

    stdin = stdout = stderr = None

    def __init__(self, address: Path, request: Mapping[str, Any], streams: Sequence[int]) -> None:
        """Ask the server at an address for a kernel and wait until it listens. Raises NotWarmError."""
        self.returncode: int | None = None
        self._connection = _ask(address, request, streams)
        try:
            answer = _next_answer(self._connection)
            self.pid: int = answer["pid"]
            self.keeper: int = answer["keeper"]
            self._process = _pidfd(self.pid)
        except BaseException:
            self._connection.close()
            raise

    def poll(self) -> int | None:
        """The exit code, or None while it or anything that it started lives."""
        return self._ended(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once it is there. Raises subprocess.TimeoutExpired, seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._ended(1.0 if deadline is None else deadline - time.monotonic())) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("kernel", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the kernel and its process group, as jupyter_client does."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Have the keeper kill whatever still lives; `wait` tells when that is done."""
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)

    def __del__(self) -> None:
        process: int | None = getattr(self, "_process", None)
        if process is not None:
            os.close(process)

    def _ended(self, seconds: float) -> int | None:
        if self.returncode is None and _readable(self._connection.fileno(), seconds):
            try:
                self.returncode = _next_answer(self._connection)["exit"]
            except NotWarmError:  # the keeper was killed, and the kernel dies with it
                if self._process is None or _readable(self._process, seconds):
                    self.returncode = -signal.SIGKILL
            if self.returncode is not None:
                self._connection.close()
        return self.returncode


def request(
    interpreter: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
) -> dict[str, Any]:
    """What to ask a server for: a kernel as a child of this process would be.

    arguments: those of ipykernel_launcher; environment: the kernel's, whole; folder: where it works.
    Raises NotWarmError off Linux.
    """
    if _NOT_HERE:
        raise NotWarmError(_NOT_HERE)
    import resource

    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "interpreter": interpreter,
        "arguments": list(arguments),
        "environment": dict(environment),
        "folder": str(folder),
        "place": server.place(),
        "umask": _umask(),
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in names},
    }


class ForkServer:
    """A batch's own fork server, started at once and in the background; it ends when this is left.

    preload: modules, "torch", and names of lazy ones, "transformers:CLIPModel".
    environment: what the batch's kernels have in common, whole; it decides the numeric libraries' threads.
    """

    def __init__(self, preload: Sequence[str], environment: Mapping[str, str]) -> None:
        self.left_out: dict[str, str] = {}
        """Modules that the server does not have, and why; known once `address` has answered."""
        self._preload = list(preload)
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._restarts = 0
        self._closed = False
        self._folder = socket_folder()
        self._why_cold = _NOT_HERE
        self._server = None if _NOT_HERE else self._start()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def address(self) -> tuple[Path | None, str | None]:
        """Where a fresh server listens, or None and the reason. Waits for one, and restarts one that must be.

        Once `close` was called there is neither a server nor a reason. May be called from several threads.
        """
        with self._lock:
            while self._server is not None:
                try:
                    self.left_out = self._server.wait_until_ready()
                    _ask_whether_fresh(self._server.address)
                    return self._server.address, None
                except NotWarmError as reason:
                    self._why_cold = self._server.death() or str(reason)
                    self._server.close()
                    self._server = None
                    if not self._closed and self._restarts < RESTARTS:
                        self._restarts += 1
                        self._server = self._start()
            return None, None if self._closed else self._why_cold

    @property
    def pid(self) -> int | None:
        """The server's process; None when there is none."""
        return None if self._server is None else self._server.pid

    def close(self) -> None:
        """End the server, from any thread; who waits in `address` waits no more. Kernels go on."""
        self._closed = True
        if (server := self._server) is not None:
            server.end()
        with self._lock:  # one that was being restarted meanwhile
            if self._server is not None:
                self._server.close()
                self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> _ServerProcess:
        server = _ServerProcess(self._folder / "server", self._preload, self._environment, linger=None)
        if self._closed:  # meanwhile, and saw none to end
            server.end()
        return server


def shared_server(preload: Sequence[str], environment: Mapping[str, str]) -> Path:
    """Where this user's fork server for such kernels listens, started when there is none.

    It serves all clients of this interpreter and environment, and ends SHARED_SECONDS after its last kernel.
    Raises NotWarmError.
    """
    if _NOT_HERE:
        raise NotWarmError(_NOT_HERE)
    relevant = [sys.executable, list(preload), server.read_at_import(environment), server.place()]
    key = hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]
    address = _private_folder() / key
    with suppress(NotWarmError):
        _ask_whether_fresh(address)
        return address
    with FileLock(f"{address}.lock", timeout=READY_SECONDS):
        try:
            _ask_whether_fresh(address)  # another client has started it meanwhile
        except NotWarmError:
            with closing(_ServerProcess(address, preload, environment, linger=SHARED_SECONDS)) as started:
                started.wait_until_ready()
    return address


class _ServerProcess:
    """The process of a fork server; of a shared one only its start, since it leaves its parent at once."""

    def __init__(
        self, address: Path, preload: Sequence[str], environment: Mapping[str, str], *, linger: float | None
    ) -> None:
        self.address = address
        self._left_out: dict[str, str] | None = None
        self._doing = "started"
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (closed in `close`)
        configuration = {"socket": str(address), "preload": list(preload), "linger": linger}
        self._process = subprocess.Popen(
            [sys.executable, server.__file__, json.dumps(configuration)],
            stdin=subprocess.PIPE if linger is None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,  # a line that is read ahead would not be waited for
            env=dict(environment),
            cwd="/",  # no folder of a project, whose modules it must not find
            start_new_session=True,
        )
        self.pid = self._process.pid

    def wait_until_ready(self) -> dict[str, str]:
        """The modules that it left out. Raises NotWarmError when it ends, or takes too long."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + READY_SECONDS
        while self._left_out is None:
            if not _readable(self._process.stdout.fileno(), deadline - time.monotonic()):
                raise NotWarmError(f"after {READY_SECONDS:g} s the fork server still {self._doing}")
            line = self._process.stdout.readline()
            if not line:
                raise NotWarmError(f"the fork server ended while it {self._doing}: {self._last_error()}")
            news = json.loads(line)
            self._left_out = news.get("left_out")
            self._doing = f"imported {news['importing']}" if "importing" in news else "served"
        return self._left_out

    def death(self) -> str | None:
        """How it died; None when it lives or has ended in order."""
        try:
            code = self._process.wait(1.0)  # the end of its socket is seen a moment before its own
        except subprocess.TimeoutExpired:
            return None
        if code == 0:
            return None
        if code < 0:
            return f"the fork server was ended by {signal.Signals(-code).name} while it {self._doing}"
        return f"the fork server ended with exit code {code} while it {self._doing}: {self._last_error()}"

    def end(self) -> None:
        """Kill it. Safe at any time, from any thread."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill it and close its files, which nobody may be reading."""
        self.end()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                file.close()

    def _last_error(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").strip().splitlines()
        return redacted(lines[-1]) if lines else "no message"


def _ask_whether_fresh(address: Path) -> None:
    """Raises NotWarmError when no server listens there, or a stale one, which thereby ends."""
    with _ask(address, {}, ()) as connection:
        _next_answer(connection)


def _ask(address: Path, request: Mapping[str, Any], streams: Sequence[int]) -> socket.socket:
    """Send a request; the answers come over what is returned. Raises NotWarmError when nobody listens."""
    line = json.dumps(request).encode() + b"\n"
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(address))
        sent = socket.send_fds(connection, [line], streams)
        if rest := line[sent:]:  # to send nothing would fail where the answer has come already
            connection.sendall(rest)
    except OSError as error:
        connection.close()
        raise NotWarmError(f"no fork server answers: {error}") from error
    return connection


def _next_answer(connection: socket.socket) -> dict[str, Any]:
    """The next answer. Raises NotWarmError for a refusal, and when none comes."""
    line = b""
    while not line.endswith(b"\n"):
        if not _readable(connection.fileno(), READY_SECONDS):
            raise NotWarmError(f"the fork server did not answer in {READY_SECONDS:g} s")
        try:
            more = connection.recv(1)  # no more than this answer
        except ConnectionError:
            more = b""
        if not more:
            raise NotWarmError("the fork server died")
        line += more
    answer: dict[str, Any] = json.loads(line)
    if "refused" in answer:
        raise NotWarmError(answer["refused"])
    return answer


def _readable(descriptor: int, seconds: float) -> bool:
    """Whether something can be read within that time; `select` would fail above descriptor 1023."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def _private_folder() -> Path:
    """Where the sockets of shared servers lie. Raises NotWarmError when others than this user reach them."""
    folder = TEMPORARY / f"claimbook-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise NotWarmError(f"{folder} is not a folder of this user alone")
    return folder


def _umask() -> int:
    """Read without setting it, which other threads would notice."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("\nUmask:")[2].split()[0], 8)


def _pidfd(process: int) -> int | None:
    try:
        return os.pidfd_open(process)
    except ProcessLookupError:
        return None
