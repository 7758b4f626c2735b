"""When a job is made again: its worker died, memory ran out, or a user asks for what failed. Real kernels."""

from __future__ import annotations

import pytest

from claimbook.errors import RunError
from claimbook.experiments import Experiment
from claimbook.records.batch import Closed, Ended, Notice, Queued, Started
from claimbook.runner import batch, journal
from claimbook.runner.local import LocalEngine
from claimbook.runner.slots import Limits, places

QUICK = Limits(seconds=60, threads=1)


@pytest.fixture
def experiment(toy, edit) -> Experiment:
    """The toy experiment with one seed and no control: two runs."""
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0]")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    return Experiment.of(toy, "toy")


@pytest.fixture
def notebook(toy):
    """Replace a text in the toy notebook."""

    def replace(old: str, new: str) -> None:
        path = toy.notebook("toy")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new.replace("\n", "\\n").replace('"', '\\"')))

    return replace


def make(toy, experiment, **wanted):
    """Execute a plan of the baseline arm; returns the last runs and what the batch said."""
    said = []
    plan = batch.plan(toy, experiment, arms=["baseline"], **wanted)
    runs = batch.execute(toy, [plan], engine=LocalEngine(QUICK, places()), report=said.append)
    return runs, said


def test_a_run_whose_worker_died_is_recorded_as_lost_and_made_again(toy, experiment, notebook):
    once = "import pathlib\nif not pathlib.Path('died').exists():\n    pathlib.Path('died').touch()\n"
    notebook(
        "run.log(step=1",
        f"{once}    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(60)\nrun.log(step=1",
    )
    (run,), said = make(toy, experiment)
    assert (run.status, run.attempt, run.metrics) == ("finished", 2, {"hit@1": 0.2})
    lost, finished = experiment.runs()
    assert (lost.status, lost.attempt, lost.failure.error) == ("lost", 1, "WorkerDied")
    assert finished == run
    assert [(line.run, line.status) for line in experiment.ledger().ended().values()] == [
        (lost.id, "lost"),
        (run.id, "finished"),
    ]
    assert [event.again for event in said if isinstance(event, Ended)] == [True, False]
    assert [event.attempt for event in said if isinstance(event, Started)] == [1, 2]
    assert next(event for event in said if isinstance(event, Closed)).counts == {"finished": 1}


def test_a_job_that_kills_every_worker_comes_to_an_end(toy, experiment, notebook):
    notebook("run.log(step=1", "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(60)\nrun.log(step=1")
    (run,), _ = make(toy, experiment)
    assert (run.status, run.attempt) == ("lost", batch.ATTEMPTS)
    assert [one.status for one in experiment.runs()] == ["lost"] * batch.ATTEMPTS


@pytest.fixture
def greedy(toy, experiment, notebook, edit) -> Experiment:
    """The toy experiment with a notebook whose memory lasts for batches of 8, and the fallback declared."""
    notebook("effect: float", "batch_size: int = 32\naccumulate: int = 1\neffect: float")
    notebook("run.log(step=1", 'if batch_size > 8:\n    raise MemoryError("no room")\nrun.log(step=1')
    edit("[parameters]", '[fallback]\nhalve = "batch_size"\ndouble = "accumulate"\n\n[parameters]')
    edit('products = "tiny"', 'products = "tiny"\nbatch_size = 32\naccumulate = 1')
    return experiment


def test_memory_that_runs_out_halves_the_batch_as_declared_until_it_lasts(toy, greedy):
    (run,), _ = make(toy, greedy)
    assert (run.status, run.attempt, run.fallbacks) == ("finished", 3, 2)
    assert (run.parameters["batch_size"], run.parameters["accumulate"]) == (8, 4)
    assert [(one.status, one.parameters["batch_size"]) for one in greedy.runs()] == [
        ("out-of-memory", 32),
        ("out-of-memory", 16),
        ("finished", 8),
    ]
    assert batch.plan(toy, greedy, arms=["baseline"]).reused == [run]


def test_memory_that_runs_out_without_a_declared_fallback_ends_the_job(toy, greedy, edit):
    edit('[fallback]\nhalve = "batch_size"\ndouble = "accumulate"\n\n', "")
    (run,), _ = make(toy, greedy)
    assert (run.status, run.attempt, run.failure.error) == ("out-of-memory", 1, "MemoryError")


def test_failed_only_makes_what_was_tried_in_this_state_and_did_not_finish(toy, experiment):
    make(toy, experiment, changes={"crash": "raise"})
    assert batch.plan(toy, experiment, failed_only=True).missing == []
    tried = batch.plan(toy, experiment, changes={"crash": "raise"}, failed_only=True)
    assert tried.missing == [("baseline", 0)]
    assert tried.state.parameters.keys() == {("baseline", 0), ("treatment", 0)}


def test_an_arm_that_is_not_there_is_refused(toy, experiment):
    with pytest.raises(RunError, match="there is no arm 'basline'"):
        batch.plan(toy, experiment, arms=["basline"])


def test_every_point_of_a_grid_is_a_job_of_its_own(toy, experiment):
    plans = [
        batch.plan(toy, experiment, arms=["baseline"], changes={"effect": effect}) for effect in (0.3, 0.4)
    ]
    said = []
    engine = LocalEngine(QUICK, places(2))
    runs = batch.execute(toy, plans, engine=engine, report=said.append, left_out={"other": "it is broken"})
    assert sorted(run.metrics["hit@1"] for run in runs) == [0.3, 0.4]
    assert {run.kind for run in runs} == {"exploratory"}
    assert [event.job.changes for event in said if isinstance(event, Queued)] == [
        {"effect": 0.3},
        {"effect": 0.4},
    ]
    assert [event.text for event in said if isinstance(event, Notice)] == ["left out: other: it is broken"]


def execute(toy, *plans):
    """Make plans in one slot; returns the events, also those of a batch that ends in an error."""
    said = []
    error = None
    try:
        batch.execute(toy, plans, engine=LocalEngine(QUICK, places()), report=said.append)
    except RunError as raised:
        error = raised
    return said, error


def test_when_the_code_changes_nothing_more_of_it_is_begun_and_the_rest_stays_queued(
    toy, experiment, notebook
):
    (toy.notebooks / "shelf.py").write_text("SIZE = 1\n")
    notebook("import os, random", "import shelf, os, random")
    notebook("run.log(step=1", "open('shelf.py', 'a').write('SIZE = 2')\nrun.log(step=1")
    said, error = execute(toy, batch.plan(toy, experiment))
    assert [(event.status, event.failure.error) for event in said if isinstance(event, Ended)] == [
        ("failed", "StateChanged")
    ]
    told = [event.text for event in said if isinstance(event, Notice)]
    assert told == ["toy: nothing more of it is begun, for it changed: technique code"]
    assert said[-1].counts == {"failed": 1, "queued": 1}
    assert str(error) == (
        "what runs are made of changed: 1 were not begun (toy)\n"
        "  what to do: put back what is named above and run again; or, where the change is meant, "
        "`claimbook amend toy`"
    )
    (found,), _ = journal.journals(toy)
    assert found.state == "incomplete"
    assert found.counts == {"failed": 1, "never begun": 1}


def test_an_experiment_whose_folder_is_taken_away_gets_no_more_runs(toy, experiment, notebook):
    notebook("time.sleep(600)", "os.rename(run.folder.parents[1], run.folder.parents[3] / 'aside')")
    plan = batch.plan(toy, experiment, changes={"crash": "hang"})
    said, error = execute(toy, plan)
    assert [event.text for event in said if isinstance(event, Notice)] == [
        "toy: nothing more of it is begun, for it changed: its folder is gone"
    ]
    assert "1 were not begun" in str(error)


def test_what_is_installed_meanwhile_is_told(toy, experiment, notebook, monkeypatch):
    packages = toy.root / "packages"
    packages.mkdir()
    monkeypatch.syspath_prepend(str(packages))
    told = f"{packages}/shelf-1.0.dist-info"
    write = f"open('{told}/METADATA', 'w').write('Name: shelf\\\\nVersion: 1.0')"
    notebook("run.log(step=1", f"os.makedirs('{told}', exist_ok=True)\n{write}\nrun.log(step=1")
    said, _ = execute(toy, batch.plan(toy, experiment))
    assert [event.text for event in said if isinstance(event, Notice)] == [
        "what is installed changed while the batch ran: later runs had other versions"
    ]
    assert said[-1].counts == {"finished": 2}
