"""An answer of arXiv's API: is it whole, and which papers does it hold? Knows nothing of how it was got.

The `arxiv` package reads past what is blank, HTML or cut off in an answer, and gives the papers that it could
make out, perhaps none. Here an answer is whole, or it is refused with the reason.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from claimbook.papers.ids import ArxivId, parse
from claimbook.papers.outcomes import Entry

if TYPE_CHECKING:
    import arxiv

_ATOM = "{http://www.w3.org/2005/Atom}"
_OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
_ERRORS = "/api/errors"
"""In the id of the one entry that stands for an error, whatever the status says."""
_KEPT_FORMATS = {"\u200c", "\u200d"}
"""Joiners, which change how a word is written; all other format characters only change how it is shown."""
_SHOWN = 120


class NotWholeError(Exception):
    """An answer from which one cannot tell what arXiv has."""


class RateExceededError(Exception):
    """arXiv asked to wait, in words: the status was 200."""


class RefusedError(Exception):
    """arXiv did not understand what was asked: the status was 400, or 200 with an error entry."""

    def __init__(self, message: str, text: str | None) -> None:
        super().__init__(message)
        self.message = message
        self.text = text
        """The id that it complains of, as it was asked; None when it is not about an id."""


@dataclass(frozen=True)
class Asked:
    """What an address of the API asks for."""

    ids: frozenset[str]
    """Empty for a search."""
    start: int
    most: int

    @classmethod
    def of(cls, url: str) -> Asked:
        """What `url` asks for."""
        fields = parse_qs(urlsplit(url).query)
        ids = fields.get("id_list", [""])[0]
        return cls(
            frozenset(ids.split(",") if ids else ()), int(fields["start"][0]), int(fields["max_results"][0])
        )


def check(body: bytes, asked: Asked) -> None:
    """Raise NotWholeError, RateExceededError or RefusedError unless an answer is all that was asked for.

    Whole is: well-formed Atom without a document type, as many entries as its own count says, each with what
    a paper must have, none twice, none that was not asked for.
    """
    root = _root(body)
    entries = root.findall(f"{_ATOM}entry")
    for entry in entries:
        _raise_error_entry(entry)
    total = _count(root, "totalResults")
    expected = max(0, min(asked.most, total - asked.start))
    if len(entries) != expected:
        raise NotWholeError(f"{len(entries)} papers in an answer that counts {expected}")
    found = [_entry_id(entry) for entry in entries]
    if len(set(found)) < len(found):
        raise NotWholeError("a paper comes twice in one answer")
    if asked.ids and (others := [one for one in found if not _is_asked(one, asked.ids)]):
        raise NotWholeError(f"{others[0]} was not asked for")


def total_of(body: bytes) -> int:
    """How many papers arXiv counts for what was asked, in an answer that is whole."""
    return _count(_root(body), "totalResults")


def split(body: bytes) -> dict[ArxivId, bytes]:
    """The answer about each paper alone, as raw Atom, of an answer that is whole; ids carry versions."""
    from lxml import etree

    parts = {}
    for entry in _root(body).iter(f"{_ATOM}entry"):
        feed = etree.Element(f"{_ATOM}feed", nsmap=entry.nsmap)
        etree.SubElement(feed, f"{_OPENSEARCH}totalResults").text = "1"
        feed.append(entry)
        parts[_entry_id(entry)] = etree.tostring(feed, encoding="utf-8", xml_declaration=True)
    return parts


def entry_of(result: arxiv.Result) -> Entry:
    """What the `arxiv` package read of a paper, texts cleaned, the primary category first."""
    found = parse(result.entry_id)
    assert isinstance(found, ArxivId), "check() lets no other through"
    others = [term for term in result.categories if term != result.primary_category]
    return Entry(
        id=found,
        title=cleaned(result.title),
        authors=tuple(cleaned(author.name) for author in result.authors),
        abstract=cleaned(result.summary),
        categories=tuple(term for term in (result.primary_category, *others) if term),
        published=result.published.date().isoformat(),
        updated=result.updated.date().isoformat(),
        comment=cleaned(result.comment or "") or None,
        journal_ref=cleaned(result.journal_ref or "") or None,
        doi=_doi(result.doi or ""),
        has_pdf=result.pdf_url is not None,
    )


def cleaned(text: str) -> str:
    """A text on one line, without control characters and marks that only change the direction of writing.

    A title may hold them to show a reader something else than it says (Trojan Source, arXiv 2111.00169).
    """
    kept = (
        " " if unicodedata.category(char) in ("Cc", "Zl", "Zp") else char
        for char in text
        if unicodedata.category(char) != "Cf" or char in _KEPT_FORMATS
    )
    return " ".join("".join(kept).split())


def _root(body: bytes) -> Any:
    from lxml import etree

    text = body.strip()
    if not text:
        raise NotWholeError("a blank answer")
    if re.match(rb"rate exceeded", text, re.IGNORECASE):
        raise RateExceededError
    if re.match(rb"<!doctype html|<html", text, re.IGNORECASE):
        raise NotWholeError(f"a web page instead of Atom: {_beginning(re.sub(rb'<[^>]*>', b' ', text))}")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        root = etree.fromstring(text, parser)
    except etree.XMLSyntaxError as error:
        raise NotWholeError(f"no well-formed Atom: {error.msg}") from None
    if root.tag != f"{_ATOM}feed":
        raise NotWholeError(f"no Atom feed: {_beginning(text)}")
    if root.getroottree().docinfo.internalDTD is not None:
        raise NotWholeError("an answer with a document type, which Atom has none of")
    return root


def _raise_error_entry(entry: Any) -> None:
    address = entry.findtext(f"{_ATOM}id") or ""
    if _ERRORS in address:
        _, _, text = address.partition("incorrect_id_format_for_")
        raise RefusedError(cleaned(entry.findtext(f"{_ATOM}summary") or "Error"), text or None)


def _entry_id(entry: Any) -> ArxivId:
    found = parse(entry.findtext(f"{_ATOM}id") or "")
    if not isinstance(found, ArxivId) or found.version is None:
        raise NotWholeError("an entry without the id of a version")
    for name in ("title", "published", "updated"):
        if not (entry.findtext(f"{_ATOM}{name}") or "").strip():
            raise NotWholeError(f"{found} comes without <{name}>")
    if any(len(child) for child in entry if child.tag != f"{_ATOM}author"):
        raise NotWholeError(f"{found} comes with markup in a text, whose first words alone would be read")
    for name in ("published", "updated"):
        try:
            datetime.fromisoformat(entry.findtext(f"{_ATOM}{name}").strip())
        except ValueError:
            raise NotWholeError(f"the <{name}> of {found} is no time") from None
    return found


def _is_asked(found: ArxivId, asked: frozenset[str]) -> bool:
    return str(found) in asked or found.number in asked


def _count(root: Any, name: str) -> int:
    try:
        return int(root.findtext(f"{_OPENSEARCH}{name}"))
    except (TypeError, ValueError):
        raise NotWholeError(f"an answer without <{name}>") from None


def _doi(text: str) -> str | None:
    """The DOI alone: arXiv gives an address, or several DOIs, of which the first is taken."""
    found = re.search(r"10\.\d{4,9}/[^\s,;]+", text)
    return found[0] if found else None


def _beginning(body: bytes) -> str:
    return repr(cleaned(body[:_SHOWN].decode("utf-8", "replace")))
