"""arXiv, asked over HTTP: every fault ends in its typed outcome, in bounded time, and nothing is lost.

The server is a stand-in that errs as it is told to; all times are measured there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import pytest
from arxiv_faults import (
    FAULTS,
    blank,
    chunked,
    compressed,
    error_entry,
    external_entity,
    honest,
    html,
    redirect,
    short_page,
    stall,
    status,
    titled,
    truncated,
)
from arxiv_server import ArxivServer

from claimbook.errors import PaperError
from claimbook.papers.client import ArxivClient
from claimbook.papers.ids import ArxivId
from claimbook.papers.outcomes import (
    Denied,
    Found,
    Outcome,
    RateLimited,
    Stale,
    Truncated,
    Unreachable,
)

OUTCOMES = {
    "400": Truncated,
    "403": Denied,
    "404": Unreachable,
    "429": RateLimited,
    "429-retry-after": RateLimited,
    "500": Unreachable,
    "503": RateLimited,
    "503-retry-after": RateLimited,
    "blank": Truncated,
    "html": Truncated,
    "rate-text": RateLimited,
    "truncated": Truncated,
    "short-page": Truncated,
    "duplicates": Truncated,
    "repeated": Truncated,
    "others": Truncated,
    "without-published": Truncated,
    "without-total": Truncated,
    "stall": Unreachable,
    "drip": Unreachable,
    "endless-head": Unreachable,
    "cut": Unreachable,
    "cut-chunks": Unreachable,
    "reset": Unreachable,
    "length-too-long": Unreachable,
    "length-too-short": Truncated,
    "bomb": Truncated,
    "quadratic-bomb": Truncated,
    "external-entity": Truncated,
    "huge": Truncated,
    "gzip-bomb": Truncated,
    "redirect": Unreachable,
    "null-character": Truncated,
    "control-character": Truncated,
    "lone-surrogate": Truncated,
    "raw-escape": Truncated,
    "unknown-entity": Truncated,
}
SLOW = {"stall", "drip", "endless-head"}
"""What only our own time-outs end, so that they must be short."""
FINAL = {"400", "403", "404", "429-retry-after", "503-retry-after", "redirect"}
"""What is not asked again, or need not be."""
CLIP, SIGLIP, KNOTS = ArxivId("2103.00020"), ArxivId("2303.15343"), ArxivId("math/0309136")
DAY = 86_400.0


@pytest.fixture
def three(arxiv: ArxivServer) -> ArxivServer:
    """A server with three papers, one of them in two versions."""
    arxiv.add(CLIP.number, title="Learning Transferable Visual Models")
    arxiv.add(SIGLIP.number, title="Sigmoid Loss for Language Image Pre-Training")
    arxiv.add(SIGLIP.number, comment="ICCV 2023 Oral")
    arxiv.add(KNOTS.number, title="Petal number of knots", categories=("math.GT",))
    return arxiv


def kinds(outcomes: dict[ArxivId, Outcome]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes.values()]


def versions(outcomes: dict[ArxivId, Outcome]) -> list[str]:
    """Ids and versions of what was found, all of it."""
    assert all(isinstance(outcome, Found) for outcome in outcomes.values()), outcomes
    return [str(outcome.entry.id) for outcome in outcomes.values()]


def impatience(fault: str) -> dict[str, float]:
    return {"read": 0.4, "whole": 0.8} if fault in SLOW else {}


def age(folder: Path, seconds: float) -> None:
    """Let all that the cache holds be so much older."""
    for path in folder.rglob("*"):
        if path.is_file():
            changed = path.stat().st_mtime - seconds
            os.utime(path, (changed, changed))


# every fault


def test_every_fault_has_its_outcome():
    assert set(OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_lasts_ends_in_its_outcome(three, make_client, within_bounds, tmp_path, fault):
    """For ids as for a search, with few requests, one at a time; and nothing of it stays in the cache."""
    three.persist(FAULTS[fault])
    client = make_client(
        interval=0.02, **impatience(fault)
    )  # the server sees a moment later that we have gone
    outcomes = within_bounds(lambda: client.fetch([CLIP, SIGLIP, KNOTS]))
    assert {type(outcome) for outcome in outcomes.values()} == {OUTCOMES[fault]}
    assert list(outcomes) == [CLIP, SIGLIP, KNOTS]
    if fault != "others":  # a search cannot know that it got another one's papers
        listing = within_bounds(lambda: client.search("cat:cs.CV"))
        assert listing.entries == ()
        assert type(listing.failure) is OUTCOMES[fault]
    assert len(three.requests) <= 6
    assert {request.in_flight for request in three.requests} == {1}
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    three.heal()
    shutil.rmtree(tmp_path / "state")
    assert versions(make_client().fetch([CLIP, SIGLIP, KNOTS])) == [
        "2103.00020v1",
        "2303.15343v2",
        "math/0309136v1",
    ]


@pytest.mark.parametrize("fault", sorted(set(FAULTS) - FINAL))
def test_after_a_fault_that_passes_all_papers_are_found_once_each(three, make_client, within_bounds, fault):
    three.inject(FAULTS[fault])
    client = make_client(**impatience(fault))
    outcomes = within_bounds(lambda: client.fetch([KNOTS, CLIP, SIGLIP]))
    assert versions(outcomes) == ["math/0309136v1", "2103.00020v1", "2303.15343v2"]
    assert len(three.requests) == 2


@pytest.mark.parametrize(
    "fault", ["403", "404", "429", "503-retry-after", "blank", "others", "reset", "stall"]
)
def test_what_was_found_before_is_served_with_its_age(three, make_client, tmp_path, fault):
    before = datetime.now(UTC)
    make_client().fetch([SIGLIP])
    age(tmp_path / "cache", 40 * DAY)
    three.persist(FAULTS[fault])
    outcome = make_client(**impatience(fault)).fetch([SIGLIP])[SIGLIP]
    assert isinstance(outcome, Stale)
    assert isinstance(outcome.because, OUTCOMES[fault])
    assert outcome.entry.comment == "ICCV 2023 Oral"
    assert timedelta(days=40) <= outcome.age <= timedelta(days=40) + (datetime.now(UTC) - before)
    assert abs(outcome.fetched_at - (before - timedelta(days=40))) < timedelta(minutes=5)


@pytest.mark.parametrize("fault", [chunked(), compressed()])
def test_a_good_answer_is_read_however_it_is_sent(three, make_client, fault):
    three.inject(fault)
    assert versions(make_client().fetch([SIGLIP])) == ["2303.15343v2"]


def test_no_answer_takes_much_memory(three, tmp_path):
    """One is 200 MB, one unfolds to 1 GB, one to 2.5 GB, one to 20 GB; an honest answer is read first."""
    faults = [FAULTS[name] for name in ("huge", "gzip-bomb", "quadratic-bomb", "bomb")]
    three.inject(honest, *(fault for fault in faults for _ in range(2)))
    code = """
import resource
measure = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
client = ArxivClient(cache, manners=Manners(interval=0, tries=2))
client.fetch([ArxivId("2103.00020")])
before = measure()
print(*(type(client.fetch([ArxivId("2303.15343")])[ArxivId("2303.15343")]).__name__ for _ in range(4)))
print(measure() - before)
"""
    outcomes, grown = child(code, tmp_path).communicate(timeout=60)[0].splitlines()
    assert outcomes.split() == ["Truncated"] * 4
    assert int(grown) < 150
    assert max(request.sent for request in three.requests) < 100 * 2**20, "it hangs up before the end"


def child(code: str, tmp_path: Path, *arguments: str) -> subprocess.Popen[str]:
    """Another process of the same user, with a cache of its own."""
    imports = """
import sys
from pathlib import Path
from claimbook.papers.client import ArxivClient
from claimbook.papers.ids import ArxivId
from claimbook.papers.pace import Manners
cache = Path(sys.argv[1])
"""
    command = [sys.executable, "-c", imports + code, str(tmp_path / f"cache of {arguments}"), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_no_file_is_read_and_no_address_is_asked_for_an_entity(three, make_client, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("the password")
    for address in (secret.as_uri(), f"{three.url}/secret"):
        three.persist(external_entity(address))
        (outcome,) = make_client().fetch([CLIP], fresh=True).values()
        assert isinstance(outcome, Truncated)
        assert "password" not in repr(outcome)
    assert {request.path.partition("?")[0] for request in three.requests} == {"/api/query"}
    assert not any(b"password" in path.read_bytes() for path in (tmp_path / "cache").rglob("*.*"))


def test_requests_name_the_program(three, make_client):
    make_client().fetch([CLIP])
    assert three.requests[0].agent.startswith("claimbook/")


# batches


def test_one_id_that_arxiv_refuses_leaves_the_others(three, make_client):
    wrong, worse = ArxivId("abc"), ArxivId("9999.1")
    outcomes = make_client().fetch([CLIP, wrong, SIGLIP, worse, KNOTS])
    assert kinds(outcomes) == ["Found", "Malformed", "Found", "Malformed", "Found"]
    assert outcomes[wrong].complaint.text == "abc"
    assert "incorrect id format for abc" in outcomes[wrong].complaint.problem
    assert len(three.requests) == 3


def test_an_error_entry_counts_whatever_the_status_is(three, make_client):
    three.inject(error_entry("2303.15343"))
    assert kinds(make_client().fetch([CLIP, SIGLIP, KNOTS])) == ["Found", "Malformed", "Found"]


@pytest.mark.parametrize("ids", [[CLIP], [CLIP, SIGLIP]])
def test_an_error_about_another_id_tells_nothing_of_ours(three, make_client, ids):
    three.persist(error_entry("2001.00001"))
    assert set(kinds(make_client().fetch(ids))) == {"Truncated"}


def test_a_page_that_says_400_tells_nothing_of_an_id(three, make_client):
    """arXiv's own complaint is an Atom entry that names the id; a proxy's is not."""
    three.persist(status(400))
    assert kinds(make_client().fetch([CLIP])) == ["Truncated"]


def test_many_ids_are_asked_a_hundred_at_a_time(arxiv, make_client):
    ids = [ArxivId(f"2401.{n:05}") for n in range(1, 251)]
    for one in reversed(ids):
        arxiv.add(one.number)
    told = []
    outcomes = make_client().fetch(ids, progress=lambda done, total: told.append((done, total)))
    assert versions(outcomes) == [f"{one}v1" for one in ids]
    assert list(outcomes) == ids
    assert [len(request.query.ids) for request in arxiv.requests] == [100, 100, 50]
    assert told == [(0, 250), (100, 250), (200, 250), (250, 250)]


def test_a_batch_that_fails_leaves_the_others(arxiv, make_client):
    ids = [ArxivId(f"2401.{n:05}") for n in range(1, 251)]
    for one in ids:
        arxiv.add(one.number)
    arxiv.inject(honest, blank(), html(), truncated())
    assert kinds(make_client().fetch(ids)) == ["Found"] * 100 + ["Truncated"] * 100 + ["Found"] * 50
    assert versions(make_client().fetch(ids)) == [f"{one}v1" for one in ids]
    assert [len(request.query.ids) for request in arxiv.requests] == [100, 100, 100, 100, 50, 100]


def test_who_is_denied_asks_no_more(three, make_client):
    three.inject(status(403))
    client = make_client()
    ids = [ArxivId(f"2401.{n:05}") for n in range(1, 251)]
    assert set(kinds(client.fetch(ids))) == {"Denied"}
    assert kinds(client.fetch([CLIP])) == ["Denied"]
    assert isinstance(client.search("all:sigmoid").failure, Denied)
    assert len(three.requests) == 1


def test_who_is_told_to_wait_for_long_asks_for_no_other_batch(three, make_client):
    three.inject(status(429, retry_after=3600))
    ids = [ArxivId(f"2401.{n:05}") for n in range(1, 251)]
    assert set(kinds(make_client().fetch(ids))) == {"RateLimited"}
    assert len(three.requests) == 1


def test_what_is_asked_is_compared_with_what_comes(three, make_client):
    """arXiv leaves out what it does not have, without a word."""
    unknown, too_new = ArxivId("2401.09999"), ArxivId(SIGLIP.number, 9)
    first, outcomes = ArxivId(SIGLIP.number, 1), make_client().fetch([unknown, SIGLIP, CLIP, too_new])
    assert kinds(outcomes) == ["NotFound", "Found", "Found", "NotFound"]
    assert (outcomes[unknown].id, outcomes[too_new].id) == (unknown, too_new)
    outcomes = make_client().fetch([first, SIGLIP, ArxivId(SIGLIP.number, 2), first])
    assert versions(outcomes) == ["2303.15343v1", "2303.15343v2", "2303.15343v2"]
    assert [outcome.entry.comment for outcome in outcomes.values()] == [
        None,
        "ICCV 2023 Oral",
        "ICCV 2023 Oral",
    ]


def test_nothing_is_asked_for_nothing(arxiv, make_client):
    assert make_client().fetch([]) == {}
    assert arxiv.requests == []


def test_a_withdrawn_paper_is_found_without_its_pdf(three, make_client):
    three.add(CLIP.number, pdf=False, comment="This paper has been withdrawn by the authors")
    outcomes = make_client().fetch([CLIP, SIGLIP])
    assert [outcome.entry.has_pdf for outcome in outcomes.values()] == [False, True]
    assert outcomes[CLIP].entry.comment == "This paper has been withdrawn by the authors"


# the pace, as the server sees it


def gaps(server: ArxivServer) -> list[float]:
    """Seconds between the arrivals of requests."""
    return [later.arrived - earlier.arrived for earlier, later in pairwise(server.requests)]


def test_retry_after_is_waited_for(three, make_client):
    three.inject(status(429, retry_after=1), status(503, retry_after=2))
    assert kinds(make_client().fetch([CLIP])) == ["Found"]
    first, second = gaps(three)
    assert first >= 1.0
    assert second >= 2.0


def test_retry_after_may_be_a_date(three, make_client):
    dates = []

    def in_two_seconds(page):
        dates.append(int(time.time()) + 2)
        return status(429, retry_after=formatdate(dates[0], usegmt=True))(page)

    three.inject(in_two_seconds)
    assert kinds(make_client().fetch([CLIP])) == ["Found"]
    asked_again = time.time() - (time.monotonic() - three.requests[1].arrived)
    assert asked_again >= dates[0]


def test_a_cool_down_beyond_ones_patience_holds_for_all_that_come_after(three, make_client, tmp_path):
    before = datetime.now(UTC)
    three.inject(status(429, retry_after=3))
    outcome = make_client(patience=0.5).fetch([CLIP])[CLIP]
    after = datetime.now(UTC)
    assert isinstance(outcome, RateLimited)
    assert before + timedelta(seconds=3) <= outcome.until <= after + timedelta(seconds=3)
    assert make_client(patience=0.1).fetch([SIGLIP])[SIGLIP] == outcome
    code = 'print(ArxivClient(cache, manners=Manners(patience=0.1)).fetch([ArxivId("2103.00020")]))'
    assert "RateLimited" in child(code, tmp_path).communicate(timeout=60)[0]
    assert len(three.requests) == 1
    assert kinds(make_client(patience=5.0).fetch([CLIP])) == ["Found"]
    assert gaps(three)[0] >= 3.0


def test_pauses_grow_where_arxiv_leaves_them_to_us(three, make_client):
    three.persist(status(429))
    client = make_client(first_pause=0.2, longest_pause=0.5, tries=4)
    before = time.monotonic()
    assert kinds(client.fetch([CLIP])) == ["RateLimited"]
    first, second, third = gaps(three)
    assert first >= 0.2
    assert second >= 0.4
    assert third >= 0.5
    assert time.monotonic() - before >= 0.2 + 0.4 + 0.5


def test_an_answer_makes_the_next_pause_short_again(three, make_client):
    """The third pause would be of 1.2 s, for which the last client has not the patience."""
    three.inject(status(429), status(503), honest, status(429))
    client = make_client(first_pause=0.3, longest_pause=60.0)
    assert kinds(client.fetch([CLIP])) == ["Found"]
    assert kinds(make_client(patience=0.5, first_pause=0.3, longest_pause=60.0).fetch([SIGLIP])) == ["Found"]
    assert len(three.requests) == 5


def test_redirects_keep_the_pace_too(three, make_client):
    three.persist(redirect())
    assert kinds(make_client(interval=0.3).fetch([CLIP])) == ["Unreachable"]
    assert all(gap >= 0.3 for gap in gaps(three))


def test_a_wait_is_told(three, tmp_path, quick):
    told = []
    three.inject(status(429, retry_after=1), blank())
    client = ArxivClient(tmp_path / "cache", manners=quick, report=told.append)
    assert kinds(client.fetch([CLIP])) == ["Found"]
    assert any("wait" in text for text in told)
    assert any("blank" in text for text in told)


def test_four_processes_keep_three_seconds_between_their_requests(arxiv, tmp_path):
    """With the manners that everyone has, and one connection at a time."""
    numbers = [f"2401.{n:05}" for n in range(1, 9)]
    for number in numbers:
        arxiv.add(number)
    code = """
client = ArxivClient(cache)
print(*(type(client.fetch([ArxivId(number)])[ArxivId(number)]).__name__ for number in sys.argv[2:]))
"""
    processes = [child(code, tmp_path, *numbers[n : n + 2]) for n in range(0, 8, 2)]
    assert [process.communicate(timeout=120)[0] for process in processes] == ["Found Found\n"] * 4
    assert len(arxiv.requests) == 8
    assert {one for request in arxiv.requests for one in request.query.ids} == set(numbers)
    assert {request.in_flight for request in arxiv.requests} == {1}
    assert min(gaps(arxiv)) >= 3.0


def test_processes_may_share_a_cache(three, tmp_path):
    code = """
client = ArxivClient(cache.parent / "shared", manners=Manners(interval=0.0))
ids = [ArxivId("2103.00020"), ArxivId("2303.15343"), ArxivId("math/0309136")]
for _ in range(5):
    print(*(type(outcome).__name__ for outcome in client.fetch(ids, fresh=True).values()))
"""
    processes = [child(code, tmp_path, str(number)) for number in range(4)]
    assert [one.communicate(timeout=60)[0] for one in processes] == ["Found Found Found\n" * 5] * 4
    assert len(three.requests) == 20


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_process_that_dies_while_it_asks_holds_up_nobody(three, make_client, tmp_path, end):
    three.inject(stall())
    process = child('ArxivClient(cache).fetch([ArxivId("2103.00020")])', tmp_path)
    wait_until(lambda: three.requests)
    process.send_signal(end)
    process.communicate(timeout=20)
    assert process.returncode != 0
    assert kinds(make_client(interval=1.0).fetch([CLIP])) == ["Found"]
    assert gaps(three)[0] >= 1.0


# the cache


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_version_is_kept_for_ever(three, make_client, cache):
    first = ArxivId(SIGLIP.number, 1)
    make_client().fetch([first])
    age(cache, 3650 * DAY)
    found = make_client().fetch([first], fresh=True)[first]
    assert isinstance(found, Found)
    assert found.fetched_at < datetime.now(UTC) - timedelta(days=3649)
    assert len(three.requests) == 1


def test_the_newest_version_is_kept_for_a_day(three, make_client, cache):
    assert versions(make_client().fetch([SIGLIP])) == ["2303.15343v2"]
    three.add(SIGLIP.number)
    age(cache, 0.9 * DAY)
    assert versions(make_client().fetch([SIGLIP])) == ["2303.15343v2"]
    age(cache, 0.2 * DAY)
    assert versions(make_client().fetch([SIGLIP])) == ["2303.15343v3"]
    assert versions(make_client().fetch([ArxivId(SIGLIP.number, 2)])) == ["2303.15343v2"]
    assert len(three.requests) == 2


def test_that_there_is_none_is_kept_for_a_day(three, make_client, cache):
    new = ArxivId("2501.00001")
    assert kinds(make_client().fetch([new])) == ["NotFound"]
    three.add(new.number)
    age(cache, 0.9 * DAY)
    assert kinds(make_client().fetch([new])) == ["NotFound"]
    age(cache, 0.2 * DAY)
    assert kinds(make_client().fetch([new])) == ["Found"]
    assert kinds(make_client().fetch([new])) == ["Found"]
    assert len(three.requests) == 2


def test_who_wants_it_fresh_gets_it_fresh(three, make_client):
    new = ArxivId("2501.00001")
    make_client().fetch([SIGLIP, new])
    three.add(SIGLIP.number)
    three.add(new.number)
    assert versions(make_client().fetch([SIGLIP, new], fresh=True)) == ["2303.15343v3", "2501.00001v1"]
    assert versions(make_client().fetch([SIGLIP, new])) == ["2303.15343v3", "2501.00001v1"]
    assert len(three.requests) == 2


def test_offline_the_cache_answers_alone(three, make_client, cache):
    make_client().fetch([CLIP, SIGLIP])
    assert kinds(make_client(offline=True).fetch([CLIP])) == ["Found"]
    age(cache, 3 * DAY)
    outcomes = make_client(offline=True).fetch([SIGLIP, KNOTS, ArxivId(SIGLIP.number, 2)])
    assert kinds(outcomes) == ["Stale", "Unreachable", "Found"]
    assert timedelta(days=3) <= outcomes[SIGLIP].age < timedelta(days=3, hours=1)
    assert len(three.requests) == 1


def test_a_server_that_is_not_there_is_unreachable(tmp_path, arxiv, quick):
    client = ArxivClient(tmp_path / "cache", manners=quick, url="http://127.0.0.1:1/")
    outcome = client.fetch([CLIP])[CLIP]
    assert isinstance(outcome, Unreachable)
    assert "refused" in outcome.reason.lower()


@pytest.mark.parametrize("url", ["arxiv.org", "ftp://arxiv.org", "http://", "상품"])
def test_an_address_that_is_none_is_refused(tmp_path, url):
    with pytest.raises(PaperError, match="no address of a server"):
        ArxivClient(tmp_path / "cache", url=url)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[: len(data) // 2],
        lambda data: b"\x00" * 4096,
        lambda data: b"<html><body>Maintenance</body></html>",
        lambda data: data.replace(b"published", b"poblished"),
        lambda data: data.replace(b"2303.15343", b"2103.00020"),
        lambda data: b'<!DOCTYPE feed [<!ENTITY e "ha">]>' + data.partition(b"?>")[2],
    ],
    ids=["empty", "cut", "zeros", "html", "without-published", "another-paper", "document-type"],
)
def test_a_damaged_answer_is_asked_for_again(three, make_client, cache, damage):
    first = ArxivId(SIGLIP.number, 1)
    make_client().fetch([SIGLIP, first])
    files = [path for path in cache.rglob("*") if path.is_file()]
    for path in files:
        path.write_bytes(damage(path.read_bytes()))
    assert kinds(make_client(offline=True).fetch([SIGLIP, first])) == ["Unreachable", "Unreachable"]
    requests = len(three.requests)
    assert versions(make_client().fetch([SIGLIP, first])) == ["2303.15343v2", "2303.15343v1"]
    assert len(three.requests) > requests
    assert versions(make_client(offline=True).fetch([SIGLIP, first])) == ["2303.15343v2", "2303.15343v1"]


# searches


@pytest.fixture
def many(arxiv: ArxivServer) -> ArxivServer:
    """A server with 250 papers about mugs and one that is not."""
    for n in range(1, 251):
        arxiv.add(f"2401.{n:05}", title=f"Mug {n}")
    arxiv.add("2401.09999", title="Spoons", categories=("cs.IR",))
    return arxiv


MUGS = [f"2401.{n:05}v1" for n in range(1, 251)]


def test_a_search_gives_each_paper_once_in_arxivs_order(many, make_client):
    listing = make_client().search("all:mug", limit=1000)
    assert [str(entry.id) for entry in listing.entries] == MUGS
    assert (listing.total, listing.failure) == (250, None)
    assert [request.query.start for request in many.requests] == [0, 100, 200]


def test_a_search_stops_at_its_limit(many, make_client):
    listing = make_client().search("all:mug AND cat:cs.CV", limit=120)
    assert [str(entry.id) for entry in listing.entries] == MUGS[:120]
    assert listing.total == 250
    assert len(many.requests) == 2


def test_a_limit_below_one_is_refused(many, make_client):
    """For the `arxiv` package 0 means all."""
    with pytest.raises(ValueError, match="limit is 0"):
        make_client().search("all:mug", limit=0)
    assert many.requests == []


@pytest.mark.parametrize("fault", [short_page(40), short_page(0), blank(), truncated(0.9)])
def test_a_page_that_comes_short_is_asked_for_again(many, make_client, fault):
    many.inject(honest, fault)
    listing = make_client().search("all:mug", limit=1000)
    assert [str(entry.id) for entry in listing.entries] == MUGS
    assert listing.failure is None
    assert [request.query.start for request in many.requests] == [0, 100, 100, 200]


def test_a_page_that_never_comes_leaves_the_pages_before_it(many, make_client):
    many.inject(honest)
    many.persist(short_page(40))
    listing = make_client().search("all:mug", limit=1000)
    assert [str(entry.id) for entry in listing.entries] == MUGS[:100]
    assert listing.total == 250
    assert isinstance(listing.failure, Truncated)


def test_a_paper_that_comes_in_between_two_pages_doubles_none(many, make_client):
    """It moves all others down by one, so that the second page begins with the last paper of the first."""

    def prepend(request):
        many.report = lambda request: None
        many.add("2401.05555", title="A new mug")
        many.papers = {"2401.05555": many.papers.pop("2401.05555"), **many.papers}

    many.report = prepend
    listing = make_client().search("all:mug", limit=1000)
    assert [str(entry.id) for entry in listing.entries] == MUGS


def test_a_search_that_finds_nothing_is_no_failure(many, make_client):
    listing = make_client().search("all:nothing")
    assert (listing.entries, listing.total, listing.failure) == ((), 0, None)
    assert listing.fetched_at is not None


def test_a_query_arrives_as_it_was_written(many, make_client):
    query = 'ti:"머그 & 컵" AND (cat:cs.CV OR au:Müller) ANDNOT all:50%'
    make_client().search(query)
    assert many.requests[0].query.search == query


def test_a_search_is_kept_for_a_day_and_then_served_with_its_age(many, make_client, cache):
    make_client().search("all:mug", limit=150)
    age(cache, 0.9 * DAY)
    make_client().search("all:mug", limit=150)
    assert len(many.requests) == 2
    age(cache, 0.2 * DAY)
    for client in (make_client(offline=True), make_client()):
        many.persist(status(500))
        listing = client.search("all:mug", limit=150)
        assert [str(entry.id) for entry in listing.entries] == MUGS[:150]
        assert isinstance(listing.failure, Unreachable)
        assert timedelta(days=1) < datetime.now(UTC) - listing.fetched_at < timedelta(days=1.2)
    many.heal()
    listing = make_client().search("all:mug", limit=150)
    assert listing.failure is None
    assert datetime.now(UTC) - listing.fetched_at < timedelta(minutes=5)


# texts

HOSTILE = {
    "Tabs&#9;and\n   lines&#13;&#10; ": "Tabs and lines",
    "&lt;script&gt;alert(1)&lt;/script&gt;": "<script>alert(1)</script>",
    "<![CDATA[<b>Bold</b> & bare]]>": "<b>Bold</b> & bare",
    "Left &#x202E;thgir&#x202C; end": "Left thgir end",
    "Isolated &#x2067;first&#x2069; &#x2066;second&#x2069;": "Isolated first second",
    "Marks &#x200E;&#x200F;&#x61C;&#xFEFF;&#x200B;&#xAD;here": "Marks here",
    "Red&#x9B;31mtext&#x7F;&#x85;end": "Red 31mtext end",
    "Two&#x2028;more&#x2029;lines": "Two more lines",
    "Tagged&#xE0041;&#xE0042;": "Tagged",
    "한국어 상품 검색": "한국어 상품 검색",
    "می\u200cخواهم 👩\u200d🔬": "می\u200cخواهم 👩\u200d🔬",
    "x" * 100_000: "x" * 100_000,
}
"""XML of a title, and what is left of it: no control or direction, one line, all that can be read."""


@pytest.mark.parametrize(("raw", "clean"), HOSTILE.items(), ids=lambda text: text[:20])
def test_a_hostile_title_comes_out_clean(three, make_client, raw, clean):
    three.persist(titled(raw))
    assert make_client().fetch([CLIP])[CLIP].entry.title == clean
    assert {entry.title for entry in make_client().search("cat:cs.CV").entries} == {clean}


def test_all_texts_come_out_clean(arxiv, make_client):
    hostile = "One\u202e\u0085two\x7f \n three"
    texts = {"abstract": hostile, "comment": hostile, "journal_ref": hostile, "authors": (hostile, "김하늘")}
    arxiv.add(CLIP.number, doi="10.1000/182", **texts)
    entry = make_client().fetch([CLIP])[CLIP].entry
    assert (entry.abstract, entry.comment, entry.journal_ref) == ("One two three",) * 3
    assert entry.authors == ("One two three", "김하늘")
    assert entry.doi == "10.1000/182"


def test_markup_within_a_title_loses_none_of_its_words(three, make_client):
    """arXiv writes text alone; were it to write elements, what they hold belongs to the title."""
    three.persist(titled("A <b>bold</b> claim"))
    (outcome,) = make_client().fetch([CLIP]).values()
    assert isinstance(outcome, Truncated) or outcome.entry.title == "A bold claim"


# real answers


def test_recorded_answers_are_read_as_they_stand(arxiv, make_client, test_data):
    arxiv.replay(test_data / "arxiv" / "recorded")
    client = make_client()
    paper = ArxivId("1605.08386")
    entry = client.fetch([paper])[paper].entry
    assert str(entry.id) == "1605.08386v1"
    assert entry.title == "Heat-bath random walks with Markov bases"
    assert entry.authors == ("Caprice Stanley", "Tobias Windisch")
    assert entry.categories == ("math.CO", "math.ST")
    assert (entry.published, entry.updated) == ("2016-05-26", "2016-05-26")
    assert (entry.comment, entry.journal_ref, entry.doi) == ("20 pages, 3 figures", None, None)
    assert entry.abstract.startswith("Graphs on lattice points")
    assert entry.has_pdf
    missing, present = ArxivId("0808.05394"), ArxivId("1707.08567")
    outcomes = client.fetch([missing, present])
    assert kinds(outcomes) == ["NotFound", "Found"]
    assert "Dirk Wübben" in outcomes[present].entry.authors
    assert kinds(client.fetch([ArxivId("0000.0000")])) == ["NotFound"]
    assert kinds(client.fetch([ArxivId("abc")])) == ["Malformed"]
    assert versions(client.fetch([ArxivId("astro-ph/0601001")])) == ["astro-ph/0601001v1"]
    assert versions(client.fetch([ArxivId("2104.12255", 1)])) == ["2104.12255v1"]


def test_a_recorded_search_is_read_as_it_stands(arxiv, make_client, test_data):
    arxiv.replay(test_data / "arxiv" / "recorded")
    listing = make_client().search("testing", limit=10)
    assert (len(listing.entries), listing.total, listing.failure) == (10, 214_881, None)
    first = listing.entries[0]
    assert (str(first.id), first.categories) == ("2202.12139v1", ("cs.SE", "cs.LG"))
    assert first.doi == "10.1109/ICSTW55395.2022.00035"


@pytest.mark.parametrize("query", ["", "  ", "all:\udce9t\udce9"])
def test_a_query_that_is_no_text_is_complained_of_and_not_asked(arxiv, make_client, query):
    with pytest.raises(PaperError, match="the query is no text"):
        make_client().search(query)
    assert arxiv.requests == []


def test_a_server_that_has_moved_is_named_and_not_followed(arxiv, make_client):
    """A second address would be asked without waiting for the pace."""
    arxiv.persist(FAULTS["redirect"])
    outcome = make_client().fetch([CLIP])[CLIP]
    assert isinstance(outcome, Unreachable)
    assert "points to" in outcome.reason
    assert len(arxiv.requests) == 1


@pytest.mark.parametrize("url", ["http://[", "http://localhost:99999", "arxiv.org", "ftp://arxiv.org"])
def test_an_address_that_is_none_is_complained_of_at_once(tmp_path, url):
    with pytest.raises(PaperError, match="no address of a server") as caught:
        ArxivClient(tmp_path, url=url)
    assert caught.value.where == "CLAIMBOOK_ARXIV_URL"


def test_a_password_in_the_address_is_written_nowhere(tmp_path, arxiv, make_client, monkeypatch):
    monkeypatch.setenv("CLAIMBOOK_ARXIV_URL", arxiv.url.replace("http://", "http://me:hidden@"))
    arxiv.add(str(CLIP), title="CLIP")
    make_client().fetch([CLIP])
    assert not [path for path in tmp_path.rglob("*") if "hidden" in path.name]


def test_answers_of_another_server_are_not_taken_for_arxivs(tmp_path, arxiv, make_client):
    arxiv.add(str(CLIP), title="CLIP")
    make_client().fetch([CLIP])
    outcome = ArxivClient(tmp_path / "cache", offline=True, url="https://export.arxiv.org").fetch([CLIP])[
        CLIP
    ]
    assert isinstance(outcome, Unreachable)
