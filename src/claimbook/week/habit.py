"""The reading habit: the state of every week, the streak, what can be caught up. From the files alone.

    done        a paper of the week is complete, and nothing of it is later than the week
    caught up   complete, but its sealing or a run is later
    open        this week, not complete yet
    missed      over, and not complete
    excused     pyproject.toml says that no paper is owed, and none is complete
    before      earlier than the first paper's week; not counted
    future      still to come

Times are those in seal.json and run.json. Knows nothing of how a habit is shown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from claimbook.errors import ClaimbookError
from claimbook.experiments import written_or_sealed
from claimbook.papers.library import holdings
from claimbook.week.calendar import Calendar, Week, weeks_of
from claimbook.week.progress import Progress, Trial, page_item, progress, read_trial
from claimbook.workspace import Workspace

State = Literal["done", "caught up", "open", "missed", "excused", "before", "future"]

SIGNS: dict[State, str] = {
    "done": "✓",
    "caught up": "+",
    "open": "◐",
    "missed": "✕",
    "excused": "–",
    "before": "·",
    "future": "○",
}
"""One sign per state, so that a calendar is readable without colours."""


@dataclass(frozen=True)
class Standing:
    """What became of one week."""

    week: Week
    state: State
    papers: tuple[Progress, ...]
    """Its papers, the nearest to complete first."""
    excused: str | None
    """Why no paper was owed; None where one was."""


@dataclass(frozen=True)
class Habit:
    """All weeks as they stand at one moment."""

    calendar: Calendar
    this: Week
    """The week of that moment."""
    papers: dict[Week, tuple[Progress, ...]]
    """Of each week that has some, the nearest to complete first."""
    excused: dict[Week, str]
    problems: tuple[ClaimbookError, ...] = ()
    """Papers and experiments that cannot be read: they count for nothing until they are mended."""

    @property
    def first(self) -> Week | None:
        """The week of the first paper; None when no paper has a week."""
        return min(self.papers, default=None)

    def standing(self, week: Week) -> Standing:
        """What became of a week."""
        papers = self.papers.get(week, ())
        return Standing(week, self._state(week, papers), papers, self.excused.get(week))

    def year(self, number: int) -> list[Standing]:
        """The 52 or 53 weeks of an ISO year."""
        return [self.standing(week) for week in weeks_of(number)]

    @property
    def streak(self) -> int:
        """Weeks in a row that count, up to this one.

        This week does not break it while it is open; an excused week neither breaks it nor adds to it.
        """
        count = 0
        for standing in reversed(self._past):
            if standing.state == "missed":
                break
            count += standing.state in ("done", "caught up")
        return count

    @property
    def longest(self) -> int:
        """The longest streak there was."""
        longest = count = 0
        for standing in self._past:
            count = 0 if standing.state == "missed" else count + (standing.state in ("done", "caught up"))
            longest = max(longest, count)
        return longest

    @property
    def catch_up(self) -> list[Standing]:
        """The missed weeks: nearest to complete first, of equals the latest, those without a paper last."""
        missed = [standing for standing in reversed(self._past) if standing.state == "missed"]
        with_paper = [standing for standing in missed if standing.papers]
        without = [standing for standing in missed if not standing.papers]
        return [*sorted(with_paper, key=lambda one: len(one.papers[0].missing)), *without]

    @property
    def free_week(self) -> Week:
        """The first week from this one on that has no paper and is not excused."""
        week = self.this
        while week in self.papers or week in self.excused:
            week += 1
        return week

    @property
    def _past(self) -> list[Standing]:
        """The weeks from the first paper to now, oldest first."""
        return [self.standing(week) for week in _from(self.first, self.this)]

    def _state(self, week: Week, papers: tuple[Progress, ...]) -> State:
        complete = [paper for paper in papers if not paper.missing]
        if week > self.this:
            return "excused" if week in self.excused else "future"
        if complete:
            return "done" if any(self._in_time(week, paper) for paper in complete) else "caught up"
        if week < min(self.first or self.this, self.this):
            return "before"
        if week in self.excused:
            return "excused"
        return "open" if week == self.this else "missed"

    def _in_time(self, week: Week, paper: Progress) -> bool:
        return paper.last is not None and self.calendar.week_of(paper.last) <= week


def read(workspace: Workspace, now: datetime, *, building: bool = False) -> Habit:
    """The habit as the files have it, at an aware datetime.

    building: the pages are being built, so that they count as built. What cannot be read does not raise: it
    is in `problems`.
    """
    calendar = Calendar.of(workspace)
    this = calendar.week_of(now)
    held = holdings(workspace)
    problems = list(held.problems.values())
    papers = [paper for paper in held.papers if paper.note.week]
    trials = list(_trials(workspace, problems)) if papers else []
    found: dict[Week, list[Progress]] = defaultdict(list)
    for paper in papers:
        week, one = Week.named(paper.note.week or ""), progress(workspace, paper, trials)
        if week == this:
            one = replace(one, items=(*one.items, page_item(workspace, one, building=building)))
        found[week].append(one)
    return Habit(
        calendar,
        this,
        {week: tuple(sorted(some, key=lambda one: len(one.missing))) for week, some in found.items()},
        {Week.named(week): why for week, why in workspace.excused.items()},
        tuple(problems),
    )


def _trials(workspace: Workspace, problems: list[ClaimbookError]) -> Iterator[Trial]:
    """All experiments, also those whose hypothesis.toml has gone missing; complaints go to `problems`."""
    for experiment in written_or_sealed(workspace):
        try:
            yield read_trial(experiment)
        except ClaimbookError as error:
            problems.append(error)


def _from(first: Week | None, last: Week) -> Iterator[Week]:
    week = first or last + 1
    while week <= last:
        yield week
        week += 1
