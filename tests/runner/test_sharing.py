"""Batches that run at once share the work. Real processes, real kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from claimbook import integrity
from claimbook.errors import WorkspaceError
from claimbook.experiments import Experiment, this_process
from claimbook.records.batch import Elsewhere, Job
from claimbook.runner import batch, sealing
from claimbook.runner.local import LocalEngine
from claimbook.runner.sharing import Sharing
from claimbook.runner.slots import Limits, places

QUICK = Limits(seconds=60, threads=1)


@pytest.fixture
def experiment(toy, edit) -> Experiment:
    """The toy experiment with two arms and three seeds: six runs."""
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0, 1, 2]")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    return Experiment.of(toy, "toy")


def claimbook(root: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", *arguments]
    return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events_of(process: subprocess.Popen[str]) -> list[dict]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


def test_batches_started_at_once_make_every_run_once_and_both_know_all_results(toy, experiment):
    batches = [claimbook(toy.root, "run", "toy", "--cold", "--json") for _ in range(3)]
    counts = [events_of(one)[-1]["counts"] for one in batches]
    runs = experiment.runs()
    assert sorted((run.arm, run.seed) for run in runs) == sorted(
        (arm, seed) for arm in ("baseline", "treatment") for seed in (0, 1, 2)
    )
    assert {run.status for run in runs} == {"finished"}
    assert len(experiment.ledger().lines) == 12
    assert experiment.ledger().contradictions() == []
    assert integrity.problems(experiment) == []
    assert sum(count.get("finished", 0) for count in counts) == 6
    for count in counts:
        assert sum(count.values()) == 6
        assert count.keys() <= {"finished", "made elsewhere", "reused"}


def test_what_a_killed_batch_was_making_is_made_by_the_one_that_waits_for_it(toy, experiment):
    first = claimbook(toy.root, "run", "toy", "--cold", "--json", "--set", "crash=hang", "--seeds", "9")
    deadline = time.monotonic() + 60
    while not list(experiment.folder.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (hanging,) = experiment.runs()
    plan = batch.plan(toy, experiment, seeds=[9], changes={"crash": "hang"})
    sharing = Sharing(toy)
    sharing.catch_up(experiment, [plan.state.fingerprints])
    job, parameters = plan.job(hanging.arm, 9), plan.parameters(hanging.arm, 9)
    assert sharing.claim(experiment, job, parameters) is None
    first.send_signal(signal.SIGKILL)
    first.wait(timeout=10)
    claim = sharing.claim(experiment, job, parameters)
    assert claim is not None
    with claim:
        (lost,) = sharing.made_elsewhere(experiment, job)
        assert (lost.id, lost.status) == (hanging.id, "lost")
        assert sharing.made_elsewhere(experiment, job) == []


def test_a_result_that_was_said_before_its_batch_was_killed_is_taken_over(toy, experiment):
    plan = batch.plan(toy, experiment)
    sharing = Sharing(toy)
    sharing.catch_up(experiment, [plan.state.fingerprints])
    other = batch.plan(toy, experiment)
    other.missing[1:] = []
    (made,) = batch.execute(toy, [other], engine=LocalEngine(QUICK, places()))
    dead = replace(this_process(), created=0.0)
    # as it stood when its supervisor was killed: the notebook had finished, the record not been written
    experiment.save_run(replace(made, status="running", process=dead, metrics={}, items_sha256=None))
    experiment.ledger_path.write_bytes(experiment.ledger_path.read_bytes().splitlines(keepends=True)[0])
    (taken,) = sharing.made_elsewhere(experiment, plan.job(made.arm, made.seed))
    assert (taken.id, taken.status, taken.metrics) == (made.id, "finished", made.metrics)
    assert plan.fits(taken)
    assert experiment.ledger().ended()[made.id].late


def test_a_run_that_was_finished_after_the_plan_was_made_is_not_made_again(toy, experiment):
    stale = batch.plan(toy, experiment)
    fresh = batch.plan(toy, experiment)
    fresh.missing[2:] = []
    made = batch.execute(toy, [fresh], engine=LocalEngine(QUICK, places()))
    said = []
    batch.execute(toy, [stale], engine=LocalEngine(QUICK, places(2)), report=said.append)
    assert [event.run for event in said if isinstance(event, Elsewhere)] == [run.id for run in made]
    assert len(experiment.runs()) == 6


def test_claims_of_other_jobs_and_other_parameters_stand_beside_each_other(toy, experiment):
    sharing = Sharing(toy)
    job = Job(experiment="toy", arm="baseline", seed=0)
    with sharing.claim(experiment, job, {"effect": 0.2}) as first:
        assert first is not None
        assert sharing.claim(experiment, job, {"effect": 0.2}) is None
        with sharing.claim(experiment, job, {"effect": 0.3}), sharing.claim(
            experiment, replace(job, seed=1), {"effect": 0.2}
        ):  # fmt: skip
            pass


def test_no_seal_is_made_while_a_batch_is_under_way(toy, experiment, edit):
    edit("seeds    = [0, 1, 2]", "seeds    = [0, 1, 2, 3, 4, 5]")
    running = claimbook(toy.root, "run", "toy", "--cold", "--set", "crash=hang", "--seeds", "9")
    try:
        deadline = time.monotonic() + 60
        while not list(experiment.folder.glob("runs/*/metrics.jsonl")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with pytest.raises(WorkspaceError, match="another claimbook process is working on 'toy'"):
            sealing.seal(toy, experiment)
    finally:
        os.kill(running.pid, signal.SIGINT)
        running.communicate(timeout=10)
    sealing.seal(toy, experiment)


@pytest.fixture
def notebook(toy):
    """Replace a text in the toy notebook."""

    def replace(old: str, new: str) -> None:
        path = toy.notebook("toy")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new.replace("\n", "\\n").replace('"', '\\"')))

    return replace


def wait_for_runs(experiment: Experiment, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(list(experiment.folder.glob("runs/*/run.json"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_batches_on_one_grid_make_every_point_once(toy, experiment, notebook):
    """The second one comes to the first one's point while that is under way, and waits for it."""
    notebook("run.log(step=1", "time.sleep(4 if effect == 0.3 else 0)\nrun.log(step=1")
    one_job = ("--arms", "baseline", "--seeds", "7")
    first = claimbook(toy.root, "run", "toy", "--cold", "--json", "--set", "effect=0.3", *one_job)
    wait_for_runs(experiment, 1)
    second = claimbook(toy.root, "run", "toy", "--cold", "--json", "--grid", "effect=0.4,0.3", *one_job)
    assert events_of(second)[-1]["counts"] == {"finished": 1, "made elsewhere": 1}
    assert events_of(first)[-1]["counts"] == {"finished": 1}
    assert sorted(run.parameters["effect"] for run in experiment.runs()) == [0.3, 0.4]


def test_two_batches_use_a_declared_fallback_once(toy, experiment, notebook, edit):
    notebook("effect: float", "batch_size: int = 32\naccumulate: int = 1\neffect: float")
    notebook("run.log(step=1", "if batch_size > 16:\n    raise MemoryError()\ntime.sleep(4)\nrun.log(step=1")
    edit("[parameters]", '[fallback]\nhalve = "batch_size"\ndouble = "accumulate"\n\n[parameters]')
    edit('products = "tiny"', 'products = "tiny"\nbatch_size = 32\naccumulate = 1')
    one_job = ("--arms", "baseline", "--seeds", "7", "--cold", "--json")
    first = claimbook(toy.root, "run", "toy", *one_job)
    wait_for_runs(experiment, 2)
    second = claimbook(toy.root, "run", "toy", *one_job)
    assert events_of(second)[-1]["counts"] == {"made elsewhere": 1}
    events_of(first)
    made = [(run.status, run.parameters["batch_size"]) for run in experiment.runs()]
    assert made == [("out-of-memory", 32), ("finished", 16)]
