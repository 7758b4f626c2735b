"""A batch as it is seen: the table in a real terminal, plain lines, JSON lines; and what must not harm it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading

import pytest
from rich.cells import cell_len
from rich.console import Console

from claimbook.display import Board, draw, error_line, follow, span, why
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
    read_events,
)
from claimbook.records.run import Failure, Process

AT = "2026-11-25T03:00:00.000Z"


def job(arm: str = "baseline", seed: int = 0, experiment: str = "toy", **changes) -> Job:
    return Job(experiment=experiment, arm=arm, seed=seed, changes=changes)


def opened(slots: int = 2) -> Opened:
    process = Process(pid=1, created=1.0, host="h")
    return Opened(batch="nightly-1", name="nightly", at=AT, process=process, engine="local", slots=slots)


def started(one: Job, run: str, **fields) -> Started:
    return Started(job=one, run=run, at=AT, **fields)


def ended(one: Job, run: str, status="finished", seconds=10.0, **fields) -> Ended:
    return Ended(job=one, run=run, at=AT, status=status, seconds=seconds, **fields)


def failed(one: Job, run: str, message: str, error: str = "ValueError") -> Ended:
    return ended(one, run, "failed", 3.0, failure=Failure(error=error, message=message, cell=4))


def story(report) -> None:
    """A batch of two runs, the first of which fails."""
    report(opened())
    for seed in range(2):
        report(Queued(job=job(seed=seed)))
    report(started(job(seed=0), "run-0"))
    report(Progress(job=job(seed=0), run="run-0", cell=1, cells=3, kernel="cold"))
    report(failed(job(seed=0), "run-0", "the shelf is empty\nsecond line"))
    report(Notice(text="kernels start cold: no fork server", at=AT))
    report(started(job(seed=1), "run-1"))
    report(ended(job(seed=1), "run-1"))


def one_of_two_ended(now: list[float], seconds: float) -> Board:
    """Two runs that began at once, with slots to spare; one has ended. now: the clock, in its one item."""
    board = Board(clock=lambda: now[0])
    board.take(opened(slots=8))
    for seed in range(2):
        board.take(Queued(job=job(seed=seed)))
        board.take(started(job(seed=seed), f"r{seed}"))
    board.take(ended(job(seed=0), "r0", seconds=seconds))
    return board


def drawn(board: Board, width: int, height: int) -> list[str]:
    """The table's lines as a terminal of this size shows them."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    console.print(draw(board, width, height))
    return console.file.getvalue().splitlines()


def in_terminal(code: str, columns: int = 80, rows: int = 24, **environment: str) -> str:
    """What Python code writes to a terminal of this size; both of its outputs are that terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "TERM")}
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=follower, stdout=follower, stderr=follower,
        env={**variables, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(follower)
    said = b""
    try:
        while chunk := os.read(leader, 65_536):
            said += chunk
    except OSError:  # the end of a terminal is an error on Linux
        pass
    os.close(leader)
    assert child.wait(timeout=60) == 0, said.decode()
    return said.decode()


PREAMBLE = f"""
import sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_display import *
"""
"""Brings this file's functions to a process of its own."""


class TestTimeLeft:
    def test_it_is_the_work_left_over_the_slots_by_the_arms_own_mean(self):
        """baseline took 10 s, treatment 40 s; three baselines wait, one treatment is 15 s under way.

        3 · 10 s + (40 − 15) s = 55 s over two slots: 27.5 s, which is more than the 25 s under way.
        """
        now = [0.0]
        board = Board(clock=lambda: now[0])
        board.take(opened(slots=2))
        for seed in range(4):
            board.take(Queued(job=job("baseline", seed)))
        for seed in range(2):
            board.take(Queued(job=job("treatment", seed)))
        assert board.seconds_left() is None
        for arm, seconds in (("baseline", 10.0), ("treatment", 40.0)):
            board.take(started(job(arm, 0), arm))
            board.take(ended(job(arm, 0), arm, seconds=seconds))
        board.take(started(job("treatment", 1), "last"))
        now[0] = 15.0
        assert board.seconds_left() == pytest.approx(27.5)

    def test_it_is_never_less_than_what_the_longest_run_under_way_needs(self):
        now = [0.0]
        board = one_of_two_ended(now, 100.0)
        now[0] = 30.0
        assert board.seconds_left() == pytest.approx(70.0)

    def test_what_failed_at_once_and_what_was_reused_do_not_make_it_shorter(self):
        board = Board(clock=lambda: 0.0)
        board.take(opened(slots=1))
        board.take(Reused(job=job(seed=9), run="old"))
        for seed in range(3):
            board.take(Queued(job=job(seed=seed)))
        board.take(started(job(seed=0), "r0"))
        board.take(ended(job(seed=0), "r0", "failed", seconds=0.1))
        assert board.seconds_left() is None
        board.take(started(job(seed=1), "r1"))
        board.take(ended(job(seed=1), "r1", seconds=20.0))
        assert board.seconds_left() == pytest.approx(20.0)


class TestTable:
    @pytest.fixture
    def crowded(self) -> Board:
        """Forty arms of ten experiments with Korean names, eight runs under way, some failures."""
        board = Board()
        board.take(opened(slots=8))
        arms = ("baseline", "treatment", "shuffled", "blind-text")
        jobs = [job(a, s, f"실험-{e}-작은-배치-siglip") for e in range(10) for s in range(6) for a in arms]
        for one in jobs:
            board.take(Queued(job=one))
        for number, one in enumerate(jobs[:33]):
            board.take(started(one, f"r{number}"))
            board.take(ended(one, f"r{number}", "failed" if number % 7 == 6 else "finished"))
        for number, one in enumerate(jobs[33:41], start=33):
            board.take(started(one, f"r{number}"))
            values = {"loss": 0.5312, "정확도": 0.71}
            board.take(
                Progress(
                    job=one, run=f"r{number}", cell=7, cells=12, kernel="warm", step=120, values=values,
                    memory=3 * 2**29,
                )
            )  # fmt: skip
        return board

    @pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 60), (40, 12), (20, 5)])
    def test_it_fits_the_terminal_whatever_is_under_way(self, crowded, width, height):
        lines = drawn(crowded, width, height)
        assert len(lines) < height
        assert max(map(cell_len, lines)) <= width

    def test_arms_that_do_not_fit_are_counted_and_those_at_work_are_shown(self, crowded):
        lines = drawn(crowded, 80, 24)
        rows = [line for line in lines if re.search(r"  \d/6( |$)", line)]
        (rest,) = [line for line in lines if line.startswith("…")]
        assert len(rows) + int(re.search(r"(\d+) more arms", rest)[1]) == 40
        # the runs under way are of the second experiment: 24 jobs are the first one's, 33 have ended
        assert rows[0].startswith("실험-1")
        assert rows[4].startswith("실험-0")

    def test_a_run_shows_cell_kernel_memory_and_its_last_step(self, crowded):
        line = next(line for line in drawn(crowded, 120, 40) if line.startswith("▸"))
        assert re.search(r"cell 7/12 +warm +1\.5 GiB +0:0\d +step 120: loss 0\.531, 정확도 0\.71", line)

    def test_rows_count_what_is_done_and_say_how_the_others_ended(self):
        board = Board()
        board.take(opened())
        board.take(Reused(job=job(seed=0), run="old"))
        for seed in range(1, 6):
            board.take(Queued(job=job(seed=seed)))
        board.take(started(job(seed=1), "a"))
        board.take(ended(job(seed=1), "a", "lost", again=True))
        board.take(started(job(seed=1), "b", attempt=2))
        board.take(ended(job(seed=1), "b"))
        board.take(started(job(seed=2), "c"))
        board.take(ended(job(seed=2), "c", "out-of-memory"))
        board.take(Elsewhere(job=job(seed=3), run="theirs"))
        head, row = drawn(board, 80, 24)
        assert head.startswith("nightly  3/5 runs · 1 reused · 0:00")
        assert re.search(r"baseline .* 3/6  1 out-of-memory", row)

    def test_what_another_batch_made_before_it_was_queued_is_no_run_of_this_one(self):
        board = Board()
        board.take(opened())
        board.take(Elsewhere(job=job(seed=0), run="theirs"))
        board.take(Queued(job=job(seed=1)))
        assert drawn(board, 80, 24)[0].startswith("nightly  0/1 runs")
        assert "1/2" in drawn(board, 80, 24)[1]

    def test_before_the_first_event_there_is_nothing_to_stumble_over(self):
        assert drawn(Board(), 80, 24) == ["  0:00"]

    def test_a_batch_of_which_all_is_there_says_so(self):
        board = Board()
        board.take(opened())
        for seed in range(2):
            board.take(Reused(job=job(seed=seed), run="old"))
        assert drawn(board, 80, 24)[0] == "nightly  nothing to make · 2 reused · 0:00"
        board.take(Elsewhere(job=job(seed=2), run="theirs"))
        head, row = drawn(board, 80, 24)
        assert head == "nightly  nothing to make · 2 reused · 1 made by another batch · 0:00"
        assert re.fullmatch(r"baseline  ━+  3/3", row.rstrip())

    def test_a_row_names_only_the_parameters_that_differ_and_in_full_at_80_columns(self):
        board = Board()
        board.take(opened())
        jobs = [
            job("treatment", 101, temperature=0.07, learning_rate=rate, image_size=224)
            for rate in (0.001, 0.003)
        ]
        for number, one in enumerate(jobs):
            board.take(Queued(job=one))
            board.take(started(one, f"r{number}"))
            board.take(
                Progress(job=one, run=f"r{number}", cell=1, cells=4, step=120, values={"loss": 0.5312})
            )
        rows = [line for line in drawn(board, 80, 24) if line.startswith("▸")]
        assert [row.partition("  ")[0] for row in rows] == [
            "▸ treatment seed 101 learning_rate=0.001",
            "▸ treatment seed 101 learning_rate=0.003",
        ]
        assert "…" not in "".join(rows)
        wide = [line for line in drawn(board, 120, 24) if line.startswith("▸")]
        assert all("step 120: loss 0.531" in row for row in wide)

    def test_a_parameter_that_some_jobs_leave_as_it_is_differs(self):
        board = Board()
        board.take(Reused(job=job(), run="old"))
        board.take(Queued(job=job(lr=0.001)))
        assert board.label(job(lr=0.001)) == "baseline seed 0 lr=0.001"

    def test_a_run_that_is_repeated_cold_says_so(self):
        board = Board()
        board.take(opened())
        board.take(Queued(job=job()))
        board.take(started(job(), "r"))
        board.take(Progress(job=job(), run="r", checking=True))
        assert re.match(r"▸ baseline seed 0  cold check  ", drawn(board, 80, 24)[-1])
        board.take(Progress(job=job(), run="r", cell=1, cells=4, kernel="cold", checking=True))
        assert re.match(r"▸ baseline seed 0  cold check  cold  ", drawn(board, 80, 24)[-1])

    def test_a_time_left_that_has_run_out_is_not_shown(self):
        now = [0.0]
        board = one_of_two_ended(now, 10.0)
        now[0] = 4.0
        assert "about 6.0 s left" in drawn(board, 80, 24)[0]
        now[0] = 60.0
        assert "left" not in drawn(board, 80, 24)[0]


class TestTerminal:
    CODE = PREAMBLE + "from claimbook.display import how_to_show\n"
    CODE += "with follow(how_to_show()) as report: story(report)"

    def test_failures_stay_above_the_table_which_stays_at_its_end(self):
        said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", in_terminal(self.CODE))
        above = " ".join(said.split())  # it is folded to the terminal
        assert "baseline seed 0 failed after 3.0 s in cell 4: ValueError: the shelf is empty (run-0)" in above
        assert "second line" not in said
        assert "note: kernels start cold: no fork server" in said
        last = [line for line in said.replace("\r", "\n").split("\n") if line.strip()][-2:]
        assert last[0].startswith("nightly  2/2 runs")
        assert re.search(r"baseline .* 1/2  1 failed", last[1])

    def test_the_cursor_is_given_back(self):
        said = in_terminal(self.CODE)
        assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")

    def test_no_color_is_kept_to(self):
        colors = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-7]|9[0-7]|38;[0-9;]+)m")
        assert colors.search(in_terminal(self.CODE))
        assert not colors.search(in_terminal(self.CODE, NO_COLOR="1"))

    def test_a_dumb_terminal_gets_plain_lines(self):
        said = in_terminal(self.CODE, TERM="dumb")
        assert "\x1b" not in said
        assert "  2/2 baseline seed 1 finished in 10.0 s" in said


class TestLines:
    def shown(self, capsys, *events) -> list[str]:
        with follow("lines") as report:
            for event in events:
                report(event)
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()

    def test_there_is_a_line_for_each_beginning_end_and_notice(self, capsys):
        with follow("lines") as report:
            story(report)
        assert capsys.readouterr().err.splitlines() == [
            "  begun baseline seed 0",
            "  1/2 baseline seed 0 failed after 3.0 s in cell 4: ValueError: the shelf is empty (run-0)",
            "  note: kernels start cold: no fork server",
            "  begun baseline seed 1",
            "  2/2 baseline seed 1 finished in 10.0 s",
        ]

    def test_what_another_batch_made_is_counted_if_this_one_set_out_to_make_it(self, capsys):
        before, meanwhile = job(seed=0), job(seed=1)
        lines = self.shown(
            capsys, opened(), Elsewhere(job=before, run="x"), Queued(job=meanwhile),
            Elsewhere(job=meanwhile, run="y"),
        )  # fmt: skip
        assert lines == [
            "  baseline seed 0 was made by another batch (x)",
            "  1/1 baseline seed 1 was made by another batch (y)",
        ]

    def test_a_job_that_is_made_again_is_not_counted_yet(self, capsys):
        lost = ended(job(), "a", "lost", failure=Failure(error="WorkerDied", message="signal 9"), again=True)
        lines = self.shown(
            capsys, opened(), Queued(job=job()), started(job(), "a"), lost,
            started(job(), "b", attempt=2), ended(job(), "b"),
        )  # fmt: skip
        assert lines == [
            "  begun baseline seed 0",
            "  baseline seed 0 lost after 10.0 s: WorkerDied: signal 9 (is made again; a)",
            "  begun baseline seed 0 (attempt 2)",
            "  1/1 baseline seed 0 finished in 10.0 s",
        ]

    def test_jobs_are_told_apart_by_experiment_and_grid_point(self, capsys):
        one, other = job(experiment="a", lr=0.001), job(experiment="b", lr=0.002)
        lines = self.shown(capsys, opened(), Queued(job=one), Queued(job=other), started(one, "x"))
        assert lines == ["  begun a baseline seed 0 lr=0.001"]

    @pytest.mark.parametrize(
        ("message", "shown"),
        [
            ("\x1b[31mred\x1b[0m\nmore", "red"),
            ("[bold]x[/bold] [/] [link=file:///]", "[bold]x[/bold] [/] [link=file:///]"),
            ("\x1b]0;title\x07bell\x07\x08\x08", "bell"),
            ("\u202eevil\u2066", "evil"),
            ("\n\n  재고가 없습니다", "재고가 없습니다"),
            ("a\rb\tc", "a"),
        ],
    )
    def test_what_a_notebook_says_cannot_write_to_the_terminal(self, capsys, message, shown):
        (_, line) = self.shown(
            capsys, opened(), Queued(job=job()), started(job(), "r"), failed(job(), "r", message)
        )
        assert line.endswith(f"ValueError: {shown} (r)")
        assert line.isprintable()

    def test_an_error_without_a_message_is_its_name_and_a_long_one_is_cut(self):
        assert error_line("KeyError", "") == "KeyError"
        assert error_line("KeyError", " \n ") == "KeyError"
        assert len(error_line("KeyError", "x" * 10_000)) == 240


def test_why_a_run_did_not_finish_stands_behind_its_status():
    assert (
        why(Failure(error="ValueError", message="no shelf\nmore", cell=0))
        == " in cell 0: ValueError: no shelf"
    )
    assert why(Failure(error="WorkerDied", message="")) == ": WorkerDied"
    assert why(None) == ""


class TestJson:
    def test_every_event_is_a_line_and_progress_is_thinned(self, capfdbinary):
        with follow("json") as report:
            story(report)
            for cell in range(500):
                report(Progress(job=job(seed=1), run="run-1", cell=cell, cells=500))
            report(Closed(at=AT, seconds=1.0, run_seconds=2.0, counts={"finished": 1}))
        out, err = capfdbinary.readouterr()
        assert err == b""
        kinds = [json.loads(line)["event"] for line in out.splitlines()]
        assert kinds.count("progress") == 2
        assert [kind for kind in kinds if kind != "progress"] == [
            "opened", "queued", "queued", "started", "ended", "notice", "started", "ended", "closed",
        ]  # fmt: skip
        assert b"".join(encode_event(event) for event in read_events(out, "stdout")) == out

    def test_events_of_many_threads_are_whole_lines(self, capfdbinary):
        def say(thread: int) -> None:
            for seed in range(250):
                report(Queued(job=job(seed=seed, arm=f"arm-{thread}")))

        with follow("json") as report:
            threads = [threading.Thread(target=say, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        events = read_events(capfdbinary.readouterr().out, "stdout")
        assert len({event.job.key for event in events}) == len(events) == 1000


@pytest.mark.parametrize("how", ["live", "lines", "json"])
def test_a_display_whose_pipe_was_closed_ends_nothing(how, tmp_path):
    """Neither while it is followed nor by the exit code."""
    code = PREAMBLE + (
        f"with follow({how!r}) as report:\n"
        "    for _ in range(100): story(report)\n"
        "open(sys.argv[1], 'w').write('to the end')\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = tmp_path / "done"
    child = subprocess.Popen([sys.executable, "-c", code, str(done)], stdout=writer, stderr=writer)
    os.close(writer)
    assert child.wait(timeout=60) == 0
    assert done.read_text() == "to the end"


def test_a_terminal_that_takes_nothing_holds_up_no_run():
    """As after Ctrl-S: a full pipe that nobody reads. 20,000 events are more than it holds."""
    reader, writer = os.pipe()
    code = PREAMBLE + (
        "with follow('json') as report:\n"
        "    for seed in range(20_000): report(Queued(job=job(seed=seed)))\n"
        "    print('all said', file=sys.stderr, flush=True)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert child.stderr.readline() == "all said\n"
    with open(reader, "rb") as file:
        assert len(file.read().splitlines()) == 20_000
    assert child.wait(timeout=60) == 0
    child.stderr.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(3.14, "3.1 s"), (27.4, "27 s"), (99.6, "100 s"), (38 * 60, "38 min"), (125 * 60, "2 h 05 min")],
)
def test_a_span_is_said_as_people_say_it(seconds, text):
    assert span(seconds) == text
