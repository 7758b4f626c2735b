"""What a batch shows while it runs: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import TimeRemainingColumn as TimeLeftColumn

from claimbook.runner.supervise import Progress as RunProgress


@contextmanager
def follow(total: int) -> Iterator[Callable[[RunProgress], None]]:
    """Show the progress of `total` runs on standard error; yields what to call with each piece of news.

    The yielded function may be called from several threads.
    """
    console = Console(stderr=True)
    if total == 0:
        yield lambda news: None
    elif console.is_terminal:
        yield from _live(console, total)
    else:
        yield from _lines(console, total)


def _live(console: Console, total: int) -> Iterator[Callable[[RunProgress], None]]:
    lock = threading.Lock()
    tasks: dict[str, TaskID] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, TimeLeftColumn(elapsed_when_finished=True), console=console) as progress:
        overall = progress.add_task("all runs", total=total, unit="runs", note="")

        def report(news: RunProgress) -> None:
            with lock:
                run = news.run
                if run.status != "running":
                    if run.id in tasks:
                        progress.remove_task(tasks.pop(run.id))
                    progress.advance(overall)
                    progress.console.print(_ended(news), highlight=False)
                    return
                if run.id not in tasks:
                    name = f"{escape(run.arm)} seed {run.seed}"
                    tasks[run.id] = progress.add_task(name, total=None, unit="cells", note="")
                progress.update(
                    tasks[run.id], total=news.cells or None, completed=news.cell, note=_step(news)
                )

        yield report


def _lines(console: Console, total: int) -> Iterator[Callable[[RunProgress], None]]:
    lock = threading.Lock()
    begun: set[str] = set()
    done = 0

    def report(news: RunProgress) -> None:
        nonlocal done
        with lock:
            if news.run.status == "running":
                if news.run.id not in begun:
                    begun.add(news.run.id)
                    console.print(f"  begun {news.run.arm} seed {news.run.seed}", highlight=False)
                return
            done += 1
            console.print(f"  {done}/{total} {_ended(news)}", highlight=False, soft_wrap=True)

    yield report


def _ended(news: RunProgress) -> str:
    run = news.run
    text = f"{escape(run.arm)} seed {run.seed} {run.status} in {run.seconds or 0:.1f} s"
    if run.failure:
        cell = "" if run.failure.cell is None else f" in cell {run.failure.cell}"
        text += f"{cell}: {escape(run.failure.error)}: {escape(run.failure.message.splitlines()[0])}"
    return text


def _step(news: RunProgress) -> str:
    if news.step is None or not news.values:
        return ""
    values = ", ".join(f"{escape(name)} {value:.3g}" for name, value in news.values.items())
    return f"step {news.step}: {values}"


@contextmanager
def counted(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar in a terminal's standard error; yields what to call with how much is done and there is."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), TimeLeftColumn(), console=console, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
