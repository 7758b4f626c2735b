"""Whose turn it is to ask arXiv, and when: without a server, by the clock of this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate
from pathlib import Path

import pytest

from claimbook.papers.outcomes import RateLimited, Unreachable
from claimbook.papers.pace import Manners, Pace, TooSoonError

WEEK = 7 * 86_400.0


@pytest.fixture
def make_pace(tmp_path: Path) -> Callable[..., Pace]:
    """The pace of one process: make_pace(interval=1.0, …); all share a file."""

    def make(**manners: float) -> Pace:
        whole = Manners(**{"interval": 0.0, "queue": 0.2, "first_pause": 1.0, **manners})
        return Pace(tmp_path / "state" / "arxiv.json", whole, report=lambda text: None)

    return make


def cooled_down(pace: Pace, retry_after: str | None) -> float:
    """Seconds of cool-down after a 429, rounded to 0.1."""
    pace.cool_down(retry_after)
    return round((pace.until - datetime.now(UTC)).total_seconds(), 1)


def test_a_turn_begins_an_interval_after_the_last_one_ended(make_pace):
    with make_pace().turn():
        time.sleep(0.2)
        ended = time.monotonic()
    with make_pace(interval=0.3).turn():
        assert time.monotonic() - ended >= 0.3


def test_a_turn_that_ended_in_an_error_counts_and_is_over(make_pace):
    began = time.monotonic()
    with pytest.raises(ValueError, match="no float"), make_pace().turn():
        raise ValueError("no float")
    with make_pace(interval=0.3).turn():
        assert time.monotonic() - began >= 0.3


def test_one_asks_at_a_time_and_who_waits_for_too_long_is_told(make_pace):
    with make_pace().turn():
        before = time.monotonic()
        with pytest.raises(TooSoonError, match="other claimbook processes") as refused, make_pace().turn():
            pass
        assert time.monotonic() - before >= 0.2
    assert isinstance(refused.value.failure, Unreachable)
    with make_pace().turn():
        pass


def test_a_process_that_is_killed_in_its_turn_lets_go_of_it(make_pace):
    """Nobody knows when its request ended, so the interval counts from when it was seen to be dead."""
    code = """
import sys, time
from pathlib import Path
from claimbook.papers.pace import Manners, Pace
with Pace(Path(sys.argv[1]), Manners(interval=0.0), print).turn():
    print("held", flush=True)
    time.sleep(600)
"""
    command = [sys.executable, "-c", code, str(make_pace().path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(TooSoonError), make_pace().turn():
            pass
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        killed = time.monotonic()
    with make_pace(interval=0.7).turn():
        assert time.monotonic() - killed >= 0.7


def test_cool_downs_double_up_to_the_longest_and_begin_small_after_an_answer(make_pace):
    pace = make_pace(first_pause=10.0, longest_pause=50.0)
    assert [cooled_down(pace, None) for _ in range(5)] == [10.0, 20.0, 40.0, 50.0, 50.0]
    pace.answered()
    assert [cooled_down(pace, None) for _ in range(2)] == [10.0, 20.0]


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Sun Nov  6 08:49:37 1994", 0.0),
        ("99999999999", WEEK),
        ("Fri, 31 Dec 9999 23:59:59 GMT", WEEK),
        ("", 30.0),
        ("-5", 30.0),
        ("1.5", 30.0),
        ("١٢", 30.0),
        ("soon", 30.0),
    ],
)
def test_retry_after_is_read_as_http_has_it_and_nonsense_as_if_it_were_not_there(
    make_pace, retry_after, seconds
):
    """Seconds, or one of three forms of a date (RFC 9110, 5.6.7); more than a week is not believed."""
    pace = make_pace(first_pause=30.0)
    pace.cool_down(retry_after)
    assert max(0.0, (pace.until - datetime.now(UTC)).total_seconds()) == pytest.approx(seconds, abs=1.0)


def test_a_date_in_retry_after_is_when_the_cool_down_ends(make_pace):
    pace, end = make_pace(), int(time.time()) + 90
    pace.cool_down(formatdate(end, usegmt=True))
    assert pace.until.timestamp() == pytest.approx(end, abs=0.1)


def test_a_cool_down_holds_for_others_who_are_told_until_when(make_pace):
    with make_pace().turn():
        make_pace().cool_down("3600")
    with pytest.raises(TooSoonError) as refused, make_pace(patience=60.0).turn():
        pass
    assert isinstance(refused.value.failure, RateLimited)
    assert refused.value.failure.until == make_pace().until


def test_patience_is_used_up(make_pace):
    pace = make_pace(patience=0.5, first_pause=0.3, longest_pause=0.3)
    pace.cool_down(None)
    before = time.monotonic()
    with pace.turn():
        assert time.monotonic() - before >= 0.25
        pace.cool_down(None)
    with pytest.raises(TooSoonError), pace.turn():
        pass


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "null",
        '{"asked": null, "until": 0, "pause": 0, "written": 0}',
        '{"asked": "soon", "until": 0, "pause": 0, "written": 0}',
        '{"asked": 0, "until": Infinity, "pause": 0, "written": 0}',
        '{"asked": 0, "until": NaN, "pause": 0, "written": 0}',
        '{"asked": 1e300, "until": 1e300, "pause": 1e300, "written": 0}',
        "\x00" * 64,
    ],
)
def test_a_file_that_cannot_be_read_is_as_if_there_were_none(make_pace, text):
    pace = make_pace()
    pace.path.parent.mkdir()
    pace.path.write_text(text)
    with pace.turn():
        assert cooled_down(pace, None) == 1.0
    assert json.loads(pace.path.read_text())["asked"] == pytest.approx(time.time(), abs=5.0)


@pytest.mark.parametrize(("set_back", "holds"), [(30.0, True), (3600.0, False)])
def test_a_cool_down_is_forgotten_when_the_clock_was_set_back_far(make_pace, set_back, holds):
    """It was written in what is now the future: nobody knows how long it has yet to go."""
    pace = make_pace(patience=0.0)
    pace.cool_down("120")
    state = json.loads(pace.path.read_text())
    moved = {name: value + set_back if value else value for name, value in state.items()}
    pace.path.write_text(json.dumps(moved))
    if holds:
        with pytest.raises(TooSoonError), pace.turn():
            pass
    else:
        with pace.turn():
            pass
