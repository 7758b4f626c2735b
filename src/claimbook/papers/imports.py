"""The papers of another collection: BibTeX, CSL-JSON and plain lists, each entry with an id or a complaint.

Reads what Zotero, Better BibTeX, JabRef, Mendeley, DBLP and Google Scholar export. Knows where in an entry an
arXiv id stands; asks nobody and writes nothing. No entry is passed over in silence: one without an id is an
item with a complaint, whatever else was left out or merged is a remark.
"""

from __future__ import annotations

import codecs
import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claimbook.errors import PaperError
from claimbook.papers.ids import ArxivId, Complaint, find_all, parse
from claimbook.records.paper import Status

if TYPE_CHECKING:
    from bibtexparser.model import ParsingFailedBlock


@dataclass(frozen=True)
class Item:
    """One paper of the collection, or one entry in which none was found."""

    place: str
    """File and line."""
    found: ArxivId | Complaint
    title: str = ""
    """As the entry gives it, or the line of a list."""
    tags: tuple[str, ...] = ()
    status: Status | None = None
    note: str = ""
    """What its reader wrote about it."""


@dataclass(frozen=True)
class Imported:
    """What a collection holds, in its order, each paper once."""

    items: tuple[Item, ...]
    remarks: tuple[str, ...] = ()
    """What was merged or taken for prose: place and reason, a sentence each."""


def read(path: Path) -> Imported:
    """The papers of a file. Raises PaperError when it is no text, or no JSON where it should be."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PaperError(
            f"the file cannot be read: {error.strerror}", fix="mend the path or its permissions", where=path
        ) from error
    return read_text(_decoded(data, str(path)), str(path))


def read_text(text: str, name: str) -> Imported:
    """The papers of a text. name: where it came from, as places name it.

    The ending of the name or the beginning of the text tells its form. Raises PaperError when JSON is broken,
    or the form is none that is read here.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    ending = Path(name).suffix.lower()
    if ending in (".ris", ".rdf", ".xml") or text.startswith("TY  - "):
        raise PaperError("RIS and RDF are not read", fix="export as BibTeX or CSL JSON", where=name)
    if ending in (".bib", ".bibtex") or re.match(r"\s*@[A-Za-z]+\s*[{(]", text):
        found = _bibtex_items(text, name)
    elif ending == ".json" or re.match(r'\s*(?:\[\s*)?\{\s*"', text):
        found = _csl_items(text, name)
    else:
        found = _lines(text, name)
    return _merged(found, name)


def _decoded(data: bytes, name: str) -> str:
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # what PowerShell writes
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PaperError(
            f"byte {error.start} is no UTF-8{_likely_encoding(data)}",
            fix="save the file as UTF-8",
            where=f"{name}:{line}",
        ) from error
    if "\0" in text:
        raise PaperError("this is no text", fix="give a .bib, a .json or a list of ids", where=name)
    return text


def _likely_encoding(data: bytes) -> str:
    try:
        korean = re.search("[가-힣]{2}", data.decode("cp949"))
    except UnicodeDecodeError:
        return ""
    return "; it looks like CP949, which Korean Windows writes" if korean else ""


# BibTeX

# the parser logs what its failed blocks say as well
logging.getLogger("bibtexparser").addHandler(logging.NullHandler())


def _bibtex_items(text: str, name: str) -> Iterator[Item | str]:
    from bibtexparser.entrypoint import parse_string
    from bibtexparser.model import Entry, ExplicitComment, ImplicitComment, ParsingFailedBlock

    for block in parse_string(text).blocks:
        place = f"{name}:{(block.start_line or 0) + 1}"
        # of an entry with a key or a field that comes twice the parser keeps what it read
        entry = block.ignore_error_block if isinstance(block, ParsingFailedBlock) else block
        if isinstance(entry, Entry):
            fields = {field.key.lower(): _without_quotes(str(field.value)) for field in entry.fields}
            yield _item(place, entry.key, fields)
        elif isinstance(block, ParsingFailedBlock):
            yield _broken(place, block)
        elif isinstance(block, ImplicitComment | ExplicitComment):
            for one in find_all(block.comment):
                if isinstance(one, ArxivId):
                    yield f"{place}: {one} stands outside of the entries and was passed over"


def _without_quotes(value: str) -> str:
    """A field's value without the braces or quotes that the parser takes off in good entries only."""
    return value[1:-1] if re.fullmatch(r'\{[^{}]*\}|"[^"]*"', value) else value


def _broken(place: str, block: ParsingFailedBlock) -> Item:
    head, why = _line(block.raw or "")[:60], _line(getattr(block.error, "abort_reason", ""))
    problem = f"the entry cannot be read: {why}".rstrip(" .:")
    return Item(place, Complaint(head, problem, "mend its braces and commas, then import again"), head)


# CSL-JSON

_AS_IN_BIBTEX = {
    "archive": "archiveprefix",
    "archive_location": "eprint",
    "container-title": "journal",
    "keyword": "keywords",
    "DOI": "doi",
    "URL": "url",
}


def _csl_items(text: str, name: str) -> Iterator[Item | str]:
    for line, value in _objects(text, name):
        place = f"{name}:{line}"
        if isinstance(value, dict):
            texts = {str(key): str(said) for key, said in value.items() if isinstance(said, str | int)}
            fields = {_AS_IN_BIBTEX.get(key, key): said for key, said in texts.items()}
            yield _item(place, fields.get("id", ""), fields)
        else:
            text = _line(str(value))
            yield Item(place, Complaint(text, "this is no item of CSL-JSON", "export it as CSL JSON"))


def _objects(text: str, name: str) -> Iterator[tuple[int, Any]]:
    """The values of a JSON array, or the one value that the text is, each with the line where it begins."""
    position, line, counted = _behind_space(text, 0), 1, 0
    is_array = text.startswith("[", position)
    position = _behind_space(text, position + 1) if is_array else position
    try:
        while not text.startswith("]", position):
            value, end = json.JSONDecoder().raw_decode(text, position)
            line += text.count("\n", counted, position)
            yield line, value
            counted, position = position, _behind_space(text, end)
            if not is_array:
                break
        if text[position + is_array :].strip():
            raise json.JSONDecodeError("text behind the end", text, position)
    except (ValueError, RecursionError) as error:
        where = f"{name}:{error.lineno}" if isinstance(error, json.JSONDecodeError) else name
        raise PaperError(f"no valid JSON: {error}", fix="export it again as CSL JSON", where=where) from error


def _behind_space(text: str, position: int) -> int:
    while text[position : position + 1] in (" ", "\t", "\n", ","):
        position += 1
    return position


# An entry of either


def _item(place: str, key: str, fields: Mapping[str, str]) -> Item:
    title = _line(re.sub("[{}]", "", fields.get("title", "")))
    return Item(
        place=place,
        found=_id(key, title, fields),
        title=title,
        tags=_tags(fields.get("keywords", "")),
        status=_status(fields),
        note=fields.get("annote", fields.get("annotation", "")).strip(),
    )


def _id(key: str, title: str, fields: Mapping[str, str]) -> ArxivId | Complaint:
    """The id of an entry: from the fields that are about its paper, else from those that may be."""
    doubtful: Complaint | None = None
    for text in (_about_it(fields), _perhaps_about_it(fields)):
        found = parse(text)
        if isinstance(found, ArxivId):
            return found
        if found.kind not in ("empty", "listing", "foreign", "title", "none"):
            doubtful = doubtful or found
    if doubtful:
        return replace(doubtful, text=title or key)
    doi = _line(fields.get("doi", ""))
    return Complaint(
        text=title or key,
        problem=f"the entry {_line(key)!r} names no arXiv id{f', but the DOI {doi}' if doi else ''}",
        fix="look for the paper on https://arxiv.org and write its id into the entry: eprint = {2103.00020}",
        kind="foreign" if doi else "none",
    )


def _about_it(fields: Mapping[str, str]) -> str:
    texts = [fields.get(name, "") for name in ("doi", "url", "number")]
    archive, eprint = fields.get("archiveprefix", fields.get("eprinttype", "")), fields.get("eprint", "")
    if "arxiv" in archive.lower():
        texts.append(f"arXiv: {eprint}")
    elif not archive:
        texts.append(eprint)
    if "arxivid" in fields:  # Mendeley
        texts.append(f"arXiv: {fields['arxivid']}")
    return "\n".join(texts)


_BEGINS_WITH_ID = re.compile(r"\s*(?:arxiv|eprint|https?://|\\url|10\.48550/)", re.IGNORECASE)


def _perhaps_about_it(fields: Mapping[str, str]) -> str:
    """Of a journal `arXiv preprint arXiv:…`; of notes the lines that begin with an id, since others may speak
    of another paper's.
    """
    lines = [fields.get(name, "") for name in ("journal", "journaltitle", "volume", "howpublished")]
    for name in ("note", "extra"):
        lines += [line for line in fields.get(name, "").split("\n") if _BEGINS_WITH_ID.match(line)]
    return "\n".join(lines)


_CATEGORY = re.compile(
    r"(?:Computer Science|Statistics|Mathematics|Physics|Condensed Matter|High Energy Physics|Economics"
    r"|Quantitative Biology|Quantitative Finance|Electrical Engineering and Systems Science) - "
)


def _tags(keywords: str) -> tuple[str, ...]:
    """The keywords but for the names of arXiv's categories, which Zotero adds and the metadata has anyway."""
    tags = (_line(tag) for tag in re.split("[,;]", re.sub("[{}]", "", keywords)))
    return tuple(dict.fromkeys(tag for tag in tags if tag and not _CATEGORY.match(tag)))


_STATUS: dict[str, Status] = {
    "read": "read", "skimmed": "reading", "in progress": "reading", "reading": "reading",
    "new": "queued", "to read": "queued", "unread": "queued",
}  # fmt: skip


def _status(fields: Mapping[str, str]) -> Status | None:
    """As JabRef writes it, or Zotero's add-on for reading lists."""
    extra = "\n".join(fields.get(name, "") for name in ("note", "extra"))
    said = re.search(r"^\s*Read_Status: *(.*)$", extra, re.MULTILINE)
    return _STATUS.get(fields.get("readstatus", said[1] if said else "").strip().lower())


# A plain list

_BULLET = re.compile(r"\s*(?:[-*+•]|[0-9]{1,3}[.)])\s+(?:\[[ xX]\]\s+)?")


def _lines(text: str, name: str) -> Iterator[Item | str]:
    """Ids and addresses, several to a line if need be, with words around; a comment begins with #.

    A line with a bullet or an address is an entry, so that it is a complaint when there is no id in it.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        place = f"{name}:{number}"
        entry, *comment = re.split(r"(?:^|(?<=\s))#", line, maxsplit=1)
        bullet = _BULLET.match(entry)
        entry = entry[bullet.end() :] if bullet else entry
        found = find_all(entry)
        yield from (Item(place, one, _line(entry)) for one in found)
        for one in find_all("".join(comment)):
            if isinstance(one, ArxivId):
                yield f"{place}: {one} stands in a comment and was passed over"
        if not found:
            yield from _without_id(place, entry, is_entry=bullet is not None)


def _without_id(place: str, text: str, is_entry: bool) -> Iterator[Item | str]:
    why = parse(text)
    if isinstance(why, ArxivId) or why.kind == "empty":
        return
    if is_entry or why.kind in ("listing", "foreign"):
        yield Item(place, why, _line(text))
    else:
        yield f"{place}: no id, taken for prose: {_line(text)!r}"


# All of them


def _merged(found: Iterable[Item | str], name: str) -> Imported:
    """Each paper once, where it comes first, with all that its entries say."""
    items: list[Item] = []
    remarks: list[str] = []
    places: dict[str, int] = {}
    for one in found:
        if isinstance(one, str):
            remarks.append(one)
        elif isinstance(one.found, Complaint) or one.found.number not in places:
            if isinstance(one.found, ArxivId):
                places[one.found.number] = len(items)
            items.append(one)
        else:
            place = places[one.found.number]
            earlier, items[place] = items[place], _both(items[place], one)
            remarks.append(f"{one.place}: {one.found} is the paper of {earlier.place}; the two are merged")
    if not items:
        remarks.append(f"{name}: there is no paper in it")
    return Imported(tuple(items), tuple(remarks))


def _both(one: Item, other: Item) -> Item:
    """Two entries of a paper as one: of two versions the later."""
    assert isinstance(one.found, ArxivId)
    assert isinstance(other.found, ArxivId)
    return replace(
        one,
        found=max(one.found, other.found),
        title=one.title or other.title,
        tags=tuple(dict.fromkeys(one.tags + other.tags)),
        status=one.status or other.status,
        note="\n\n".join(dict.fromkeys(note for note in (one.note, other.note) if note)),
    )


def _line(text: str) -> str:
    """A text as a message shows it: on one line, without control characters, not too long."""
    shown = " ".join("".join(char for char in text if char.isprintable() or char.isspace()).split())
    return shown if len(shown) <= 200 else f"{shown[:199]}…"
