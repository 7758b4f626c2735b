"""Lines of a metadata snapshot to records of papers. Knows nothing of the index.

arXiv publishes its metadata as JSON Lines, https://www.kaggle.com/datasets/Cornell-University/arxiv: a record
a line, the categories in one string, the dates of all versions. Records with a list of authors and of
categories and the field `published` are read as well. A file may be packed with gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate
from pathlib import Path
from typing import BinaryIO

import msgspec

from claimbook.errors import PaperError
from claimbook.papers.ids import ArxivId, parse

_HEAD = 1 << 16
"""Bytes at the beginning of a file by which it is known again."""
_LONGEST = 1 << 20
"""Bytes of a line; a record of arXiv has 2 kB, and a file without line breaks is read no further."""
_PATIENCE = 1000
"""Lines without a record after which a file is taken for another kind of file."""
_FIX = "give arXiv's snapshot as it is published: JSON Lines, a record a line, plain or gzipped"
_CATEGORY = re.compile(r"[a-z-]+(?:\.[A-Za-z-]+)?")


@dataclass(frozen=True, slots=True)
class Record:
    """A paper as a snapshot describes it; the texts are on one line, without signs that cannot be seen."""

    id: str
    """arXiv id without version."""
    title: str
    authors: tuple[str, ...]
    categories: tuple[str, ...]
    """The primary one first."""
    published: date
    """Of the first version, or of the last change where the record tells no other date."""
    abstract: str


@dataclass(frozen=True)
class Complaint:
    """A line that is no record of a paper, and why."""

    where: str
    """file:line."""
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}"


@dataclass(frozen=True)
class Place:
    """How far a file has been read: bytes, unpacked, and lines."""

    byte: int = 0
    line: int = 0


class Snapshot:
    """A file of records, read on from a place. Raises PaperError for what cannot be such a file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise PaperError(
                "there is no such file", fix="mend the path; name files, not folders", where=path
            )
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith((b"PK", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")):
            raise PaperError("the file is packed, and not with gzip", fix="unpack it first", where=path)
        status = path.stat()
        self.size = status.st_size
        """Bytes of the file as it lies on the disk."""
        self.identity = f"{self.size} {status.st_mtime_ns} {hashlib.sha256(head).hexdigest()}"
        """The same for a file that was moved, another for one that was changed."""
        self.place = Place()
        """The end of the last line that was read."""
        self.position = 0
        """Bytes of the file on the disk that are behind it."""
        self.lines = 0
        """Lines that were read, those before the place where it began aside."""
        self.torn: str | None = None
        """Why the file broke off before its end; None where it did not."""
        self._packed = head.startswith(b"\x1f\x8b")

    def records(self, place: Place) -> Iterator[Record | Complaint]:
        """The records from a place on, and a complaint for each line that is none; empty lines are read past.

        Raises PaperError when the file holds no record at all, at the latest after a thousand lines.
        """
        found = place != Place()
        complaint: Complaint | None = None
        for line in self._lines(place):
            if not line.strip():
                continue
            item = self._read(line)
            if isinstance(item, Record):
                found = True
            else:
                complaint = complaint or item
            if not found and self.place.line >= _PATIENCE:
                break
            yield item
        if not found:
            why = f"the first: {complaint}" if complaint else self.torn or "it is empty"
            raise PaperError(f"no line read is a record of a paper; {why}", fix=_FIX, where=self.path)

    def _lines(self, place: Place) -> Iterator[bytes]:
        with self.path.open("rb") as raw, self._unpacked(raw) as text:
            try:
                self.place = place
                text.seek(place.byte)  # a packed file is unpacked up to there
                while line := text.readline(_LONGEST):
                    size, end = len(line), line
                    while not end.endswith(b"\n") and (end := text.readline(_LONGEST)):
                        size += len(end)
                    self.place = Place(self.place.byte + size, self.place.line + 1)
                    self.position = raw.tell()
                    self.lines += 1
                    yield line
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                self.torn = f"{self.path}:{self.place.line}: the file breaks off here, {error}"

    def _unpacked(self, raw: BinaryIO) -> gzip.GzipFile | BinaryIO:
        return gzip.open(raw) if self._packed else raw

    def _read(self, line: bytes) -> Record | Complaint:
        where = f"{self.path}:{self.place.line}"
        try:
            return _record(_DECODER.decode(line))
        except (msgspec.DecodeError, RecursionError) as error:
            return Complaint(where, f"no JSON of a paper: {error}")
        except ValueError as error:
            return Complaint(where, str(error))


def clean(text: str) -> str:
    """A text on one line, in NFC, without control characters and marks of direction."""
    text = " ".join(text.split())
    if not text.isascii():
        text = unicodedata.normalize("NFC", text)
    return text if text.isprintable() else " ".join("".join(filter(str.isprintable, text)).split())


class _Version(msgspec.Struct):
    created: str


class _Line(msgspec.Struct):
    """The fields that are read, of both forms."""

    id: str
    title: str
    abstract: str | None = None
    authors: str | list[str] | None = None
    authors_parsed: list[list[str]] | None = None
    categories: str | list[str] | None = None
    primary_category: str | None = None
    versions: list[_Version] | None = None
    published: str | None = None
    update_date: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def _record(line: _Line) -> Record:
    """Raises ValueError for a line without a proper id, title or date."""
    identity = parse(line.id)
    if not isinstance(identity, ArxivId):
        raise ValueError(identity.problem)
    title = _without_tex(clean(line.title))
    if not title:
        raise ValueError("the title is empty")
    categories = line.categories or []
    if isinstance(categories, str):
        categories = categories.split()
    named = dict.fromkeys([line.primary_category or "", *categories])
    return Record(
        id=identity.number,
        title=title,
        authors=_authors(line),
        # MSC and ACM classes, which stand among them in some records, are no categories
        categories=tuple(filter(_CATEGORY.fullmatch, named)),
        published=_published(line),
        abstract=clean(line.abstract or ""),
    )


def _published(line: _Line) -> date:
    if line.versions:
        moment = parsedate(line.versions[0].created)
        if moment is None:
            raise ValueError(f"{line.versions[0].created!r} is no date of a version")
        return date(*moment[:3])
    text = line.published or line.update_date
    if not text:
        raise ValueError("there is no date: neither versions nor published nor update_date")
    return date.fromisoformat(text[:10])


def _authors(line: _Line) -> tuple[str, ...]:
    if line.authors_parsed:  # last name, first names, suffix, then affiliations
        names = [" ".join([*name[1:2], *name[:1], *name[2:3]]) for name in line.authors_parsed]
    elif isinstance(line.authors, list):
        names = line.authors
    else:
        names = re.split(r",\s+(?:and\s+)?|\s+and\s+", line.authors or "")
    return tuple(name for each in names if (name := _without_tex(clean(each))))


_ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a", "d": "\u0323",
}  # fmt: skip
_LETTERS = {"ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "o": "ø", "O": "Ø",
            "l": "ł", "L": "Ł", "i": "i", "j": "j"}  # fmt: skip
_ACCENT = re.compile(
    r"""\\(?: (['`^"~=.]) | ([cvuHkrd])(?=[\s{]) ) \s* (?: \{\s*\\?([A-Za-z])\s*\} | \\?([A-Za-z]) )""",
    re.VERBOSE,
)
_LETTER = re.compile(r"\\(ss|ae|AE|oe|OE|aa|AA|[oOlLij])(?![A-Za-z])(?:\{\}|\s+(?=[a-z]))?")
_BRACES = re.compile(r"\{([^\W\d_])\}")


def _without_tex(text: str) -> str:
    """A name or a title whose letters are spelt in TeX with the letters themselves: Schr\\"odinger."""
    if "\\" not in text and "{" not in text:
        return text
    text = _ACCENT.sub(lambda found: (found[3] or found[4]) + _ACCENTS[found[1] or found[2]], text)
    text = _LETTER.sub(lambda found: _LETTERS[found[1]], text)
    return _BRACES.sub(r"\1", unicodedata.normalize("NFC", text))
