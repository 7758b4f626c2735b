"""A stand-in for arXiv's API on a loopback port, which errs as it is told to.

It answers with papers that were added, or with recorded answers byte for byte, and keeps who asked when.
Knows nothing of claimbook. It also runs by itself, until Ctrl-C, and prints a line of JSON for each request:

    python tests/papers/arxiv_server.py --port 8800 --records records.jsonl.gz --fault blank
    CLAIMBOOK_ARXIV_URL=http://127.0.0.1:8800 claimbook paper add 2503.22693
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import re
import select
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from arxiv_atom import Page, Query, Version, incorrect_id
from arxiv_faults import FAULTS, Answer, Fault, honest, status


@dataclass
class Request:
    """One request: who asked for what, and when. Times are of time.monotonic, the same for all processes."""

    path: str
    """With the query."""
    agent: str
    """User-Agent."""
    connection: int
    """The client's port: the same for all requests of one connection."""
    in_flight: int
    """Requests that were being answered when this one had come, itself included."""
    arrived: float
    answered: float | None = None
    """When all was sent or the client had gone."""
    sent: int = 0
    """Bytes of the answer."""

    @property
    def query(self) -> Query:
        return Query.of(self.path)


@dataclass
class ArxivServer:
    """arXiv on a loopback port, between entering and leaving: `with ArxivServer() as server: server.url`."""

    port: int = 0
    """0: any that is free."""
    report: Callable[[Request], None] = lambda request: None
    """Told of each request when it is answered."""
    requests: list[Request] = field(default_factory=list)
    papers: dict[str, list[Version]] = field(default_factory=dict)
    """All versions of each paper, by id; searches find them in this order."""
    recordings: dict[Query, Page] = field(default_factory=dict)
    _next: deque[Fault] = field(default_factory=deque)
    _always: Fault = honest
    _lock: Lock = field(default_factory=Lock)
    _in_flight: int = 0

    def __enter__(self) -> ArxivServer:
        self._listener = Listener(("127.0.0.1", self.port), Handler)
        self._listener.arxiv = self
        self._thread = Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._listener.closing.set()
        self._listener.shutdown()
        self._listener.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.server_port}"

    def add(self, id: str, **fields: Any) -> None:
        """A new paper, or a new version of one, which keeps what is not said otherwise."""
        versions = self.papers.setdefault(id, [])
        number = len(versions) + 1
        updated = fields.pop("updated", f"2024-01-{number:02}T17:59:46Z")
        if versions:
            new = replace(versions[-1], **fields, number=number, updated=updated)
        else:
            usual = {"title": f"On {id}", "abstract": f"What is known of {id}."}
            usual |= {"authors": ("Ada Wübben", "김하늘"), "categories": ("cs.CV", "cs.LG")}
            new = Version(id=id, number=1, published=updated, updated=updated, **{**usual, **fields})
        versions.append(new)

    def replay(self, folder: Path) -> None:
        """Give the recorded answers to those who ask for them, byte for byte."""
        for path in sorted(folder.glob("*.json")):
            record = json.loads(path.read_text("utf-8"))
            query = recognized(Query.of(record["url"]))
            body = record["body"].encode("latin-1")  # as it was read, though it is UTF-8
            self.recordings[query] = Page(query, recorded=body, status=record["status_code"])

    def inject(self, *faults: Fault) -> None:
        """Let the next requests meet a fault each."""
        self._next.extend(faults)

    def persist(self, fault: Fault) -> None:
        """Let all requests meet a fault, after those that were injected."""
        self._always = fault

    def heal(self) -> None:
        """No faults any more."""
        self._next.clear()
        self._always = honest

    def arrive(self, path: str, agent: str, connection: int) -> Request:
        """Note a request."""
        with self._lock:
            self._in_flight += 1
            request = Request(path, agent, connection, self._in_flight, arrived=time.monotonic())
            self.requests.append(request)
        return request

    def leave(self, request: Request) -> None:
        """Note that a request is answered."""
        with self._lock:
            self._in_flight -= 1
            request.answered = time.monotonic()
            self.report(request)

    def answer(self, request: Request) -> Answer:
        """What is to be sent."""
        with self._lock:
            fault = self._next.popleft() if self._next else self._always
        if urlsplit(request.path).path != "/api/query":
            return status(404)(Page(Query.of("")))
        return fault(self._page(request.query))

    def _page(self, query: Query) -> Page:
        if recording := self.recordings.get(recognized(query)):
            return recording
        if wrong := [text for text in query.ids if not LOOKS_LIKE_AN_ID.fullmatch(text)]:
            return incorrect_id(query, wrong[0])
        found = [one for one in self._named(query) if matches(one, query.search)]
        if query.sort_by != "relevance":
            date = "published" if query.sort_by == "submittedDate" else "updated"
            found.sort(key=lambda version: getattr(version, date), reverse=not query.ascending)
        return Page(query, tuple(found[query.start :][: query.size]), len(found))

    def _named(self, query: Query) -> list[Version]:
        """The versions that a query is about, in our order, not in that of the ids: arXiv promises none."""
        newest = [versions[-1] for versions in self.papers.values()]
        if not query.ids:
            return newest if query.search else []
        of_a_version = [one for versions in self.papers.values() for one in versions if one.name in query.ids]
        return list(dict.fromkeys([*of_a_version, *(one for one in newest if one.id in query.ids)]))


LOOKS_LIKE_AN_ID = re.compile(r"(\d{4}\.\d{4,5}|[a-z-]+(\.[A-Z]{2})?/\d{7})(v\d+)?")
"""What arXiv does not complain of; 0000.0000 and 0808.05394 pass, as recorded."""


def matches(version: Version, search: str) -> bool:
    """Whether a paper has all words of all terms, such as `cat:cs.CV AND all:sigmoid loss`."""
    texts = {"ti": version.title, "abs": version.abstract, "au": " ".join(version.authors)}
    texts["cat"] = " ".join(version.categories)
    for term in filter(None, re.split(r"\s+AND\s+", search)):
        name, _, words = term.rpartition(":")
        text = texts.get(name, " ".join(texts.values())).casefold()
        if not all(word in text for word in re.findall(r"[^\s\"()]+", words.casefold())):
            return False
    return True


def recognized(query: Query) -> Query:
    """A query as it is told from others: all papers of an id list fit any page."""
    return replace(query, size=0) if query.ids else query


class Listener(ThreadingHTTPServer):
    """The socket that listens for an ArxivServer; a thread answers each connection."""

    arxiv: ArxivServer
    request_queue_size = 64

    def __init__(self, *arguments: Any) -> None:
        self.closing = Event()
        super().__init__(*arguments)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that has gone is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection, kept for as many requests as the client likes."""

    protocol_version = "HTTP/1.1"
    server: Listener

    def do_GET(self) -> None:
        arxiv = self.server.arxiv
        request = arxiv.arrive(self.path, self.headers.get("User-Agent", ""), self.client_address[1])
        answer = arxiv.answer(request)
        try:
            self._send(answer, request)
        finally:
            arxiv.leave(request)
        if answer.ending == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def _send(self, answer: Answer, request: Request) -> None:
        self.close_connection = answer.ending != "keep"
        self._wait(answer.stall)
        self._write(answer.head, request)
        for piece in answer.body:
            self._wait(answer.pause)
            self._write(piece, request)

    def _write(self, piece: bytes, request: Request) -> None:
        self.connection.sendall(piece)
        request.sent += len(piece)

    def _wait(self, seconds: float) -> None:
        """Wait as long as there is a client and a server."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            readable, _, _ = select.select([self.connection], [], [], min(left, 0.05))
            if readable or self.server.closing.is_set():
                raise ConnectionAbortedError("the client has gone, or the server is closing")


def add_records(server: ArxivServer, path: Path) -> None:
    """Add the papers of a file of JSON Lines, gzipped."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            server.add(
                record["id"],
                title=record["title"],
                abstract=record["abstract"],
                authors=tuple(record["authors"]),
                categories=tuple(record["categories"]),
                updated=record["published"].replace(" ", "T") + "Z",
                comment=record.get("comment"),
            )


def main() -> None:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="any that is free by default")
    parser.add_argument("--records", type=Path, help="papers: gzipped JSON Lines")
    parser.add_argument("--replay", type=Path, help="a folder of recorded answers")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="meet all requests with it")
    arguments = parser.parse_args()
    with ArxivServer(arguments.port, report=lambda request: tell(asdict(request))) as server:
        if arguments.records:
            add_records(server, arguments.records)
        if arguments.replay:
            server.replay(arguments.replay)
        if arguments.fault:
            server.persist(FAULTS[arguments.fault])
        tell({"url": server.url})
        with contextlib.suppress(KeyboardInterrupt):
            Event().wait()


def tell(record: dict[str, Any]) -> None:
    """Print a line of JSON, at once."""
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
