"""The verbs of the log: search it, compare, put runs away and bring them back."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.printing import AS_JSON, print_json, print_table
from claimbook.errors import RunError

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from claimbook.experiments import Experiment
    from claimbook.index import Comparison, Index
    from claimbook.index.compare import Summary
    from claimbook.workspace import Workspace


@click.command(
    epilog="Example: claimbook runs 'metric.recall@1 > 0.4 and arm = treatment order by started desc'"
)
@click.argument("query", default="")
@click.option("--limit", type=click.IntRange(1), help="Rows at most; 50 in a table, else all.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Rows to skip.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@AS_JSON
def runs(query: str, limit: int | None, offset: int, as_csv: bool, as_json: bool) -> None:
    """Search the log of all runs.

    \b
    Fields: id experiment arm seed kind status notebook paper claim verdict seal
            started ended seconds memory error deleted
            metric.NAME chance.NAME param.NAME env.NAME
    Compare with = != < <= > >= contains, in (a, b); has FIELD; and, or, not, ( ).
    "words" or text contains "words" searches hypotheses, notes and claims.
    End with: order by FIELD [desc], … limit N
    """
    from zoneinfo import ZoneInfo

    from claimbook import workspace
    from claimbook.exchange.tables import spreadsheet_cell

    here = workspace.find()
    with _index(here) as index:
        page = index.runs(query, limit=limit or (None if as_json or as_csv else 50), offset=offset)
    if as_json:
        print_json({"total": page.total, "rows": page.rows})
    elif as_csv:
        names = list(dict.fromkeys([*page.columns, *(name for row in page.rows for name in row)]))
        writer = csv.DictWriter(sys.stdout, names)
        writer.writeheader()
        writer.writerows({name: spreadsheet_cell(value) for name, value in row.items()} for row in page.rows)
    else:
        zone = ZoneInfo(here.timezone)
        print_table(page.columns, [[_shown(row.get(n), n, zone) for n in page.columns] for row in page.rows])
        if page.total > len(page.rows):
            click.echo(f"{len(page.rows)} of {page.total:,} runs; --limit, --offset or `limit N` show others")


@click.command(epilog="Example: claimbook search 작은 배치")
@click.argument("words", nargs=-1, required=True)
@AS_JSON
def search(words: tuple[str, ...], as_json: bool) -> None:
    """Search papers, notes, claims and hypotheses for words."""
    from claimbook import workspace

    with _index(workspace.find()) as index:
        hits = index.search(" ".join(words))
    if as_json:
        print_json([vars(hit) for hit in hits])
        return
    for hit in hits:
        click.echo(f"{hit.kind} {click.style(hit.slug, bold=True)}: {hit.title}\n  {hit.snippet}")
    if not hits:
        click.echo("nothing found")


@click.command(epilog="Example: claimbook compare siglip-shop/baseline siglip-shop/treatment")
@click.argument("names", nargs=-1, required=True)
@AS_JSON
def compare(names: tuple[str, ...], as_json: bool) -> None:
    """Put experiments or arms (EXPERIMENT/ARM) side by side.

    This explores: it gives no p value and no verdict. What looks interesting here is sealed, then judged.
    """
    import dataclasses

    from claimbook import workspace
    from claimbook.index import compare as compare_arms

    compared = compare_arms(workspace.find(), list(names))
    if as_json:
        print_json(dataclasses.asdict(compared))
    else:
        _print_comparison(compared)


@click.command(epilog="Example: claimbook delete by-hand-20261124-101500-3f2a1b")
@click.argument("run_ids", nargs=-1, required=True)
def delete(run_ids: tuple[str, ...]) -> None:
    """Put exploratory runs away.

    `restore` brings them back. Sealed runs are never deleted.
    """
    for run_id in dict.fromkeys(run_ids):
        experiment = _experiment_with(run_id, "runs")
        experiment.delete(run_id)
        click.echo(f"deleted {run_id}; `claimbook restore {run_id}` brings it back")


@click.command(epilog="Example: claimbook restore by-hand-20261124-101500-3f2a1b")
@click.argument("run_ids", nargs=-1, required=True)
def restore(run_ids: tuple[str, ...]) -> None:
    """Bring deleted runs back."""
    for run_id in dict.fromkeys(run_ids):
        _experiment_with(run_id, "deleted").restore(run_id)
        click.echo(f"restored {run_id}")


def _index(workspace: Workspace) -> Index:
    """The index, with a progress line while many files are read, and a word on what it could not read."""
    from rich.console import Console

    from claimbook.index import Index

    console = Console(stderr=True)
    with console.status("reading the log …") as status:
        index = Index.open(
            workspace, lambda done, total: status.update(f"reading the log … {done:,}/{total:,}")
        )
    if index.note:
        click.echo(index.note, err=True)
    for problem in index.problems:
        click.secho(f"left out: {problem}", fg="yellow", err=True)
    return index


def _experiment_with(run_id: str, where: str) -> Experiment:
    """The experiment whose folder holds a run, or has put it away."""
    from claimbook import workspace
    from claimbook.experiments import Experiment
    from claimbook.workspace import nearest

    here = workspace.find()
    folders = {path.name: path.parent.parent for path in here.experiments.glob(f"*/{where}/*/")}
    if run_id not in folders:
        what = "deleted run" if where == "deleted" else "run"
        raise RunError(
            f"there is no {what} {run_id!r}{nearest(run_id, list(folders))}",
            fix="`claimbook runs` lists them, `claimbook runs 'deleted = true'` those that were put away",
        )
    return Experiment(folders[run_id])


def _shown(value: Any, name: str, zone: ZoneInfo) -> str:
    """A value as a cell of a table; times in the workspace's zone."""
    if value is None:
        return ""
    if name in ("started", "ended"):
        then, now = datetime.fromisoformat(value).astimezone(zone), datetime.now(zone)
        return then.strftime("%m-%d %H:%M" if then.year == now.year else "%Y-%m-%d")
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _print_comparison(compared: Comparison) -> None:
    kinds = [", ".join(f"{n} {kind}" for kind, n in side.kinds.items()) for side in compared.sides]
    rows = [["runs", *kinds]]
    for name, values in compared.parameters.items():
        rows.append([name, *(", ".join(map(_value, own)) for own in values)])
    for metric in compared.metrics:
        rows.append([metric, *(_summary(side.metrics.get(metric)) for side in compared.sides)])
    print_table(["", *(side.name for side in compared.sides)], rows)
    for metric, pair in compared.paired.items():
        spread = "" if pair.deviation is None else f" ± {pair.deviation:.2g}"
        over = f"over {len(pair.seeds)} paired seeds"
        click.echo(f"{metric}: second − first {pair.mean:+.4g}{spread} {over}")


def _value(value: Any) -> str:
    """A parameter as hypothesis.toml has it; a dash where a run lacks it."""
    return "–" if value is None else value if isinstance(value, str) else json.dumps(value)


def _summary(one: Summary | None) -> str:
    if one is None:
        return ""
    spread = "" if one.deviation is None else f" ± {one.deviation:.2g}"
    return f"{one.mean:.4g}{spread} (n {one.n})"


VERBS = (runs, search, compare, delete, restore)
