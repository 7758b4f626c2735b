"""New versions, withdrawals and failures of a server, and a note that a person has edited."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from claimbook.papers import load
from claimbook.papers.drift import drift
from claimbook.papers.outcomes import Denied, Found, NotFound, Stale, Truncated
from claimbook.papers.sync import sync
from claimbook.workspace import Workspace

NOTE = (
    "---\r\n"
    "# 내가 쓴 주석은 그대로 있어야 한다\r\n"
    "id:   '2303.15343'   # 따옴표도\r\n"
    "status: read\r\n"
    "read_version: 2\r\n"
    "tags: [손실 함수,\r\n"
    "       contrastive]\r\n"
    "claims:\r\n"
    "  - {id: small-batch, text: 작은 배치에서 낫다, metric: recall@1, direction: higher}\r\n"
    "---\r\n"
    "# 시그모이드 손실\t\r\n"
    "\r\n"
    "마지막 줄에는 줄바꿈이 없다"
).encode()
META = """{
  "id": "2303.15343", "title": "Sigmoid loss", "authors": ["Xiaohua Zhai"], "abstract": "",
  "categories": ["cs.CV"], "published": "2023-03", "updated": "2023-03", "versions": [1],
  "source": "manual"
}"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    space = Workspace(tmp_path / "space")
    put(space, "siglip", META, NOTE)
    return space


def put(workspace: Workspace, slug: str, meta: str, note: bytes) -> None:
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(meta)
    (folder / "README.md").write_bytes(note)


def versions_of_siglip(arxiv, last: int, **fields) -> None:
    for number in range(1, last + 1):
        said = fields if number == last else {}
        arxiv.add(
            "2303.15343", **{"title": "Sigmoid Loss", "updated": f"2023-0{3 + number}-27T00:00:00Z"} | said
        )


def test_a_paper_entered_by_hand_is_fetched_and_its_note_keeps_every_byte(workspace, arxiv, make_client):
    versions_of_siglip(
        arxiv, 4, abstract="Code at https://github.com/google-research/big_vision.", doi="10.1109/x"
    )
    (synced,), unreadable = sync(workspace, make_client(), ["siglip"])
    assert isinstance(synced.outcome, Found)
    assert [one.kind for one in synced.news] == ["version", "fetched", "title", "doi", "link"]
    assert unreadable == []
    meta = load(workspace, "siglip").meta
    assert (meta.source, meta.versions, meta.doi) == ("arxiv", [1, 2, 3, 4], "10.1109/x")
    assert (workspace.papers / "siglip" / "README.md").read_bytes() == NOTE


def test_nothing_new_leaves_the_file_alone(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    sync(workspace, make_client(), ["siglip"])
    path = workspace.papers / "siglip" / "meta.json"
    before = path.read_bytes(), path.stat().st_mtime_ns
    (synced,), _ = sync(workspace, make_client(), ["siglip"], fresh=True)
    assert isinstance(synced.outcome, Found)
    assert synced.news == []
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert len(arxiv.requests) == 2


def test_within_a_day_arxiv_is_not_asked_again(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    for _ in range(2):
        sync(workspace, make_client(), ["siglip"])
    assert len(arxiv.requests) == 1


def test_a_withdrawal_is_news_with_its_reason(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    sync(workspace, make_client(), ["siglip"])
    arxiv.add("2303.15343", title="Sigmoid Loss", updated="2024-01-01T00:00:00Z", pdf=False,
              comment="This paper has been withdrawn: Table 1 mixes test and train")  # fmt: skip
    (synced,), _ = sync(workspace, make_client(), ["siglip"], fresh=True)
    assert synced.news[0].kind == "withdrawn"
    assert "Table 1 mixes test and train" in synced.news[0].text
    assert load(workspace, "siglip").meta.withdrawn


@pytest.mark.parametrize(("fault", "failure"), [("403", Denied), ("blank", Truncated)])
def test_a_failure_changes_nothing(workspace, arxiv, make_client, fault, failure):
    from arxiv_faults import FAULTS

    arxiv.persist(FAULTS[fault])
    (synced,), _ = sync(workspace, make_client(), ["siglip"])
    assert isinstance(synced.outcome, failure)
    assert (workspace.papers / "siglip" / "meta.json").read_text() == META


def test_a_paper_that_arxiv_does_not_have_is_said_and_kept(workspace, arxiv, make_client):
    (synced,), _ = sync(workspace, make_client(), ["siglip"])
    assert isinstance(synced.outcome, NotFound)
    assert load(workspace, "siglip").meta.title == "Sigmoid loss"


def test_an_older_answer_serves_when_arxiv_fails_and_is_called_stale(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    sync(workspace, make_client(), ["siglip"])
    (synced,), _ = sync(workspace, make_client(offline=True), ["siglip"], fresh=True)
    assert isinstance(synced.outcome, Stale)
    assert synced.news == []


def test_a_paper_that_cannot_be_read_stops_no_other(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    put(workspace, "broken", "{", b'---\nid: "2103.00020"\n---\n')
    synced, unreadable = sync(workspace, make_client(), ["broken", "siglip"])
    assert [one.slug for one in synced] == ["siglip"]
    assert [error.where for error in unreadable] == ["papers/broken/meta.json"]


def test_all_papers_take_one_request(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    for number in range(1, 41):
        paper = f"2401.{number:05}"
        arxiv.add(paper, title=f"Paper {number}")
        meta = META.replace("2303.15343", paper)
        put(workspace, f"paper-{number}", meta, f'---\nid: "{paper}"\n---\n'.encode())
    synced, _ = sync(workspace, make_client(), workspace.slugs("papers"))
    assert len(synced) == 41
    assert len(arxiv.requests) == 1


def test_the_reading_and_its_experiments_are_behind_a_newer_version(toy, arxiv, make_client):
    """The toy paper is read in v2, its claim in v1; the experiment rests on the claim."""
    note = toy.papers / "toy" / "README.md"
    text = note.read_text().replace("status: read\n", "status: read\nread_version: 2\n")
    note.write_text(text.replace("    metric: hit@1\n", "    metric: hit@1\n    version: 1\n"))
    versions_of_siglip(arxiv, 3)
    sync(toy, make_client(), ["toy"])
    found = drift(toy, {"toy": load(toy, "toy")})
    assert [(one.experiment, one.version, one.latest) for one in found] == [(None, 2, 3), ("toy", 1, 3)]
    assert str(found[1]) == "toy reproduces v1 of toy; v3 exists"


def test_what_was_read_in_the_newest_version_or_in_nobody_knows_which_is_not_behind(toy):
    assert drift(toy, {"toy": load(toy, "toy")}) == []
    note = toy.papers / "toy" / "README.md"
    note.write_text(note.read_text().replace("status: read\n", "status: read\nread_version: 1\n"))
    assert drift(toy, {"toy": load(toy, "toy")}) == []


def test_dates_of_the_server_are_what_the_tests_take_them_for(arxiv, make_client, workspace):
    versions_of_siglip(arxiv, 2)
    sync(workspace, make_client(), ["siglip"])
    meta = load(workspace, "siglip").meta
    assert date.fromisoformat(meta.published) < date.fromisoformat(meta.updated)


def test_a_paper_that_goes_while_arxiv_is_asked_stops_no_other(workspace, arxiv, make_client):
    versions_of_siglip(arxiv, 2)
    arxiv.add("2103.00020", title="CLIP")
    put(workspace, "clip", META.replace("2303.15343", "2103.00020"), b'---\nid: "2103.00020"\n---\n')

    def go(done: int, total: int) -> None:
        if done:
            (workspace.papers / "clip").rename(workspace.root / "elsewhere")

    synced, unreadable = sync(workspace, make_client(), ["clip", "siglip"], progress=go)
    assert [one.slug for one in synced] == ["siglip"]
    assert len(unreadable) == 1
    assert load(workspace, "siglip").meta.source == "arxiv"
