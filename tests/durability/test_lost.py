"""A run whose process died is lost; one that lives is not. On this machine, and seen from another one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import psutil
import pytest

from claimbook import session
from claimbook.experiments import BY_HAND, HEARTBEAT_LOST, Experiment, beat, end_beat, this_process
from claimbook.records import Process, Run

ELSEWHERE = "0" * 12


@pytest.fixture
def running(judged) -> tuple[Experiment, Run]:
    """A run that this very process supervises."""
    run = msgspec.structs.replace(
        judged.runs()[0], id="under-way", status="running", ended=None, process=this_process()
    )
    judged.save_run(run)
    return judged, run


def status(experiment: Experiment, run: Run) -> str:
    return next(one.status for one in experiment.runs() if one.id == run.id)


def supervised_by(experiment: Experiment, run: Run, **changes: object) -> None:
    experiment.save_run(msgspec.structs.replace(run, process=msgspec.structs.replace(run.process, **changes)))


def sleeper() -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def recorded(pid: int) -> dict[str, object]:
    return {"pid": pid, "created": psutil.Process(pid).create_time()}


def test_a_run_lives_with_its_process_and_is_lost_when_that_is_killed(running):
    experiment, run = running
    supervisor = sleeper()
    supervised_by(experiment, run, **recorded(supervisor.pid))
    assert status(experiment, run) == "running"
    supervisor.kill()
    supervisor.wait()
    assert status(experiment, run) == "lost"


def test_a_killed_process_that_nobody_has_waited_for_is_dead(running):
    """It keeps its id and its time of creation until its parent asks: in a container that may be never."""
    experiment, run = running
    supervisor = sleeper()
    try:
        supervised_by(experiment, run, **recorded(supervisor.pid))
        supervisor.kill()
        while psutil.Process(supervisor.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert status(experiment, run) == "lost"
    finally:
        supervisor.wait()


def test_another_process_that_was_given_the_same_id_is_not_the_supervisor(running):
    experiment, run = running
    supervised_by(experiment, run, created=this_process().created - 3600)
    assert status(experiment, run) == "lost"


def test_a_heartbeat_on_this_machine_does_not_raise_a_dead_process(running):
    experiment, run = running
    supervised_by(experiment, run, created=this_process().created - 3600)
    beat(experiment.run_folder(run.id))
    assert status(experiment, run) == "lost"


def elsewhere(experiment: Experiment, run: Run, *, began: float) -> None:
    """Let another machine supervise the run, begun so many seconds ago."""
    started = datetime.now(UTC) - timedelta(seconds=began)
    run = msgspec.structs.replace(run, started=started.isoformat(timespec="milliseconds"))
    supervised_by(experiment, run, host=ELSEWHERE)


def beaten(experiment: Experiment, run: Run, *, ago: float) -> None:
    """Let its last sign of life be so many seconds old."""
    beat(experiment.run_folder(run.id))
    os.utime(experiment.run_folder(run.id) / "heartbeat", times=(time.time() - ago,) * 2)


@pytest.mark.parametrize(
    ("began", "heartbeat", "expected"),
    [
        (7200, 1, "running"),
        (7200, HEARTBEAT_LOST - 30, "running"),
        (7200, HEARTBEAT_LOST + 30, "lost"),
        (7200, 7200, "lost"),
        (1, None, "running"),  # begun a moment ago: its first heartbeat is yet to come
        (7200, None, "lost"),  # also in a fresh clone, whose files are all new
    ],
)
def test_on_another_machine_the_age_of_the_heartbeat_tells(running, began, heartbeat, expected):
    experiment, run = running
    elsewhere(experiment, run, began=began)
    if heartbeat is not None:
        beaten(experiment, run, ago=heartbeat)
    assert status(experiment, run) == expected


def test_a_beat_brings_a_run_back_that_was_silent_for_too_long(running):
    """Its machine slept, or the network was away."""
    experiment, run = running
    elsewhere(experiment, run, began=7200)
    beaten(experiment, run, ago=7200)
    assert status(experiment, run) == "lost"
    beat(experiment.run_folder(run.id))
    assert status(experiment, run) == "running"
    end_beat(experiment.run_folder(run.id))
    assert status(experiment, run) == "lost"


@pytest.mark.parametrize("started", ["yesterday", "", "2999-01-01T00:00:00.000Z"])
def test_a_run_elsewhere_whose_start_cannot_be_is_lost(running, started):
    """Edited by hand, or by a machine whose clock is wrong: it must neither stop reading nor run for ever."""
    experiment, run = running
    supervised_by(experiment, msgspec.structs.replace(run, started=started), host=ELSEWHERE)
    assert status(experiment, run) == "lost"


def test_a_run_that_has_ended_is_what_its_record_says_whoever_made_it(judged):
    run = msgspec.structs.replace(judged.runs()[0], process=Process(pid=1, created=0.0, host=ELSEWHERE))
    judged.save_run(run)
    assert status(judged, run) == "finished"


def test_a_lost_run_is_written_nowhere_so_that_a_reader_elsewhere_cannot_spoil_it(running):
    experiment, run = running
    supervised_by(experiment, run, created=this_process().created - 3600)
    path = experiment.run_folder(run.id) / "run.json"
    before = path.read_bytes()
    assert status(experiment, run) == "lost"
    assert path.read_bytes() == before


def test_a_notebook_by_hand_that_is_killed_leaves_a_lost_run_with_its_steps(toy, monkeypatch):
    monkeypatch.delenv(session.RUN_VARIABLE, raising=False)
    code = "from claimbook import start\nrun = start()\nrun.log(step=7, 손실=0.5)\n"
    code += "import os\nos.kill(os.getpid(), 9)"
    assert subprocess.run([sys.executable, "-c", code], cwd=toy.root, check=False).returncode == -9
    experiment = Experiment(Path(toy.experiments) / BY_HAND)
    (run,) = experiment.runs()
    assert run.status == "lost"
    assert [(step.step, step.values) for step in experiment.steps(run.id)[0]] == [(7, {"손실": 0.5})]
