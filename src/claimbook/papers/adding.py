"""Papers from a wish into the library: asked of arXiv where that is needed, and written one by one.

A paper is asked for in its newest version, whatever versions of it were named; one that is newer than the
cache's day-old answer is asked for by itself. Knows nothing of where the wishes come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from claimbook.errors import ClaimbookError
from claimbook.papers.client import BATCH, ArxivClient
from claimbook.papers.ids import ArxivId
from claimbook.papers.library import Added, Card, add, catalogue
from claimbook.papers.outcomes import Found, Listing, Outcome, Stale
from claimbook.records.paper import Status
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Wish:
    """A paper that is to come into the library, and how its note begins there."""

    paper: ArxivId
    """With the version that must exist, where one was named."""
    tags: tuple[str, ...] = ()
    status: Status = "queued"
    remark: str = ""


@dataclass(frozen=True)
class Result:
    """What came of a wish."""

    paper: ArxivId
    outcome: Outcome | None
    """What came of asking arXiv; None where that was not needed."""
    added: Added | None = None
    """None when the paper is not in the library for this wish."""
    error: ClaimbookError | None = None
    """Why it could not be written."""


def add_wished(
    workspace: Workspace,
    client: ArxivClient,
    wishes: Iterable[Wish],
    *,
    slug: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Result]:
    """Bring papers into the library; yields what came of each once it is written.

    slug: of the one paper that is wished for. progress: told how many of how many papers are done with.
    Stopped in between, all that was yielded is in the library.
    """
    wanted = _merged(wishes)
    cards = catalogue(workspace)
    waiting: list[Wish] = []
    done = 0
    for wish in wanted:
        there = _there(workspace, cards, wish.paper)
        if there is None:
            waiting.append(wish)
            continue
        done += 1
        yield Result(wish.paper, None, there)
    progress(done, len(wanted))
    for start in range(0, len(waiting), BATCH):
        batch = waiting[start : start + BATCH]
        outcomes = client.fetch(wish.paper.latest for wish in batch)
        behind = [wish.paper for wish in batch if _is_behind(outcomes[wish.paper.latest], wish.paper)]
        outcomes |= client.fetch(behind)
        for wish in batch:
            asked = wish.paper if wish.paper in outcomes else wish.paper.latest
            result = _taken_in(workspace, wish, outcomes[asked], slug)
            done += 1
            progress(done, len(wanted))
            yield result


def add_listed(workspace: Workspace, listing: Listing, tags: tuple[str, ...] = ()) -> Iterator[Result]:
    """Bring what a search found into the library; yields what came of each once it is written."""
    for entry in listing.entries:
        assert listing.fetched_at is not None, "entries came at some time"
        found = Found(entry, listing.fetched_at)
        yield _taken_in(workspace, Wish(entry.id, tags), found, None)


def _merged(wishes: Iterable[Wish]) -> list[Wish]:
    """Each paper once, in its highest version, with all tags."""
    found: dict[str, Wish] = {}
    for wish in wishes:
        first = found.setdefault(wish.paper.number, wish)
        found[wish.paper.number] = replace(
            first,
            paper=max(first.paper, wish.paper),
            tags=tuple(dict.fromkeys(first.tags + wish.tags)),
        )
    return list(found.values())


def _there(workspace: Workspace, cards: Mapping[str, Card], paper: ArxivId) -> Added | None:
    """Where a paper is that arXiv need not be asked for: it was fetched, in this version or a later one."""
    for slug, card in cards.items():
        if card.id == paper.number and card.fetched_at and (workspace.papers / slug / "README.md").exists():
            latest = max(card.versions, default=0)
            return Added(slug, "there already", latest, latest) if (paper.version or 1) <= latest else None
    return None


def _is_behind(outcome: Outcome, paper: ArxivId) -> bool:
    """Whether an answer is about an older version than the one that was named."""
    return isinstance(outcome, Found | Stale) and (outcome.entry.id.version or 1) < (paper.version or 0)


def _taken_in(workspace: Workspace, wish: Wish, outcome: Outcome, slug: str | None) -> Result:
    if not isinstance(outcome, Found | Stale):
        return Result(wish.paper, outcome)
    try:
        added = add(
            workspace,
            outcome.entry,
            outcome.fetched_at,
            slug=slug,
            tags=wish.tags,
            status=wish.status,
            remark=wish.remark,
        )
    except ClaimbookError as error:
        return Result(wish.paper, outcome, error=error)
    return Result(wish.paper, outcome, added)
