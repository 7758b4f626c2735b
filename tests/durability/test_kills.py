"""kill -9 at any point: what was acknowledged is there, every file can be read, and writing goes on.

`lives.py` holds the processes that are killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from claimbook.experiments import BY_HAND, Experiment

LIVES = Path(__file__).with_name("lives.py")
FOLDER = {"by_hand": BY_HAND, "supervised": "toy"}


def tell(how: str, life: str, root: Path, number: int) -> list[dict]:
    """Let `lives.py` kill, and return what each process has acknowledged."""
    done = subprocess.run(
        [sys.executable, LIVES, how, life, root, str(number)],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("CLAIMBOOK_")},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def assert_kept(experiment: Experiment, said: list[list]) -> None:
    """Every file is readable, and everything that was acknowledged is in it."""
    there = {name: set() for name in ("begun", "finished", "deleted", "restored")}
    steps = set()
    for run in experiment.runs():
        assert run.status != "running", "its process was killed"
        there["begun"].add(run.id)
        there["restored"].add(run.id)
        logged, finish = experiment.steps(run.id)
        steps |= {(run.id, step.step) for step in logged}
        if run.status == "finished":
            assert finish is not None
            assert experiment.items(run).mean("hit@1") == run.metrics["hit@1"] == 0.5
            there["finished"].add(run.id)
    there["deleted"] = there["restored"] | {run.id for run in experiment.deleted_runs()}
    ledger, seal, verdict = experiment.ledger(), experiment.seal(), experiment.verdict()
    assert ledger.gaps() == []
    entries = seal.entries if seal else []
    there["started"], there["ended"] = set(ledger.started()), set(ledger.ended())
    there["sealed"] = {entry.hash for entry in entries if experiment.sealed_sources(entry)}
    there["rerun"] = {rerun.id for rerun in experiment.reruns()}
    order = [entry.hash for entry in entries]
    for what, name, *rest in said:
        if what == "step":
            assert (name, *rest) in steps
        elif what == "judged":
            assert verdict is not None
            assert order.index(verdict.seal) >= order.index(name), "an earlier verdict came back"
        else:
            assert name in there[what], f"{what} {name} was acknowledged and is gone"


@pytest.mark.parametrize(
    ("life", "every"),
    [
        ("by_hand", 3),
        ("supervised", 5),
        pytest.param("by_hand", 1, marks=pytest.mark.slow),
        pytest.param("supervised", 1, marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_line_of_the_package_it_keeps_what_it_said_and_the_next_process_writes_on(
    memory, life, every
):
    said = defaultdict(list)
    kills = 0
    for process in tell("lines", life, memory, every):
        kills += process["killed"]
        said[process["root"]].append((process["killed"], process["said"]))
    assert kills >= 50
    for root, ((_, first), (killed, second)) in said.items():
        assert not killed
        assert {what for what, *_ in second} >= {"begun", "step", "finished"}, "the next life went to its end"
        experiment = Experiment(Path(root) / "experiments" / FOLDER[life])
        assert_kept(experiment, first + second)
        seal = experiment.seal()
        assert all(experiment.sealed_sources(entry) for entry in (seal.entries if seal else []))
    # the kills came at every stage, from before the first acknowledgement to after the last
    assert len({len(first) for (_, first), _ in said.values()}) > len(second) - 1


@pytest.mark.parametrize("life", ["by_hand", "supervised"])
def test_killed_at_any_moment_a_workspace_keeps_everything_that_sixty_processes_said(memory, life):
    processes = tell("moments", life, memory, 60)
    assert [process["killed"] for process in processes] == [True] * 60
    experiment = Experiment(memory / "experiments" / FOLDER[life])
    assert_kept(experiment, [words for process in processes for words in process["said"]])
    assert sum(len(process["said"]) for process in processes) >= 5 * sum(range(1, 13))


@pytest.mark.parametrize("life", ["by_hand", "supervised"])
def test_a_file_that_was_left_half_written_is_taken_for_no_record(memory, life):
    """What write_bytes leaves when it is killed before its rename: a hidden file with a name of its own."""
    tell("moments", life, memory, 1)
    experiment = Experiment(memory / "experiments" / FOLDER[life])
    before = everything(experiment)
    for folder in [experiment.folder, *(path for path in experiment.folder.rglob("*") if path.is_dir())]:
        for name in ("run.json", "seal.json", "verdict.json", "items.parquet", "rerun-1.json"):
            (folder / f".{name}.k3j2h1.tmp").write_bytes(b'{"id": "half')
    assert everything(experiment) == before


def everything(experiment: Experiment) -> list:
    runs = [*experiment.runs(), *experiment.deleted_runs()]
    return [runs, experiment.seal(), experiment.verdict(), experiment.reruns(), experiment.ledger()]
