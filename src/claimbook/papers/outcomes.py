"""What can come of asking arXiv for a paper: one type per outcome, so that a failure never reads as "none".

Found ───────── arXiv, or a fresh answer in the cache, has it
Stale ───────── arXiv was not reached or not asked; the cache has an older answer, of a known age
NotFound ────── arXiv was asked and has no such paper
Malformed ───── the id is none
Failure
├── RateLimited    arXiv asked to wait (429 or 503), longer than we would
├── Denied         arXiv refuses us (403): nothing more is asked
├── Unreachable    no answer: no network, a time-out, a cut connection, or offline by wish
└── Truncated      an answer, but not a whole one: blank, not Atom, cut off, fewer papers than it counts
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from claimbook.papers.ids import ArxivId, Complaint


@dataclass(frozen=True)
class Entry:
    """What arXiv says of one version of a paper, each text on one line and without control characters."""

    id: ArxivId
    """With the version that arXiv answered with."""
    title: str
    authors: tuple[str, ...]
    abstract: str
    categories: tuple[str, ...]
    """The primary one first."""
    published: str
    """ISO date of the first version."""
    updated: str
    """ISO date of this version."""
    comment: str | None
    journal_ref: str | None
    doi: str | None
    """Of the published version, without https://doi.org/."""
    has_pdf: bool
    """A withdrawn version has none."""


@dataclass(frozen=True)
class Found:
    """The paper, as arXiv has it now or had it within the cache's time."""

    entry: Entry
    fetched_at: datetime
    """When arXiv gave this answer, UTC."""


@dataclass(frozen=True)
class Failure:
    """arXiv could not be asked, or did not answer so that one could tell."""

    reason: str
    """One sentence, with the status or the system's own words."""


@dataclass(frozen=True)
class RateLimited(Failure):
    """arXiv asked to wait, longer than the client was willing to."""

    until: datetime
    """When it may be asked again, UTC; no process of this user asks earlier."""


@dataclass(frozen=True)
class Denied(Failure):
    """HTTP 403: arXiv does not want this client; it is not asked again."""


@dataclass(frozen=True)
class Unreachable(Failure):
    """No answer came: no network, a time-out, a cut connection, a server's error, or offline by wish."""


@dataclass(frozen=True)
class Truncated(Failure):
    """An answer came, again and again, that is not whole."""


@dataclass(frozen=True)
class Stale:
    """An answer from the cache whose time is over, since arXiv could not be asked."""

    entry: Entry
    fetched_at: datetime
    age: timedelta
    because: Failure


@dataclass(frozen=True)
class NotFound:
    """arXiv was asked and has no paper, or no such version, by this id."""

    id: ArxivId


@dataclass(frozen=True)
class Malformed:
    """The text is no arXiv id: as our own reading says, or arXiv's."""

    complaint: Complaint


Outcome = Found | Stale | NotFound | Malformed | Failure


@dataclass(frozen=True)
class Listing:
    """What a search found, in arXiv's order."""

    entries: tuple[Entry, ...]
    total: int | None
    """All that arXiv counts for the query; None when it never said."""
    fetched_at: datetime | None
    """When the oldest page of it was given, UTC; None when there is none."""
    failure: Failure | Malformed | None = None
    """Why `entries` may lack some or be out of date, or that arXiv does not understand the query; None when
    all is well."""
