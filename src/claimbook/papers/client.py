"""arXiv's API, asked politely: the `arxiv` package, put right where it reads a failure as "no papers".

The package builds addresses and reads entries. What stands between it and the network is ours (`transport`):
the package has no time-out, asks again for what is malformed, knows no Retry-After, counts its three seconds
per object instead of per user, and gives an empty list for an answer that is blank, HTML or cut off. Knows
nothing of the library.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from claimbook.errors import PaperError
from claimbook.papers import answers
from claimbook.papers.answers import Asked, NotWholeError, RateExceededError, RefusedError
from claimbook.papers.cache import DAY, Cache, Kept
from claimbook.papers.ids import ArxivId, Complaint
from claimbook.papers.outcomes import (
    Denied,
    Entry,
    Failure,
    Found,
    Listing,
    Malformed,
    NotFound,
    Outcome,
    RateLimited,
    Stale,
    Truncated,
    Unreachable,
)
from claimbook.papers.pace import Manners
from claimbook.papers.transport import FailedError, Transport, server_name

__all__ = ["BATCH", "ArxivClient", "Manners"]

BATCH = 100
"""Ids, or papers of a search, in one request: more make arXiv's answers come blank."""
_HOME = "https://export.arxiv.org"
_MANUAL = "https://info.arxiv.org/help/api/user-manual.html#query_details"


class ArxivClient:
    """Papers by id and by search, from arXiv or from the cache; what came of it is a typed outcome.

    cache: the folder for answers. offline: ask nobody. url: another server than arXiv's, else the one that
    CLAIMBOOK_ARXIV_URL names. report: told in a few words why it takes long. A server that refuses us (403)
    is not asked again by the same client.
    """

    def __init__(
        self,
        cache: Path,
        *,
        offline: bool = False,
        manners: Manners | None = None,
        url: str | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        self.url = _base(url or os.environ.get("CLAIMBOOK_ARXIV_URL") or _HOME)
        self.cache = Cache(cache if self.url == _HOME else cache / server_name(self.url))
        self.offline = offline
        self._transport = Transport(self.url, manners or Manners(), report or (lambda text: None))

    def fetch(
        self,
        ids: Iterable[ArxivId],
        fresh: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> dict[ArxivId, Outcome]:
        """What came of each id, in the order given, each once.

        fresh: ask arXiv also for what it answered within a day; a version that the cache has never changes,
        and is not asked for. progress: told how many of how many are known, after each request.
        """
        wanted = list(dict.fromkeys(ids))
        known = {one: found for one in wanted if (found := self._kept(one, fresh)) is not None}
        tell = progress or (lambda done, total: None)
        tell(len(known), len(wanted))
        failure: Failure | None = None
        for batch in _batches([one for one in wanted if one not in known]):
            if not isinstance(failure, Denied | RateLimited | Unreachable):  # the next would meet the same
                failure = self._fetch(batch, known)
            if failure is not None:
                known |= {one: self._instead(one, failure) for one in batch if one not in known}
            tell(len(known), len(wanted))
        return {one: known[one] for one in wanted}

    def search(self, query: str, limit: int = 10) -> Listing:
        """The first papers that arXiv finds for a query, best first.

        query: in arXiv's language, such as `all:siglip AND cat:cs.CV`. One that arXiv does not understand is
        a Malformed failure; a page that fails leaves the pages before it. Raises PaperError for a query that
        is no text, ValueError for a limit below 1, which to the `arxiv` package would be none.
        """
        import arxiv

        if limit < 1:
            raise ValueError(f"limit is {limit}")
        if not query.strip() or not _is_unicode(query):
            raise PaperError(f"the query is no text: {query!r}", fix=f"write one, see {_MANUAL}")
        pages = _Pages(self)
        entries: dict[str, Entry] = {}
        failure: Failure | Malformed | None = None
        api = _api(self.url, pages, page_size=min(BATCH, limit))
        try:
            for result in api.results(arxiv.Search(query=query, max_results=limit)):
                entry = answers.entry_of(result)
                entries.setdefault(entry.id.number, entry)  # pages shift when a paper comes in between
        except FailedError as error:
            failure = error.failure
        except RefusedError as error:
            problem = f"arXiv does not understand the query: {error.message}"
            failure = Malformed(Complaint(query, problem, f"see {_MANUAL}"))
        except arxiv.UnexpectedEmptyPageError:
            pass  # a whole answer that counts fewer papers than the page before: this was all
        return Listing(tuple(entries.values()), pages.total, pages.oldest, failure or pages.stale)

    def ask(self, url: str) -> bytes:
        """A whole answer, from the network. Raises FailedError, or RefusedError."""
        if self.offline:
            raise FailedError(Unreachable("offline, as was wished"))
        return self._transport.ask(url)

    def _fetch(self, batch: list[ArxivId], known: dict[ArxivId, Outcome]) -> Failure | None:
        """Ask for a batch and enter what came of its ids; returns what went wrong with those not entered."""
        while batch:
            try:
                body = self.ask(_address(self.url, batch))
            except FailedError as error:
                return error.failure
            except RefusedError as error:
                named = [one for one in batch if str(one) == error.text]
                if not named:
                    return Truncated(f"arXiv refused the request: {error.message}")
                known |= {one: _refused(one, error) for one in named}
                batch = [one for one in batch if one not in named]
            else:
                self._enter(batch, body, known)
                return None
        return None

    def _enter(self, batch: list[ArxivId], body: bytes, known: dict[ArxivId, Outcome]) -> None:
        now = datetime.now(UTC)
        parts = answers.split(body)
        by_number = {found.number: found for found in parts}
        for one in batch:
            found = by_number.get(one.number)
            if found is None or one.version not in (None, found.version):
                self.cache.keep_absent(one)
                known[one] = NotFound(one)
            else:
                self.cache.keep(one, found, parts[found])
                known[one] = Found(_read(parts[found]), now)

    def _kept(self, one: ArxivId, fresh: bool) -> Outcome | None:
        """What the cache says of an id, as long as that holds."""
        kept = _whole(self.cache.paper(one), _alone(one))
        if kept is not None and (one.version is not None or (kept.age < DAY and not fresh)):
            return Found(_read(kept.body), kept.at)
        return NotFound(one) if not fresh and self.cache.is_absent(one) else None

    def _instead(self, one: ArxivId, failure: Failure) -> Outcome:
        """The older answer about an id, where there is one, else why there is none."""
        kept = _whole(self.cache.paper(one), _alone(one))
        if kept is None and one.version is None:
            kept = _whole(self.cache.newest_version(one), _alone(one))
        return failure if kept is None else Stale(_read(kept.body), kept.at, kept.age, failure)


class _Pages:
    """What the `arxiv` package takes for its HTTP session: pages of a search, from cache or network."""

    def __init__(self, client: ArxivClient) -> None:
        self.client = client
        self.total: int | None = None
        self.oldest: datetime | None = None
        self.stale: Failure | None = None

    def get(self, url: str, headers: object = None) -> _Page:
        """The page at an address, whole. Raises FailedError or RefusedError."""
        kept = _whole(self.client.cache.search(url), Asked.of(url))
        if kept is None or kept.age >= DAY:
            kept = self._asked(url, kept)
        self.total = answers.total_of(kept.body)
        self.oldest = min(self.oldest or kept.at, kept.at)
        return _Page(kept.body)

    def _asked(self, url: str, older: Kept | None) -> Kept:
        try:
            body = self.client.ask(url)
        except FailedError as error:
            if older is None:
                raise
            self.stale = error.failure
            return older
        self.client.cache.keep_search(url, body)
        return Kept(body, datetime.now(UTC))


class _Page:
    """What the `arxiv` package takes for a response, and for a session where one answer is all there is."""

    status_code = 200

    def __init__(self, content: bytes) -> None:
        self.content = content

    def get(self, url: str, headers: object = None) -> _Page:
        """Itself."""
        return self


def _is_unicode(text: str) -> bool:
    """False for bytes of another encoding, which a command line hands over as halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _alone(one: ArxivId) -> Asked:
    """What a file of the cache answers."""
    return Asked(frozenset({str(one)}), 0, 1)


def _whole(kept: Kept | None, asked: Asked) -> Kept | None:
    """An answer of the cache, unless its file was damaged: then it is as if there were none."""
    if kept is not None:
        try:
            answers.check(kept.body, asked)
        except (NotWholeError, RateExceededError, RefusedError):
            return None
    return kept


def _read(body: bytes) -> Entry:
    """The one paper of an answer that was split off."""
    import arxiv

    (result,) = _api(_HOME, _Page(body), page_size=1).results(arxiv.Search(max_results=1))
    return answers.entry_of(result)


def _api(url: str, session: _Pages | _Page, page_size: int) -> Any:
    """The package's client over a session of ours, its own delay and retries switched off."""
    import arxiv

    api = arxiv.Client(page_size=page_size, delay_seconds=0, num_retries=0)
    api.query_url_format = f"{url}/api/query?{{}}"
    api._session = session
    return api


def _address(url: str, batch: list[ArxivId]) -> str:
    """Where arXiv answers about a batch of ids."""
    fields = {"id_list": ",".join(map(str, batch)), "start": 0, "max_results": BATCH}
    return f"{url}/api/query?{urlencode(fields)}"


def _base(url: str) -> str:
    """An address without its last slash. Raises PaperError when it is none."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket or a port that is none
        usable = False
    if not usable:
        raise PaperError(
            f"{url!r} is no address of a server",
            fix=f"write one such as {_HOME}, or unset it",
            where="CLAIMBOOK_ARXIV_URL",
        )
    return url.rstrip("/")


def _batches(ids: list[ArxivId]) -> Iterator[list[ArxivId]]:
    """Requests' worth of ids, no paper twice in one: arXiv may answer two versions of it with one entry."""
    while ids:
        batch: dict[str, ArxivId] = {}
        later = []
        for one in ids:
            if one.number in batch or len(batch) == BATCH:
                later.append(one)
            else:
                batch[one.number] = one
        yield list(batch.values())
        ids = later


def _refused(one: ArxivId, error: RefusedError) -> Malformed:
    return Malformed(Complaint(str(one), f"arXiv says: {error.message}", "compare it with the paper's page"))
