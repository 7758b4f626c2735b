"""The verbs of discovery: a local index over arXiv's metadata, built and searched."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.printing import AS_JSON, print_json

if TYPE_CHECKING:
    from claimbook.papers.discover import Built, Record
    from claimbook.workspace import Workspace

_AUTHORS = 4
"""Authors of a paper that are shown."""


@click.group()
def discover() -> None:
    """Find papers in arXiv's metadata, without the network."""


@discover.command(epilog="Example: claimbook discover build arxiv-metadata-oai-snapshot.json")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@AS_JSON
def build(files: tuple[Path, ...], as_json: bool) -> None:
    """Take metadata snapshots into the local index.

    A snapshot is JSON Lines as arXiv publishes it, plain or gzipped:
    https://www.kaggle.com/datasets/Cornell-University/arxiv

    Stopped, it goes on from there when it is run again. A newer snapshot replaces what has changed.
    """
    from claimbook import workspace
    from claimbook.papers import discover as papers

    try:
        with _progress() as report:
            built = papers.build(workspace.find(), files, report)
    except KeyboardInterrupt:
        click.echo("what was read is kept; run the same command to go on", err=True)
        raise
    if as_json:
        print_json(
            {
                **vars(built),
                "complaints": list(map(str, built.complaints)),
                "known": list(map(str, built.known)),
            }
        )
    else:
        _print_built(built)
    if built.torn:
        raise click.ClickException("; ".join(built.torn))


@discover.command(
    epilog="""Example: claimbook discover search '"vision language" calibration -survey' --category cs.CV""",
    context_settings={"ignore_unknown_options": True},  # a word to leave out begins with a hyphen
)
@click.argument("words", nargs=-1)
@click.option("--category", metavar="NAME", help="Such as cs.CV, cross-listed too; cs for all of it.")
@click.option("--since", metavar="DATE", help="First day of publication: 2025, 2025-03 or 2025-03-14.")
@click.option("--until", metavar="DATE", help="Last day of publication.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="Papers at most.")
@click.option("--offset", default=0, type=click.IntRange(0), help="Papers to skip.")
@click.option("--ids", "only_ids", is_flag=True, help="Print ids alone, for `claimbook paper add -`.")
@AS_JSON
def search(
    words: tuple[str, ...],
    category: str | None,
    since: str | None,
    until: str | None,
    limit: int,
    offset: int,
    only_ids: bool,
    as_json: bool,
) -> None:
    """Search the local index, by words, category and date.

    \b
    small batch       both words, in title, abstract or authors
    '"small batch"'   side by side
    -survey           papers without this word

    Papers with all words in the title come first; without words, the newest. A star marks the library's.
    """
    from claimbook import workspace
    from claimbook.papers import discover as papers

    for word in words:
        if word.startswith("--"):
            raise click.NoSuchOption(word)
    here = workspace.find()
    found = papers.search(
        here, " ".join(words), category=category, since=since, until=until, limit=limit, offset=offset
    )
    if only_ids:
        for paper in found.papers:
            click.echo(paper.id)
        return
    held = _held(here)
    if as_json:
        rows = [_as_json(paper, paper.id in held) for paper in found.papers]
        print_json({"total": found.total, "exact": found.exact, "papers": rows})
        return
    for paper in found.papers:
        _print_paper(paper, " ".join(words), paper.id in held)
    shown, total = len(found.papers), f"{'' if found.exact else 'at least '}{found.total:,}"
    if not shown:
        click.echo("nothing found" if not found.total else f"only {total} papers found; lower --offset")
    elif found.total > shown:
        click.echo(f"{shown} of {total} papers; --limit and --offset show others")


@contextmanager
def _progress() -> Iterator[Callable[[int, int, int], None]]:
    """A bar in a terminal's standard error: bytes read, records a second, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeftColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeLeftColumn(),
    )
    begun = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("reading", total=None, rate="")

        def report(lines: int, done: int, total: int) -> None:
            rate = f"{lines / max(time.monotonic() - begun, 0.001):,.0f} records/s"
            progress.update(task, completed=done, total=total, rate=rate)

        yield report


def _print_built(built: Built) -> None:
    for file in built.known:
        click.echo(f"{file}: read to its end before, nothing to do")
    click.echo(
        f"{built.added:,} papers added, {built.replaced:,} replaced, {built.unchanged:,} unchanged; "
        f"{built.total:,} in the index"
    )
    if built.skipped:
        click.secho(f"{built.skipped:,} lines skipped, the first of them:", fg="yellow", err=True)
    for complaint in built.complaints:
        click.echo(f"  {complaint}", err=True)


def _held(workspace: Workspace) -> set[str]:
    """The ids of the library's papers; a file that cannot be read is the business of other verbs."""
    ids: set[str] = set()
    for path in workspace.papers.glob("*/meta.json"):
        with suppress(OSError, ValueError, KeyError, TypeError):
            ids.add(json.loads(path.read_bytes())["id"])
    return ids


def _as_json(paper: Record, held: bool) -> dict[str, Any]:
    return {
        "id": paper.id,
        "title": paper.title,
        "authors": list(paper.authors),
        "categories": list(paper.categories),
        "published": paper.published.isoformat(),
        "abstract": paper.abstract,
        "in_library": held,
    }


def _print_paper(paper: Record, words: str, held: bool) -> None:
    from claimbook.index.text import snippet

    authors = ", ".join(paper.authors[:_AUTHORS]) + (" et al." if len(paper.authors) > _AUTHORS else "")
    star = " ★" if held else ""
    click.echo(f"{paper.id}{star}  {click.style(paper.title, bold=True)}")
    click.echo(f"  {paper.published}  {' '.join(paper.categories)}  {authors}")
    click.echo(f"  {snippet(paper.abstract, words)}")


VERBS = (discover,)
