"""Weeks by hand: the edge of a week in two zones, years of 53 weeks, changes of the clock."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook.week import Calendar, Week, weeks_of
from claimbook.workspace import Workspace

SEOUL, NEW_YORK = ZoneInfo("Asia/Seoul"), ZoneInfo("America/New_York")
SUNDAY = 6


def week_of(moment: str, zone: ZoneInfo, first_weekday: int = 0) -> str:
    return str(Calendar(zone, first_weekday).week_of(datetime.fromisoformat(moment)))


def test_a_week_begins_at_midnight_of_the_zone() -> None:
    """2026-11-23 is a Monday; Seoul is nine hours ahead of UTC."""
    assert week_of("2026-11-22T14:59:59Z", SEOUL) == "2026-W47"
    assert week_of("2026-11-22T15:00:00Z", SEOUL) == "2026-W48"
    assert week_of("2026-11-22T15:00:00Z", ZoneInfo("UTC")) == "2026-W47"


def test_a_sunday_begins_the_week_that_its_wednesday_names() -> None:
    assert week_of("2026-11-22T03:00:00Z", SEOUL) == "2026-W47"
    assert week_of("2026-11-22T03:00:00Z", SEOUL, SUNDAY) == "2026-W48"
    days = Calendar(SEOUL, SUNDAY).days(Week(2026, 48))
    assert days == (date(2026, 11, 22), date(2026, 11, 28))


def test_the_year_2026_has_53_weeks_and_the_first_days_of_2027_lie_in_it() -> None:
    assert len(weeks_of(2026)) == 53
    assert len(weeks_of(2025)) == len(weeks_of(2027)) == 52
    assert Calendar(SEOUL).days(Week(2026, 53)) == (date(2026, 12, 28), date(2027, 1, 3))
    assert week_of("2027-01-03T14:59:00Z", SEOUL) == "2026-W53"
    assert week_of("2027-01-03T15:00:00Z", SEOUL) == "2027-W01"
    assert week_of("2027-01-03T03:00:00Z", SEOUL, SUNDAY) == "2027-W01"
    assert Week(2026, 53) + 1 == Week(2027, 1)
    assert Week(2027, 1) + -1 == Week(2026, 53)


@pytest.mark.parametrize(
    ("last", "first", "weeks"),
    [
        ("2026-03-09T03:59:59Z", "2026-03-09T04:00:00Z", ("2026-W10", "2026-W11")),  # clocks went forward
        ("2026-11-02T04:59:59Z", "2026-11-02T05:00:00Z", ("2026-W44", "2026-W45")),  # and back
    ],
)
def test_a_week_with_a_change_of_the_clock_is_an_hour_shorter_or_longer(
    last: str, first: str, weeks: tuple[str, str]
) -> None:
    assert (week_of(last, NEW_YORK), week_of(first, NEW_YORK)) == weeks


def test_the_settings_of_a_workspace_name_its_calendar() -> None:
    space = Workspace(Path(), timezone="America/New_York", week_start="sunday")
    assert Calendar.of(space) == Calendar(NEW_YORK, SUNDAY)
    assert Calendar.of(Workspace(Path(), week_start="saturday")).first_weekday == 5


@given(st.dates(date(1991, 1, 1), date(2100, 1, 1)), st.integers(0, 6))
def test_whatever_day_it_begins_on_a_week_has_the_name_of_its_fourth_day(day: date, first: int) -> None:
    begin = day
    while begin.weekday() != first:
        begin -= timedelta(days=1)
    calendar = Calendar(ZoneInfo("UTC"), first)
    week = calendar.week_of(datetime(day.year, day.month, day.day, 12, tzinfo=UTC))
    assert str(week) == (begin + timedelta(days=3)).strftime("%G-W%V")
    assert calendar.days(week) == (begin, begin + timedelta(days=6))
    assert Week.named(str(week)) == week
