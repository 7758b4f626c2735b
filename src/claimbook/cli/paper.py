"""The verbs of the library: papers come in, are found and shown, tagged, put away and cited."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.asking import OFFLINE, client_of, collect, failure, malformed
from claimbook.cli.printing import AS_JSON, print_json, print_table
from claimbook.errors import PaperError

if TYPE_CHECKING:
    from claimbook.cli.asking import Answer
    from claimbook.index import Index
    from claimbook.papers.imports import Imported, Item
    from claimbook.records import Claim, Paper
    from claimbook.records.paper import Status
    from claimbook.workspace import Workspace

_STATUS = click.Choice(["queued", "reading", "read"])
_FEW = 3
"""Papers found by their words; where there are fewer, titles that resemble the words are added."""


@click.group()
def paper() -> None:
    """The library: papers, their claims, your notes."""


@paper.command(epilog="Example: claimbook paper add 2303.15343 https://arxiv.org/abs/2103.00020 --tag loss")
@click.argument("ids", nargs=-1, metavar="[ID|URL|-]…")
@click.option("--query", help='What arXiv finds, such as "all:siglip AND cat:cs.CV".')
@click.option(
    "--max", "most", default=10, show_default=True, type=click.IntRange(1, 2000), help="Papers of a query."
)
@click.option("--as", "slug", help="Name of the paper's folder; default: from its title.")
@click.option("--tag", "tags", multiple=True, help="Tag of the new papers; may be repeated.")
@OFFLINE
@AS_JSON
def add(
    ids: tuple[str, ...],
    query: str | None,
    most: int,
    slug: str | None,
    tags: tuple[str, ...],
    offline: bool,
    as_json: bool,
) -> None:
    """Fetch papers from arXiv; - reads ids from standard input.

    A paper that is here already is merged by version; its note is never touched.
    """
    from claimbook import workspace

    if bool(ids) == (query is not None):
        raise click.UsageError("name papers, or search for them with --query")
    if slug is not None and (len(ids) != 1 or ids == ("-",)):
        raise click.UsageError("--as needs exactly one id")
    if slug is not None:
        workspace.check_slug(slug)
    here = workspace.find()
    if query is not None:
        _add_found(here, query, most, tags, offline, as_json)
    else:
        _add_named(here, list(_pasted(ids)), tags, slug, offline, as_json)


@paper.command("import", epilog="Example: claimbook paper import zotero.bib")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--tag", "tags", multiple=True, help="Tag of the new papers besides their own; may be repeated."
)
@OFFLINE
@AS_JSON
def import_(file: Path, tags: tuple[str, ...], offline: bool, as_json: bool) -> None:
    """Fetch the papers of a BibTeX, CSL-JSON or text file.

    Exports of Zotero and others, or a list of ids and addresses. Entries without an arXiv id are named.
    """
    from claimbook import workspace
    from claimbook.papers import imports

    here = workspace.find()
    _add_named(here, _items(imports.read(file)), tags, None, offline, as_json)


@paper.command("list", epilog="Example: claimbook paper list --status queued --tag loss")
@click.option("--status", type=_STATUS, help="Only these.")
@click.option("--tag", help="Only with this tag.")
@click.option("--week", help="Only of this ISO week, such as 2026-W48, or `this`.")
@AS_JSON
def list_(status: str | None, tag: str | None, week: str | None, as_json: bool) -> None:
    """List the library."""
    from claimbook import workspace
    from claimbook.papers import holdings

    here = workspace.find()
    wanted = {"status": status, "week": _week(here, week) if week is not None else None}
    held = holdings(here)
    for error in held.problems.values():
        click.secho(f"left out: {error}", fg="yellow", err=True)
    papers = [
        one
        for one in held.papers
        if all(value in (None, getattr(one.note, name)) for name, value in wanted.items())
        and (tag is None or tag in one.note.tags)
    ]
    if as_json:
        print_json([_summary(one) for one in papers])
    elif papers:
        print_table(["paper", "status", "week", "read", "claims", "tags", "title"], list(map(_row, papers)))
    else:
        click.echo("no paper" if held.papers else "no paper yet; `claimbook paper add ID` fetches one")


@paper.command(epilog="Example: claimbook paper show siglip")
@click.argument("slug")
@AS_JSON
def show(slug: str, as_json: bool) -> None:
    """Show one paper: metadata, claims, experiments.

    Also what the note lacks, and what rests on an older version. SLUG may be an arXiv id or address.
    """
    from claimbook.papers import experiments_on
    from claimbook.papers.drift import drift
    from claimbook.papers.tables import outcome_of
    from claimbook.week.note import lacks

    here, one = _paper(slug)
    experiments = {
        experiment.slug: outcome_of(experiment) for experiment in experiments_on(here).get(one.slug, [])
    }
    behind = list(map(str, drift(here, {one.slug: one})))
    if as_json:
        from claimbook.records import encode_json

        record = {"slug": one.slug, "meta": encode_json(one.meta), "note": encode_json(one.note)}
        print_json({**record, "experiments": experiments, "behind": behind, "lacks": lacks(one.body)})
        return
    for line in _shown(one):
        click.echo(line)
    for name, outcome in experiments.items():
        click.echo(f"experiment {click.style(name, bold=True)}: {outcome or 'not judged'}")
    for line in behind:
        click.secho(line, fg="yellow")
    click.echo(f"note: {lacks(one.body) or 'every section is filled in'}")


@paper.command(epilog="Example: claimbook paper search sigmiod loss")
@click.argument("words", nargs=-1, required=True)
@AS_JSON
def search(words: tuple[str, ...], as_json: bool) -> None:
    """Find papers by words in title, abstract, note, claims.

    Where few hold all words, titles that resemble them are shown as well, slips allowed; where none does,
    papers with some of the words.
    """
    from claimbook import workspace
    from claimbook.display import counted
    from claimbook.index import Index

    here = workspace.find()
    with counted("files read") as report, Index.open(here, report) as index:
        found = found_papers(index, " ".join(words))
    if as_json:
        print_json(found)
        return
    for one in found:
        how = one["snippet"] or "its title resembles what you wrote"
        click.echo(f"{click.style(one['slug'], bold=True)}: {one['title']}\n  {how}")
    if found and found[0]["found_by"] == "some words":
        click.echo("none holds all the words; these hold some", err=True)
    if not found:
        click.echo("nothing found; `claimbook paper add --query` searches arXiv")


@paper.command("open", epilog="Example: claimbook paper open siglip --pdf")
@click.argument("slug")
@click.option("--pdf", "what", flag_value="pdf", help="The PDF instead of the abstract's page.")
@click.option("--note", "what", flag_value="note", help="Your note, in $EDITOR.")
def open_(slug: str, what: str | None) -> None:
    """Open a paper in the browser, or its note.

    The address or path is printed; an editor is opened in a terminal only.
    """
    here, one = _paper(slug)
    if what == "note":
        path = here.papers / one.slug / "README.md"
        click.echo(path)
        if sys.stdout.isatty():
            click.edit(filename=str(path))
        return
    url = one.meta.url.replace("/abs/", "/pdf/") if what == "pdf" else one.meta.url
    click.echo(url)
    click.launch(url)


@paper.command(epilog="Example: claimbook paper tag siglip --add loss --remove todo")
@click.argument("slug")
@click.option("--add", "added", multiple=True, help="May be repeated.")
@click.option("--remove", "removed", multiple=True, help="May be repeated.")
def tag(slug: str, added: tuple[str, ...], removed: tuple[str, ...]) -> None:
    """Add and remove a paper's tags."""
    from claimbook import papers, workspace

    if not added and not removed:
        raise click.UsageError("name tags with --add or --remove")
    here = workspace.find()
    one = papers.tag(here, papers.find(here, slug), added, removed)
    papers.write_tables(here)
    click.echo(f"{one.slug}: {', '.join(one.note.tags) or 'no tags'}")


@paper.command(epilog="Example: claimbook paper status siglip reading --week this")
@click.argument("slug")
@click.argument("status", type=_STATUS)
@click.option("--week", help="ISO week of the reading, such as 2026-W48, or `this`.")
@click.option("--version", type=click.IntRange(1), help="The version that was read.")
def status(slug: str, status: Status, week: str | None, version: int | None) -> None:
    """Say how far the reading of a paper is.

    Only these lines of the note's front matter change.
    """
    from claimbook import papers, workspace

    here = workspace.find()
    chosen = _week(here, week) if week is not None else None
    one = papers.set_status(here, papers.find(here, slug), status, chosen, version)
    papers.write_tables(here)
    note = one.note
    when = f" in {note.week}" if note.week else ""
    which = f", v{note.read_version}" if note.read_version else ""
    click.echo(f"{one.slug}: {note.status}{when}{which}")
    if status == "read" and note.read_version is None:
        newest = f"the newest known is v{one.meta.latest}"
        click.echo(f"which version was it? `claimbook paper status {one.slug} read --version N`; {newest}")


@paper.command(epilog="Example: claimbook paper remove siglip")
@click.argument("slug")
def remove(slug: str) -> None:
    """Put a paper into papers/.trash.

    `paper restore` brings it back. A paper that an experiment rests on stays.
    """
    from claimbook import papers, workspace

    here = workspace.find()
    found = papers.find(here, slug)
    path = papers.remove(here, found)
    papers.write_tables(here)
    click.echo(f"{found}: now in {path.relative_to(here.root)}")
    click.echo(f"`claimbook paper restore {found}` brings it back")


@paper.command(epilog="Example: claimbook paper restore siglip")
@click.argument("slug")
def restore(slug: str) -> None:
    """Bring a removed paper back."""
    from claimbook import papers, workspace

    here = workspace.find()
    papers.restore(here, slug)
    papers.write_tables(here)
    click.echo(f"restored {slug}")


@paper.command(epilog="Example: claimbook paper bib")
def bib() -> None:
    """Write papers/README.md, library.bib and library.json.

    Every verb that changes the library does so by itself; this one is for after an edit by hand.
    """
    from claimbook import papers, workspace
    from claimbook.papers.tables import BIB

    here = workspace.find()
    papers.write_tables(here)
    click.echo(here.papers / BIB)


def found_papers(index: Index, text: str) -> list[dict[str, str]]:
    """Papers that hold every word of a text; where they are few, those whose titles resemble it; where there
    are none, those that hold some of the words."""
    from claimbook.papers.titles import resembling_titles

    def entry(slug: str, title: str, snippet: str, found_by: str) -> dict[str, str]:
        return {"slug": slug, "title": title, "snippet": snippet, "found_by": found_by}

    hits = index.search(text, kinds=("paper",))
    found = {hit.slug: entry(hit.slug, hit.title, hit.snippet, "words") for hit in hits}
    if len(found) < _FEW:
        titles = index.titles("paper")
        for slug in resembling_titles(text, titles):
            found.setdefault(slug, entry(slug, titles[slug], "", "resemblance"))
    if not found:
        hits = index.search(text, kinds=("paper",), every=False)
        found = {hit.slug: entry(hit.slug, hit.title, hit.snippet, "some words") for hit in hits}
    return list(found.values())


def _add_named(
    workspace: Workspace,
    items: list[Item],
    tags: tuple[str, ...],
    slug: str | None,
    offline: bool,
    as_json: bool,
) -> None:
    """Take in the papers that were named, in files or on the command line, and complain of the others."""
    from claimbook.papers import check_tag
    from claimbook.papers.adding import Wish, add_wished
    from claimbook.papers.ids import Complaint

    tags = tuple(map(check_tag, tags))
    client = client_of(workspace, offline)
    wishes, complaints = [], []
    for item in items:
        if isinstance(item.found, Complaint):
            complaints.append(malformed(item.found, item.title, item.place))
        else:
            wishes.append(Wish(item.found, (*item.tags, *tags), item.status or "queued", item.note))
    answers = collect(
        workspace,
        complaints,
        lambda report: add_wished(workspace, client, wishes, slug=slug, progress=report),
        as_json,
    )
    if as_json:
        print_json([vars(answer) for answer in answers])
    if not answers:
        raise PaperError("no paper was named", fix="write arXiv ids or addresses, one a line")
    _refuse_missing(answers)


def _add_found(
    workspace: Workspace, query: str, most: int, tags: tuple[str, ...], offline: bool, as_json: bool
) -> None:
    """Take in what arXiv finds for a query."""
    from claimbook.papers import check_tag
    from claimbook.papers.adding import add_listed

    tags = tuple(map(check_tag, tags))
    listing = client_of(workspace, offline).search(query, most)
    answers = collect(workspace, [], lambda report: add_listed(workspace, listing, tags), as_json)
    state, reason = ("found", "") if listing.failure is None else failure(listing.failure)
    if as_json:
        record = {"papers": [vars(answer) for answer in answers], "total": listing.total}
        print_json({**record, "state": state, "reason": reason})
    if listing.failure is not None:
        raise PaperError(
            f"arXiv did not answer in full: {reason}", fix="what was added stays; try again later"
        )
    if not as_json:
        click.echo(f"{len(listing.entries)} of {listing.total or 0:,} papers that arXiv finds")
    _refuse_missing(answers)


def _refuse_missing(answers: list[Answer]) -> None:
    """Raise PaperError unless all that was asked for is in the library."""
    missing = sum(answer.slug is None for answer in answers)
    if missing:
        raise PaperError(
            f"{missing} of {len(answers)} are not in the library",
            fix="see what is said of each; what was added stays",
        )


def _pasted(texts: Iterable[str]) -> Iterator[Item]:
    """What was named on the command line, and for a dash what standard input holds."""
    from claimbook.papers import imports
    from claimbook.papers.ids import parse

    for text in texts:
        if text == "-":
            lines = sys.stdin.buffer.read().decode("utf-8", "replace")
            yield from _items(imports.read_text(lines, "standard input"))
        else:
            yield imports.Item("", parse(text))


def _items(imported: Imported) -> list[Item]:
    """The papers of another collection; what was merged or passed over in it is told."""
    for remark in imported.remarks:
        click.echo(remark, err=True)
    return list(imported.items)


def _paper(name: str) -> tuple[Workspace, Paper]:
    """The workspace around the current folder and a paper of it, by slug, id or address."""
    from claimbook import workspace
    from claimbook.papers import find, load

    here = workspace.find()
    return here, load(here, find(here, name))


def _week(workspace: Workspace, text: str) -> str:
    """An ISO week; `this` is the one that the workspace's calendar shows now."""
    from claimbook.week import Calendar
    from claimbook.workspace import is_week

    if text == "this":
        return str(Calendar.of(workspace).week_of(datetime.now(UTC)))
    if not is_week(text):
        raise click.BadParameter(f"{text!r} is no ISO week such as 2026-W48", param_hint="--week")
    return text


def _summary(one: Paper) -> dict[str, Any]:
    """A paper as an entry of the list for scripts."""
    meta, note = one.meta, one.note
    return {
        "slug": one.slug,
        "id": meta.id,
        "title": meta.title,
        "url": meta.url,
        "status": note.status,
        "week": note.week,
        "read_version": note.read_version,
        "latest": meta.latest,
        "withdrawn": meta.withdrawn,
        "tags": note.tags,
        "claims": [claim.id for claim in note.claims],
    }


def _row(one: Paper) -> list[str]:
    note = one.note
    title = f"WITHDRAWN {one.meta.title}" if one.meta.withdrawn else one.meta.title
    claims = str(len(note.claims)) if note.claims else ""
    return [one.slug, note.status, note.week or "", _versions(one), claims, ", ".join(note.tags), title]


def _versions(one: Paper) -> str:
    """The version that was read, and the newest one where that is another."""
    read, latest = one.note.read_version, one.meta.latest
    return "" if read is None else f"v{read}" if read >= latest else f"v{read} → v{latest}"


def _shown(one: Paper) -> Iterator[str]:
    """What metadata and front matter say, in lines for people."""
    meta, note = one.meta, one.note
    yield f"{click.style(one.slug, bold=True)}  {meta.title}"
    yield f"{meta.url}  {', '.join(meta.categories)}"
    yield ", ".join(meta.authors)
    yield f"v1 of {meta.published}" + (f", v{meta.latest} of {meta.updated}" if meta.latest > 1 else "")
    yield (
        f"as arXiv had it on {meta.fetched_at[:10]}"
        if meta.fetched_at
        else "entered by hand, not fetched yet"
    )
    if meta.withdrawn:
        yield click.style(f"it looks withdrawn: {meta.withdrawn}", fg="red")
    if meta.journal_ref or meta.doi:
        doi = f"https://doi.org/{meta.doi}" if meta.doi else ""
        yield f"published: {' '.join(filter(None, (meta.journal_ref, doi)))}"
    reading = " ".join(filter(None, (note.status, _versions(one), note.week)))
    yield f"{reading}; {', '.join(note.tags) or 'no tags'}"
    for link in meta.links:
        yield f"{link.kind}: {link.url}"
    for claim in note.claims:
        yield f"claim {click.style(claim.id, bold=True)}: {claim.text}"
        yield f"  {claim.metric}, {claim.direction} is better{_reported(claim)}"


def _reported(claim: Claim) -> str:
    if claim.reported is None:
        return ""
    sure = "looked up" if claim.confirmed else "from memory"
    return f"; reported: {claim.reported} ({', '.join(filter(None, (claim.where, sure)))})"


VERBS = (paper,)
