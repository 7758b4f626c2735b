"""What a batch shows while it runs: a live table in a terminal, plain lines elsewhere, JSON for scripts.

Knows how a batch's events look, and nothing of how its runs are made. What notebooks say is not trusted: it
is shown on one line, without control characters.
"""

from __future__ import annotations

import os
import queue
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import msgspec
from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.progress import TimeRemainingColumn as TimeLeftColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from claimbook.records.batch import (
    Elsewhere,
    Ended,
    Job,
    Line,
    Notice,
    Opened,
    Progress,
    Queued,
    Reused,
    Started,
    encode_event,
)
from claimbook.records.run import Failure
from claimbook.runner.memory import show_bytes

How = Literal["live", "lines", "json"]
_BETWEEN_FRAMES = 0.5
"""Seconds between two drawings of the table."""
_MOST_WAITING = 1000
"""Events that may wait to be shown before a run's progress is passed over."""
_BETWEEN_ESTIMATES = 60.0
"""Seconds between two plain lines that say how much time is left."""
_LONGEST = 240
"""Characters shown of an error's first line; its notebook has all of it."""
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def how_to_show(*, as_json: bool = False) -> How:
    """JSON where it is asked for, a table where standard error can show one, plain lines elsewhere."""
    if as_json:
        return "json"
    console = Console(stderr=True)
    return "live" if console.is_terminal and not console.is_dumb_terminal else "lines"


@contextmanager
def follow(how: How) -> Iterator[Callable[[Line], None]]:
    """Show the events of a batch; yields what to call with each of them, from any thread.

    live: a table on standard error, above it failures as they come. lines: on standard error, a line each.
    json: every event as a line on standard output, and nothing else there. A display that is slow holds up no
    run, as one would in a terminal stopped by Ctrl-S; one that fails, because its pipe was closed say, falls
    silent and ends none.
    """
    displays: dict[How, type[_Display]] = {"live": _Table, "lines": _Lines, "json": _JsonLines}
    events: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
    thread = threading.Thread(target=_show_all, args=(displays[how](), events), name="display", daemon=True)

    def report(event: Line) -> None:
        if not isinstance(event, Progress) or events.qsize() < _MOST_WAITING:
            events.put(event)

    thread.start()
    try:
        yield report
    finally:
        events.put(None)
        thread.join()


def _show_all(display: _Display, events: queue.SimpleQueue[Line | None]) -> None:
    """Show events until a None comes; after a failure they are taken and not shown."""
    try:
        while True:
            event: Line | None
            with suppress(queue.Empty):
                event = events.get(timeout=_BETWEEN_FRAMES)
                if event is None:
                    return
                display.show(event)
            display.draw()
    except Exception:
        while events.get() is not None:
            pass
    finally:
        with suppress(Exception):
            display.close()


class _Display:
    """How events are shown; all of it happens in one thread."""

    def show(self, event: Line) -> None:
        """Take an event, and print what is to stay."""

    def draw(self) -> None:
        """Called a few times a second, and after each event."""

    def close(self) -> None:
        """Nothing more comes."""


class _JsonLines(_Display):
    """Every event, but of a run's progress about one a second."""

    def __init__(self) -> None:
        self._shown: dict[str, float] = {}
        """When the progress of a run was last written."""

    def show(self, event: Line) -> None:
        if isinstance(event, Progress):
            now = time.monotonic()
            if now - self._shown.get(event.run, -1.0) < 1.0:
                return
            self._shown[event.run] = now
        elif isinstance(event, Ended):
            self._shown.pop(event.run, None)
        try:
            sys.stdout.buffer.write(encode_event(event))
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            # what is left in the buffer would fail once more as Python ends, and change the exit code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


class _Lines(_Display):
    """A line for what begins and what ends, so that a log or a cron mail can be read."""

    def __init__(self) -> None:
        self._console = _QuietConsole(stderr=True)
        self._board = Board()
        self._estimated = time.monotonic()

    def show(self, event: Line) -> None:
        self._board.take(event)
        text = self._text(event)
        if text is not None:
            self._console.print(Text("  ").append_text(text), soft_wrap=True, highlight=False)

    def _text(self, event: Line) -> Text | None:
        board = self._board
        match event:
            case Started():
                attempt = f" (attempt {event.attempt})" if event.attempt > 1 else ""
                return Text(f"begun {board.label(event.job)}{attempt}")
            case Ended():
                count = "" if event.again else f"{board.ended}/{board.to_make} "
                return Text(count).append_text(_ending(event, board.label(event.job)))
            case Elsewhere():
                count = f"{board.ended}/{board.to_make} " if board.is_queued(event.job) else ""
                label = board.label(event.job)
                return Text(f"{count}{label} was made by another batch ({_clean(event.run)})")
            case Notice():
                return _notice(event)
        return None

    def draw(self) -> None:
        if time.monotonic() - self._estimated < _BETWEEN_ESTIMATES:
            return
        self._estimated = time.monotonic()
        left = self._board.seconds_left()
        if left is not None and self._board.ended < self._board.to_make:
            self._console.print(f"  about {span(left)} left", highlight=False)


class _Table(_Display):
    """A table that is redrawn in place, of the height that the terminal has."""

    def __init__(self) -> None:
        self._console = _QuietConsole(stderr=True)
        self._board = Board()
        self._live = Live(
            console=self._console, get_renderable=self._drawn, auto_refresh=False, redirect_stdout=False
        )
        self._drawn_at = 0.0

    def show(self, event: Line) -> None:
        self._live.start()
        self._board.take(event)
        text = self._text(event)
        if text is not None:
            self._console.print(text, highlight=False)

    def _text(self, event: Line) -> Text | None:
        match event:
            case Ended() if event.status not in ("finished", "cancelled"):
                return _ending(event, self._board.label(event.job))
            case Notice():
                return _notice(event)
        return None

    def draw(self) -> None:
        if self._live.is_started and time.monotonic() - self._drawn_at >= _BETWEEN_FRAMES:
            self._drawn_at = time.monotonic()
            self._live.refresh()

    def _drawn(self) -> Group:
        return draw(self._board, self._console.width, self._console.height)

    def close(self) -> None:
        self._live.stop()


class _QuietConsole(Console):
    """A console whose broken pipe is an error like any other; rich's own ends the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True


@dataclass
class Row:
    """One line of the table: an arm of an experiment."""

    jobs: int = 0
    done: int = 0
    """Finished, reused, or made by another batch."""
    under_way: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    """How many runs ended otherwise and are not made again, by status."""
    finished: int = 0
    seconds: float = 0.0
    """Of the runs that finished here, together."""

    @property
    def waiting(self) -> int:
        """Jobs not yet begun."""
        return self.jobs - self.done - self.under_way - self.endings.total()


@dataclass
class Running:
    """A run under way."""

    job: Job
    began: float
    progress: Progress | None = None


class Board:
    """What is known of a batch under way. Not safe against threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began = clock()
        self.name = ""
        self.slots = 1
        self.rows: dict[tuple[str, str], Row] = {}
        """By experiment and arm."""
        self.running: dict[str, Running] = {}
        """By the run's id."""
        self.to_make = 0
        self.ended = 0
        """Of those to make: jobs that need no further run, however they ended."""
        self.reused = 0
        self.elsewhere = 0
        """Jobs that another batch made before this one could queue them."""
        self._queued: set[object] = set()
        self._first: dict[str, str] | None = None
        """The grid point of the first job."""
        self._differing: set[str] = set()
        """Parameters in which another job's is not the same."""

    def take(self, event: Line) -> None:
        """Learn what an event says."""
        if isinstance(event, Queued | Reused | Elsewhere):
            self._compare(dict(event.job.key[-1]))
        match event:
            case Opened():
                self.name, self.slots = event.name, event.slots
            case Queued():
                self.to_make += 1
                self._queued.add(event.job.key)
                self._row(event.job).jobs += 1
            case Reused():
                row = self._row(event.job)
                row.jobs += 1
                row.done += 1
                self.reused += 1
            case Started():
                self.running[event.run] = Running(event.job, self.clock())
                self._row(event.job).under_way += 1
            case Progress() if event.run in self.running:
                self.running[event.run].progress = event
            case Ended():
                self._end(event)
            case Elsewhere():
                self._row(event.job).done += 1
                if self.is_queued(event.job):
                    self.ended += 1
                else:
                    self.elsewhere += 1
                    self._row(event.job).jobs += 1

    def _compare(self, point: dict[str, str]) -> None:
        """Learn in which parameters a job differs from the first."""
        first = self._first = point if self._first is None else self._first
        self._differing |= {name for name in {*first, *point} if first.get(name) != point.get(name)}

    def _end(self, event: Ended) -> None:
        row = self._row(event.job)
        if self.running.pop(event.run, None):
            row.under_way -= 1
        if event.again:
            return
        self.ended += 1
        if event.status != "finished":
            row.endings[event.status] += 1
            return
        row.done += 1
        row.finished += 1
        row.seconds += event.seconds or 0.0

    def _row(self, job: Job) -> Row:
        return self.rows.setdefault((job.experiment, job.arm), Row())

    def seconds_left(self) -> float | None:
        """An estimate from the runs that finished: work left over slots; None before the first.

        An arm's runs are taken to last as long as those of it that finished, else as all that did.
        """
        finished = sum(row.finished for row in self.rows.values())
        if not finished:
            return None
        overall = sum(row.seconds for row in self.rows.values()) / finished
        of_arm = {
            key: row.seconds / row.finished if row.finished else overall for key, row in self.rows.items()
        }
        under_way = [
            max(0.0, of_arm[one.job.experiment, one.job.arm] - (self.clock() - one.began))
            for one in self.running.values()
        ]
        work = sum(under_way) + sum(row.waiting * of_arm[key] for key, row in self.rows.items())
        return max([work / self.slots, *under_way])

    @property
    def several(self) -> bool:
        """Whether it makes more than one experiment."""
        return len({experiment for experiment, _ in self.rows}) > 1

    def is_queued(self, job: Job) -> bool:
        """Whether a job is one that this batch set out to make."""
        return job.key in self._queued

    def point_label(self, job: Job) -> str:
        """A job by arm, seed and those parameters of a grid that differ between the jobs of this batch."""
        changes = {name: value for name, value in job.changes.items() if name in self._differing}
        return _clean(msgspec.structs.replace(job, changes=changes).label)

    def label(self, job: Job) -> str:
        """The same, with its experiment before it where there are several."""
        label = self.point_label(job)
        return f"{_clean(job.experiment)} {label}" if self.several else label


def draw(board: Board, width: int, height: int) -> Group:
    """The table at a terminal's size: the batch, its arms, the runs under way; what does not fit is counted.

    Arms at work stand first when not all have a line, then those with failures, then those that wait.
    """
    lines = max(height - 2, 3)  # one stays free for the cursor, one is the head
    running = min(len(board.running), max(lines // 2, lines - len(board.rows)))
    return Group(
        _head(board, width),
        *_arms(board, width, lines - running),
        *_runs(board, width, running),
    )


def _head(board: Board, width: int) -> Text:
    elapsed = board.clock() - board.began
    parts = []
    if board.rows:
        parts.append(f"{board.ended}/{board.to_make} runs" if board.to_make else "nothing to make")
    if board.reused:
        parts.append(f"{board.reused} reused")
    if board.elsewhere:
        parts.append(f"{board.elsewhere} made by another batch")
    parts.append(_clock(elapsed))
    left = board.seconds_left()
    if left is not None and left >= 1 and board.ended < board.to_make:
        parts.append(f"about {span(left)} left")
    head = Text(_clean(board.name), style="bold", no_wrap=True, overflow="ellipsis")
    return head.append("  " + " · ".join(parts), style="not bold")


def _arms(board: Board, width: int, lines: int) -> Iterator[Table | Text]:
    rows = list(board.rows.items())
    if len(rows) > lines:
        rows.sort(key=lambda item: _urgency(item[1]))  # stable: equals keep the order of the design
    shown, hidden = (rows, []) if len(rows) <= lines else (rows[: lines - 1], rows[lines - 1 :])
    names = [_clean(experiment) for (experiment, _), _ in shown]
    arms = [_clean(arm) for (_, arm), _ in shown]
    counts = [f"{row.done}/{row.jobs}" for _, row in shown]
    bar, count = (12 if width < 100 else 24), max(map(len, counts), default=0)
    arm = min(_widest(arms), width // 3)
    free = max(width - arm - bar - count - 8, 2)
    name = min(_widest(names), free // 2) if board.several else 0
    table = Table.grid(padding=(0, 2, 0, 0))
    for width_of in (*([name] if board.several else []), arm, bar, count, free - name):
        table.add_column(no_wrap=True, overflow="ellipsis", width=width_of)
    for number, (_, row) in enumerate(shown):
        again = number > 0 and names[number] == names[number - 1]
        table.add_row(
            *([Text("" if again else names[number])] if board.several else []),
            Text(arms[number]),
            ProgressBar(total=max(row.jobs, 1), completed=row.done, width=bar, complete_style="green"),
            Text(counts[number], justify="right"),
            Text(" · ".join(f"{times} {status}" for status, times in row.endings.items()), style="red"),
        )
    if shown:
        yield table
    if hidden:
        done = sum(row.done for _, row in hidden)
        jobs = sum(row.jobs for _, row in hidden)
        yield Text(f"… {len(hidden)} more arms, {done}/{jobs} runs", style="dim", no_wrap=True)


def _widest(texts: list[str]) -> int:
    return max(map(cell_len, texts), default=0)


def _urgency(row: Row) -> int:
    if row.under_way:
        return 0
    if row.endings:
        return 1
    return 2 if row.waiting else 3


def _runs(board: Board, width: int, lines: int) -> Iterator[Table | Text]:
    """The runs under way, longest first. What tells them apart has room before what they logged."""
    runs = list(board.running.values())
    shown = runs if len(runs) <= lines else runs[: max(lines - 1, 0)]
    points = [f"▸ {board.point_label(one.job)}" for one in shown]
    labels = [
        Text(point + (f" · {_clean(one.job.experiment)}" if board.several else ""), style="cyan")
        for point, one in zip(points, shown, strict=True)
    ]
    steps = [_step(one.progress) for one in shown]
    free = max(width - sum(_FIXED) - 2 * (len(_FIXED) + 1), 24)
    room = max(free - min(_widest(steps), free * 2 // 5), min(_widest(points), free))
    label = min(_widest([text.plain for text in labels]), room)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, overflow="ellipsis", width=label)
    for number, fixed in enumerate(_FIXED):
        table.add_column(no_wrap=True, width=fixed, justify="left" if number < 2 else "right")
    table.add_column(no_wrap=True, overflow="ellipsis", width=max(free - label, 1))
    if free - label < _LEAST_OF_A_STEP:
        steps = [""] * len(shown)
    for text, step, one in zip(labels, steps, shown, strict=True):
        table.add_row(text, *_told(one.progress), _clock(board.clock() - one.began), Text(step))
    if shown:
        yield table
    if len(shown) < len(runs):
        yield Text(f"… {len(runs) - len(shown)} more under way", style="dim", no_wrap=True)


_FIXED = (10, 4, 8, 7)
"""Widths of a running run's cell, kernel, memory and time."""
_LEAST_OF_A_STEP = 8
"""Columns below which a step says nothing."""


def _told(now: Progress | None) -> tuple[str, str, str]:
    """Cell, kernel and memory, as far as a run has told them; of one that is repeated cold, that it is."""
    if now is None or not (now.cells or now.checking):
        return "starting", "", ""
    memory = "" if now.memory is None else show_bytes(now.memory)
    cell = "cold check" if now.checking else f"cell {now.cell or 0}/{now.cells}"
    return cell, now.kernel or "", memory


def _step(now: Progress | None) -> str:
    if now is None or now.step is None:
        return ""
    values = ", ".join(f"{name} {value:.3g}" for name, value in now.values.items())
    return _clean(f"step {now.step}: {values}")


def _ending(event: Ended, label: str) -> Text:
    """How a run ended, with the failing cell, the error's first line and the run where it did not finish."""
    seconds = "" if event.seconds is None else f"{event.seconds:.1f} s"
    if event.status == "finished":
        return Text(f"{label} finished" + (f" in {seconds}" if seconds else ""))
    text = Text(f"{label} ").append(event.status, style="yellow" if event.again else "red")
    text.append((f" after {seconds}" if seconds else "") + why(event.failure))
    text.append(" (" + ("is made again; " if event.again else "") + f"{_clean(event.run)})", style="dim")
    return text


def _notice(event: Notice) -> Text:
    return Text(f"note: {_clean(event.text)}", style="yellow")


def why(failure: Failure | None) -> str:
    """Where and why a run did not finish, to stand behind its status: " in cell 4: ValueError: no shelf"."""
    if failure is None:
        return ""
    cell = "" if failure.cell is None else f" in cell {failure.cell}"
    return f"{cell}: {error_line(failure.error, failure.message)}"


def error_line(error: str, message: str) -> str:
    """An exception's name and the first line of its message, at most 240 characters."""
    first = next((line for line in _ANSI.sub("", message).splitlines() if line.strip()), "")
    text = _clean(f"{error}: {first}" if first else error)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _clean(text: str) -> str:
    """A text on one line: no colour codes, no control characters, nothing that turns the writing round."""
    return " ".join("".join(c if c.isprintable() else " " for c in _ANSI.sub("", text)).split())


def span(seconds: float) -> str:
    """How long something takes, as people say it: 3.1 s, 27 s, 38 min, 2 h 05 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal's standard error; yields what to call with how much is done and there is."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Bar(
        *columns, TimeElapsedColumn(), TimeLeftColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
