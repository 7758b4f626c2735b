"""States, streaks and what can be caught up: by hand, by real files, and against a second way to count."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import accumulate, repeat
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook.week import Calendar, Habit, Item, Progress, Week, read
from claimbook.workspace import Workspace

MISSING = Item("judged", "no verdict", "claimbook judge x")
FIRST = Week(2026, 40)


def a_paper(slug: str = "x", *, last: Week | None = None, missing: int = 0) -> Progress:
    """A paper whose last run ended on the Wednesday of a week; None where nothing was sealed."""
    moment = last and datetime.combine(last.monday + timedelta(days=2), datetime.min.time(), UTC)
    return Progress(slug, "A title", (MISSING,) * missing, "x", moment)


def a_habit(letters: str, first: Week = FIRST) -> Habit:
    """Weeks one after another: D done, C caught up, M missed or open, E excused, - without a paper.

    The last letter is this week's.
    """
    weeks = list(accumulate(repeat(1, len(letters) - 1), lambda week, one: week + one, initial=first))
    papers = {
        week: (a_paper(last=week + (letter == "C"), missing=int(letter == "M")),)
        for week, letter in zip(weeks, letters, strict=True)
        if letter in "DCM"
    }
    excused = {week: "away" for week, letter in zip(weeks, letters, strict=True) if letter == "E"}
    return Habit(Calendar(ZoneInfo("UTC")), weeks[-1], papers, excused)


def states(habit: Habit, weeks: int, first: Week = FIRST) -> list[str]:
    return [habit.standing(first + number).state for number in range(weeks)]


def test_every_state_of_a_week() -> None:
    habit = a_habit("-DCM-EM")
    assert states(habit, 8) == [
        "before",
        "done",
        "caught up",
        "missed",
        "missed",
        "excused",
        "open",
        "future",
    ]


def test_an_excused_week_in_which_a_paper_is_complete_counts() -> None:
    habit = a_habit("DD")
    assert replace(habit, excused={FIRST: "away"}).standing(FIRST).state == "done"


def test_of_two_papers_in_a_week_one_is_enough() -> None:
    habit = a_habit("MD")
    papers = {**habit.papers, FIRST: (a_paper("y", last=FIRST), a_paper(missing=1))}
    assert replace(habit, papers=papers).standing(FIRST).state == "done"


def test_of_two_complete_papers_the_one_in_time_decides() -> None:
    late, in_time = a_paper("late", last=FIRST + 1), a_paper("in-time", last=FIRST)
    habit = replace(a_habit("MD"), papers={FIRST: (late, in_time)})
    assert habit.standing(FIRST).state == "done"


def test_without_a_paper_there_is_no_past_and_this_week_is_open() -> None:
    habit = a_habit("--")
    assert (habit.first, habit.streak, habit.longest, habit.catch_up) == (None, 0, 0, [])
    assert states(habit, 3) == ["before", "open", "future"]


def test_a_paper_planned_for_later_leaves_this_week_open() -> None:
    habit = replace(a_habit("-"), papers={FIRST + 2: (a_paper(missing=3),)})
    assert states(habit, 3) == ["open", "future", "future"]
    assert habit.streak == habit.longest == 0


@pytest.mark.parametrize(
    ("letters", "streak", "longest"),
    [
        ("D", 1, 1),
        ("M", 0, 0),
        ("DDM", 2, 2),  # this week is open
        ("DMD", 1, 1),
        ("DDMDE", 1, 2),
        ("DEEC", 2, 2),
        ("DD-D", 1, 2),
        ("DDDM-", 0, 3),
        ("EDM", 1, 1),
    ],
)
def test_streaks_by_hand(letters: str, streak: int, longest: int) -> None:
    habit = a_habit(letters)
    assert (habit.streak, habit.longest) == (streak, longest)


@given(st.text("DCME", max_size=120), st.sampled_from("DM"))
def test_a_streak_is_what_stands_behind_the_last_miss(past: str, this: str) -> None:
    """The oracle splits the letters at every miss; an excused week is no letter, an open one none either."""
    counted = (past + this.replace("M", "")).replace("E", "")
    pieces = re.split("M", counted)
    habit = a_habit(past + this)
    assert habit.streak == len(pieces[-1])
    assert habit.longest == max(map(len, pieces))


def test_the_nearest_to_complete_is_caught_up_first() -> None:
    """Weeks 40 to 44 are missed with 3, 1, 1, 0 (no paper) and 2 gaps; 45 is this week."""
    week = [FIRST + number for number in range(6)]
    gaps = {week[0]: 3, week[1]: 1, week[2]: 1, week[4]: 2}
    papers = {each: (a_paper(missing=count),) for each, count in gaps.items()}
    habit = Habit(Calendar(ZoneInfo("UTC")), week[5], papers, {})
    assert [one.week.number for one in habit.catch_up] == [42, 41, 44, 40, 43]


def test_the_first_week_without_a_paper_is_free() -> None:
    habit = a_habit("DM")
    assert habit.free_week == FIRST + 2
    assert replace(habit, excused={FIRST + 2: "away"}).free_week == FIRST + 3
    assert a_habit("D-").free_week == FIRST + 1


def test_a_year_has_53_weeks_where_it_has() -> None:
    habit = a_habit("D")
    assert [len(habit.year(number)) for number in (2025, 2026, 2027)] == [52, 53, 52]


# from files


def test_runs_of_the_week_are_done_and_later_ones_caught_up(
    counting: Workspace, ended: datetime, write_note: Callable[..., None]
) -> None:
    week = Week.named(ended.strftime("%G-W%V"))
    now = ended + timedelta(weeks=1)
    assert read(counting, now).standing(week).state == "done"
    write_note(counting.papers / "toy", str(week + -1))
    habit = read(counting, now)
    assert habit.standing(week + -1).state == "caught up"
    assert habit.standing(week).state == "missed"
    assert (habit.streak, habit.longest) == (0, 1)


def test_the_zone_and_the_weekday_decide_which_week_a_run_lies_in() -> None:
    """A run that ended on Sunday, 2026-11-22, 23:30 in Seoul: 14:30 in UTC, Monday in Auckland."""
    run = replace(a_paper(), last=datetime.fromisoformat("2026-11-22T14:30:00Z"))
    week = Week(2026, 47)

    def state(zone: str, first_weekday: int = 0) -> str:
        return (
            Habit(Calendar(ZoneInfo(zone), first_weekday), week + 1, {week: (run,)}, {}).standing(week).state
        )

    assert state("Asia/Seoul") == "done"
    assert state("Asia/Seoul", first_weekday=6) == "caught up"
    assert state("Pacific/Auckland") == "caught up"


def test_excused_weeks_come_from_the_settings(counting: Workspace, ended: datetime) -> None:
    this = Week.named(ended.strftime("%G-W%V"))
    space = replace(counting, excused={str(this + 1): "추석"})
    habit = read(space, ended + timedelta(weeks=2))
    assert (habit.standing(this + 1).state, habit.standing(this + 1).excused) == ("excused", "추석")
    assert habit.streak == 1


def test_what_cannot_be_read_is_named_and_stops_nothing(counting: Workspace, ended: datetime) -> None:
    for slug in ("broken-note", "broken-meta"):
        shutil.copytree(counting.papers / "toy", counting.papers / slug)
    (counting.papers / "broken-note" / "README.md").write_text("no front matter")
    (counting.papers / "broken-meta" / "meta.json").write_text("{")
    shutil.copytree(counting.experiments / "toy", counting.experiments / "broken")
    (counting.experiments / "broken" / "seal.json").write_text("[]")
    habit = read(counting, ended + timedelta(weeks=1))
    assert habit.streak == 1
    assert sorted(str(problem.where).split(":")[0] for problem in habit.problems) == [
        "experiments/broken/seal.json",
        "papers/broken-meta/meta.json",
        "papers/broken-note/README.md",
    ]


def test_a_broken_experiment_counts_for_nothing(counting: Workspace, ended: datetime) -> None:
    run = next((counting.experiments / "toy" / "runs").glob("*/run.json"))
    run.write_text("")
    habit = read(counting, ended + timedelta(weeks=1))
    assert habit.streak == 0
    assert [problem.where for problem in habit.problems] == [run.relative_to(counting.root).as_posix()]


def test_an_experiment_whose_hypothesis_is_lost_still_counts(counting: Workspace, ended: datetime) -> None:
    (counting.experiments / "toy" / "hypothesis.toml").unlink()
    assert read(counting, ended + timedelta(weeks=1)).streak == 1


def test_an_empty_workspace_has_no_habit(tmp_path) -> None:
    habit = read(Workspace(tmp_path), datetime(2026, 11, 25, tzinfo=UTC))
    assert str(habit.this) == "2026-W48"
    assert (habit.papers, habit.problems, habit.streak) == ({}, (), 0)
