"""The lines of a batch, and the batch file: what is read, what is refused and where."""

from __future__ import annotations

import json

import pytest

from claimbook.errors import RecordError
from claimbook.records.batch import (
    Closed,
    Elsewhere,
    Ended,
    Job,
    Notice,
    Opened,
    Queued,
    Reused,
    Started,
    encode_event,
    read_batch_file,
    read_events,
    states,
)
from claimbook.records.run import Failure, Process

AT = "2026-11-25T03:00:00.000Z"
JOB = Job(experiment="toy", arm="treatment", seed=3, changes={"lr": 0.1, "sizes": [8, 16]})
EVENTS = [
    Opened(
        batch="밤-1",
        name="밤",
        at=AT,
        process=Process(pid=1, created=2.5, host="h"),
        engine="ray",
        slots=2,
        gpus=["0", "1"],
    ),
    Queued(job=JOB),
    Reused(job=JOB, run="r"),
    Started(job=JOB, run="r", at=AT, attempt=2, slot=1),
    Ended(job=JOB, run="r", at=AT, status="failed", failure=Failure(error="E", message="m\n", cell=0)),
    Elsewhere(job=JOB, run="r"),
    Notice(text="kernels start cold", at=AT),
    Closed(at=AT, seconds=1.5, run_seconds=2.5, counts={"finished": 1}, verdicts={"toy": "refuted"}),
]

NIGHTLY = """\
title = "Nightly"
experiments = ["siglip-*", "e-clip"]
make = "failed"
arms = ["baseline", "treatment"]
seeds = [0, 1]

[grid]
lr = [0.001, 0.002]
loss = ["softmax", "sigmoid"]

[slots]
count = 2
gpus = "0:0.5"
timeout = 3600
cell_timeout = 600
memory = "8GiB"
verify_cold = 10
"""


def test_events_are_read_back_as_they_were_said():
    data = b"".join(map(encode_event, EVENTS))
    assert read_events(data, "j") == EVENTS
    assert read_events(data + b'{"event":"clo', "j") == EVENTS
    assert [json.loads(line)["event"] for line in data.splitlines()] == [
        "opened", "queued", "reused", "started", "ended", "elsewhere", "notice", "closed",
    ]  # fmt: skip


def test_a_line_that_says_nothing_is_named_by_its_number():
    data = encode_event(EVENTS[0]) + b'{"event":"unheard"}\n'
    with pytest.raises(RecordError) as raised:
        read_events(data, "experiments/batches/j.jsonl")
    assert raised.value.where == "experiments/batches/j.jsonl:2"


def test_a_job_that_is_made_again_is_queued_meanwhile():
    again = Ended(job=JOB, run="r", at=AT, status="lost", again=True)
    assert states([Queued(job=JOB), Started(job=JOB, run="r", at=AT), again]) == [(JOB, "queued")]


def test_a_batch_file_is_read_whole():
    asked = read_batch_file(NIGHTLY, "nightly.toml")
    assert asked.experiments == ["siglip-*", "e-clip"]
    assert asked.make == "failed"
    assert asked.grid == {"lr": [0.001, 0.002], "loss": ["softmax", "sigmoid"]}
    assert (asked.slots.count, asked.slots.gpus, asked.slots.memory) == (2, "0:0.5", "8GiB")


def test_an_empty_file_asks_for_what_is_missing_of_everything():
    asked = read_batch_file("", "nightly.toml")
    assert (asked.experiments, asked.make, asked.arms, asked.seeds, asked.grid) == (
        None, "missing", None, None, {},
    )  # fmt: skip
    assert asked.slots.engine == "local"


@pytest.mark.parametrize(
    ("old", "new", "where", "problem"),
    [
        ("seeds =", "sedes =", "nightly.toml:5", "no field 'sedes'"),
        ("cell_timeout", "cell_timeuot", "nightly.toml:15", "no field 'cell_timeuot'"),
        ('"failed"', '"everything"', "nightly.toml:3", "Invalid enum value 'everything'"),
        ("seeds = [0, 1]", "seeds = []", "nightly.toml:5", "seeds is empty"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "nightly.toml:5", "names one of them twice"),
        ("seeds = [0, 1]", 'seeds = ["0"]', "nightly.toml:5", "Expected `int`"),
        ("lr = [0.001, 0.002]", "lr = 0.001", "nightly.toml:7", "Expected `array`"),
        ("count = 2", "count = 0", "nightly.toml:12", "count is 0"),
        ("timeout = 3600", "timeout = inf", "nightly.toml:14", "timeout is inf"),
        ("timeout = 3600", "timeout = nan", "nightly.toml:14", "timeout is nan"),
        ('"failed"', '"rerun"', "nightly.toml:4", "arms narrows a rerun"),
        ("[grid]", "[grid", "nightly.toml", "line 7"),
    ],
)
def test_what_a_file_cannot_say_is_named_by_its_line(old, new, where, problem):
    assert old in NIGHTLY
    with pytest.raises(RecordError) as raised:
        read_batch_file(NIGHTLY.replace(old, new, 1), "nightly.toml")
    assert raised.value.where == where
    assert problem in raised.value.problem
    assert raised.value.fix
