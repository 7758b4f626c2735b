"""Eight processes that write at once: nothing is lost and nothing is mixed, on first use too."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from claimbook.experiments import BY_HAND, Experiment
from claimbook.workspace import Workspace

WRITERS = 8
TOGETHER = """\
import os, sys
from pathlib import Path
from claimbook import start
from claimbook.experiments import Experiment
import filelock, numpy, psutil, pyarrow.parquet

waiting, go = os.pipe()
writers = []
for number in range(int(sys.argv[1])):
    writers.append(os.fork())
    if writers[-1] == 0:
        os.close(go)
        os.read(waiting, 1)  # all wait here, so that the first write of each comes at the same moment
        code = 1
        try:
            write(number)
            code = 0
        finally:
            os._exit(code)
os.close(go)
assert [os.waitpid(writer, 0)[1] for writer in writers] == [0] * len(writers)
"""
LOG = """\
def write(writer):
    for number in range(5):
        run = start()
        for step in range(20):
            run.log(step=step, 손실=writer + number / 10 + step / 1000)
        columns = {"item": ["a", "b"], "cluster": ["p", "q"], "hit@1": [0.0, 1.0]}
        run.finish(metrics={"hit@1": 0.5, "writer": writer, "number": number}, items=columns)
        (Path("said") / f"{writer} {number} {run.run.id}").touch()
"""
ENTER = """\
def write(writer):
    experiment = Experiment(Path("experiments/toy"))
    for run in experiment.runs():
        if run.seed == writer:
            experiment.enter_start(run)
            experiment.enter_end(run)
            (Path("said") / f"{writer} 0 {run.id}").touch()
"""
AMEND = """\
from pathlib import Path
from claimbook import workspace
from claimbook.errors import WorkspaceError
from claimbook.experiments import Experiment
from claimbook.runner import sealing

def write(writer):
    space = workspace.find()
    try:
        entry, _ = sealing.amend(space, Experiment.of(space, "toy"), f"{writer}번째 수정")
    except WorkspaceError:
        return  # another one is at it
    (Path("said") / f"{writer} 0 {entry.hash}").touch()
"""


def all_at_once(root: Path, code: str) -> dict[str, tuple[int, int]]:
    """Run `write` in eight processes that begin together; what they say they wrote: whose, which."""
    (root / "said").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CLAIMBOOK_")}
    command = [sys.executable, "-c", code + TOGETHER, str(WRITERS)]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [path.name.split(" ") for path in (root / "said").iterdir()]
    return {run_id: (int(writer), int(number)) for writer, number, run_id in said}


@pytest.fixture
def fresh(tmp_path) -> Workspace:
    """A workspace that nothing was ever written in: no experiments/, no .claimbook/."""
    (tmp_path / "pyproject.toml").write_text("[tool.claimbook]\n")
    return Workspace(tmp_path)


def test_eight_processes_that_log_at_once_into_a_fresh_workspace_lose_nothing(fresh):
    said = all_at_once(fresh.root, LOG)
    experiment = Experiment(fresh.experiments / BY_HAND)
    runs = experiment.runs()
    assert len(said) == len(runs) == WRITERS * 5
    assert len({run.process.pid for run in runs}) == WRITERS
    for run in runs:
        writer, number = said[run.id]
        assert run.status == "finished"
        assert run.metrics == {"hit@1": 0.5, "writer": writer, "number": number}
        assert experiment.items(run).mean("hit@1") == 0.5
        steps, _ = experiment.steps(run.id)
        assert [(step.step, step.values) for step in steps] == [
            (step, {"손실": writer + number / 10 + step / 1000}) for step in range(20)
        ]


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
    assert ledger.ended().keys() == said.keys()
    assert len(ledger.ended()) == WRITERS * 4
    assert len(ledger.lines) == WRITERS * 4 * 2
    assert [line.previous for line in ledger.lines] == [None, *ledger.hashes[:-1]]
    assert ledger.gaps() == []


def test_of_eight_processes_that_amend_a_seal_at_once_no_acknowledged_one_is_lost(judged):
    """Each reads the seals and writes them all again, so that one must wait or be refused."""
    shutil.rmtree(judged.folder / "runs")  # no result has been seen: the design can still be decided
    judged.ledger_path.unlink()
    before = judged.seal()
    assert before is not None
    said = all_at_once(judged.folder.parent.parent, AMEND)
    seal = judged.seal()
    assert seal is not None
    assert said
    assert sorted(entry.hash for entry in seal.entries) == sorted([before.current.hash, *said])
    assert all(judged.sealed_sources(entry) for entry in seal.entries)


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
