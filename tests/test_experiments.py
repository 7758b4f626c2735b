"""What is put away and brought back, and what the ledger is told. No kernel runs here."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from claimbook.errors import RecordError, RunError, WorkspaceError
from claimbook.experiments import Experiment, this_process
from claimbook.records import Run


@pytest.fixture
def experiment(toy) -> Experiment:
    return Experiment.of(toy, "toy")


def a_run(experiment: Experiment, run_id: str, **changes: object) -> Run:
    """A run as it is recorded, by default a finished pilot."""
    run = Run(
        id=run_id, experiment="toy", arm="baseline", seed=101, kind="exploratory",
        why_exploratory=["seeds that are not registered (101)"], seal=None, notebook="toy",
        parameters={"effect": 0.2, "seed": 101}, fingerprints={}, environment={}, git={}, status="finished",
        started="2026-11-23T00:00:00.000Z", ended="2026-11-23T00:00:02.000Z", process=this_process(),
        metrics={"hit@1": 0.2},
    )  # fmt: skip
    run = msgspec.structs.replace(run, **changes)
    experiment.save_run(run)
    return run


# put away and brought back


def test_a_pilot_is_put_away_whole_and_brought_back_as_it_was(experiment):
    kept, pilot = a_run(experiment, "pilot-a"), a_run(experiment, "pilot-b")
    (experiment.run_folder("pilot-b") / "items.parquet").write_bytes(b"scores")
    experiment.delete("pilot-b")
    assert experiment.runs() == [kept]
    assert experiment.deleted_runs() == [pilot]
    assert (experiment.folder / "deleted" / "pilot-b" / "items.parquet").read_bytes() == b"scores"
    experiment.restore("pilot-b")
    assert experiment.runs() == [kept, pilot]
    assert experiment.deleted_runs() == []
    assert (experiment.run_folder("pilot-b") / "items.parquet").read_bytes() == b"scores"


@pytest.mark.parametrize("kind", ["confirmatory", "replication"])
@pytest.mark.parametrize("status", ["finished", "failed"])
def test_what_was_run_under_a_seal_is_never_put_away(experiment, kind, status):
    run = a_run(experiment, "sealed", kind=kind, seal="s" * 64, status=status)
    with pytest.raises(RunError, match=rf"run sealed is {kind}.*never deleted\n.*claimbook amend toy"):
        experiment.delete("sealed")
    assert experiment.runs() == [run]


def test_a_run_under_way_is_not_put_away_and_a_lost_one_is(experiment):
    a_run(experiment, "under-way", status="running")
    with pytest.raises(RunError, match=r"run under-way is under way\n.*stop it first"):
        experiment.delete("under-way")
    dead = msgspec.structs.replace(this_process(), created=0.0)
    a_run(experiment, "lost", status="running", process=dead)
    experiment.delete("lost")
    assert [run.id for run in experiment.deleted_runs()] == ["lost"]
    assert [run.id for run in experiment.runs()] == ["under-way"]


def test_an_unknown_run_is_refused_with_the_nearest_one(experiment):
    a_run(experiment, "baseline-s101-20261123-000000-abcdef")
    with pytest.raises(
        RunError, match="no run 'baseline-s101-20261123-000000-abcdeg', did you mean"
    ) as caught:
        experiment.delete("baseline-s101-20261123-000000-abcdeg")
    assert "'baseline-s101-20261123-000000-abcdef'?" in str(caught.value)
    with pytest.raises(RunError, match=r"experiments/toy/deleted: there is no deleted run"):
        experiment.restore("baseline-s101-20261123-000000-abcdef")
    with pytest.raises(RunError, match=r"no run '\.\./toy'"):
        experiment.delete("../toy")


def test_a_run_that_would_take_the_place_of_another_is_not_brought_back(experiment):
    a_run(experiment, "pilot", metrics={"hit@1": 0.2})
    experiment.delete("pilot")
    other = a_run(experiment, "pilot", metrics={"hit@1": 0.9})
    with pytest.raises(WorkspaceError, match="one of this name already"):
        experiment.restore("pilot")
    assert experiment.runs() == [other]
    assert [run.metrics for run in experiment.deleted_runs()] == [{"hit@1": 0.2}]


def test_a_run_whose_folder_was_renamed_is_named(experiment):
    a_run(experiment, "pilot")
    experiment.run_folder("pilot").rename(experiment.run_folder("better"))
    complaint = r"experiments/toy/runs/better/run\.json: id is 'pilot', the folder is called 'better'"
    with pytest.raises(RecordError, match=complaint):
        experiment.runs()


# the ledger


def test_a_runs_start_and_end_are_entered_with_a_hash_of_each_of_its_files(experiment):
    run = a_run(experiment, "one", seal="s" * 64, kind="confirmatory")
    folder = experiment.run_folder("one")
    (folder / "metrics.jsonl").write_bytes(b'{"step":1,"values":{},"at":0.1}\n')
    (folder / "items.parquet").write_bytes(b"scores")
    (folder / "heartbeat").touch()
    experiment.enter_start(run)
    experiment.enter_end(run)
    first, second = experiment.ledger_path.read_bytes().splitlines()
    assert json.loads(first) == {
        "event": "started", "run": "one", "arm": "baseline", "seed": 101, "at": "2026-11-23T00:00:00.000Z",
        "seal": "s" * 64,
    }  # fmt: skip
    files = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in ("run.json", "metrics.jsonl", "items.parquet")
    }
    assert json.loads(second) == {
        "event": "ended", "run": "one", "arm": "baseline", "seed": 101, "at": "2026-11-23T00:00:02.000Z",
        "seal": "s" * 64, "status": "finished", "files": files, "previous": hashlib.sha256(first).hexdigest(),
    }  # fmt: skip


def test_a_torn_last_line_is_cut_off_by_the_next_entry(experiment):
    run = a_run(experiment, "one")
    experiment.enter_start(run)
    with experiment.ledger_path.open("ab") as file:
        file.write(b'{"event":"ended","run":"o')
    experiment.enter_end(run)
    ledger = experiment.ledger()
    assert [line.event for line in ledger.lines] == ["started", "ended"]
    assert ledger.gaps() == []
    assert experiment.ledger_path.read_bytes().endswith(b"}\n")


def test_entries_of_several_threads_follow_one_another_without_a_gap(experiment):
    runs = [a_run(experiment, f"run-{number:02d}") for number in range(24)]

    def enter(run: Run) -> None:
        experiment.enter_start(run)
        experiment.enter_end(run)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, runs))
    ledger = experiment.ledger()
    assert len(ledger.lines) == 48
    assert ledger.gaps() == []
    assert len(ledger.heads) == 1
    assert ledger.started().keys() == ledger.ended().keys() == {run.id for run in runs}


def test_a_broken_line_keeps_later_entries_out(experiment):
    run = a_run(experiment, "one")
    experiment.ledger_path.write_text("<<<<<<< HEAD\n")
    with pytest.raises(RecordError, match=r"experiments/toy/ledger\.jsonl:1"):
        experiment.enter_start(run)
    assert experiment.ledger_path.read_text() == "<<<<<<< HEAD\n"


def test_only_ends_that_were_recorded_and_not_entered_are_entered_late(experiment):
    entered = a_run(experiment, "entered")
    experiment.enter_start(entered)
    experiment.enter_end(entered)
    experiment.enter_start(a_run(experiment, "waiting", status="failed"))
    dead = msgspec.structs.replace(this_process(), created=0.0)
    experiment.enter_start(a_run(experiment, "lost", status="running", process=dead))
    experiment.enter_start(a_run(experiment, "under-way", status="running"))
    a_run(experiment, "never-started", status="failed")
    assert experiment.enter_late() == ["waiting"]
    assert experiment.enter_late() == []
    line = experiment.ledger().ended()["waiting"]
    assert (line.status, line.late) == ("failed", True)
