"""Eight processes that write at once: nothing is lost and nothing is mixed, on first use too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from claimbook.experiments import BY_HAND, Experiment
from claimbook.workspace import Workspace

WRITERS = 8
# each waits until all are ready, so that the first write of all comes at the same moment
TOGETHER = """\
import sys
from pathlib import Path
from claimbook import start
from claimbook.experiments import Experiment
import numpy, pyarrow.parquet, filelock, psutil
print("ready", flush=True)
sys.stdin.readline()
"""
LOG = """\
for number in range(5):
    run = start()
    for step in range(20):
        run.log(step=step, 손실=number + step / 100)
    run.finish(metrics={"hit@1": 0.5}, items={"item": ["a", "b"], "cluster": ["p", "q"], "hit@1": [0.0, 1.0]})
    print(run.run.id, flush=True)
"""
ENTER = """\
experiment = Experiment(Path("experiments/toy"))
for run in experiment.runs():
    if run.seed == int(sys.argv[1]):
        experiment.enter_start(run)
        experiment.enter_end(run)
        print(run.id, flush=True)
"""


def all_at_once(root: Path, code: str) -> list[list[str]]:
    """Run the code in eight processes that begin together; what each of them printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAIMBOOK_")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER + code, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
            env=environment,
        )
        for number in range(WRITERS)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate() for process in processes]
    assert [errors for _, errors in said] == [""] * WRITERS
    return [output.splitlines() for output, _ in said]


@pytest.fixture
def fresh(tmp_path) -> Workspace:
    """A workspace that nothing was ever written in: no experiments/, no .claimbook/."""
    (tmp_path / "pyproject.toml").write_text("[tool.claimbook]\n")
    return Workspace(tmp_path)


def test_eight_processes_that_log_at_once_into_a_fresh_workspace_lose_nothing(fresh):
    said = all_at_once(fresh.root, LOG)
    experiment = Experiment(fresh.experiments / BY_HAND)
    assert [len(ids) for ids in said] == [5] * WRITERS
    assert {run.id for run in experiment.runs()} == {run_id for ids in said for run_id in ids}
    for ids in said:
        for number, run_id in enumerate(ids):
            steps, finish = experiment.steps(run_id)
            assert [(step.step, step.values) for step in steps] == [
                (step, {"손실": number + step / 100}) for step in range(20)
            ]
            assert finish is not None
    for run in experiment.runs():
        assert run.status == "finished"
        assert experiment.items(run).mean("hit@1") == 0.5
    assert len({run.process.pid for run in experiment.runs()}) == WRITERS


def test_eight_processes_that_enter_into_one_ledger_at_once_leave_a_chain_without_gaps(fresh, judged):
    """On first use of ledger and lock, and each line naming the one before it: one chain, not eight."""
    experiment = Experiment(fresh.experiments / "toy")
    template = judged.runs()[0]
    for writer in range(WRITERS):
        for number in range(4):
            run = msgspec.structs.replace(template, id=f"writer-{writer}-{number}", seed=writer)
            experiment.save_run(run)
    said = all_at_once(fresh.root, ENTER)
    ledger = experiment.ledger()
    assert set(ledger.ended()) == {run_id for ids in said for run_id in ids}
    assert len(ledger.ended()) == WRITERS * 4
    assert len(ledger.lines) == WRITERS * 4 * 2
    assert [line.previous for line in ledger.lines] == [None, *ledger.hashes[:-1]]
    assert ledger.gaps() == []


def test_a_forked_process_that_starts_a_run_leaves_the_run_of_its_parent_alone(fresh):
    code = """\
import os, sys
from claimbook import start
run = start()
child = os.fork()
if child == 0:
    start().finish(metrics={"m": 1.0}, items={"item": ["a"], "cluster": ["a"], "m": [1.0]})
    os._exit(0)
os.waitpid(child, 0)
print([one.status for one in run._experiment.runs()], run._experiment.runs()[0].id == run.run.id)
run.log(step=1, loss=0.5)
run.finish(metrics={"m": 1.0}, items={"item": ["a"], "cluster": ["a"], "m": [1.0]})
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fresh.root, capture_output=True, text=True, check=True
    )
    assert sorted(done.stdout.split("]")[0].strip("[").split(", ")) == ["'finished'", "'running'"]
    assert [run.status for run in Experiment(fresh.experiments / BY_HAND).runs()] == ["finished"] * 2
