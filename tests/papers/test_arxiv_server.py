"""The stand-in itself: it writes what arXiv writes, and its faults bite."""

from __future__ import annotations

import gzip
import http.client
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import arxiv as package
import pytest
from arxiv_faults import (
    MEGABYTE,
    blank,
    bomb,
    chunked,
    compressed,
    cut,
    cut_chunks,
    drip,
    duplicates,
    endless_head,
    external_entity,
    gzip_bomb,
    html,
    huge,
    others,
    quadratic_bomb,
    rate_text,
    redirect,
    repeated,
    reset,
    short_page,
    stall,
    status,
    truncated,
    without,
    wrong_length,
)
from arxiv_server import ArxivServer
from lxml import etree

NAMES = {
    "": "http://www.w3.org/2005/Atom",
    "a": "http://arxiv.org/schemas/atom",
    "o": "http://a9.com/-/spec/opensearch/1.1/",
}
IDS = "/api/query?id_list=2103.00020,2303.15343,math/0309136&start=0&max_results=100"


@pytest.fixture
def three(arxiv: ArxivServer) -> ArxivServer:
    """A server with three papers."""
    arxiv.add("2103.00020", title="Learning <visual> models & more", doi="10.1000/182", journal_ref="J. 1, 2")
    arxiv.add("2303.15343", comment="ICCV")
    arxiv.add("2303.15343", comment="ICCV 2023 (oral)")
    arxiv.add("math/0309136", categories=("math.GT",))
    return arxiv


def get(server: ArxivServer, path: str = IDS, code: int = 200) -> bytes:
    """The body of an answer, whose status must be `code`."""
    try:
        response = urllib.request.urlopen(server.url + path, timeout=20)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        assert response.status == code
        return response.read()


def names(feed: bytes) -> list[str]:
    """Ids and versions, in their order."""
    return re.findall(r"<id>http://arxiv.org/abs/([^<]+)</id>", feed.decode())


def recorded(folder: Path) -> list[tuple[str, int, bytes]]:
    """Path, status and body of what arXiv once answered; the bodies were read as Latin-1."""
    records = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    home = "https://export.arxiv.org"
    return [
        (one["url"].removeprefix(home), one["status_code"], one["body"].encode("latin-1")) for one in records
    ]


# what arXiv writes


def add_entry(server: ArxivServer, entry: ElementTree.Element) -> None:
    """Add a paper as a recorded entry tells of it."""
    name = entry.findtext("id", namespaces=NAMES).removeprefix("http://arxiv.org/abs/")
    number, version = name.rsplit("v", 1)
    terms = [category.get("term") for category in entry.findall("category", NAMES)]
    for _ in range(int(version)):
        server.add(
            number,
            updated=entry.findtext("updated", namespaces=NAMES),
            title=entry.findtext("title", namespaces=NAMES),
            abstract=entry.findtext("summary", namespaces=NAMES),
            authors=tuple(one.text for one in entry.findall("author/name", NAMES)),
            categories=tuple(terms),
            comment=entry.findtext("a:comment", namespaces=NAMES),
            journal_ref=entry.findtext("a:journal_ref", namespaces=NAMES),
            doi=entry.findtext("a:doi", namespaces=NAMES),
        )


def without_what_differs(feed: bytes) -> str:
    """Ids of feeds, times and affiliations, which the stand-in does not know, and counts of all of arXiv."""
    text = re.sub(r"<id>https://arxiv.org/api/[^<#]*</id>", "<id/>", feed.decode())
    text = re.sub(r"<(updated|published|opensearch:totalResults)>[^<]*<", r"<\1><", text)
    return re.sub(r"\s*<arxiv:affiliation>[^<]*</arxiv:affiliation>", "", text)


def test_feeds_are_those_of_arxiv_to_the_letter(arxiv, test_data):
    """All that was recorded of arXiv, id lists, searches and an error, from the papers that it holds."""
    records = recorded(test_data / "arxiv" / "recorded")
    assert len(records) == 8
    for _, code, body in records:
        for entry in ElementTree.fromstring(body).findall("entry", NAMES) if code == 200 else ():
            add_entry(arxiv, entry)
    for path, code, body in records:
        assert without_what_differs(get(arxiv, path, code)) == without_what_differs(body)


def test_recorded_answers_come_byte_for_byte(arxiv, test_data):
    arxiv.replay(test_data / "arxiv" / "recorded")
    for path, code, body in recorded(test_data / "arxiv" / "recorded"):
        assert get(arxiv, path, code) == body
    assert "Dirk Wübben".encode() in get(arxiv, "/api/query?id_list=0808.05394,1707.08567&max_results=7")


def test_the_newest_version_is_given_and_a_named_one_where_it_is_asked_for(three):
    def asked(text: str) -> list[str]:
        return names(get(three, f"/api/query?id_list={text}&max_results=100"))

    assert asked("2303.15343") == ["2303.15343v2"]
    assert asked("2303.15343v1,2103.00020") == ["2303.15343v1", "2103.00020v1"]
    assert asked("2303.15343v3,0000.0000,math/0309136") == ["math/0309136v1"]


def test_one_id_that_is_none_spoils_the_request(three):
    feed = get(three, "/api/query?id_list=2103.00020,abc,2303.15343", code=400).decode()
    assert "<summary>incorrect id format for abc</summary>" in feed
    assert "2103.00020" not in feed


def test_a_withdrawn_version_has_no_pdf_and_the_one_before_has(three):
    three.add("2103.00020", pdf=False, comment="This paper has been withdrawn by the authors")
    assert b'title="pdf"' not in get(three, "/api/query?id_list=2103.00020")
    assert b'title="pdf"' in get(three, "/api/query?id_list=2103.00020v1")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("all:visual", ["2103.00020v1"]),
        ("VISUAL+models", ["2103.00020v1"]),
        ("ti:known", []),
        ("abs:known+AND+cat:math.GT", ["math/0309136v1"]),
        ("au:김하늘&sortBy=submittedDate&sortOrder=ascending&max_results=1", ["2103.00020v1"]),
        ("cat:cs.LG&start=1", ["2303.15343v2"]),
        ("all:nothing", []),
    ],
)
def test_a_search_finds_papers_with_all_words(three, query, found):
    assert names(get(three, f"/api/query?search_query={quote(query, safe=':+&=')}")) == found


def test_the_arxiv_package_reads_what_was_added(three):
    client = package_client(three)
    first, second, third = client.results(
        package.Search(id_list=["2103.00020", "2303.15343", "math/0309136"])
    )
    assert (first.title, first.doi, first.journal_ref) == (
        "Learning <visual> models & more",
        "10.1000/182",
        "J. 1, 2",
    )
    assert [author.name for author in first.authors] == ["Ada Wübben", "김하늘"]
    assert (second.get_short_id(), second.comment) == ("2303.15343v2", "ICCV 2023 (oral)")
    assert (second.published.day, second.updated.day) == (1, 2)
    assert (third.primary_category, third.pdf_url) == ("math.GT", "https://arxiv.org/pdf/math/0309136v1")


def test_the_arxiv_package_pages_through_a_search(arxiv):
    numbers = [f"2401.{n:05}" for n in range(1, 251)]
    for number in numbers:
        arxiv.add(number)
    found = package_client(arxiv).results(package.Search("cat:cs.CV", max_results=None))
    assert [result.get_short_id() for result in found] == [f"{number}v1" for number in numbers]
    assert [request.query.start for request in arxiv.requests] == [0, 100, 200]


# what goes wrong


def package_client(server: ArxivServer) -> package.Client:
    client = package.Client(delay_seconds=0, num_retries=2)
    client.query_url_format = f"{server.url}/api/query?{{}}"
    return client


@pytest.mark.parametrize(
    "fault", [blank(), html(), rate_text(), truncated(), short_page(), without("published")]
)
def test_the_arxiv_package_takes_it_for_no_papers(three, fault):
    """So our client must not."""
    three.persist(fault)
    assert list(package_client(three).results(package.Search(id_list=["2103.00020"]))) == []


@pytest.mark.parametrize("code", [400, 403, 404, 429, 500, 503])
def test_the_arxiv_package_asks_again_whatever_the_status_is(three, code):
    three.persist(status(code, retry_after=60))
    with pytest.raises(package.HTTPError):
        list(package_client(three).results(package.Search(id_list=["2103.00020"])))
    assert len(three.requests) == 3


def answer(server: ArxivServer, timeout: float = 20.0) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=timeout)
    connection.request("GET", IDS)
    return connection.getresponse()


def test_a_status_says_when_to_come_back(three):
    three.inject(status(429, retry_after=7), status(503, "Fri, 31 Dec 1999 23:59:59 GMT"), status(503))
    told = [(one.status, one.headers["Retry-After"]) for one in (answer(three), answer(three), answer(three))]
    assert told == [(429, "7"), (503, "Fri, 31 Dec 1999 23:59:59 GMT"), (503, None)]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (short_page(2), ["2103.00020v1", "2303.15343v2"]),
        (duplicates(), ["2103.00020v1"] * 2 + ["2303.15343v2"] * 2 + ["math/0309136v1"] * 2),
        (repeated(), ["2103.00020v1"] * 3),
        (others(), ["0704.0001v1", "0704.0002v2", "0704.0003v1"]),
    ],
)
def test_entries_are_not_those_that_were_counted(three, fault, found):
    three.inject(fault)
    feed = get(three)
    assert names(feed) == found
    assert b"<opensearch:totalResults>3<" in feed


@pytest.mark.parametrize("fault", [cut(), cut_chunks(), wrong_length(100)])
def test_a_body_that_breaks_off_is_seen_by_http(three, fault):
    three.inject(fault)
    response = answer(three)
    with pytest.raises(http.client.IncompleteRead) as broken:
        response.read()
    assert broken.value.partial


def test_a_body_that_is_truncated_is_not_seen_by_http(three):
    good = get(three)
    for fault, length in ((truncated(0.5), len(good) // 2), (wrong_length(-100), len(good) - 100)):
        three.inject(fault)
        assert len(get(three)) == length


def test_a_connection_is_reset_before_any_byte(three):
    three.inject(reset())
    with pytest.raises(ConnectionResetError):
        answer(three)
    assert three.requests[0].sent == 0


@pytest.mark.parametrize("fault", [stall(), endless_head(pause=10.0)])
def test_nothing_comes_in_time(three, fault):
    three.inject(fault)
    with pytest.raises(TimeoutError):
        answer(three, timeout=0.3)


def test_a_body_comes_byte_by_byte(three):
    """No wait for a byte is as long as the time-out, all of them are."""
    three.inject(drip(pause=0.05))
    response = answer(three, timeout=10.0)
    begin = time.monotonic()
    assert response.read1(100) == b"<"
    assert response.read1(100) == b"?"
    assert response.read(20) == b"xml version='1.0' en"
    assert time.monotonic() - begin >= 20 * 0.05


def test_entities_unfold_and_files_are_read_where_nobody_minds(three, tmp_path):
    """A bomb of three levels for ElementTree, a file for lxml as it was set up before version 5."""
    three.inject(bomb(levels=3), external_entity((tmp_path / "secret.txt").as_uri()))
    root = ElementTree.fromstring(get(three))
    assert root.findtext("entry/title", namespaces=NAMES) == "ha" * 1000
    (tmp_path / "secret.txt").write_text("the password")
    parser = etree.XMLParser(resolve_entities=True, load_dtd=True)
    assert etree.fromstring(get(three), parser).findtext("entry/title", namespaces=NAMES) == "the password"


def test_a_quadratic_bomb_holds_what_it_says(three):
    three.inject(quadratic_bomb())
    (declared, used) = re.search(
        rb'<!ENTITY e "(a+)">.*?<title>((?:&e;)+)</title>', get(three), re.DOTALL
    ).groups()
    assert len(declared) * len(used) // len(b"&e;") == 2_500_000_000


def test_good_answers_come_chunked_compressed_or_long_too(three):
    three.inject(chunked(), compressed(), huge(megabytes=2), gzip_bomb(megabytes=2))
    responses = [answer(three) for _ in range(4)]
    bodies = [one.read() for one in responses]
    assert [one.headers["Content-Encoding"] for one in responses] == [None, "gzip", None, "gzip"]
    assert len(bodies[3]) < MEGABYTE / 50
    bodies = [bodies[0], gzip.decompress(bodies[1]), bodies[2], gzip.decompress(bodies[3])]
    assert [len(body) // MEGABYTE for body in bodies] == [0, 0, 2, 2]
    assert [names(body) for body in bodies] == [["2103.00020v1", "2303.15343v2", "math/0309136v1"]] * 4


def test_a_circle_of_redirects_has_no_end(three):
    three.persist(redirect())
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        urllib.request.urlopen(three.url + IDS)
    assert len(three.requests) > 3


def test_faults_end_when_they_are_used_up_or_healed(three):
    three.inject(blank(), blank())
    assert [bool(get(three)) for _ in range(3)] == [False, False, True]
    three.persist(blank())
    assert [bool(get(three)) for _ in range(3)] == [False] * 3
    three.heal()
    assert get(three)


# what is seen of the clients


def test_requests_are_kept_with_their_times(three):
    before = time.monotonic()
    three.inject(stall(0.2))
    connection = http.client.HTTPConnection(three.url.removeprefix("http://"))
    for agent in ("first/1.0", "second/1.0"):
        connection.request("GET", IDS, headers={"User-Agent": agent})
        connection.getresponse().read()
    wait_until(lambda: three.requests[1].answered)
    first, second = three.requests
    assert (first.agent, second.agent) == ("first/1.0", "second/1.0")
    assert first.connection == second.connection
    assert first.path == IDS
    assert first.query.ids == ("2103.00020", "2303.15343", "math/0309136")
    assert before < first.arrived <= first.answered - 0.2
    assert first.answered <= second.arrived <= second.answered
    assert [first.in_flight, second.in_flight] == [1, 1]
    assert first.sent > 1000


def test_requests_at_once_are_seen_as_such(three):
    three.persist(stall(0.5))
    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(lambda _: get(three), range(3)))
    assert sorted(request.in_flight for request in three.requests) == [1, 2, 3]
    assert len({request.connection for request in three.requests}) == 3


def test_a_client_that_hangs_up_is_in_flight_no_longer(three):
    three.inject(stall())
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(three.url + IDS, timeout=0.2)
    wait_until(lambda: three.requests[0].answered)
    get(three)
    assert three.requests[1].in_flight == 1


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def test_it_runs_by_itself(tmp_path):
    record = {
        "id": "2401.00001",
        "title": "Alone",
        "abstract": "A.",
        "authors": ["B. C"],
        "categories": ["cs.CV"],
    }
    records = tmp_path / "records.jsonl.gz"
    records.write_bytes(gzip.compress(json.dumps({**record, "published": "2024-01-01 00:00:00"}).encode()))
    command = [sys.executable, Path(__file__).with_name("arxiv_server.py"), "--records", records]
    with subprocess.Popen([*command, "--fault", "429"], stdout=subprocess.PIPE, text=True) as process:
        url = json.loads(process.stdout.readline())["url"]
        with pytest.raises(urllib.error.HTTPError, match="429"):
            urllib.request.urlopen(f"{url}/api/query?id_list=2401.00001")
        assert json.loads(process.stdout.readline())["path"] == "/api/query?id_list=2401.00001"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
