"""The processes of a run: found, measured, and ended, whoever their parent is now."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from claimbook.runner.processes import ProcessTree, Sample

MIB = 1024**2
Start = Callable[..., tuple[subprocess.Popen[str], list[int]]]

ADOPT = "import ctypes; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux alone")


@pytest.fixture
def start() -> Iterator[Start]:
    """Start code as a worker; it prints process ids on one line and waits for the end of its input."""
    started: list[subprocess.Popen[str]] = []
    told: list[int] = []

    def run(code: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        whole = f"import os, subprocess, sys, time\n{ADOPT}{textwrap.dedent(code)}\nsys.stdin.read()"
        process = subprocess.Popen(
            [sys.executable, "-c", whole], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
        )
        started.append(process)
        assert process.stdout is not None
        told.extend(found := [int(pid) for pid in process.stdout.readline().split()])
        return process, found

    yield run
    for process in started:
        process.kill()
        process.communicate()
    assert not [pid for pid in told if lives(pid)], "a test has left processes"


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def sampled(tree: ProcessTree, enough: Callable[[Sample], bool]) -> Sample:
    """The first sample that is large enough."""
    deadline = time.monotonic() + 30
    while (sample := tree.sample()) is None or not enough(sample):
        assert time.monotonic() < deadline, f"still {sample}"
        time.sleep(0.05)
    return sample


FORKS = """\
held = bytearray(os.urandom(2**20)) * 300
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
    pids.append(pid)
print(*pids, flush=True)
"""


def test_pages_that_forks_share_with_another_process_count_in_parts(start):
    """Worker and three children share 300 MiB: the three hold 225 of them, where resident memory says 900."""
    worker, pids = start(FORKS)
    tree = ProcessTree(worker.pid)
    sample = tree.sample()
    assert sample is not None
    assert 225 * MIB < sample.memory < 300 * MIB
    assert sum(psutil.Process(pid).memory_info().rss for pid in pids) > 900 * MIB
    assert tree.ids == set(pids)
    assert tree.end(patience=10) == []
    assert tree.sample() is None


def test_memory_and_processor_time_of_grandchildren_count(start):
    """Two of 100 MiB, one of them busy."""
    worker, _ = start(
        """\
        code = "import sys, time; held = b'x' * 100 * 2**20\\nwhile {busy}: pass\\ntime.sleep(600)"
        outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code.format(busy=1)!r}])"
        children = [subprocess.Popen([sys.executable, "-c", one]) for one in (outer, code.format(busy=0))]
        print(*(child.pid for child in children), flush=True)
        """
    )
    tree = ProcessTree(worker.pid)
    sample = sampled(tree, lambda sample: sample.memory > 200 * MIB and sample.cpu_seconds > 0.5)
    assert sample.memory < 300 * MIB
    assert len(tree.ids) == 3
    busiest = max(sum(psutil.Process(pid).cpu_times()[:2]) for pid in tree.ids)
    assert sample.cpu_seconds <= busiest + 1
    assert tree.end(patience=10) == []


def test_an_exact_sample_sees_pages_that_are_no_longer_shared(start):
    """A child writes what it had shared: its resident memory stays, and what it holds doubles."""
    worker, (child,) = start(
        """\
        import signal
        held = bytearray(b"x") * 400 * 2**20
        pid = os.fork()
        if pid == 0:
            signal.sigwait([signal.SIGUSR1])
            held[::4096] = b"y" * (len(held) // 4096)
            time.sleep(600)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        print(pid, flush=True)
        """,
        preexec_fn=block_usr1,
    )
    tree = ProcessTree(worker.pid)
    before = tree.sample()
    os.kill(child, 10)
    after = None
    deadline = time.monotonic() + 30
    while after is None or after.memory < 400 * MIB:
        assert time.monotonic() < deadline
        after = tree.sample(exactly=True)
    assert before is not None
    assert before.memory < 300 * MIB
    assert tree.end(patience=10) == []


def block_usr1() -> None:
    import signal

    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])


def test_orphans_that_the_worker_adopts_are_ended(start):
    worker, (orphan,) = start(
        """\
        daemon = ("import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); "
                  "time.sleep(600)")
        parent = ("import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', sys.argv[1]], "
                  "start_new_session=True, stdout=subprocess.PIPE); p.stdout.readline(); print(p.pid)")
        print(subprocess.check_output([sys.executable, "-c", parent, daemon], text=True).strip(), flush=True)
        """
    )
    assert psutil.Process(orphan).ppid() == worker.pid
    assert ProcessTree(worker.pid).end(patience=10) == []
    assert not lives(orphan)
    assert lives(worker.pid)


def test_what_was_seen_is_ended_when_its_worker_is_gone(start):
    worker, (child,) = start("print(subprocess.Popen(['sleep', '600']).pid, flush=True)")
    tree = ProcessTree(worker.pid)
    tree.sample()
    worker.kill()
    worker.wait()
    assert lives(child)
    assert tree.end(patience=10) == []
    assert not lives(child)


def test_what_nobody_has_seen_is_found_by_its_marker(start):
    """And only that: another value of the variable is another run's."""
    code = "print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    worker, (child,) = start(code, env={**os.environ, "OF_RUN": "실행 하나"})
    other, (stranger,) = start(code, env={**os.environ, "OF_RUN": "실행 둘"})
    tree = ProcessTree(worker.pid)
    worker.kill()
    worker.wait()
    assert tree.end(patience=10, marker=("OF_RUN", "실행 하나")) == []
    assert not lives(child)
    assert lives(stranger)
    assert ProcessTree(other.pid).end(patience=10) == []


KEEPER = """\
keeper = os.fork()
if keeper == 0:
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # not inherited
    kernel = os.fork()
    if kernel == 0:
        subprocess.Popen(["sleep", "600"], start_new_session=True)
        held = b"x" * 50 * 2**20
        time.sleep(600)
    print(os.getpid(), kernel, flush=True)
    while True:  # it goes when its last child has gone
        try:
            os.wait()
        except ChildProcessError:
            os._exit(0)
"""


def test_a_forked_kernel_is_found_from_its_keeper_and_the_keeper_is_ended_last(start):
    """The server that forked both is none of the run's: it lives on."""
    server, (keeper, kernel) = start(KEEPER)
    worker, _ = start("print(os.getpid(), flush=True)")
    tree = ProcessTree(worker.pid)
    tree.add(kernel, keeper)
    assert tree.kernel_lives
    sample = sampled(tree, lambda sample: sample.memory > 50 * MIB)
    assert sample.memory < 90 * MIB
    assert kernel in tree.ids
    assert keeper not in tree.ids
    assert tree.end(patience=10) == []
    assert not any(lives(pid) for pid in (keeper, kernel, *tree.ids))
    assert not tree.kernel_lives
    assert lives(server.pid)
    assert lives(worker.pid)


def test_a_kernel_that_is_gone_when_it_is_told_of_is_none(start):
    worker, _ = start("print(os.getpid(), flush=True)")
    gone = subprocess.Popen(["true"])
    gone.wait()
    tree = ProcessTree(worker.pid)
    tree.add(gone.pid, gone.pid)
    assert not tree.kernel_lives
    assert tree.sample() is None
    assert tree.end(patience=1) == []
