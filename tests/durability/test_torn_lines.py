"""A last line that a dying process left half written: read past, then mended by the next writer."""

from __future__ import annotations

import msgspec
import pytest

from claimbook.errors import RecordError
from claimbook.experiments import Experiment, Metrics
from claimbook.records import Finish, Step, encode_json
from claimbook.records.ledger import ledger_line, read_ledger

FIRST = Step(step=1, values={"손실": 0.5, "loss": 0.5}, at=0.25)
LAST = Step(step=2, values={"손실": 0.25, "정확도": 0.875}, at=0.5)
NEXT = Step(step=3, values={"손실": 0.125}, at=0.75)
FINISH = Finish(metrics={"정확도": 0.875}, chance={}, items_sha256=None)


def line(record: Step | Finish) -> bytes:
    return msgspec.json.encode(record) + b"\n"


@pytest.fixture
def experiment(tmp_path) -> Experiment:
    experiment = Experiment(tmp_path / "experiments" / "toy")
    experiment.run_folder("run").mkdir(parents=True)
    return experiment


@pytest.mark.parametrize("last", [LAST, FINISH], ids=["step", "finish"])
def test_metrics_cut_anywhere_in_their_last_line_are_read_past_it_and_mended(experiment, last):
    path = experiment.metrics_path("run")
    for cut in range(len(line(last))):  # also inside a letter of three bytes, and just before the line's end
        path.write_bytes(line(FIRST) + line(last)[:cut])
        assert experiment.steps("run") == ([FIRST], None), f"cut after {cut} bytes"
        assert experiment.last_step("run") == FIRST
        Metrics(experiment, "run").append(NEXT)
        assert path.read_bytes() == line(FIRST) + line(NEXT)
        assert experiment.steps("run") == ([FIRST, NEXT], None)


def test_metrics_torn_in_their_only_line_are_empty_and_mended(experiment):
    path = experiment.metrics_path("run")
    for cut in range(len(line(LAST))):
        path.write_bytes(line(LAST)[:cut])
        assert experiment.steps("run") == ([], None), f"cut after {cut} bytes"
        assert experiment.last_step("run") is None
        Metrics(experiment, "run").append(NEXT)
        assert experiment.steps("run") == ([NEXT], None)


def test_a_torn_line_longer_than_a_block_is_cut_off_whole(experiment):
    """The mending writer looks for the last line's end block by block."""
    path = experiment.metrics_path("run")
    long = line(Step(step=2, values={f"지표 {number}": 0.5 for number in range(12_000)}, at=0.5))
    assert len(long) > 3 * 65_536
    path.write_bytes(line(FIRST) + long[:-1])
    Metrics(experiment, "run").append(NEXT)
    assert path.read_bytes() == line(FIRST) + line(NEXT)


@pytest.mark.parametrize("tail", [b"\0" * 40, b'{"step":2' + b"\0" * 4096], ids=["zeros", "line and zeros"])
def test_zeros_behind_the_last_line_as_a_power_cut_leaves_them_are_a_torn_line(experiment, tail):
    path = experiment.metrics_path("run")
    path.write_bytes(line(FIRST) + tail)
    assert experiment.steps("run") == ([FIRST], None)
    Metrics(experiment, "run").append(NEXT)
    assert experiment.steps("run") == ([FIRST, NEXT], None)


def test_a_torn_line_in_the_middle_of_the_metrics_is_named(experiment):
    for cut in range(len(line(LAST)) - 1):
        experiment.metrics_path("run").write_bytes(line(FIRST) + line(LAST)[:cut] + b"\n" + line(NEXT))
        with pytest.raises(RecordError) as caught:
            experiment.steps("run")
        assert caught.value.where == "experiments/toy/runs/run/metrics.jsonl:2"


def test_a_ledger_cut_anywhere_in_its_last_line_is_read_past_it_and_mended(judged):
    """The next line then follows the one before the torn one, so that there is no gap."""
    path = judged.ledger_path
    whole, last = path.read_bytes().splitlines(keepends=True)[:-1], path.read_bytes().splitlines(True)[-1]
    run = judged.runs()[-1]
    for cut in range(0, len(last)):
        path.write_bytes(b"".join(whole) + last[:cut])
        assert len(judged.ledger().lines) == len(whole), f"cut after {cut} bytes"
        if cut % 40 in (0, 1) or cut == len(last) - 1:  # an entry is synced to the disk, which takes time
            judged.enter_end(run)
            ledger = judged.ledger()
            assert len(ledger.lines) == len(whole) + 1
            assert ledger.lines[-1].previous == ledger.hashes[-2]
            assert ledger.gaps() == []


def test_a_run_whose_end_was_torn_off_the_ledger_is_entered_late(judged):
    data = judged.ledger_path.read_bytes()
    (run_id,) = {one.run for one in judged.ledger().lines[-1:]}
    judged.ledger_path.write_bytes(data[:-30])
    assert run_id not in judged.ledger().ended()
    assert judged.enter_late() == [run_id]
    entered = judged.ledger().ended()[run_id]
    assert entered.late
    assert entered.files == judged.file_hashes(run_id)


def test_a_torn_line_in_the_middle_of_the_ledger_is_named_and_nothing_is_appended(judged):
    lines = judged.ledger_path.read_bytes().splitlines(keepends=True)
    torn = b"".join([*lines[:3], lines[3][: len(lines[3]) // 2] + b"\n", *lines[4:]])
    judged.ledger_path.write_bytes(torn)
    for use in (judged.ledger, lambda: judged.enter_start(judged.runs()[0])):
        with pytest.raises(RecordError) as caught:
            use()
        assert caught.value.where == "experiments/toy/ledger.jsonl:4"
    assert judged.ledger_path.read_bytes() == torn


def test_a_line_taken_out_of_the_ledger_leaves_a_gap_and_a_merge_of_two_branches_none(judged):
    lines = judged.ledger_path.read_bytes().splitlines(keepends=True)
    assert read_ledger(b"".join([*lines[:3], *lines[4:]]), "ledger").gaps() == [4]
    branch = msgspec.structs.replace(judged.ledger().lines[5], run="made elsewhere")
    merged = read_ledger(b"".join([*lines[:6], ledger_line(branch), *lines[6:]]), "ledger")
    assert merged.gaps() == []
    assert len(merged.heads) == 2
    assert encode_json(merged.lines[6])["run"] == "made elsewhere"
