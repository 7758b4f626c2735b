"""One run after another in a slot: its limits, its ends, and that nothing outlives it. Real kernels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from claimbook.experiments import Experiment, this_process
from claimbook.records import Run
from claimbook.runner.engine import Update
from claimbook.runner.slots import Limits, Place, environment
from claimbook.runner.supervise import Slot
from claimbook.runner.warm.client import ForkServer
from claimbook.session import new_run_id, now
from claimbook.workspace import Workspace

MIB = 1024**2
ONE_THREAD = Limits(seconds=100, threads=1)
START = "from claimbook import start\nrun = start()"
"""Stands as cell 2 of what is executed: papermill puts the parameters behind their defaults."""
FINISH = 'run.finish(metrics={"n": 1.0}, items={"item": ["a"], "cluster": ["a"], "n": [1.0]})'


class Bench:
    """A workspace, and the means to make one run of some cells in it."""

    def __init__(self, space: Workspace, make_notebook: Callable[..., None]) -> None:
        self.experiment = Experiment(space.experiments / "toy")
        self.notebook = space.notebook("toy")
        self._make_notebook = make_notebook
        self.updates: list[Update] = []

    def new_run(self, *cells: str) -> Run:
        """A run that is recorded as running, and the notebook that it executes."""
        self._make_notebook(self.notebook, "seed: int = 0", *cells)
        run = Run(
            id=new_run_id("baseline-s0"),
            experiment="toy",
            arm="baseline",
            seed=0,
            kind="exploratory",
            why_exploratory=["a test"],
            seal=None,
            notebook="toy",
            parameters={"seed": 0},
            fingerprints={},
            environment={"python": "3"},
            git={},
            status="running",
            started=now(),
            process=this_process(),
        )
        self.experiment.save_run(run)
        return run

    def make(
        self,
        slot: Slot,
        *cells: str,
        stop: threading.Event | None = None,
        report: Callable[[Update], None] | None = None,
    ) -> Run:
        """Make it; afterwards no process of it may be there."""
        run = self.new_run(*cells)
        ended = slot.run(
            self.experiment, run, self.notebook, stop or threading.Event(), report or self.updates.append
        )
        assert processes_of(self.experiment, run) == []
        return ended


def processes_of(experiment: Experiment, run: Run) -> list[psutil.Process]:
    """What lives with the run's folder in its environment: kernels and all that they start."""
    found = []
    for process in psutil.process_iter():
        try:
            of_run = process.environ().get("CLAIMBOOK_RUN") == str(experiment.run_folder(run.id))
            if of_run and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def once(condition: Callable[[Update], bool], act: Callable[[], None]) -> Callable[[Update], None]:
    """A report that acts when it first sees something."""
    done = threading.Event()

    def report(update: Update) -> None:
        if not done.is_set() and condition(update):
            done.set()
            act()

    return report


def logged(update: Update) -> bool:
    """Whether the notebook has logged a step."""
    return update.step is not None


def worker() -> psutil.Process:
    """The last worker that this process has started."""
    found = [p for p in psutil.Process().children() if "claimbook.runner.worker" in p.cmdline()]
    return max(found, key=lambda process: process.create_time())


@pytest.fixture
def bench(toy, make_notebook) -> Bench:
    return Bench(toy, make_notebook)


@pytest.fixture(scope="module")
def slot() -> Iterator[Slot]:
    with Slot(ONE_THREAD) as slot:
        yield slot


# how a run goes


def test_a_run_tells_where_it_is_and_what_it_holds(bench, slot):
    hold = "import time\nheld = b'x' * 200 * 2**20\nrun.log(step=7, loss=0.5)\ntime.sleep(1.5)\ndel held"
    ended = bench.make(slot, START, hold, FINISH)
    assert ended.status == "finished"
    assert [one.cell for one in bench.updates if one.cell is not None][-1] == 4
    assert {one.cells for one in bench.updates if one.cell is not None} == {5}
    (step,) = {(one.step, one.values["loss"]) for one in bench.updates if one.step is not None}
    assert step == (7, 0.5)
    seen = max(one.memory or 0 for one in bench.updates)
    assert 200 * MIB < seen < 500 * MIB
    assert ended.peak_memory is not None
    assert ended.peak_memory >= seen


def test_a_worker_makes_one_run_after_another_and_a_failed_one_does_not_end_it(bench, slot):
    assert bench.make(slot, START, FINISH).status == "finished"
    first = worker()
    assert bench.make(slot, START, "1 / 0").failure.error == "ZeroDivisionError"
    assert bench.make(slot, START, "import os\nos.kill(os.getpid(), 9)").failure.error == "KernelDied"
    assert bench.make(slot, START, FINISH).status == "finished"
    assert worker() == first


def test_the_memory_of_children_counts_and_pages_that_they_share_count_once(bench, slot):
    """Three forks of a process that holds 300 MB: 300 in all, and not 1,200."""
    cell = """\
    import os, time
    held = bytearray(os.urandom(2**20)) * 300
    for _ in range(3):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(2)
    """
    ended = bench.make(slot, START, textwrap.dedent(cell), "1 / 0")
    assert ended.status == "failed"
    assert ended.peak_memory is not None
    assert 300 * MIB < ended.peak_memory < 700 * MIB
    alone = "import subprocess, sys, time\n" + (
        "hold = 'import time; held = b\"x\" * 200 * 2**20; time.sleep(600)'\n"
        "for _ in range(2):\n    subprocess.Popen([sys.executable, '-c', hold])\n"
        "time.sleep(2.5)"
    )
    ended = bench.make(slot, START, alone, "1 / 0")
    assert 400 * MIB < (ended.peak_memory or 0) < 700 * MIB


# limits


def test_a_cell_that_takes_too_long_is_timed_out_by_its_index(bench):
    """Three cells of 1.5 s each stay below a limit of 4 s for one; the fourth does not."""
    with Slot(Limits(cell_seconds=4, threads=1)) as slot:
        short = "import time\ntime.sleep(1.5)"
        ended = bench.make(slot, START, short, short, short, "time.sleep(600)", FINISH)
    assert (ended.status, ended.failure.error, ended.failure.cell) == ("timed-out", "CellTimeout", 6)
    assert "4 s" in ended.failure.message
    assert ended.seconds > 4 + 3 * 1.5


def test_a_run_that_takes_too_long_is_timed_out(bench):
    with Slot(Limits(seconds=12, threads=1)) as slot:
        ended = bench.make(slot, START, "import time\ntime.sleep(600)")
    assert (ended.status, ended.failure.error, ended.failure.cell) == ("timed-out", "RunTimeout", 3)
    assert ended.seconds >= 12


def test_a_kernel_over_the_memory_ceiling_is_ended_with_its_figures(bench):
    greedy = "import time\nheld = []\nwhile True:\n    held.append(b'x' * 2**25)\n    time.sleep(0.05)"
    with Slot(Limits(seconds=100, memory=400 * MIB, threads=1)) as slot:
        ended = bench.make(slot, START, greedy, FINISH)
        assert (ended.status, ended.failure.error, ended.failure.cell) == (
            "out-of-memory",
            "MemoryCeiling",
            3,
        )
        assert "more than 400 MiB" in ended.failure.message
        assert ended.peak_memory > 400 * MIB


def test_the_ceiling_holds_for_all_that_a_kernel_starts(bench):
    greedy = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'import time; a = b\"x\" * 2**29; time.sleep(600)'])"
    )
    with Slot(Limits(seconds=100, memory=400 * MIB, threads=1)) as slot:
        ended = bench.make(slot, START, greedy, FINISH)
    assert (ended.status, ended.failure.error) == ("out-of-memory", "MemoryCeiling")


def test_a_result_that_was_said_counts_though_the_run_is_ended_for_its_memory(bench):
    greedy = "import time\nheld = b'x' * 2**30\ntime.sleep(600)"
    with Slot(Limits(seconds=100, memory=600 * MIB, threads=1)) as slot:
        ended = bench.make(slot, START, FINISH, greedy)
    assert (ended.status, ended.metrics) == ("finished", {"n": 1.0})
    assert ended.failure.error == "MemoryCeiling"


# memory that ran out


@pytest.mark.parametrize(
    ("cell", "error"),
    [
        ("import numpy\nnumpy.empty(2**55)", "MemoryError"),
        ("import torch\ntorch.empty(2**55)", "RuntimeError"),
        ("import torch\nraise torch.OutOfMemoryError('CUDA out of memory.')", "OutOfMemoryError"),
    ],
    ids=["numpy", "torch", "cuda"],
)
def test_memory_that_ran_out_inside_the_kernel_is_recorded_as_such(bench, slot, cell, error):
    ended = bench.make(slot, START, cell, FINISH)
    assert (ended.status, ended.failure.error, ended.failure.cell) == ("out-of-memory", error, 3)


def test_a_kernel_that_the_system_kills_for_want_of_memory_is_out_of_memory(bench):
    """A control group of 500 MB around supervisor, worker and kernel; the kernel is the largest."""
    group = control_group(500 * MIB)
    try:
        run = bench.new_run(START, "held = []\nwhile True:\n    held.append(b'x' * 2**24)", FINISH)
        code = f"""\
        import os, threading
        from pathlib import Path
        Path({str(group / "cgroup.procs")!r}).write_text(str(os.getpid()))
        from claimbook.experiments import Experiment
        from claimbook.runner.slots import Limits
        from claimbook.runner.supervise import Slot
        experiment = Experiment(Path({str(bench.experiment.folder)!r}))
        run = experiment.run({run.id!r})
        with Slot(Limits(seconds=100, threads=1)) as slot:
            notebook = Path({str(bench.notebook)!r})
            ended = slot.run(experiment, run, notebook, threading.Event(), lambda update: None)
            experiment.save_run(ended)
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=100)
        ended = bench.experiment.run(run.id)
        assert (ended.status, ended.failure.error, ended.failure.cell) == (
            "out-of-memory",
            "OutOfMemoryKill",
            3,
        )
    finally:
        group.rmdir()


def control_group(memory: int) -> Path:
    """A group below ours that may hold so much memory; skips where none can be made."""
    root, groups = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup").read_text().splitlines()
    for line in groups:
        _, controllers, path = line.split(":", 2)
        first_version = "memory" in controllers.split(",")
        if not first_version and controllers:
            continue
        parent = root / ("memory" if first_version else "") / path.lstrip("/")
        group = parent / f"claimbook-test-{os.getpid()}"
        try:
            group.mkdir()
            limit = group / ("memory.limit_in_bytes" if first_version else "memory.max")
            limit.write_text(str(memory))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        return group
    pytest.skip("no control group with a memory limit can be made here")


# nothing lives on

DAEMON = """\
import subprocess, sys
daemon = "import time, signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", daemon], start_new_session=True)
subprocess.run([sys.executable, "-c",
    f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {daemon!r}], start_new_session=True)"])
run.log(step=1, loss=1.0)
"""
"""A child that will not be told, and one whose parent is gone."""


def test_a_finished_run_leaves_no_daemon(bench, slot):
    assert bench.make(slot, START, DAEMON, FINISH).status == "finished"


def test_what_is_cancelled_is_gone_within_three_seconds(bench, slot):
    stop = threading.Event()
    began: list[float] = []
    report = once(logged, lambda: (began.append(time.monotonic()), stop.set()))
    ended = bench.make(slot, START, DAEMON, "import time\ntime.sleep(600)", stop=stop, report=report)
    assert time.monotonic() - began[0] < 3
    assert (ended.status, ended.failure.error) == ("cancelled", "Cancelled")


def test_a_run_whose_worker_is_killed_is_lost_and_leaves_nothing(bench, slot):
    sockets: list[Path] = []

    def kill() -> None:
        sockets.append(Path(worker().cmdline()[-1]))
        worker().kill()

    ended = bench.make(slot, START, DAEMON, "import time\ntime.sleep(600)", report=once(logged, kill))
    assert (ended.status, ended.failure.error) == ("lost", "WorkerDied")
    assert not sockets[0].exists()
    assert "SIGKILL" in ended.failure.message
    assert bench.make(slot, START, FINISH).status == "finished"


def test_a_worker_that_will_not_go_is_ended_with_its_kernel(bench, slot):
    """Stopped as a debugger does it, it hears nothing."""

    def stop_worker() -> None:
        worker().suspend()
        stop.set()

    stop = threading.Event()
    ended = bench.make(
        slot, START, DAEMON, "import time\ntime.sleep(600)", stop=stop, report=once(logged, stop_worker)
    )
    assert ended.status == "cancelled"


# where a run is made


def test_a_kernel_sees_the_gpu_and_the_threads_of_its_place(bench):
    names = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "RAYON_NUM_THREADS", "CLAIMBOOK_ROOT"]
    say = (
        "import os, json\n"
        f"json.dump({{n: os.environ.get(n) for n in {names}}}, open(run.folder / 'said', 'w'))"
    )
    with Slot(Limits(threads=3), Place(gpu="")) as slot:
        ended = bench.make(slot, START, say, FINISH)
    said = json.loads((bench.experiment.run_folder(ended.id) / "said").read_text())
    assert said == {
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "3",
        "RAYON_NUM_THREADS": "3",
        "CLAIMBOOK_ROOT": str(bench.notebook.parents[1]),
    }


def test_why_a_kernel_that_could_have_been_warm_is_cold_is_recorded(bench):
    with Slot(Limits(seconds=100), warm=lambda: (None, "no server: 서버 없음")) as slot:
        assert bench.make(slot, START, FINISH).why_cold == "no server: 서버 없음"
        run = bench.new_run(START, FINISH)
        asked = slot.run(bench.experiment, run, bench.notebook, threading.Event(), print, cold=True)
        assert (asked.status, asked.why_cold) == ("finished", None)


def test_a_server_that_fails_or_never_answers_holds_up_no_one(bench):
    def fails() -> tuple[None, None]:
        raise OSError("no more processes")

    with Slot(Limits(seconds=100), warm=fails) as slot:
        ended = bench.make(slot, START, FINISH)
    assert (ended.status, ended.why_cold) == ("finished", "OSError: no more processes")
    stop, never = threading.Event(), threading.Event()
    threading.Timer(1.0, stop.set).start()
    with Slot(Limits(seconds=100), warm=lambda: (None, str(never.wait(60)))) as slot:
        assert bench.make(slot, START, FINISH, stop=stop).status == "cancelled"
    never.set()


def test_korean_names_and_spaces_hinder_nothing(bench, slot):
    folder = bench.notebook.parents[1]
    moved = folder.with_name("작업 공간 {1}")
    shutil.move(folder, moved)
    os.chdir(moved)
    bench.experiment = Experiment(moved / "experiments" / "toy")
    bench.notebook = moved / "notebooks" / "표 하나.ipynb"
    ended = bench.make(slot, START, "raise ValueError('선반이 비었습니다')")
    assert (ended.status, ended.failure.message) == ("failed", "선반이 비었습니다")
    assert bench.make(slot, START, FINISH).status == "finished"


# warm kernels


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """A fork server with numpy and, for its size, torch imported."""
    if sys.platform != "linux":
        pytest.skip("warm kernels need Linux")
    with ForkServer(["numpy", "torch"], {**os.environ, **environment(ONE_THREAD, Place())}) as server:
        yield server


@pytest.fixture(scope="module")
def warm_slot(server) -> Iterator[Slot]:
    with Slot(ONE_THREAD, Place(), server.address) as slot:
        yield slot


WHO = "import json, os\njson.dump([os.getpid(), os.getppid()], open(run.folder / 'who', 'w'))"
"""A forked kernel has the environment of its server, so it is told by its id."""


def left_of(bench: Bench, run: Run) -> list[int]:
    """Which of the kernel and its keeper live."""
    pids = json.loads((bench.experiment.run_folder(run.id) / "who").read_text())
    return [
        pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    ]


def test_a_warm_kernel_is_counted_in_parts_where_it_shares_its_servers_pages(bench, warm_slot):
    """The oracle is what the kernel reads of the system at its end; a look may be a twentieth behind."""
    hold = "import time, torch\nheld = b'x' * 100 * 2**20"
    read = (
        "from pathlib import Path\n"
        "time.sleep(1.5)\n"
        "lines = Path('/proc/self/smaps_rollup').read_text().splitlines()[1:]\n"
        "told = dict(line.split()[:2] for line in lines)\n"
        "(run.folder / 'told').write_text(json.dumps([int(told['Rss:']), int(told['Pss:'])]))"
    )
    ended = bench.make(warm_slot, START, WHO, hold, FINISH, read)
    assert (ended.status, ended.kernel, ended.why_cold) == ("finished", "warm", None)
    kibibytes = json.loads((bench.experiment.run_folder(ended.id) / "told").read_text())
    resident, proportional = (1024 * size for size in kibibytes)
    seen = max(one.memory or 0 for one in bench.updates)
    assert seen == pytest.approx(proportional, rel=0.1)
    assert proportional < resident
    assert left_of(bench, ended) == []


def test_a_warm_kernel_is_ended_with_all_that_it_started(bench, warm_slot):
    stop = threading.Event()
    ended = bench.make(
        warm_slot,
        START,
        WHO,
        DAEMON,
        "import time\ntime.sleep(600)",
        stop=stop,
        report=once(logged, stop.set),
    )
    assert (ended.status, ended.kernel) == ("cancelled", "warm")
    assert left_of(bench, ended) == []


def test_a_warm_kernel_does_not_outlive_its_worker(bench, warm_slot):
    ended = bench.make(
        warm_slot,
        START,
        WHO,
        DAEMON,
        "import time\ntime.sleep(600)",
        report=once(logged, lambda: worker().kill()),
    )
    assert (ended.status, ended.kernel) == ("lost", "warm")
    assert left_of(bench, ended) == []


def test_a_warm_kernel_that_dies_is_a_failed_run_and_the_next_one_is_warm_again(bench, warm_slot):
    ended = bench.make(warm_slot, START, WHO, "os.kill(os.getppid(), 9)\nimport time\ntime.sleep(600)")
    assert (ended.status, ended.kernel, ended.failure.error) == ("failed", "warm", "KernelDied")
    assert left_of(bench, ended) == []
    assert bench.make(warm_slot, START, FINISH).kernel == "warm"
