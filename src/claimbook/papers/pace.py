"""How often arXiv is asked: one request at a time, three seconds between two, over all processes of a user.

arXiv's terms count all the machines and processes of one person; another machine's are not seen here. Knows
nothing of what is asked. https://info.arxiv.org/help/api/tou.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

from claimbook.papers.outcomes import RateLimited, Unreachable
from claimbook.workspace import write_json

_LONGEST = 7 * 86_400.0
"""Seconds of a Retry-After that are believed."""
_CLOCKS = 60.0
"""Seconds by which a clock may have been set back before what it said is forgotten."""


@dataclass(frozen=True)
class Manners:
    """How patiently arXiv is asked; all in seconds."""

    interval: float = 3.0
    """From the end of one request to the start of the next."""
    connect: float = 10.0
    """Until a connection stands."""
    read: float = 30.0
    """Between two pieces of an answer."""
    whole: float = 90.0
    """For an answer in all: one that comes byte by byte ends here."""
    patience: float = 60.0
    """What one client waits for cool-downs in all; a longer one ends it."""
    queue: float = 300.0
    """For other processes that ask before us."""
    tries: int = 4
    """Requests for one answer that comes blank, cut or with a server's error."""
    silent_tries: int = 2
    """Requests that get no answer at all."""
    first_pause: float = 10.0
    """The cool-down after a first 429 or 503 that does not say how long; it doubles from then on."""
    longest_pause: float = 3600.0
    """What the cool-down grows to."""


class TooSoonError(Exception):
    """arXiv may not be asked yet, for longer than we wait."""

    def __init__(self, failure: RateLimited | Unreachable) -> None:
        super().__init__(failure.reason)
        self.failure = failure


@dataclass
class _State:
    asked: float = 0.0
    """When the last request ended; while one lasts, and after one whose process died, a time to come."""
    until: float = 0.0
    """When the cool-down ends."""
    pause: float = 0.0
    """The last cool-down that arXiv left to us; 0 after an answer."""
    written: float = 0.0


class Pace:
    """The turns of all processes of a user at one server: a lock and a small file of its own.

    The file outlives processes: a cool-down that one was given holds for all that come after it.
    """

    def __init__(self, path: Path, manners: Manners, report: Callable[[str], None]) -> None:
        self.path = path
        self.manners = manners
        self.report = report
        self.patience = manners.patience

    @property
    def until(self) -> datetime:
        """When the cool-down ends, or ended, UTC."""
        return datetime.fromtimestamp(self._read().until, UTC)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn, and hold it while asking.

        Raises TooSoonError when a cool-down lasts longer than there is patience, or others ask for too long.
        """
        from filelock import FileLock, Timeout

        self._check_cool_down()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path.with_suffix(".lock"))
        try:
            lock.acquire(timeout=self.manners.queue)
        except Timeout:
            waited = f"{self.manners.queue:.0f} s"
            raise TooSoonError(
                Unreachable(f"other claimbook processes have been asking arXiv for {waited}")
            ) from None
        try:
            self._wait()
            self._write(asked=time.time() + self.manners.whole)
            try:
                yield
            finally:
                self._write(asked=time.time())
        finally:
            lock.release()

    def cool_down(self, retry_after: str | None) -> None:
        """Note, within a turn, that arXiv asked to wait: as long as it says, else longer than last time."""
        seconds = _seconds(retry_after)
        if seconds is not None:
            self._write(until=time.time() + seconds)
            return
        grown = max(self.manners.first_pause, 2 * self._read().pause)
        pause = min(grown, self.manners.longest_pause)
        self._write(until=time.time() + pause, pause=pause)

    def answered(self) -> None:
        """Note, within a turn, that arXiv gave an answer: the next cool-down begins small again."""
        if self._read().pause:
            self._write(pause=0.0)

    def _wait(self) -> None:
        waited = self._check_cool_down()
        if waited > 0:
            self.report(f"arXiv asks to wait: {waited:.0f} s")
            self.patience -= waited
            time.sleep(waited)
        state = self._read()
        time.sleep(min(self.manners.interval, max(0.0, state.asked + self.manners.interval - time.time())))

    def _check_cool_down(self) -> float:
        """Seconds of cool-down that are left. Raises TooSoonError when there is not the patience for them."""
        left = max(0.0, self._read().until - time.time())
        if left > self.patience:
            raise TooSoonError(RateLimited("arXiv asks to wait (rate limit)", until=self.until))
        return left

    def _read(self) -> _State:
        try:
            fields = json.loads(self.path.read_bytes())
            state = _State(**{name: float(fields[name]) for name in vars(_State())})
        except (FileNotFoundError, ValueError, TypeError, KeyError, OverflowError):
            return _State()  # none yet, or none that can be read: a pace is kept from now on
        soon = time.time() + _CLOCKS
        possible = all(0 <= value <= soon + _LONGEST for value in vars(state).values())
        return state if possible and state.written <= soon else _State()

    def _write(self, **changes: float) -> None:
        state = {**vars(self._read()), **changes, "written": time.time()}
        write_json(self.path, state, durable="no")


def _seconds(retry_after: str | None) -> float | None:
    """What a Retry-After header says, as seconds from now (RFC 9110, section 10.2.3); None for nonsense."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), _LONGEST)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - datetime.now(UTC)).total_seconds()), _LONGEST)
