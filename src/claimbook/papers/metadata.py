"""From what arXiv says of a version to a paper's meta.json, and what is new in it. Knows nothing of files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from claimbook.papers.outcomes import Entry
from claimbook.records import Link, PaperMeta

_REST = r"[^\s<>\"'{}|\\^`\[\]]+"
_URL = re.compile(rf"https?://{_REST}|(?<![\w.@/])(?:github\.com|huggingface\.co)/{_REST}")
_CODE = ("github.com", "gitlab.com", "bitbucket.org", "codeberg.org")
_DATA = ("zenodo.org", "kaggle.com")
_HUB = ("huggingface.co", "hf.co")
_NO_MODEL = ("", "papers", "spaces", "blog", "docs", "collections", "datasets")
"""First parts of the hub's addresses that are no owner of models."""
_OPENS_WITHDRAWN = re.compile(r"\W*(?:withdrawn|this \w+ (?:has been|is|was) withdrawn)\b", re.IGNORECASE)
_WITHDRAWN = re.compile(
    r"\A\W*(?:withdrawn|retracted)\b"
    r"|\b(?:paper|article|manuscript|submission|preprint|work|version)\b.{0,40}\b(?:withdrawn|retracted)\b"
    r"|\b(?:withdrawn|retracted) by\b|\bwe (?:withdraw|retract)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class News:
    """One thing that arXiv says now and did not say before."""

    kind: Literal["fetched", "version", "withdrawn", "restored", "doi", "journal", "title", "link"]
    text: str


def metadata(entry: Entry, fetched_at: datetime, older: PaperMeta | None = None) -> PaperMeta:
    """meta.json after arXiv has said this of a paper.

    older: what it was. An answer about a version before one that was fetched already, or an earlier answer
    about the same, changes nothing. Links that a person entered stay.
    """
    version, time = entry.id.version or 1, fetched_at.isoformat(timespec="seconds").replace("+00:00", "Z")
    if older and older.source == "arxiv" and (older.latest, older.fetched_at or "") > (version, time):
        return older
    by_hand = [link for link in older.links if link.said_in == "person"] if older else []
    return PaperMeta(
        id=entry.id.number,
        title=entry.title,
        authors=list(entry.authors),
        abstract=entry.abstract,
        categories=list(entry.categories),
        published=entry.published,
        updated=entry.updated,
        versions=list(range(1, max(version, older.latest if older else 1) + 1)),
        source="arxiv",
        fetched_at=time,
        comment=entry.comment,
        journal_ref=entry.journal_ref,
        doi=entry.doi,
        withdrawn=withdrawal(entry),
        links=_links(entry) + by_hand,
    )


def withdrawal(entry: Entry) -> str | None:
    """Why a version looks withdrawn; None when it does not.

    arXiv gives no flag: a withdrawal is a further version without a PDF whose comment tells the reason. Some
    papers have no PDF for another reason, and some comments speak of another paper's withdrawal, so it takes
    the words, at the beginning or about the paper, or the missing PDF.
    """
    said = entry.comment or ""
    if entry.has_pdf:
        return said if _OPENS_WITHDRAWN.match(said) else None
    words = next((text for text in (said, entry.abstract) if _WITHDRAWN.search(text)), None)
    return words or f"arXiv offers no PDF of v{entry.id.version}{said and f'; the comment: {said}'}"


def news(before: PaperMeta, after: PaperMeta) -> list[News]:
    """What a sync brought, the most important first."""
    found: list[News] = []
    if after.withdrawn and not before.withdrawn:
        found.append(News("withdrawn", f"it looks withdrawn: {after.withdrawn}"))
    if before.withdrawn and not after.withdrawn:
        found.append(News("restored", "it no longer looks withdrawn"))
    if after.latest > before.latest:
        found.append(News("version", f"v{after.latest} of {after.updated}; known so far: v{before.latest}"))
    if before.source == "manual" and after.source == "arxiv":
        found.append(News("fetched", "entered by hand before, now as arXiv has it"))
    if after.title != before.title:
        found.append(News("title", f"the title is now {after.title!r}, it was {before.title!r}"))
    if after.journal_ref and after.journal_ref != before.journal_ref:
        found.append(News("journal", f"published: {after.journal_ref}"))
    if after.doi and after.doi != before.doi:
        found.append(News("doi", f"published as https://doi.org/{after.doi}"))
    known = {link.url for link in before.links}
    found += [News("link", f"{link.kind}: {link.url}") for link in after.links if link.url not in known]
    return found


def _links(entry: Entry) -> list[Link]:
    """The addresses in abstract and comment, each once, in their order."""
    texts: tuple[tuple[Literal["abstract", "comment"], str], ...] = (
        ("abstract", entry.abstract),
        ("comment", entry.comment or ""),
    )
    found: dict[str, Link] = {}
    for said_in, text in texts:
        for match in _URL.finditer(text):
            url = _trimmed(match[0])
            url = url if "://" in url else f"https://{url}"
            if (kind := _kind(url)) is not None:
                found.setdefault(url, Link(kind=kind, url=url, said_in=said_in))
    return list(found.values())


def _kind(url: str) -> Literal["code", "model", "data", "project"] | None:
    """What lies at an address, as far as it tells; None for papers themselves and for no address."""
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket where a host's address should be
        return None
    host = (parts.hostname or "").removeprefix("www.")
    if not host or host.endswith(("arxiv.org", "doi.org")):
        return None
    owner, _, name = parts.path.strip("/").partition("/")
    if host in _CODE:
        return "code"
    if host in _DATA or (host in _HUB and owner == "datasets"):
        return "data"
    return "model" if host in _HUB and owner not in _NO_MODEL and name else "project"


def _trimmed(url: str) -> str:
    """An address without the punctuation of the sentence around it."""
    end = ".,;:!?'\"*_~]}>"
    url = url.rstrip(end)
    while url.endswith(")") and url.count(")") > url.count("("):
        url = url[:-1].rstrip(end)
    return url
