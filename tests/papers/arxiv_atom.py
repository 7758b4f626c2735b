"""How arXiv's API writes its answers: papers in, Atom out, to the letter of recorded answers.

Knows nothing of HTTP and of what goes wrong there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Version:
    """One version of a paper, as arXiv keeps it."""

    id: str
    """Without the version."""
    number: int
    published: str
    """Of the first version, as all times here: 2021-02-26T19:04:58Z."""
    updated: str
    """Of this version."""
    title: str
    abstract: str
    authors: tuple[str, ...]
    categories: tuple[str, ...]
    """The primary one first."""
    comment: str | None = None
    journal_ref: str | None = None
    doi: str | None = None
    pdf: bool = True
    """A withdrawn version has none."""

    @property
    def name(self) -> str:
        return f"{self.id}v{self.number}"


@dataclass(frozen=True)
class Query:
    """What an address of the API asks for."""

    search: str
    ids: tuple[str, ...]
    start: int
    size: int
    sort_by: str
    ascending: bool

    @classmethod
    def of(cls, url: str) -> Query:
        fields = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        return cls(
            search=fields.get("search_query", ""),
            ids=tuple(filter(None, fields.get("id_list", "").split(","))),
            start=int(fields.get("start", 0)),
            size=int(fields.get("max_results", 10)),
            sort_by=fields.get("sortBy", "relevance"),
            ascending=fields.get("sortOrder", "descending") == "ascending",
        )

    @property
    def address(self) -> str:
        """The path and the query that ask for this."""
        fields = {"search_query": self.search, "id_list": ",".join(self.ids), "sortBy": self.sort_by}
        fields |= {"sortOrder": "ascending" if self.ascending else "descending"}
        return f"/api/query?{urlencode({**fields, 'start': self.start, 'max_results': self.size})}"


@dataclass(frozen=True)
class Page:
    """What arXiv would answer: some of the papers that it counts, or a body that was recorded."""

    query: Query
    entries: tuple[Version, ...] = ()
    total: int = 0
    recorded: bytes | None = None
    status: int = 200

    @property
    def body(self) -> bytes:
        return write_feed(self) if self.recorded is None else self.recorded


FEED = """\
<?xml version='1.0' encoding='UTF-8'?>
<feed xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/" xmlns:arxiv="http://arxiv.org/schemas/atom" \
xmlns="http://www.w3.org/2005/Atom">
  <id>{id}</id>
  <title>{title}</title>
  <updated>{now}</updated>
{link}  <opensearch:itemsPerPage>{size}</opensearch:itemsPerPage>
  <opensearch:totalResults>{total}</opensearch:totalResults>
  <opensearch:startIndex>{start}</opensearch:startIndex>
{entries}</feed>
"""
ERROR = """\
  <entry>
    <id>https://arxiv.org/api/errors#{anchor}</id>
    <title>Error</title>
    <updated>{now}</updated>
    <link href="https://arxiv.org/api/errors#{anchor}" rel="alternate" type="text/html"/>
    <summary>{message}</summary>
    <author>
      <name>arXiv api core</name>
    </author>
  </entry>
"""


def write_feed(page: Page) -> bytes:
    """A page in Atom, to the letter of the recorded ones but for the feed's own id and time."""
    query = page.query
    ids = ",".join(query.ids)
    search = query.search if not query.search or ":" in query.search else f"all:{query.search}"
    bounds = f"start={query.start}&max_results={query.size}"
    address = escape(f"https://arxiv.org/api/query?search_query={search}&{bounds}&id_list={ids}", QUOTE)
    return FEED.format(
        id=f"https://arxiv.org/api/{sha256(address.encode()).hexdigest()[:27]}",
        title=escape(f"arXiv Query: search_query={search}&id_list={ids}&{bounds}"),
        now=now(),
        link=f'  <link href="{address}" type="application/atom+xml"/>\n',
        size=query.size,
        total=page.total,
        start=query.start,
        entries="".join(map(write_entry, page.entries)),
    ).encode()


def write_entry(version: Version) -> str:
    scheme = "http://arxiv.org/schemas/atom"
    page, pdf = (f"https://arxiv.org/{kind}/{version.name}" for kind in ("abs", "pdf"))
    lines = [
        f"<id>http://arxiv.org/abs/{version.name}</id>",
        element("title", version.title),
        element("updated", version.updated),
        f'<link href="{page}" rel="alternate" type="text/html"/>',
        f'<link href="{pdf}" rel="related" type="application/pdf" title="pdf"/>' if version.pdf else "",
        element("summary", version.abstract),
        *(f'<category term="{term}" scheme="{scheme}"/>' for term in version.categories),
        element("published", version.published),
        element("arxiv:comment", version.comment),
        f'<arxiv:primary_category term="{version.categories[0]}"/>',
        element("arxiv:journal_ref", version.journal_ref),
        *(f"<author>\n      {element('name', name)}\n    </author>" for name in version.authors),
        element("arxiv:doi", version.doi),
        f'<link rel="related" href="https://doi.org/{version.doi}" title="doi"/>' if version.doi else "",
    ]
    return "\n".join(["  <entry>", *(f"    {line}" for line in lines if line), "  </entry>", ""])


def element(name: str, text: str | None) -> str:
    """An element, or nothing where there is nothing to say."""
    return "" if text is None else f"<{name}>{escape(text)}</{name}>"


def incorrect_id(query: Query, text: str, status: int = 400) -> Page:
    """What arXiv answers, whatever else was asked for, when one id is none. Some have seen it with a 200."""
    message = f"incorrect id format for {text}"
    anchor = escape(message.replace(" ", "_"), QUOTE)
    body = FEED.format(
        id="https://arxiv.org/",
        title="arXiv Search Results",
        now=now(),
        link="",
        size=1,
        total=1,
        start=0,
        entries=ERROR.format(anchor=anchor, now=now(), message=escape(message)),
    )
    return Page(query, recorded=body.encode(), status=status)


QUOTE = {'"': "&quot;"}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
