"""A paper comes in whole or not at all, and a note that is there stays as its writer left it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from arxiv_faults import Fault, status
from arxiv_server import ArxivServer
from cut_off import SCENARIOS
from paper_examples import HAND_WRITTEN, THEN, entry, put

from claimbook.errors import PaperError, RecordError, WorkspaceError
from claimbook.papers.adding import Wish, add_listed, add_wished
from claimbook.papers.client import ArxivClient
from claimbook.papers.ids import ArxivId
from claimbook.papers.library import Added, add, catalogue, holdings, load, set_status, tag, update
from claimbook.papers.outcomes import Found, NotFound, RateLimited, Stale, Unreachable
from claimbook.records import Link
from claimbook.workspace import Workspace

HERE = Path(__file__).parent
MakeClient = Callable[..., ArxivClient]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def names(workspace: Workspace) -> list[str]:
    """Everything in papers/, hidden or not."""
    return sorted(path.name for path in workspace.papers.iterdir())


def test_a_new_paper_has_metadata_and_an_empty_note(workspace: Workspace) -> None:
    added = add(workspace, entry(version=2), THEN, tags=["loss", "대조 학습"])
    assert added == Added("sigmoid-loss-for-language", "added", None, 2)
    paper = load(workspace, added.slug)
    assert paper.meta.versions == [1, 2]
    assert paper.meta.fetched_at == "2026-11-24T01:28:00Z"
    assert paper.meta.source == "arxiv"
    assert (paper.note.id, paper.note.status, paper.note.tags) == (
        "2303.15343", "queued", ["loss", "대조 학습"]
    )  # fmt: skip
    assert paper.note.read_version is None
    assert names(workspace) == [added.slug]


def test_the_slug_can_be_chosen(workspace: Workspace) -> None:
    assert add(workspace, entry(), THEN, slug="siglip").slug == "siglip"
    with pytest.raises(WorkspaceError, match="cannot name a folder"):
        add(workspace, entry("2103.00020"), THEN, slug="../clip")
    assert names(workspace) == ["siglip"]


def test_a_slug_that_another_paper_has_gets_a_number_or_is_refused(workspace: Workspace) -> None:
    put(workspace, "lit", number="2111.07991", note='---\nid: "2111.07991"\n---\n')
    assert add(workspace, entry(title="LiT: again"), THEN).slug == "lit-2"
    with pytest.raises(PaperError, match=r"another paper's: 2111\.07991"):
        add(workspace, entry("2103.00020"), THEN, slug="lit")
    assert names(workspace) == ["lit", "lit-2"]


def test_the_same_paper_twice_writes_nothing(workspace: Workspace) -> None:
    folder = put(workspace, "siglip")
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    again = add(workspace, entry(), THEN + timedelta(days=9), slug="other", tags=["x"])
    assert again == Added("siglip", "there already", 1, 1)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before


def test_a_newer_version_is_merged_and_the_note_stays_as_it_was_written(workspace: Workspace) -> None:
    folder = put(workspace, "siglip")
    newer = entry(version=4, title="A new title", doi="10.1/x")
    assert add(workspace, newer, THEN) == Added("siglip", "new version", 1, 4)
    meta = load(workspace, "siglip").meta
    assert (meta.versions, meta.title, meta.doi) == ([1, 2, 3, 4], "A new title", "10.1/x")
    assert (folder / "README.md").read_bytes() == HAND_WRITTEN
    assert names(workspace) == ["siglip"]


def test_an_older_version_takes_nothing_back(workspace: Workspace) -> None:
    put(workspace, "siglip", version=4, title="The newest")
    assert add(workspace, entry(version=2), THEN) == Added("siglip", "there already", 4, 4)
    assert load(workspace, "siglip").meta.title == "The newest"


def test_a_paper_entered_by_hand_becomes_fetched_and_keeps_its_links(workspace: Workspace) -> None:
    link = Link(kind="code", url="https://example.org/code", said_in="person")
    put(workspace, "siglip", version=4, source="manual", links=[link])
    assert add(workspace, entry(version=2), THEN) == Added("siglip", "updated", 4, 4)
    meta = load(workspace, "siglip").meta
    assert (meta.source, meta.versions) == ("arxiv", [1, 2, 3, 4])
    assert meta.links == [link]


def test_a_note_without_metadata_gets_it_and_stays(workspace: Workspace) -> None:
    folder = put(workspace, "mine")
    (folder / "meta.json").unlink()
    assert add(workspace, entry(), THEN, slug="mine") == Added("mine", "updated", None, 1)
    assert (folder / "README.md").read_bytes() == HAND_WRITTEN
    assert load(workspace, "mine").meta.source == "arxiv"


def test_metadata_without_a_note_gets_one(workspace: Workspace) -> None:
    folder = put(workspace, "mine")
    (folder / "README.md").unlink()
    add(workspace, entry(), THEN)
    assert load(workspace, "mine").note.status == "queued"


def test_metadata_that_cannot_be_read_is_not_overwritten(workspace: Workspace) -> None:
    folder = put(workspace, "mine")
    (folder / "meta.json").write_text('{"id": "2303.15343", "schema": 99, "title": "from the future"}')
    before = (folder / "meta.json").read_bytes()
    with pytest.raises(RecordError, match="schema is 99"):
        add(workspace, entry(version=2), THEN)
    assert (folder / "meta.json").read_bytes() == before
    assert names(workspace) == ["mine"]


def test_a_folder_that_does_not_tell_its_paper_is_not_taken(workspace: Workspace) -> None:
    (put(workspace, "mine", note="just a text") / "meta.json").unlink()
    with pytest.raises(PaperError, match="does not tell its arXiv id"):
        add(workspace, entry(), THEN, slug="mine")


def test_what_a_killed_process_left_is_read_past_and_cleared_away(workspace: Workspace) -> None:
    put(workspace, "siglip")
    half = workspace.papers / ".clip.0123456789ab.tmp"
    half.mkdir()
    (half / "README.md").write_text("---\nid:")
    (workspace.papers / ".README.md.0123456789ab.tmp").write_text("half")
    persons = workspace.papers / ".obsidian.tmp"
    persons.mkdir()
    assert [paper.slug for paper in holdings(workspace).papers] == ["siglip"]
    assert holdings(workspace).problems == {}
    add(workspace, entry(), THEN)
    assert names(workspace) == [".obsidian.tmp", "siglip"]


def test_the_update_tells_what_it_was_and_is(workspace: Workspace) -> None:
    put(workspace, "siglip")
    before, after = update(workspace, "siglip", entry(version=2), THEN)
    assert (before.latest, after.latest) == (1, 2)
    later = update(workspace, "siglip", entry(version=2), THEN + timedelta(days=2))
    assert later == (after, after)


def test_four_processes_that_add_the_same_papers_make_each_once(workspace: Workspace) -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path\n"
        "from paper_examples import THEN, entry\n"
        "from claimbook.papers.library import add\n"
        "from claimbook.workspace import Workspace\n"
        "for number in range(5):\n"
        "    one = add(Workspace(Path(sys.argv[1])), entry(f'2103.0002{number}'), THEN)\n"
        "    print(one.change)\n"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", code, workspace.root], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    said = [line for process in processes for line in process.communicate()[0].splitlines()]
    assert sorted(said) == ["added"] * 5 + ["there already"] * 15
    assert sorted(card.id for card in catalogue(workspace).values()) == [
        f"2103.0002{number}" for number in range(5)
    ]
    assert names(workspace) == [
        "sigmoid-loss-for-language", *(f"sigmoid-loss-for-language-{n}" for n in range(2, 6))
    ]  # fmt: skip


def edited_notes(folder: Path) -> list[bytes]:
    """The hand-written note as it is, with another status, and with a tag more."""
    workspace = Workspace(folder)
    path = put(workspace, "mine") / "README.md"
    texts = [path.read_bytes()]
    set_status(workspace, "mine", "read", week="2026-W48", read_version=1)
    texts.append(path.read_bytes())
    tag(workspace, "mine", add=["검색"])
    return [*texts, path.read_bytes()]


@pytest.mark.parametrize(
    ("scenario", "slugs"),
    [("adding", [["mine"], ["clip", "mine"]]), ("editing", [["mine"]]), ("removing", [["mine"], []])],
)
def test_killed_at_any_call_the_library_is_whole_and_the_next_process_finishes_the_work(
    tmp_path: Path, scenario: str, slugs: list[list[str]]
) -> None:
    """The oracle is the process that nobody killed: the next after a kill leaves the same files as that."""
    notes = edited_notes(tmp_path / "edited") if scenario == "editing" else [HAND_WRITTEN]
    put(Workspace(tmp_path / "begin"), "mine")
    done = subprocess.run(
        [sys.executable, HERE / "cut_off.py", scenario, tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    *killed, last = map(json.loads, done.stdout.splitlines())
    assert last["killed"] is None
    assert {one["killed"] for one in killed} >= {"behind open", "before fsync", "before replace"}
    finished = files(Workspace(Path(last["root"])))
    seen = set()
    for one in killed:
        workspace = Workspace(Path(one["root"]))
        where = f"{one['killed']} in {workspace.root.name}"
        held = holdings(workspace)
        assert held.problems == {}, where
        assert [paper.slug for paper in held.papers] in slugs, where
        papers = workspace.papers
        (note,) = [*papers.glob("mine/README.md"), *papers.glob(".trash/mine-*/README.md")]
        assert note.read_bytes() in notes, where
        seen.add((len(held.papers), note.read_bytes()))
        SCENARIOS[scenario](workspace)
        assert files(workspace) == finished, where
    assert len(seen) == max(len(slugs), len(notes)), "the kills came at every stage"


def files(workspace: Workspace) -> dict[str, bytes]:
    """Every file of a library by its path."""
    paths = [path for path in workspace.papers.rglob("*") if path.is_file()]
    return {path.relative_to(workspace.papers).as_posix(): path.read_bytes() for path in paths}


def wish(number: str, version: int | None = None, *tags: str) -> Wish:
    return Wish(ArxivId(number, version), tags)


def test_wishes_are_asked_for_once_and_in_the_newest_version(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2103.00020", title="CLIP: a name")
    arxiv.add("2103.00020")
    wishes = [wish("2103.00020", 1, "a"), wish("2103.00020", None, "b", "a"), wish("2103.99999")]
    steps: list[tuple[int, int]] = []
    first, second = add_wished(
        workspace, make_client(), wishes, progress=lambda done, total: steps.append((done, total))
    )
    assert first.added == Added("clip", "added", None, 2)
    assert load(workspace, "clip").note.tags == ["a", "b"]
    assert (second.added, second.outcome) == (None, NotFound(ArxivId("2103.99999")))
    assert steps == [(0, 2), (1, 2), (2, 2)]
    (request,) = arxiv.requests
    assert request.query.ids == ("2103.00020", "2103.99999")


def test_a_paper_that_was_fetched_is_not_asked_for_again_but_for_a_version_that_is_not_here(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2303.15343")
    arxiv.add("2303.15343")
    put(workspace, "siglip", version=1)
    (there,) = add_wished(workspace, make_client(), [wish("2303.15343", 1)])
    assert (there.added, there.outcome) == (Added("siglip", "there already", 1, 1), None)
    assert arxiv.requests == []
    (newer,) = add_wished(workspace, make_client(), [wish("2303.15343", 2)])
    assert newer.added == Added("siglip", "new version", 1, 2)
    assert len(arxiv.requests) == 1


def test_a_paper_that_was_entered_by_hand_or_lacks_a_file_is_asked_for(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2303.15343")
    arxiv.add("2103.00020")
    put(workspace, "siglip", source="manual", fetched_at=None)
    (put(workspace, "clip", number="2103.00020") / "README.md").unlink()
    results = list(add_wished(workspace, make_client(), [wish("2303.15343"), wish("2103.00020")]))
    assert [result.added.change for result in results if result.added] == ["updated", "updated"]
    assert load(workspace, "clip").note.status == "queued"


def test_a_version_that_does_not_exist_adds_nothing(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2103.00020")
    (result,) = add_wished(workspace, make_client(), [wish("2103.00020", 9)])
    assert result.outcome == NotFound(ArxivId("2103.00020", 9))
    assert catalogue(workspace) == {}


def test_a_version_of_today_is_found_though_the_cache_knows_yesterdays(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2303.15343", title="Sigmoid Loss")
    make_client().fetch([ArxivId("2303.15343")])
    arxiv.add("2303.15343", title="Sigmoid Loss")
    (offline,) = add_wished(workspace, make_client(offline=True), [Wish(ArxivId("2303.15343", 2))])
    assert isinstance(offline.outcome, Unreachable), "nobody was asked, so it is not said that there is none"
    assert offline.added is None
    (result,) = add_wished(workspace, make_client(), [Wish(ArxivId("2303.15343", 2))])
    assert isinstance(result.outcome, Found)
    assert result.added == Added("sigmoid-loss", "added", None, 2)


def test_when_arxiv_asks_to_wait_the_cache_serves_and_the_rest_stays_as_it_was(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2103.00020", title="CLIP: a name")
    make_client().fetch([ArxivId("2103.00020", 1)])
    arxiv.persist(status(429, retry_after=3600))
    stale, limited = add_wished(workspace, make_client(), [wish("2103.00020"), wish("2303.15343")])
    assert stale.added == Added("clip", "added", None, 1)
    assert isinstance(stale.outcome, Stale)
    assert isinstance(limited.outcome, RateLimited)
    assert list(catalogue(workspace)) == ["clip"]


def test_what_a_search_found_is_taken_in(
    workspace: Workspace, arxiv: ArxivServer, make_client: MakeClient
) -> None:
    arxiv.add("2103.00020", title="Sigmoid")
    arxiv.add("2303.15343", title="Softmax")
    listing = make_client().search("all:sigmoid", 5)
    (result,) = add_listed(workspace, listing, ("found",))
    assert isinstance(result.outcome, Found)
    assert load(workspace, "sigmoid").note.tags == ["found"]


def claimbook(*arguments: str, cwd: Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, which asks the server that the environment names."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, input=given, capture_output=True, text=True, check=False
    )


COMMAND = [sys.executable, "-c", "from claimbook.cli import main; main()"]


@pytest.fixture
def place(tmp_path: Path, arxiv: ArxivServer) -> Path:
    """A Korean workspace."""
    root = tmp_path / "workspace"
    root.mkdir()
    (root / "pyproject.toml").write_text('[tool.claimbook]\nlanguage = "ko"\n')
    return root


def test_each_thing_that_was_asked_for_has_its_line(place: Path, arxiv: ArxivServer) -> None:
    arxiv.add("2103.00020", title="CLIP: <b>bold</b> | a\u202ename")
    put(Workspace(place), "siglip")
    asked = ["2103.00020v1", "https://arxiv.org/abs/2303.15343", "2103.99999", "2103.0002"]
    done = claimbook("paper", "add", *asked, "--tag", "대조 학습", cwd=place)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["malformed", "there", "added", "not"]
    assert "clip  CLIP: <b>bold</b> | aname" in done.stdout
    assert "error: 2 of 4 are not in the library" in done.stderr
    assert load(Workspace(place), "clip").note.tags == ["대조 학습"]
    assert "## 어려운 점" in (place / "papers" / "clip" / "README.md").read_text("utf-8")
    assert "[CLIP: \\<b\\>bold" in (place / "papers" / "README.md").read_text("utf-8")
    again = claimbook("paper", "add", "2103.00020", "2303.15343", "--json", cwd=place)
    assert again.returncode == 0
    assert [(one["slug"], one["result"]) for one in json.loads(again.stdout)] == [
        ("clip", "there already"), ("siglip", "there already")
    ]  # fmt: skip
    assert len(arxiv.requests) == 1
    assert (place / "papers" / "siglip" / "README.md").read_bytes() == HAND_WRITTEN


def test_a_bibliography_is_imported_with_its_tags_and_a_list_is_read_from_standard_input(
    place: Path, arxiv: ArxivServer
) -> None:
    for number in ("2103.00020", "2303.15343"):
        arxiv.add(number, title=f"Paper {number}: x")
    (place / "refs.bib").write_text(
        "@misc{a, title={One}, eprint={2103.00020}, archivePrefix={arXiv}, keywords={검색}}\n"
        "@article{b, title={No Id At All}, journal={Nature}}\n",
        "utf-8",
    )
    done = claimbook("paper", "import", "refs.bib", cwd=place)
    assert done.returncode == 1
    assert "refs.bib:2: No Id At All" in done.stdout
    assert [paper.note.tags for paper in holdings(Workspace(place)).papers] == [["검색"]]
    done = claimbook("paper", "add", "-", "--offline", cwd=place, given="# mine\narXiv:2103.00020v1\n")
    assert (done.returncode, done.stdout.split()[:2]) == (0, ["there", "already"])


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (status(429, retry_after=3600), "rate limited"),
        (status(403), "denied"),
        (status(404), "unreachable"),
    ],
    ids=["429", "403", "404"],
)
def test_a_failure_is_no_empty_library(place: Path, arxiv: ArxivServer, fault: Fault, words: str) -> None:
    arxiv.persist(fault)
    done = claimbook("paper", "add", "2103.00020", cwd=place)
    assert done.returncode == 1
    assert done.stdout.startswith(words)


def test_a_query_takes_in_what_arxiv_finds(place: Path, arxiv: ArxivServer) -> None:
    for number in range(3):
        arxiv.add(f"2103.0002{number}", title=f"Sigmoid {number}")
    done = claimbook("paper", "add", "--query", "all:sigmoid", "--max", "2", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "2 of 3 papers that arXiv finds" in done.stdout
    assert len(catalogue(Workspace(place))) == 2


def test_interrupted_between_two_requests_what_was_added_stays_whole(place: Path, arxiv: ArxivServer) -> None:
    """Of 101 papers the first 100 come in one answer; the next may be asked for three seconds later."""
    numbers = [f"2103.{number:05}" for number in range(1, 102)]
    for number in numbers:
        arxiv.add(number, title=f"Paper {number}")
    with subprocess.Popen(
        [*COMMAND, "paper", "add", *numbers],
        cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while len(catalogue(Workspace(place))) < 100:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate()
    assert process.returncode == 130
    assert "stopped: 100 of them are in the library" in said
    assert printed.count("added ") == 100
    held = holdings(Workspace(place))
    assert (len(held.papers), held.problems) == (100, {})
    assert "(100)" in (place / "papers" / "README.md").read_text("utf-8")
