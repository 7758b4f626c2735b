"""What the ledger's lines say of one another. No file is touched here."""

from __future__ import annotations

import hashlib
import json

import pytest

from claimbook.errors import RecordError
from claimbook.records import Ledger, LedgerLine
from claimbook.records.ledger import ledger_line, read_ledger

NAME = "experiments/toy/ledger.jsonl"


def sha256(line: bytes) -> str:
    return hashlib.sha256(line.removesuffix(b"\n")).hexdigest()


def entry(run: str, previous: bytes | None, event: str = "started", **fields: object) -> bytes:
    """A line as it is written, after the line `previous`."""
    line = LedgerLine(
        event=event,
        run=run,
        arm="baseline",
        seed=0,
        at="2026-11-23T00:00:00.000Z",
        previous=sha256(previous) if previous else None,
        **fields,
    )
    return ledger_line(line)


def chain(*runs: str, after: bytes | None = None) -> list[bytes]:
    lines: list[bytes] = []
    for run in runs:
        lines.append(entry(run, lines[-1] if lines else after))
    return lines


def read(lines: list[bytes]) -> Ledger:
    return read_ledger(b"".join(lines), NAME)


SIX = chain("a", "b", "c", "d", "e", "f")


def test_every_line_follows_the_one_before_and_the_last_is_the_head():
    ledger = read(SIX)
    assert [line.run for line in ledger.lines] == ["a", "b", "c", "d", "e", "f"]
    assert ledger.hashes == [sha256(line) for line in SIX]
    assert ledger.lines[3].previous == hashlib.sha256(SIX[2][:-1]).hexdigest()
    assert ledger.heads == [sha256(SIX[-1])]
    assert ledger.gaps() == []


def test_there_may_be_no_line_yet():
    ledger = read_ledger(b"", NAME)
    assert (ledger.lines, ledger.heads, ledger.gaps()) == ([], [], [])


@pytest.mark.parametrize("place", range(5))
def test_a_line_taken_out_leaves_a_gap_where_the_next_one_stands(place):
    assert read(SIX[:place] + SIX[place + 1 :]).gaps() == [place + 1]


@pytest.mark.parametrize("place", range(5))
def test_an_edited_line_leaves_a_gap_at_the_one_after_it(place):
    edited = list(SIX)
    edited[place] = edited[place].replace(b'"seed":0', b'"seed":1')
    assert read(edited).gaps() == [place + 2]


@pytest.mark.parametrize("place", range(5))
def test_two_lines_that_change_places_leave_a_gap(place):
    swapped = list(SIX)
    swapped[place], swapped[place + 1] = swapped[place + 1], swapped[place]
    assert place + 1 in read(swapped).gaps()


def test_the_last_line_taken_out_leaves_no_gap_but_another_head():
    ledger = read(SIX[:-1])
    assert ledger.gaps() == []
    assert ledger.heads == [sha256(SIX[-2])]


def test_two_merged_branches_name_the_same_line_and_leave_no_gap():
    base, ours = chain("a", "b"), chain("c", "d", after=chain("a", "b")[-1])
    theirs = chain("e", after=base[-1])
    merged = read([*base, *ours, *theirs])
    assert merged.gaps() == []
    assert merged.heads == sorted([sha256(ours[-1]), sha256(theirs[-1])])
    later = read([*base, *ours, *theirs, entry("f", theirs[-1])])
    assert later.gaps() == []
    assert sha256(ours[-1]) in later.heads


def test_of_a_merge_that_lost_a_branchs_first_line_the_next_one_is_named():
    base = chain("a", "b")
    ours, theirs = chain("c", "d", after=base[-1]), chain("e", "f", after=base[-1])
    assert read([*base, *ours, *theirs[1:]]).gaps() == [5]


def test_two_branches_that_both_began_the_ledger_leave_no_gap():
    merged = read([*chain("a", "b"), *chain("c", "d")])
    assert merged.gaps() == []
    assert len(merged.heads) == 2


@pytest.mark.parametrize("place", range(6))
def test_a_line_that_comes_twice_is_a_gap(place):
    assert read([*SIX[: place + 1], *SIX[place:]]).gaps() == [place + 2]


def test_what_was_known_at_a_line_is_that_line_and_all_before_it():
    base = chain("a", "b")
    ours, theirs = chain("c", "d", after=base[-1]), chain("e", after=base[-1])
    ledger = read([*base, *ours, *theirs])
    assert ledger.before([sha256(ours[0])]) == {sha256(line) for line in (*base, ours[0])}
    assert ledger.before([sha256(theirs[0])]) == {sha256(line) for line in (*base, *theirs)}
    assert ledger.before(ledger.heads) == set(ledger.hashes)
    assert ledger.before([]) == ledger.before(["0" * 64]) == set()


@pytest.mark.parametrize(
    "second",
    [
        {"event": "started"},
        {"event": "ended", "status": "failed", "files": {"run.json": "1" * 64}},
        {"event": "ended", "status": "finished", "files": {"run.json": "2" * 64}},
        {"event": "ended", "status": "finished"},
        {"event": "ended", "status": "finished", "files": {"run.json": "1" * 64}, "seal": "s" * 64},
        {"event": "ended", "status": "finished", "files": {"run.json": "1" * 64}, "seed": 3},
        {"event": "ended", "status": "finished", "files": {"run.json": "1" * 64}, "arm": "treatment"},
    ],
)
def test_a_later_line_that_says_otherwise_of_a_run_contradicts_the_first(second):
    started = entry("a", None)
    ended = entry("a", started, "ended", status="finished", files={"run.json": "1" * 64})
    line = json.loads(entry("a", ended, "ended"))
    ledger = read([started, ended, json.dumps({**line, **second}).encode() + b"\n"])
    assert ledger.gaps() == []
    assert ledger.contradictions() == [3]
    assert ledger.ended()["a"] == ledger.lines[1]
    assert ledger.started()["a"] == ledger.lines[0]


def test_an_end_of_what_was_never_started_is_a_contradiction():
    assert read([entry("a", None, "ended", status="finished")]).contradictions() == [1]


def test_an_end_that_two_branches_entered_late_contradicts_nothing():
    started = entry("a", None)
    files = {"run.json": "1" * 64}
    ours = entry("a", started, "ended", status="failed", files=files, late=True)
    between = entry("b", started)
    theirs = entry("a", between, "ended", status="failed", files=files, late=True)
    ledger = read([started, ours, between, theirs])
    assert ledger.gaps() == []
    assert ledger.contradictions() == []


def test_a_torn_last_line_is_read_past():
    for length in range(1, len(SIX[-1])):
        ledger = read([*SIX[:-1], SIX[-1][:length]])
        assert ledger.hashes == [sha256(line) for line in SIX[:-1]]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b"{torn but ended\n", "no valid JSON"),
        (b"\n", "no valid JSON"),
        (b"\xff\xfe\n", "no valid JSON"),
        (b"<<<<<<< HEAD\n", "a merge conflict is not resolved\n.*keep the lines of both branches"),
        (b"[]\n", "Expected `object`, got `array`"),
        (b'{"event":"started"}\n', "the field 'run' is missing"),
        (SIX[2].replace(b'"started"', b'"begun"'), "event: Invalid enum value 'begun'"),
        (SIX[2].replace(b'"seed":0', b'"seed":"0"'), "seed: Expected `int`, got `str`"),
        (SIX[2].replace(b'"arm"', b'"status":"won","arm"'), "status: Invalid enum value 'won'"),
    ],
)
def test_a_line_that_is_no_event_is_named_with_its_file_and_number(line, complaint):
    with pytest.raises(RecordError, match=rf"^experiments/toy/ledger\.jsonl:3: (?s:{complaint})"):
        read([*SIX[:2], line, *SIX[3:]])


def test_a_run_is_found_by_how_it_started_and_how_it_ended():
    started = entry("a", None, seal="s" * 64)
    other = entry("b", started)
    ended = entry("a", other, "ended", status="finished", files={"run.json": "f" * 64}, seal="s" * 64)
    ledger = read([started, other, ended])
    assert list(ledger.started()) == ["a", "b"]
    assert list(ledger.ended()) == ["a"]
    assert ledger.started()["a"].seal == "s" * 64
    assert ledger.ended()["a"].files == {"run.json": "f" * 64}
    assert ledger.ended()["a"].late is False


def test_what_a_later_version_adds_to_a_line_is_read_past_and_belongs_to_its_hash():
    first = json.dumps({**json.loads(SIX[0]), "colour": "녹색"}, ensure_ascii=False).encode() + b"\n"
    ledger = read([first, entry("b", first)])
    assert ledger.lines[0].run == "a"
    assert ledger.gaps() == []
    assert read([SIX[0], entry("b", first)]).gaps() == [2]
