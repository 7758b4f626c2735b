"""Warm runs repeated cold: alike, unlike, and notebooks that give no fixed result. Real kernels."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from claimbook.cli.making import Making, engine_of
from claimbook.experiments import Experiment
from claimbook.records import ColdCheck
from claimbook.runner import batch, journal


@pytest.fixture
def experiment(toy, edit) -> Experiment:
    """The toy experiment with one seed and no control: two runs."""
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0]")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    return Experiment.of(toy, "toy")


def checks(toy, experiment, every: int) -> list[ColdCheck | None]:
    plans = [batch.plan(toy, experiment)]
    with engine_of(toy, Making(verify_cold=every), plans) as engine:
        runs = batch.execute(toy, plans, engine=engine, verify_cold=every)
    assert [(run.status, run.kernel) for run in runs] == [("finished", "warm")] * 2
    assert experiment.runs() == runs
    assert not list((toy.root / ".claimbook" / "cold").rglob("run.json"))
    return [run.cold_check for run in runs]


def notices(toy) -> list[str]:
    (made,), _ = journal.journals(toy)
    return [notice.text for notice in made.notices]


def only_baseline(toy, experiment):
    """Make the baseline's run, to be repeated cold; returns its record."""
    plans = [batch.plan(toy, experiment, arms=["baseline"])]
    with engine_of(toy, Making(verify_cold=1), plans) as engine:
        (run,) = batch.execute(toy, plans, engine=engine, verify_cold=1)
    assert experiment.runs() == [run]
    return run


def drawing(toy, text: str) -> None:
    """Let the notebook draw its number of hits."""
    path = toy.notebook("toy")
    path.write_text(
        path.read_text()
        .replace("share = 0.5", f"{text}\\nshare = 0.5")
        .replace("0.5 if shuffle else effect", "drawn")
    )


def test_every_nth_warm_run_is_repeated_cold_and_gives_the_same(toy, experiment):
    (check,) = [one for one in checks(toy, experiment, 2) if one]
    assert check == ColdCheck(same=True, largest_difference=0.0)
    assert notices(toy) == ["warm runs that gave the same when repeated cold: 1"]


def test_a_notebook_that_gives_no_fixed_result_is_told_from_a_warm_kernel_that_differs(toy, experiment):
    drawing(toy, "drawn = int.from_bytes(os.urandom(2)) / 65536")
    for check in checks(toy, experiment, 1):
        assert check is not None
        assert (check.same, check.cold_alike) == (False, False)
        assert check.largest_difference > 0


def test_a_warm_kernel_that_differs_is_named_as_the_cause(toy, experiment):
    drawing(toy, "drawn = 0.25 if 'ipykernel_launcher' in open('/proc/self/cmdline').read() else 0.75")
    (check,) = [one for one in checks(toy, experiment, 2) if one]
    assert check == ColdCheck(same=False, largest_difference=0.5, cold_alike=True)
    (run,) = [run for run in experiment.runs() if run.cold_check]
    assert notices(toy) == [f"{run.id}, repeated cold, gave other numbers"]


def test_a_run_that_cannot_be_repeated_keeps_its_result(toy, experiment):
    (toy.root / ".claimbook").mkdir(exist_ok=True)
    (toy.root / ".claimbook" / "cold").touch()  # no folder can be made there
    run = only_baseline(toy, experiment)
    assert (run.status, run.metrics, run.cold_check) == ("finished", {"hit@1": 0.2}, ColdCheck(same=None))
    assert batch.plan(toy, experiment, arms=["baseline"]).reused == [run]


def test_ctrl_c_while_a_run_is_repeated_keeps_the_run_and_says_nothing_of_its_repetition(toy, experiment):
    path = toy.notebook("toy")
    hang = "time.sleep(600 if '.claimbook' in str(run.folder) else 0)"
    path.write_text(path.read_text().replace("run.log(step=1", f"{hang}\\nrun.log(step=1"))
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", "run", "toy"]
    process = subprocess.Popen([*command, "--arms", "baseline", "--verify-cold", "1"], cwd=toy.root)
    folder = toy.root / ".claimbook" / "cold" / "experiments" / "toy" / "runs"
    deadline = time.monotonic() + 60
    while not list(folder.glob("*/notebook.ipynb")):  # its notebook is being executed
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    (run,) = experiment.runs()
    assert (run.status, run.metrics, run.cold_check) == ("finished", {"hit@1": 0.2}, None)
    assert list(folder.iterdir()) == []
