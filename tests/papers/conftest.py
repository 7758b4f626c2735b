"""A stand-in for arXiv, and clients that ask it in milliseconds instead of seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

import pytest

from claimbook.papers.client import ArxivClient
from claimbook.papers.pace import Manners

sys.path.insert(0, str(Path(__file__).parent))  # for arxiv_server and what it is made of

from arxiv_server import ArxivServer

T = TypeVar("T")
MakeClient = Callable[..., ArxivClient]
LONGEST = 60.0
"""Seconds after which a call is taken to hang; none should need a tenth of them."""


@pytest.fixture
def arxiv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArxivServer]:
    """A server that all clients of this test ask instead of arXiv, and no pace kept by anyone before."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ArxivServer() as server:
        monkeypatch.setenv("CLAIMBOOK_ARXIV_URL", server.url)
        yield server


@pytest.fixture
def quick() -> Manners:
    """Manners for a server that is ours: short pauses, and time-outs that a busy machine does not meet."""
    return Manners(
        interval=0.0, connect=10.0, read=20.0, whole=40.0, patience=5.0, queue=30.0, tries=3, silent_tries=2,
        first_pause=0.05, longest_pause=0.2,
    )  # fmt: skip


@pytest.fixture
def make_client(tmp_path: Path, quick: Manners) -> MakeClient:
    """A client as a process of its own would make it: make_client(offline=True, patience=0.0, …)."""

    def make(offline: bool = False, **manners: Any) -> ArxivClient:
        return ArxivClient(tmp_path / "cache", offline=offline, manners=replace(quick, **manners))

    return make


@pytest.fixture
def within_bounds() -> Callable[[Callable[[], T]], T]:
    """What a call returns, or raises; the test fails when it does neither."""

    def run(call: Callable[[], T]) -> T:
        results: list[T] = []
        errors: list[BaseException] = []

        def target() -> None:
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)

        thread = Thread(target=target, daemon=True)
        thread.start()
        thread.join(LONGEST)
        assert not thread.is_alive(), f"no end after {LONGEST} s"
        if errors:
            raise errors[0]
        return results[0]

    return run
