"""The journal of a batch: what is kept, what a killed one tells, and which batch came before."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime

import msgspec
import pytest

from claimbook.errors import RecordError
from claimbook.experiments import Experiment, this_process, written_or_sealed
from claimbook.index import Index
from claimbook.records import Run
from claimbook.records.batch import (
    Closed,
    Elsewhere,
    Ended,
    Job,
    Notice,
    Opened,
    Progress,
    Queued,
    Reused,
    Started,
    encode_event,
)
from claimbook.records.run import Failure, Process
from claimbook.runner import journal
from claimbook.runner.journal import Journal
from claimbook.session import now

EARLY = "2026-11-18T03:00:00.000Z"


def job(seed: int = 0, **changes) -> Job:
    return Job(experiment="toy", arm="baseline", seed=seed, changes=changes)


def opened(batch: str = "nightly-1", at: str | None = None, process: Process | None = None) -> Opened:
    return Opened(
        batch=batch,
        name=batch.rpartition("-")[0],
        at=at or now(),
        process=process or this_process(),
        engine="local",
        slots=2,
    )


def ended(seed: int, run: str, status="finished", **fields) -> Ended:
    return Ended(job=job(seed), run=run, at=now(), status=status, seconds=10.0, **fields)


def closed(**fields) -> Closed:
    return Closed(**{"at": now(), "seconds": 12.0, "run_seconds": 20.0, "counts": {}, **fields})


@pytest.fixture
def dead() -> Process:
    """A process of this machine that is gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return Process(pid=child.pid, created=1.0, host=this_process().host)


def write(toy, *events) -> None:
    with Journal.open(toy, events[0]) as one:
        for event in events[1:]:
            one.enter(event)


def states(batch: journal.Batch) -> list[str]:
    return [one.state for one in batch.jobs]


def test_what_became_of_each_job_is_read_back_and_progress_is_not_kept(toy):
    failure = Failure(error="ValueError", message="the shelf is empty", cell=4)
    write(
        toy,
        opened(),
        Reused(job=job(9), run="old"),
        *(Queued(job=job(seed)) for seed in range(4)),
        Started(job=job(0), run="a", at=now()),
        Progress(job=job(0), run="a", cell=1, cells=3),
        ended(0, "a", "lost", again=True),
        Started(job=job(0), run="b", at=now(), attempt=2),
        ended(0, "b", cpu_seconds=7.0),
        Started(job=job(1), run="c", at=now()),
        ended(1, "c", "failed", failure=failure, cpu_seconds=2.0),
        Elsewhere(job=job(2), run="theirs"),
        Notice(text="kernels start cold", at=now()),
        closed(verdicts={"toy": "supported"}),
    )
    path = toy.experiments / "batches" / "nightly-1.jsonl"
    assert b"progress" not in path.read_bytes()
    one = journal.read(toy, "nightly-1")
    assert one.state == "incomplete"
    assert [(j.job.seed, j.state, j.run) for j in one.jobs] == [
        (9, "reused", "old"),
        (0, "finished", "b"),
        (1, "failed", "c"),
        (2, "made elsewhere", "theirs"),
        (3, "never begun", None),
    ]
    assert one.counts == {"finished": 1, "failed": 1, "reused": 1, "made elsewhere": 1, "never begun": 1}
    assert [(j.job.seed, j.ended.failure) for j in one.failures] == [(1, failure)]
    assert (one.seconds, one.run_seconds, one.cpu_seconds) == (12.0, 30.0, 9.0)
    assert one.verdicts == {"toy": "supported"}
    assert [notice.text for notice in one.notices] == ["kernels start cold"]


def test_points_of_a_grid_are_jobs_of_their_own(toy):
    points = [job(0, lr=0.1), job(0, lr=0.2), job(0, lr=1), job(0, lr=True)]
    write(toy, opened(), *(Queued(job=point) for point in points), Elsewhere(job=points[2], run="r"))
    assert states(journal.read(toy, "nightly-1")) == ["queued", "queued", "made elsewhere", "queued"]


def test_a_batch_is_running_while_its_process_lives(toy):
    write(toy, opened(), Queued(job=job(0)), Queued(job=job(1)))
    one = journal.read(toy, "nightly-1")
    assert (one.state, states(one)) == ("running", ["queued", "queued"])


def test_a_killed_batch_reads_as_lost_up_to_its_last_word(toy):
    """A process of its own enters lines and kills itself, the last one half written."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(__file__.rpartition("/")[0])!r})
from test_journal import *
from claimbook import workspace
one = Journal.open(workspace.find(), opened())
for seed in range(3):
    one.enter(Queued(job=job(seed)))
one.enter(Started(job=job(0), run="a", at=now()))
one.enter(ended(0, "a"))
one.enter(Started(job=job(1), run="b", at=now()))
os.write(one._file.fileno(), b'{{"event":"ended","job":{{"exp')
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=toy.root).returncode == -9
    one = journal.read(toy, "nightly-1")
    assert one.state == "lost"
    assert states(one) == ["finished", "lost", "never begun"]
    assert one.closed is None
    assert [j.run for j in one.failures] == ["b"]


def test_cut_off_anywhere_behind_its_first_line_it_is_readable(toy, dead):
    """As a kill or a full disk leaves it: the jobs told so far, each state one that it has been in."""
    write(
        toy, opened(process=dead), Queued(job=job(0)), Started(job=job(0), run="a", at=now()), ended(0, "a")
    )
    path = toy.experiments / "batches" / "nightly-1.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    seen = set()
    for size in range(first, len(whole) + 1):
        path.write_bytes(whole[:size])
        seen.add(tuple(states(journal.read(toy, "nightly-1"))))
    assert seen == {(), ("never begun",), ("lost",), ("finished",)}
    path.write_bytes(whole[: first - 1])
    with pytest.raises(RecordError, match="does not begin with the line that opens it"):
        journal.read(toy, "nightly-1")


def recorded(toy, run_id: str, **fields) -> Run:
    """A run's record as its supervisor left it."""
    run = Run(
        id=run_id, experiment="toy", arm="baseline", seed=0, kind="exploratory", why_exploratory=[],
        seal=None, notebook="toy", parameters={}, fingerprints={}, environment={}, git={}, status="running",
        started=EARLY, process=this_process(),
    )  # fmt: skip
    run = msgspec.structs.replace(run, **fields)
    Experiment.of(toy, "toy").save_run(run)
    return run


def test_a_run_that_was_mended_after_its_batch_was_killed_is_what_its_record_says(toy, dead):
    recorded(toy, "a", status="finished")
    write(toy, opened(process=dead), Queued(job=job(0)), Started(job=job(0), run="a", at=now()))
    assert states(journal.read(toy, "nightly-1")) == ["finished"]


class TestOnAnotherMachine:
    FAR = Process(pid=1, created=1.0, host="another")

    def test_a_batch_that_has_just_said_something_is_running(self, toy):
        write(toy, opened(process=self.FAR), Queued(job=job(0)))
        assert journal.read(toy, "nightly-1").state == "running"

    def test_a_silent_one_is_lost(self, toy):
        write(toy, opened(process=self.FAR, at=EARLY), Queued(job=job(0)))
        one = journal.read(toy, "nightly-1")
        assert (one.state, states(one)) == ("lost", ["never begun"])

    def test_a_silent_one_whose_run_beats_is_running(self, toy):
        recorded(toy, "a", process=self.FAR)
        beat = toy.experiments / "toy" / "runs" / "a" / "heartbeat"
        write(
            toy,
            opened(process=self.FAR, at=EARLY),
            Queued(job=job(0)),
            Started(job=job(0), run="a", at=EARLY),
        )
        assert journal.read(toy, "nightly-1").state == "lost"
        beat.touch()
        one = journal.read(toy, "nightly-1")
        assert (one.state, states(one)) == ("running", ["running"])


def test_lines_of_many_threads_are_whole(toy):
    with Journal.open(toy, opened()) as one:

        def enter(thread: int) -> None:
            for number in range(250):
                one.enter(Queued(job=job(250 * thread + number)))

        threads = [threading.Thread(target=enter, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {j.job.seed for j in journal.read(toy, "nightly-1").jobs} == set(range(1000))


def test_the_one_before_is_the_last_of_its_name_that_came_to_its_end(toy, dead):
    def at(day: int) -> str:
        return datetime(2026, 11, day, tzinfo=UTC).isoformat()

    write(toy, opened("nightly-1", at(1)), closed())
    write(toy, opened("nightly-2", at(2)), closed())
    write(toy, opened("nightly-3", at(3)), closed(stopped=True))
    write(toy, opened("nightly-4", at(4), dead), Queued(job=job(0)))
    write(toy, opened("weekly-1", at(5)), closed())
    write(toy, opened("nightly-5", at(6)), closed())
    newest = journal.read(toy, "nightly")
    assert newest.opened.batch == "nightly-5"
    earlier = journal.before(toy, newest)
    assert earlier is not None
    assert earlier.opened.batch == "nightly-2"
    assert journal.before(toy, journal.read(toy, "weekly")) is None


def test_a_batch_is_found_by_the_process_that_made_it(toy, dead):
    assert journal.of_process(toy, this_process()) is None
    write(toy, opened("run-1"), closed())
    write(toy, opened("run-2"), closed())
    write(toy, opened("run-3", process=dead), closed())
    mine = journal.of_process(toy, this_process())
    assert mine is not None
    assert mine.opened.batch == "run-2"


def test_a_broken_journal_is_named_and_the_others_are_read(toy):
    write(toy, opened("nightly-1"), closed())
    path = toy.experiments / "batches" / "nightly-2.jsonl"
    path.write_bytes(encode_event(opened("nightly-2")) + b'{"event":"ended"}\n')
    found, problems = journal.journals(toy)
    assert [one.opened.batch for one in found] == ["nightly-1"]
    assert [problem.where for problem in problems] == ["experiments/batches/nightly-2.jsonl:2"]


def test_a_name_that_is_none_gets_the_nearest(toy):
    write(toy, opened("nightly-1"), closed())
    with pytest.raises(RecordError, match="did you mean 'nightly'"):
        journal.read(toy, "nigthly")
    with pytest.raises(RecordError, match="there is no batch"):
        journal.read(toy, "../seals")


def test_the_folder_of_batches_is_no_experiment(toy):
    write(toy, opened(), closed())
    assert toy.slugs("experiments") == ["toy"]
    assert [one.slug for one in written_or_sealed(toy)] == ["toy"]
    with Index.open(toy) as index:
        assert index.problems == []
        assert {hit.slug for hit in index.search("nightly")} == set()
