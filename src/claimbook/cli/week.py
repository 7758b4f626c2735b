"""The verbs of the week: how this week's paper stands, and which paper comes next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, get_args

import click

from claimbook.cli.printing import AS_JSON, print_json
from claimbook.errors import PaperError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from claimbook.errors import ClaimbookError
    from claimbook.week import Habit, Item, Progress, Proposal, Standing, State, Week

_COLOURS = {
    "done": "green",
    "caught up": "cyan",
    "open": "blue",
    "missed": "red",
    "excused": "yellow",
}
"""Of each state's sign, which is the cue."""
_STEPS = {
    "read": "read",
    "note": "note filled in",
    "sealed": "hypothesis sealed",
    "runs": "runs finished",
    "judged": "judged",
    "page": "page built",
}
_TO_CATCH_UP = 5
"""Missed weeks that a person will look at."""


@click.group(invoke_without_command=True, epilog="Example: claimbook week")
@click.option("--week", "name", metavar="WEEK", help="Another week, such as 2026-W47.")
@click.option("--year", type=click.IntRange(1991, 9000), help="The calendar of another year.")
@AS_JSON
@click.pass_context
def week(context: click.Context, name: str | None, year: int | None, as_json: bool) -> None:
    """Show this week's paper and what is missing for it to count.

    With the streak, the year at a glance, and the weeks that can be caught up.
    """
    if context.invoked_subcommand is not None:
        if name or year or as_json:
            raise click.UsageError(
                f"write options behind the verb: claimbook week {context.invoked_subcommand} …"
            )
        return
    from claimbook import workspace
    from claimbook.week import read

    chosen = None if name is None else _named(name)
    habit = read(workspace.find(), datetime.now(UTC))
    standing = habit.standing(chosen or habit.this)
    year = year or standing.week.year
    if as_json:
        print_json(_plain(habit, standing, year))
        return
    _print_week(habit, standing)
    click.echo(f"\nstreak     {_weeks(habit.streak)}, longest {_weeks(habit.longest)}\n")
    _print_year(habit, year)
    _print_catch_up(habit)
    _print_problems(habit.problems)


@week.command("next", epilog="Example: claimbook week next -n 5")
@click.option("-n", "count", default=3, show_default=True, type=click.IntRange(1), help="Papers to propose.")
@AS_JSON
def next_paper(count: int, as_json: bool) -> None:
    """Propose the next paper from the queue, and say why.

    By what it takes to reproduce it here: weights, memory, GPU, time, notebook, closeness to products.
    """
    from claimbook import workspace
    from claimbook.papers.library import holdings
    from claimbook.week import propose, read
    from claimbook.week.machine import this_machine

    here = workspace.find()
    held = holdings(here)
    queue = propose(here, held.papers, this_machine(here.root))
    free = read(here, datetime.now(UTC)).free_week
    _print_problems(held.problems.values())
    if as_json:
        print_json([_plain_proposal(proposal, free) for proposal in queue[:count]])
        return
    if not queue:
        click.echo(_no_queue(len(held.papers), len(held.problems)))
        return
    for proposal in queue[:count]:
        planned = f"   planned for {proposal.week}" if proposal.week else ""
        click.echo(f"{_bold(proposal.slug)}  {_clean(proposal.title)}   score {proposal.score}{planned}")
        for number, reason in enumerate(proposal.reasons):
            click.echo(f"  {'why:' if number == 0 else '    '} {reason.weight:+d}  {_clean(reason.text)}")
    if len(queue) > count:
        click.echo(f"{count} of {len(queue)} in the queue; -n shows more")
    click.echo(f"to take one: {_accept(queue[0], free)}")


def _named(name: str) -> Week:
    from claimbook.week import Week
    from claimbook.workspace import is_week

    if not is_week(name) or not 1991 <= int(name[:4]) <= 9000:
        raise PaperError(f"{name!r} is no week", fix="write an ISO week such as 2026-W48", where="--week")
    return Week.named(name)


def _print_week(habit: Habit, standing: Standing) -> None:
    first, last = habit.calendar.days(standing.week)
    state = f"{_sign(standing.state)} {standing.state}"
    why = f": {_clean(standing.excused)}" if standing.state == "excused" and standing.excused else ""
    click.echo(f"{_bold(str(standing.week))}   {first} to {last}   {state}{why}")
    for paper in standing.papers:
        click.echo(f"\n{_bold(paper.slug)}  {_clean(paper.title)}")
        for item in paper.items:
            _print_item(item)
    if not standing.papers:
        click.echo(f"no paper has this week in its front matter{_begin(habit, standing)}")


def _print_item(item: Item) -> None:
    sign = click.style("✓", fg="green") if item.done else click.style("○", fg="blue")
    missing = f": {_clean(item.missing)}" if item.missing else ""
    click.echo(f"  {sign} {_STEPS[item.step]}{missing}")
    if item.missing:
        click.echo(f"      → {_clean(item.mend)}")


def _begin(habit: Habit, standing: Standing) -> str:
    return "; `claimbook week next` proposes one" if standing.week >= habit.this else ""


def _print_year(habit: Habit, year: int) -> None:
    """Thirteen weeks a row, this week in brackets, and a legend with counts."""
    from claimbook.week import State

    weeks = habit.year(year)
    for quarter in range(4):
        row = weeks[13 * quarter : 13 * quarter + 13 if quarter < 3 else None]
        label = f"{row[0].week} to W{row[-1].week.number:02}"
        click.echo(f"{label}  {''.join(_cell(one, habit.this) for one in row)}")
    states = [one.state for one in weeks]
    shown = [state for state in get_args(State) if state in states]
    click.echo("   ".join(f"{_sign(state)} {state} {states.count(state)}" for state in shown))


def _cell(standing: Standing, this: Week) -> str:
    left, right = "[]" if standing.week == this else "  "
    return f"{left}{_sign(standing.state)}{right}"


def _sign(state: State) -> str:
    from claimbook.week import SIGNS

    return click.style(SIGNS[state], fg=_COLOURS.get(state))


def _print_catch_up(habit: Habit) -> None:
    missed = habit.catch_up
    if missed:
        click.echo(f"\nto catch up: {_weeks(len(missed))}, the nearest to complete first")
    for standing in missed[:_TO_CATCH_UP]:
        if not standing.papers:
            click.echo(f"  {standing.week}  no paper")
            continue
        paper = standing.papers[0]
        lacks = ", ".join(_STEPS[item.step] for item in paper.missing)
        click.echo(f"  {standing.week}  {_bold(paper.slug)}  lacks: {lacks}")
        click.echo(f"            → {_clean(paper.missing[0].mend)}")
    if len(missed) > _TO_CATCH_UP:
        click.echo(f"  and {len(missed) - _TO_CATCH_UP} more; --json lists them all")


def _print_problems(problems: Iterable[ClaimbookError]) -> None:
    for problem in problems:
        click.secho(f"left out: {problem}", fg="yellow", err=True)


def _no_queue(readable: int, broken: int) -> str:
    if readable:
        return (
            "nothing is queued: `claimbook paper add ID` adds a paper, `claimbook paper status SLUG queued` "
            "puts one back"
        )
    if broken:
        return "no paper can be read: mend the files that are named above"
    return "the library is empty: `claimbook paper add ID` adds a paper"


def _plain(habit: Habit, standing: Standing, year: int) -> dict[str, Any]:
    first, last = habit.calendar.days(standing.week)
    return {
        "this_week": str(habit.this),
        "begins": str(first),
        "ends": str(last),
        **_plain_standing(standing),
        "streak": habit.streak,
        "longest": habit.longest,
        "year": {str(one.week): one.state for one in habit.year(year)},
        "catch_up": [_plain_standing(one) for one in habit.catch_up],
        "problems": [str(problem) for problem in habit.problems],
    }


def _plain_standing(standing: Standing) -> dict[str, Any]:
    return {
        "week": str(standing.week),
        "state": standing.state,
        "excused": standing.excused,
        "papers": [_plain_progress(paper) for paper in standing.papers],
    }


def _plain_progress(paper: Progress) -> dict[str, Any]:
    return {
        "slug": paper.slug,
        "title": paper.title,
        "experiment": paper.experiment,
        "items": [
            {"step": item.step, "done": item.done, "missing": item.missing, "mend": item.mend}
            for item in paper.items
        ],
    }


def _plain_proposal(proposal: Proposal, free: Week) -> dict[str, Any]:
    return {
        "slug": proposal.slug,
        "title": proposal.title,
        "score": proposal.score,
        "week": proposal.week,
        "reasons": [vars(reason) for reason in proposal.reasons],
        "accept": _accept(proposal, free),
    }


def _accept(proposal: Proposal, free: Week) -> str:
    """The command that gives a paper its week: the one that it is planned for, else the first free one."""
    return f"claimbook paper status {proposal.slug} reading --week {proposal.week or free}"


def _weeks(count: int) -> str:
    return f"{count} week" if count == 1 else f"{count} weeks"


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def _clean(text: str) -> str:
    """A text of a file without what would steer the terminal: control characters and marks of direction."""
    return "".join(letter for letter in text if letter.isprintable())


VERBS = (week,)
