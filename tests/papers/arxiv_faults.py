"""What a server may send in place of a good answer, from a blank page to a gzip bomb.

A fault is a function from the page that arXiv would answer with to what is sent. Knows nothing of who asked.
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from arxiv_atom import Page, incorrect_id

MEGABYTE = 2**20


@dataclass(frozen=True)
class Answer:
    """What goes over the wire, and how."""

    head: bytes
    body: Iterable[bytes]
    stall: float = 0.0
    """Seconds before the first byte."""
    pause: float = 0.0
    """Seconds before each piece of the body."""
    ending: Literal["keep", "close", "reset"] = "keep"
    """What becomes of the connection, once all of this is sent."""


Fault = Callable[[Page], Answer]


def whole(body: bytes, status: int = 200, kind: str = "text/xml", **headers: str) -> Answer:
    """An answer as it should be, with further headers: `retry_after="2"` becomes Retry-After.

    It does not say its charset: the recorded texts were read as Latin-1, which is the default without one.
    """
    headers = {"content_type": kind, "content_length": str(len(body)), **headers}
    return Answer(write_head(status, **headers), [body])


def write_head(status: int, **headers: str) -> bytes:
    lines = [f"{name.replace('_', '-').title()}: {value}\r\n" for name, value in headers.items()]
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{''.join(lines)}\r\n".encode()


def honest(page: Page) -> Answer:
    return whole(page.body, page.status)


def status(code: int, retry_after: int | str | None = None) -> Fault:
    """A status and a page for people; Retry-After in seconds, or the date that it is given as."""
    headers = {} if retry_after is None else {"retry_after": str(retry_after)}
    text = b"Rate exceeded." if code == 429 else b"<html><body><h1>arXiv</h1><p>Sorry.</body></html>"
    return lambda page: whole(text, code, "text/html", **headers)


def blank() -> Fault:
    return lambda page: whole(b"")


def html() -> Fault:
    text = b"<!DOCTYPE html>\n<html><head><title>Maintenance</title></head><body><p>Back soon.</body></html>"
    return lambda page: whole(text, kind="text/html")


def rate_text() -> Fault:
    return lambda page: whole(b"Rate exceeded.", kind="text/plain")


def error_entry(text: str) -> Fault:
    """The error entry for an id, with a 200."""
    return lambda page: honest(incorrect_id(page.query, text, status=200))


def truncated(share: float = 0.5) -> Fault:
    """XML that ends too early, in an answer that HTTP takes for whole."""
    return lambda page: whole(page.body[: int(len(page.body) * share)])


def short_page(most: int = 0) -> Fault:
    """Fewer entries than the page counts."""
    return lambda page: honest(replace(page, entries=page.entries[:most]))


def duplicates() -> Fault:
    """Each entry twice, which makes the page longer than it counts."""
    return lambda page: honest(replace(page, entries=tuple(one for one in page.entries for _ in "ab")))


def repeated() -> Fault:
    """The first entry in place of all others, as many as counted."""
    return lambda page: honest(replace(page, entries=page.entries[:1] * len(page.entries)))


def others() -> Fault:
    """Other papers in place of those that were asked for, as many as counted."""
    return lambda page: honest(
        replace(page, entries=tuple(replace(one, id=f"0704.{n:04}") for n, one in enumerate(page.entries, 1)))
    )


def without(tag: str) -> Fault:
    """Entries and feed without one of their elements."""
    return lambda page: whole(re.sub(rb"\s*<%s>.*?</%s>" % (tag.encode(), tag.encode()), b"", page.body))


def titled(raw: str) -> Fault:
    """Entries whose title is this piece of XML, written as it stands."""
    return lambda page: whole(retitle(page.body, raw))


def stall(seconds: float = 60.0) -> Fault:
    """Nothing for so long."""
    return lambda page: replace(honest(page), stall=seconds)


def drip(pause: float = 0.1) -> Fault:
    """The body, byte by byte."""
    return lambda page: Answer(honest(page).head, bytes_of(page.body), pause=pause)


def endless_head(pause: float = 0.02) -> Fault:
    """Headers that come byte by byte, and never end."""
    begin = write_head(200, content_type="text/xml").removesuffix(b"\r\n") + b"X-Wait: "
    return lambda page: Answer(b"", itertools.chain(bytes_of(begin), itertools.repeat(b".")), pause=pause)


def cut(share: float = 0.5) -> Fault:
    """A connection that is closed within the body."""
    return lambda page: Answer(honest(page).head, [page.body[: int(len(page.body) * share)]], ending="close")


def cut_chunks(share: float = 0.5) -> Fault:
    """A body in chunks, closed before the last."""
    return lambda page: replace(in_chunks(page.body[: int(len(page.body) * share)], last=b""), ending="close")


def reset() -> Fault:
    """A connection that is reset before any byte."""
    return lambda page: Answer(b"", [], ending="reset")


def wrong_length(more: int) -> Fault:
    """A Content-Length that is so much more than what comes, or less; then the connection is closed."""
    return lambda page: replace(whole(page.body, content_length=str(len(page.body) + more)), ending="close")


def bomb(levels: int = 10) -> Fault:
    """Entities that are ten of the one before: a title of ten billion laughs."""
    entities = [f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, levels + 1)]
    return document_type('<!ENTITY e0 "ha">' + "".join(entities), f"&e{levels};")


def quadratic_bomb() -> Fault:
    """One entity of 50 kB, fifty thousand times: 2.5 GB."""
    return document_type(f'<!ENTITY e "{"a" * 50_000}">', "&e;" * 50_000)


def external_entity(address: str = Path("/etc/hostname").as_uri()) -> Fault:
    """A title that is the contents of a file, or of another address."""
    return document_type(f'<!ENTITY e SYSTEM "{address}">', "&e;")


def huge(megabytes: int = 200) -> Fault:
    """A good answer with so many spaces in it."""

    def answer(page: Page) -> Answer:
        begin, end = around_the_spaces(page)
        length = len(begin) + megabytes * MEGABYTE + len(end)
        spaces = itertools.repeat(b" " * MEGABYTE, megabytes)
        head = write_head(200, content_type="text/xml", content_length=str(length))
        return Answer(head, itertools.chain([begin], spaces, [end]))

    return answer


def compressed() -> Fault:
    """A good answer, in gzip."""
    return lambda page: whole(gzip.compress(page.body), content_encoding="gzip")


def gzip_bomb(megabytes: int = 1000) -> Fault:
    """A good answer with so many spaces in it, a thousandth of that on the wire."""

    def answer(page: Page) -> Answer:
        begin, end = map(gzip.compress, around_the_spaces(page))
        spaces = gzip.compress(b" " * MEGABYTE) * megabytes
        return whole(begin + spaces + end, content_encoding="gzip")

    return answer


def chunked() -> Fault:
    """A good answer in chunks, without a length."""
    return lambda page: in_chunks(page.body)


def redirect() -> Fault:
    """To where one has asked already: in a circle, while it lasts."""
    return lambda page: whole(b"", 302, location=page.query.address)


def document_type(declarations: str, title: str) -> Fault:
    """Entries whose title is made of entities that the answer declares itself."""

    def answer(page: Page) -> Answer:
        declaration, rest = retitle(page.body, title).split(b"\n", 1)
        return whole(declaration + f"\n<!DOCTYPE feed [{declarations}]>\n".encode() + rest)

    return answer


def retitle(body: bytes, raw: str) -> bytes:
    title = f"<title>{raw}</title>".encode()
    return re.sub(rb"(<entry>\s*<id>[^<]*</id>\s*)<title>[^<]*</title>", lambda match: match[1] + title, body)


def bytes_of(text: bytes) -> list[bytes]:
    return [text[i : i + 1] for i in range(len(text))]


def around_the_spaces(page: Page) -> tuple[bytes, bytes]:
    """A body in two parts, between which XML does not mind spaces."""
    end = b"</feed>\n"
    return page.body.removesuffix(end), end


def in_chunks(body: bytes, last: bytes = b"0\r\n\r\n") -> Answer:
    head = write_head(200, content_type="text/xml", transfer_encoding="chunked")
    pieces = [body[i : i + 256] for i in range(0, len(body), 256)]
    return Answer(head, [*(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces), last])


FAULTS: dict[str, Fault] = {
    "400": status(400),
    "403": status(403),
    "404": status(404),
    "429": status(429),
    "429-retry-after": status(429, retry_after=3600),
    "500": status(500),
    "503": status(503),
    "503-retry-after": status(503, retry_after=3600),
    "blank": blank(),
    "html": html(),
    "rate-text": rate_text(),
    "truncated": truncated(),
    "short-page": short_page(),
    "duplicates": duplicates(),
    "repeated": repeated(),
    "others": others(),
    "without-published": without("published"),
    "without-total": without("opensearch:totalResults"),
    "stall": stall(),
    "drip": drip(),
    "endless-head": endless_head(),
    "cut": cut(),
    "cut-chunks": cut_chunks(),
    "reset": reset(),
    "length-too-long": wrong_length(100),
    "length-too-short": wrong_length(-100),
    "bomb": bomb(),
    "quadratic-bomb": quadratic_bomb(),
    "external-entity": external_entity(),
    "huge": huge(),
    "gzip-bomb": gzip_bomb(),
    "redirect": redirect(),
    "null-character": titled("Null &#0; character"),
    "control-character": titled("Bell &#7; rings"),
    "lone-surrogate": titled("Half &#xD800; a character"),
    "raw-escape": titled("\x1b[31mRed\x1b[0m"),
    "unknown-entity": titled("Caf&eacute;"),
}
"""What arXiv should never answer, by name: no paper can be read from any of these."""
