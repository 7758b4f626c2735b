"""One whole answer of arXiv's API, politely: time-outs, cool-downs, what is asked again and what is not.

Knows nothing of papers, ids or the cache.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from threading import Timer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from claimbook.papers import answers
from claimbook.papers.answers import Asked, NotWholeError, RateExceededError, RefusedError
from claimbook.papers.outcomes import Denied, Failure, RateLimited, Truncated, Unreachable
from claimbook.papers.pace import Manners, Pace, TooSoonError

if TYPE_CHECKING:
    import requests

_LARGEST = 32 * 2**20
"""Bytes of an answer; a hundred papers with long abstracts are 0.4 MB."""
_PIECE = 2**16


class FailedError(Exception):
    """There is no answer to be had."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class _SilenceError(Exception):
    """No answer, or one that broke off or came too slowly."""


class _ServerError(Exception):
    """An answer that tells of trouble at the server."""


class Transport:
    """The way to one server. A server that has refused us (403) is not asked again."""

    def __init__(self, server: str, manners: Manners, report: Callable[[str], None]) -> None:
        from platformdirs import user_state_path

        self.pace = Pace(user_state_path("claimbook") / f"{server_name(server)}.json", manners, report)
        self.manners = manners
        self.report = report
        self._denied: Denied | None = None
        self._http: requests.Session | None = None

    def ask(self, url: str) -> bytes:
        """A whole answer.

        Raises FailedError when there is none to be had, RefusedError when arXiv does not understand what is
        asked.
        """
        silent = broken = 0
        while True:
            if self._denied is not None:
                raise FailedError(self._denied)
            try:
                with self.pace.turn():
                    return self._answer(url)
            except TooSoonError as error:
                raise FailedError(error.failure) from None
            except _SilenceError as error:
                silent += 1
                failure: Failure = Unreachable(str(error))
            except _ServerError as error:
                broken += 1
                failure = Unreachable(str(error))
            except NotWholeError as error:
                broken += 1
                failure = Truncated(str(error))
            except RateExceededError:
                broken += 1
                failure = RateLimited("arXiv asks to wait (rate limit)", until=self.pace.until)
            if silent >= self.manners.silent_tries or broken >= self.manners.tries:
                raise FailedError(failure)
            self.report(f"{failure.reason}; asking again")

    def _answer(self, url: str) -> bytes:
        status, headers, body = self._get(url)
        if status == 403:
            self._denied = Denied("arXiv refuses requests from here (HTTP 403)")
            raise FailedError(self._denied)
        if status in (429, 503):
            self.pace.cool_down(headers.get("Retry-After"))
            raise RateExceededError
        if status >= 500:
            raise _ServerError(f"arXiv answers with HTTP {status}")
        if status not in (200, 400):
            elsewhere = f" and points to {headers['Location']}" if "Location" in headers else ""
            raise FailedError(Unreachable(f"{url.partition('?')[0]} answers with HTTP {status}{elsewhere}"))
        try:
            answers.check(body, Asked.of(url))
        except RateExceededError:
            self.pace.cool_down(None)
            raise
        except NotWholeError as error:
            if status == 400:  # asked again, it would be refused again
                raise FailedError(Truncated(f"HTTP 400 and no reason that can be read: {error}")) from None
            raise
        if status == 400:
            raise RefusedError("bad request", None)
        self.pace.answered()
        return body

    def _get(self, url: str) -> tuple[int, Any, bytes]:
        """Status, headers and body, within the time and size that an answer may have."""
        import requests
        from urllib3.exceptions import HTTPError

        self._http = self._http or _session(self.manners.whole)
        timeout = (self.manners.connect, self.manners.read)
        deadline = time.monotonic() + self.manners.whole
        try:
            with self._http.get(url, timeout=timeout, stream=True, allow_redirects=False) as response:
                pieces = _pieces(response.raw, deadline)
                return response.status_code, response.headers, b"".join(pieces)
        except (requests.RequestException, HTTPError, OSError) as error:
            raise _SilenceError(_why(error)) from error


def server_name(url: str) -> str:
    """A server as a file's name: host and port, without the user and password that an address may hold."""
    parts = urlsplit(url)
    return re.sub(
        r"[^A-Za-z0-9.-]", "_", f"{parts.hostname}_{parts.port}" if parts.port else f"{parts.hostname}"
    )


def _session(whole: float) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter

    session = requests.Session()
    for scheme in ("http", "https"):
        adapter = HTTPAdapter()
        pools = adapter.poolmanager.pool_classes_by_scheme
        adapter.poolmanager.pool_classes_by_scheme = {scheme: _watched(pools[scheme], whole)}
        session.mount(f"{scheme}://", adapter)
    session.headers["User-Agent"] = f"claimbook/{version('claimbook')} arxiv.py/{version('arxiv')}"
    session.headers["Accept-Encoding"] = "identity"  # a small answer cannot unfold into a large one
    return session


def _watched(pool: Any, whole: float) -> Any:
    """A class of connections whose headers must be there in time: a read time-out sees each byte alone."""

    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def getresponse(self) -> Any:
            deadline = time.monotonic() + whole
            watch = Timer(whole, self.sock.shutdown, [socket.SHUT_RDWR])
            watch.start()
            try:
                response = super().getresponse()
            finally:
                watch.cancel()
            if time.monotonic() > deadline:  # headers that were cut off read as if they had ended
                raise TimeoutError
            return response

    return type("Pool", (pool,), {"ConnectionCls": Connection})


def _pieces(raw: Any, deadline: float) -> Iterator[bytes]:
    """The body as it comes in. Raises _SilenceError past the deadline, NotWholeError past the size."""
    size = 0
    while piece := raw.read1(_PIECE, decode_content=True):
        size += len(piece)
        if size > _LARGEST:
            raise NotWholeError(f"an answer of more than {_LARGEST // 2**20} MiB")
        if time.monotonic() > deadline:
            raise _SilenceError("the answer comes too slowly")
        yield piece


def _why(error: BaseException) -> str:
    """What went wrong on the way, in words for a person."""
    import requests
    from urllib3.exceptions import ProtocolError, TimeoutError

    if isinstance(error, requests.Timeout | TimeoutError):
        return "no answer came in time"
    inner = error
    while (cause := inner.__cause__ or inner.__context__) is not None:
        inner = cause
    if isinstance(inner, OSError) and inner.strerror:  # refused, reset, no such host
        return f"no connection to the server: {inner.strerror}"
    if isinstance(error, requests.exceptions.ChunkedEncodingError | ProtocolError):
        return "the answer broke off"
    if isinstance(inner, ConnectionError):  # http.client's RemoteDisconnected has no number
        return "the server closed the connection without an answer"
    return f"no connection to the server: {error}"
