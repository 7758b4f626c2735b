import json
from pathlib import Path

import pytest

from claimbook.errors import RecordError, WorkspaceError
from claimbook.papers import library, load
from claimbook.workspace import Workspace

META = {
    "id": "2303.15343",
    "title": "Sigmoid Loss for Language Image Pre-Training",
    "authors": ["Xiaohua Zhai"],
    "abstract": "",
    "categories": ["cs.CV"],
    "published": "2023-03-27",
    "updated": "2023-09-27",
    "versions": [1, 4],
    "source": "manual",
}
NOTE = '---\nid: "2303.15343"\nstatus: read\n---\n# 문제\n'


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def put(workspace: Workspace, slug: str, *, meta: object = META, note: str | bytes | None = NOTE) -> Path:
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    if meta is not None:
        (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
    if note is not None:
        (folder / "README.md").write_bytes(note.encode() if isinstance(note, str) else note)
    return folder


def test_a_paper_is_read_from_its_two_files(workspace: Workspace) -> None:
    put(workspace, "siglip")
    paper = load(workspace, "siglip")
    assert (paper.slug, paper.meta.versions, paper.note.status) == ("siglip", [1, 4], "read")
    assert paper.body == "# 문제\n"


def test_the_library_is_sorted_by_slug_and_reads_past_generated_files(workspace: Workspace) -> None:
    put(workspace, "siglip")
    put(workspace, "clip")
    (workspace.papers / "README.md").write_text("generated")
    assert [paper.slug for paper in library(workspace)] == ["clip", "siglip"]


def test_a_workspace_without_papers_has_an_empty_library(workspace: Workspace) -> None:
    assert library(workspace) == []


def test_missing_metadata_is_named_with_the_command_that_fetches_it(workspace: Workspace) -> None:
    put(workspace, "siglip", meta=None)
    with pytest.raises(RecordError) as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/meta.json"
    assert "claimbook paper add ID --as siglip" in caught.value.fix


def test_a_missing_note_is_named(workspace: Workspace) -> None:
    put(workspace, "siglip", note=None)
    with pytest.raises(RecordError) as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/README.md"
    assert "front matter" in caught.value.fix


def test_a_note_in_another_encoding_is_named_with_its_byte(workspace: Workspace) -> None:
    put(workspace, "siglip", note=NOTE.encode("cp949"))
    with pytest.raises(RecordError, match="no UTF-8") as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/README.md"


def test_an_unknown_slug_names_the_nearest(workspace: Workspace) -> None:
    put(workspace, "siglip")
    with pytest.raises(WorkspaceError, match="did you mean 'siglip'"):
        load(workspace, "sigclip")
