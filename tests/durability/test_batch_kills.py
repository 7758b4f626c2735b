"""A batch whose processes are killed at random moments: resumed until done, it is as if nobody had come.

What is random is drawn from the seed in a test's name, and every kill is printed, so that a failure tells
what was done to which process and when. Everything goes through the command line and the files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import nbformat
import psutil
import pytest

from claimbook.experiments import Experiment
from claimbook.integrity import problems
from claimbook.records import ItemScores

RUNNER = ("SIGKILL", "SIGTERM", "SIGINT", "Ctrl-C")
"""Ways to end the runner; Ctrl-C reaches its whole process group, as a terminal does it."""
BELOW = ("kernel", "worker", "keeper", "fork server")
"""Processes below the runner that are killed with SIGKILL, and the batch goes on."""
LIMITS = ("--cell-timeout", "--timeout")
KINDS = (*RUNNER, *BELOW, *LIMITS)

ARMS = ("baseline", "treatment", "shuffled")
SEEDS = range(8)
MARK = "CLAIMBOOK_TEST_COMMAND"
"""The environment variable by which all that a command has started is found."""
GONE = {"SIGKILL": 5.0, "SIGTERM": 3.0, "SIGINT": 3.0, "Ctrl-C": 3.0}
"""Seconds within which nothing of a runner is left."""
PATIENCE = 120.0
"""Seconds after which a command is taken to hang."""

CLAIMBOOK = [sys.executable, "-c", "from claimbook.cli import main; main()"]

PARAMETERS = """\
effect: float = 0.1
shuffle: bool = False
products: str = "tiny"
seed: int = 0
"""
# from 0 to 2 s: some runs are hit, and some slip through
WORK = """\
import random, time
draw = random.Random(f"{effect} {shuffle} {seed}")
hits = [float(draw.random() < effect) for item in range(200)]
for step in range([0, 0, 0, 0, 5, 10, 30, 40][seed]):
    print("step", step)
    run.log(step=step, loss=draw.random())
    time.sleep(0.05)
"""
FINISH = """\
run.finish(
    metrics={"hit@1": sum(hits) / 200},
    chance={"hit@1": effect},
    items={"item": list(range(200)), "cluster": [item // 2 for item in range(200)], "hit@1": hits},
)
"""


@pytest.fixture
def space(toy, edit, make_notebook) -> Path:
    """A sealed experiment of 24 runs, none of them made."""
    edit("seeds    = [0, 1, 2, 3, 4, 5]", f"seeds    = {list(SEEDS)}")
    make_notebook(toy.notebook("toy"), PARAMETERS, "from claimbook import start\nrun = start()", WORK, FINISH)
    claimbook(toy.root, "seal", "toy")
    return toy.root


@pytest.fixture(scope="module")
def undisturbed_once() -> dict:
    """Where the results of a batch that nobody touched are kept for the tests that come after."""
    return {}


@pytest.fixture
def undisturbed(space, tmp_path, undisturbed_once) -> dict:
    """The results of a batch that nobody touched."""
    if not undisturbed_once:
        calm = shutil.copytree(space, tmp_path / "calm")
        with Command(calm) as command:
            assert command.ended() == 0, command.said()
        undisturbed_once.update(results(calm))
    return undisturbed_once


def claimbook(root: Path, *arguments: str) -> None:
    done = subprocess.run([*CLAIMBOOK, *arguments], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


class Command:
    """`claimbook run toy -j 2`, and all that it starts."""

    _numbers = itertools.count()

    def __init__(self, root: Path, *options: str) -> None:
        self._mark = f"{os.getpid()}-{next(self._numbers)}"
        self._output = root.parent / f"output-{self._mark}.txt"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*CLAIMBOOK, "run", "toy", "-j", "2", *options],
                cwd=root,
                env={**os.environ, MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *exception: object) -> None:
        for process in [self.process, *self.processes()]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def running(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> int:
        """Its exit code, once it and all that it started are gone."""
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it hangs: {self.tree()}\n{self.said()}")
        self.gone(GONE["SIGKILL"])
        return self.process.returncode

    def send(self, how: str) -> None:
        """A signal to the runner; Ctrl-C goes to its process group."""
        with suppress(ProcessLookupError):
            if how == "Ctrl-C":
                os.killpg(self.process.pid, signal.SIGINT)
            else:
                self.process.send_signal(signal.Signals[how])

    def end(self, how: str) -> float:
        """Seconds from the signal until nothing of it was left; fails when that takes too long."""
        self.send(how)
        return self.gone(GONE[how])

    def said(self) -> str:
        return self._output.read_text("utf-8", "replace")

    def processes(self) -> list[psutil.Process]:
        """What it has started and what lives, wherever orphans were adopted."""
        return [process for process in psutil.process_iter() if self._started(process)]

    def _started(self, process: psutil.Process) -> bool:
        try:
            zombie = process.status() == psutil.STATUS_ZOMBIE
            return not zombie and process.environ().get(MARK) == self._mark
        except psutil.Error:
            return False

    def those(self, role: str) -> list[psutil.Process]:
        """The living processes of a role."""
        return [process for process in self.processes() if self._role(process) == role]

    def _role(self, process: psutil.Process) -> str:
        with suppress(psutil.Error):
            if process.pid == self.process.pid:
                return "runner"
            words = " ".join(process.cmdline())
            if _is_forked(words):  # a forked process has its server's command line
                return self._forked_role(process)
            if "claimbook.runner.worker" in words:
                return "worker"
            if "ipykernel" in words:
                return "kernel"
        return "other"

    def _forked_role(self, process: psutil.Process) -> str:
        parent = process.parent()
        if parent is None or parent.pid == self.process.pid:
            return "fork server"
        if not _is_forked(" ".join(parent.cmdline())):
            return "keeper"  # its server died
        return "keeper" if self._forked_role(parent) == "fork server" else "kernel"

    def gone(self, seconds: float) -> float:
        """Seconds until nothing of it was left; fails when something is after so many."""
        began = time.monotonic()
        while self.running() or self.processes():
            took = time.monotonic() - began
            assert took < seconds, f"still there after {took:.1f} s: {self.tree()}\n{self.said()}"
            time.sleep(0.05)
        return time.monotonic() - began

    def tree(self) -> str:
        return ", ".join(f"{self._role(process)} {process.pid}" for process in self.processes())


def _is_forked(words: str) -> bool:
    return "runner/warm" in words or "runner.warm" in words


class Disturbed:
    """A batch that is killed again and again, and resumed."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self._chance = chance
        self._command: Command | None = None
        self._options: tuple[str, ...] = ()
        self.kills: Counter[str] = Counter()

    def __enter__(self) -> Disturbed:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._command is not None:
            self._command.__exit__(*exception)

    def kill(self, kind: str) -> bool:
        """Let one kill of a kind happen; False when the batch was done before it came to that."""
        kill = self._end_runner if kind in RUNNER else self._run_out if kind in LIMITS else self._kill_below
        while (command := self._under_way(kind)) is not None:
            if what := kill(command, kind):
                self.kills[kind] += 1
                print(f"{self.root.name}: {what}", flush=True)
                return True
        return False

    def finish(self) -> None:
        """Resume until all is done: the command under way may have failures, the next one has none."""
        if self._command is not None:
            self._command.ended()
        with Command(self.root) as command:
            assert command.ended() == 0, command.said()

    def _under_way(self, kind: str) -> Command | None:
        """The command that goes on, or a new one; None when all runs are finished."""
        option = (kind,) if kind in LIMITS else ()
        if self._command is not None and self._command.running() and self._options[:1] == option:
            return self._command
        if self._command is not None:
            if self._command.running():  # under other limits than are wanted
                self._command.send("SIGTERM")
            self._command.ended()
        if len(results(self.root)) == len(ARMS) * len(SEEDS):
            return None
        self._options = (kind, f"{self._chance.uniform(1, 1.6):.2f}") if option else ()
        self._command = Command(self.root, *self._options)
        return self._command

    def _end_runner(self, command: Command, how: str) -> str | None:
        if self._chance.random() < 0.75:  # else the moment may come before the first run
            while command.running() and not command.those("kernel"):
                time.sleep(0.1)
        after = self._chance.uniform(0, 2)
        with suppress(subprocess.TimeoutExpired):
            command.process.wait(after)
            return None
        return f"{how} to {command.tree()}: gone after {command.end(how):.2f} s"

    def _kill_below(self, command: Command, role: str) -> str | None:
        while command.running() and not command.those(role):
            time.sleep(0.1)
        time.sleep(self._chance.uniform(0, 1))
        if not (found := command.those(role)):
            return None
        victim, tree = self._chance.choice(found), command.tree()
        with suppress(psutil.NoSuchProcess):
            victim.kill()
            return f"SIGKILL to {role} {victim.pid} of {tree}"
        return None

    def _run_out(self, command: Command, option: str) -> str | None:
        """Wait until a limit has ended a run."""
        known = self._timed_out()
        while command.running():
            if new := self._timed_out() - known:
                return f"{' '.join(self._options)} ended {', '.join(new)}"
            time.sleep(0.1)
        return None

    def _timed_out(self) -> set[str]:
        return {run.id for run in experiment_of(self.root).runs() if run.status == "timed-out"}


def experiment_of(root: Path) -> Experiment:
    return Experiment(root / "experiments" / "toy")


def results(root: Path) -> dict[tuple[str, int], tuple]:
    """What each finished run found; fails when an arm and a seed have two."""
    experiment, found = experiment_of(root), {}
    for run in experiment.runs():
        if run.status == "finished":
            assert (run.arm, run.seed) not in found, f"{run.arm} seed {run.seed} was made twice"
            data = (experiment.run_folder(run.id) / "items.parquet").read_bytes()
            found[run.arm, run.seed] = (run.metrics, run.chance, hashlib.sha256(data).hexdigest())
    return found


def assert_whole(root: Path) -> None:
    """Every record is there, readable and fits the others; the experiment can be judged and verified."""
    experiment = experiment_of(root)
    assert problems(experiment) == []
    lines = Counter((line.run, line.event) for line in experiment.ledger().lines)
    assert [line for line, times in lines.items() if times > 1] == []
    for run in experiment.runs():
        assert run.status != "running", run.id
        if run.status != "lost":
            assert lines[run.id, "started"] == lines[run.id, "ended"] == 1, f"{run.id}, {run.status}"
        assert_readable(experiment, run.id, run.status)
    assert results(root).keys() == set(itertools.product(ARMS, SEEDS))
    claimbook(root, "judge", "toy")
    claimbook(root, "verify", "toy")


def assert_readable(experiment: Experiment, run_id: str, status: str) -> None:
    steps, finish = experiment.steps(run_id)
    notebook = experiment.notebook_path(run_id)
    assert (finish is not None) == (status == "finished"), run_id
    assert notebook.exists() or not steps, f"{run_id} has logged, and its notebook is not there"
    if notebook.exists():
        nbformat.validate(json.loads(notebook.read_text("utf-8")))


def killed(space: Path, kinds: list[str], seed: int) -> Iterator[Path]:
    """Let these kills happen, in as many batches as it takes; yields the workspace of each when done."""
    chance = random.Random(seed)
    waiting = list(kinds)
    for number in itertools.count():
        root = shutil.copytree(space, space.parent / f"batch-{number}")
        with Disturbed(root, chance) as batch:
            while waiting and batch.kill(waiting[0]):
                waiting.pop(0)
            batch.finish()
        yield root
        if not waiting:
            return
        assert batch.kills, f"24 runs without a chance to kill: {waiting[0]}"


def expected() -> dict[tuple[str, int], tuple]:
    """What the 24 runs find, computed here."""
    found = {}
    for arm, seed in itertools.product(ARMS, SEEDS):
        effect = {"baseline": 0.2, "treatment": 0.6, "shuffled": 0.6}[arm]
        draw = random.Random(f"{effect} {arm == 'shuffled'} {seed}")
        hits = [float(draw.random() < effect) for _ in range(200)]
        items = {"item": list(range(200)), "cluster": [item // 2 for item in range(200)], "hit@1": hits}
        digest = hashlib.sha256(ItemScores.of(items).to_parquet()).hexdigest()
        found[arm, seed] = ({"hit@1": sum(hits) / 200}, {"hit@1": effect}, digest)
    return found


@pytest.mark.parametrize("seed", [0])
def test_a_batch_of_24_that_is_killed_in_every_way_is_as_one_that_nobody_touched(space, seed):
    kinds = [*KINDS, "SIGKILL", "kernel"]
    random.Random(seed).shuffle(kinds)
    for root in killed(space, kinds, seed):
        assert_whole(root)
        assert results(root) == expected()


def test_two_batches_at_once_share_the_runs(space):
    with Command(space) as one, Command(space) as other:
        assert (one.ended(), other.ended()) == (0, 0), one.said() + other.said()
    assert_whole(space)
    assert results(space) == expected()
    assert all(run.status == "finished" for run in experiment_of(space).runs())
    assert len({run.process.pid for run in experiment_of(space).runs()}) == 2


@pytest.mark.parametrize("how", ["SIGKILL", pytest.param("Ctrl-C", marks=pytest.mark.slow)])
def test_of_two_batches_at_once_one_is_ended_and_the_other_makes_its_runs_too(space, how):
    with Command(space) as one, Command(space) as other:
        while not (one.those("kernel") and other.those("kernel")):
            assert one.running(), one.said()
            assert other.running(), other.said()
        time.sleep(random.Random(how).uniform(0, 1))
        one.end(how)
        assert other.ended() == 0, other.said()
    assert_whole(space)
    assert results(space) == expected()


def test_ctrl_c_again_and_again_leaves_no_run_that_nobody_has_recorded(space):
    with Command(space) as command:
        while not command.those("kernel"):
            assert command.running(), command.said()
        for _ in range(4):
            command.send("Ctrl-C")
            time.sleep(0.1)
        # the last one may find the interpreter on its way out; a shell says 130 for both
        assert command.ended() in (130, -signal.SIGINT)
    runs = experiment_of(space).runs()
    assert runs
    assert {run.status for run in runs} <= {"finished", "cancelled"}
    assert experiment_of(space).ledger().ended().keys() == {run.id for run in runs}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
@pytest.mark.parametrize("kind", KINDS)
def test_after_200_kills_every_run_exists_once(space, undisturbed, kind, seed):
    """Twenty of each of ten kinds."""
    for root in killed(space, [kind] * (200 // len(KINDS)), seed):
        assert_whole(root)
        assert results(root) == undisturbed
