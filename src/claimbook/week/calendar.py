"""Weeks: which one a moment lies in, when one begins, which follow. Knows dates, nothing of papers.

Whatever day a week begins on, it is named by the ISO week of its fourth day, so that most of its days lie in
the ISO week of that name (https://en.wikipedia.org/wiki/ISO_week_date).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from claimbook.workspace import WEEKDAYS, Workspace


@dataclass(frozen=True, order=True)
class Week:
    """A week by its ISO name."""

    year: int
    """The ISO year: 2027-01-01 lies in 2026-W53."""
    number: int

    @classmethod
    def named(cls, name: str) -> Week:
        """The week of a name that exists, such as 2026-W48; `workspace.is_week` tells."""
        return cls(int(name[:4]), int(name[6:]))

    @classmethod
    def around(cls, day: date) -> Week:
        """The ISO week of a day."""
        iso = day.isocalendar()
        return cls(iso.year, iso.week)

    @property
    def monday(self) -> date:
        """The first day of the ISO week."""
        return date.fromisocalendar(self.year, self.number, 1)

    def __add__(self, weeks: int) -> Week:
        return Week.around(self.monday + timedelta(weeks=weeks))

    def __str__(self) -> str:
        return f"{self.year:04}-W{self.number:02}"


def weeks_of(year: int) -> list[Week]:
    """The 52 or 53 weeks of an ISO year."""
    last = date(year, 12, 28).isocalendar().week  # the 28th lies in the last week of every year
    return [Week(year, number) for number in range(1, last + 1)]


@dataclass(frozen=True)
class Calendar:
    """Where and from which weekday on the weeks are counted."""

    timezone: ZoneInfo
    first_weekday: int = 0
    """0 for Monday."""

    @classmethod
    def of(cls, workspace: Workspace) -> Calendar:
        """The calendar that a workspace's settings name."""
        return cls(ZoneInfo(workspace.timezone), WEEKDAYS.index(workspace.week_start))

    def week_of(self, moment: datetime) -> Week:
        """The week that a moment, an aware datetime, lies in here."""
        day = moment.astimezone(self.timezone).date()
        fourth = day - timedelta(days=(day.weekday() - self.first_weekday) % 7 - 3)
        return Week.around(fourth)

    def days(self, week: Week) -> tuple[date, date]:
        """The first and the last day of a week."""
        fourth = week.monday + timedelta(days=(self.first_weekday + 3) % 7)
        return fourth - timedelta(days=3), fourth + timedelta(days=3)
