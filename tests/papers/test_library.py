from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paper_examples import HAND_WRITTEN, THEN, entry, put

from claimbook.errors import PaperError, RecordError, WorkspaceError
from claimbook.experiments import Experiment
from claimbook.papers.library import (
    Added,
    Holdings,
    add,
    catalogue,
    find,
    holdings,
    library,
    load,
    remove,
    restore,
    set_status,
    tag,
    writing,
)
from claimbook.runner import sealing
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


def lay(workspace: Workspace, slug: str, *, meta: object = META, note: str | bytes | None = NOTE) -> Path:
    """A folder of papers/ with what is given of its two files."""
    folder = workspace.papers / slug
    folder.mkdir(parents=True)
    if meta is not None:
        (folder / "meta.json").write_text(json.dumps(meta), "utf-8")
    if note is not None:
        (folder / "README.md").write_bytes(note.encode() if isinstance(note, str) else note)
    return folder


def names(workspace: Workspace) -> list[str]:
    """Everything in papers/, hidden or not."""
    return sorted(path.name for path in workspace.papers.iterdir())


def test_a_paper_is_read_from_its_two_files(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    paper = load(workspace, "siglip")
    assert (paper.slug, paper.meta.versions, paper.note.status) == ("siglip", [1, 4], "read")
    assert paper.body == "# 문제\n"


def test_the_library_is_sorted_by_slug_and_reads_past_generated_files(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    lay(workspace, "clip")
    (workspace.papers / "README.md").write_text("generated")
    assert [paper.slug for paper in library(workspace)] == ["clip", "siglip"]


def test_a_workspace_without_papers_has_an_empty_library(workspace: Workspace) -> None:
    assert library(workspace) == []
    assert holdings(workspace) == Holdings([], {})
    assert catalogue(workspace) == {}


def test_missing_metadata_is_named_with_the_command_that_fetches_it(workspace: Workspace) -> None:
    lay(workspace, "siglip", meta=None)
    with pytest.raises(RecordError) as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/meta.json"
    assert "claimbook paper add ID --as siglip" in caught.value.fix


def test_a_missing_note_is_named(workspace: Workspace) -> None:
    lay(workspace, "siglip", note=None)
    with pytest.raises(RecordError) as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/README.md"
    assert "front matter" in caught.value.fix


def test_a_note_in_another_encoding_is_named_with_its_byte(workspace: Workspace) -> None:
    lay(workspace, "siglip", note=NOTE.encode("cp949"))
    with pytest.raises(RecordError, match="no UTF-8") as caught:
        load(workspace, "siglip")
    assert caught.value.where == "papers/siglip/README.md"


def test_an_unknown_slug_names_the_nearest(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    with pytest.raises(WorkspaceError, match="did you mean 'siglip'"):
        load(workspace, "sigclip")


def test_a_note_with_a_byte_order_mark_is_read(workspace: Workspace) -> None:
    lay(workspace, "siglip", note=b"\xef\xbb\xbf" + NOTE.encode())
    assert load(workspace, "siglip").note.status == "read"


def test_what_cannot_be_read_is_told_beside_what_can(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    lay(workspace, "clip", meta=None)
    lay(workspace, "lit", note=None)
    lay(workspace, "flip", note=NOTE.replace("status", "claims:\n  - id: a\n    text: b\nstatus"))
    held = holdings(workspace)
    assert [paper.slug for paper in held.papers] == ["siglip"]
    assert {slug: error.where for slug, error in held.problems.items()} == {
        "clip": "papers/clip/meta.json",
        "flip": "papers/flip/README.md:3",
        "lit": "papers/lit/README.md",
    }


def test_a_paper_is_found_by_slug_id_and_address(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    for name in ("siglip", "2303.15343", "arXiv:2303.15343v2", "https://arxiv.org/pdf/2303.15343v4.pdf"):
        assert find(workspace, name) == "siglip"


def test_an_id_that_is_not_here_is_told_with_the_command_that_adds_it(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    with pytest.raises(PaperError, match=r"2103\.00020 is not in the library") as caught:
        find(workspace, "https://arxiv.org/abs/2103.00020v1")
    assert "claimbook paper add 2103.00020" in caught.value.fix


def test_a_name_that_is_not_here_names_the_nearest(workspace: Workspace) -> None:
    lay(workspace, "siglip")
    with pytest.raises(PaperError, match="did you mean 'siglip'"):
        find(workspace, "SigLP")


def test_a_paper_goes_to_the_trash_whole_and_comes_back(workspace: Workspace) -> None:
    folder = put(workspace, "siglip")
    (folder / "figure.png").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    trash = remove(workspace, "siglip")
    assert catalogue(workspace) == {}
    assert {path.name: path.read_bytes() for path in trash.iterdir()} == before
    restore(workspace, "siglip")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_of_several_in_the_trash_the_last_comes_back(workspace: Workspace) -> None:
    for title in ("first", "second"):
        put(workspace, "siglip", title=title)
        remove(workspace, "siglip")
    restore(workspace, "siglip")
    assert load(workspace, "siglip").meta.title == "second"
    with pytest.raises(PaperError, match="called 'siglip' by now"):
        restore(workspace, "siglip")


def test_a_removed_paper_that_is_added_again_comes_back_with_its_note(workspace: Workspace) -> None:
    put(workspace, "siglip", version=1)
    note = workspace.papers / "siglip" / "README.md"
    note.write_text(note.read_text("utf-8") + "\n내가 쓴 문장\n", "utf-8")
    written = note.read_bytes()
    remove(workspace, "siglip")
    added = add(workspace, entry(version=2), THEN, tags=["new"])
    assert added == Added("siglip", "restored", 1, 2)
    assert note.read_bytes() == written
    assert not list((workspace.papers / ".trash").iterdir())


def test_a_paper_that_came_back_under_another_name_is_not_doubled(workspace: Workspace) -> None:
    put(workspace, "siglip")
    remove(workspace, "siglip")
    put(workspace, "sigmoid")
    with pytest.raises(PaperError, match="in the library as 'sigmoid'"):
        restore(workspace, "siglip")


def test_what_was_never_removed_is_named(workspace: Workspace) -> None:
    put(workspace, "siglip")
    with pytest.raises(PaperError, match="no 'siglip' in the trash") as caught:
        restore(workspace, "siglip")
    assert "nothing to bring back" in caught.value.fix


def test_a_paper_that_an_experiment_rests_on_stays(toy: Workspace) -> None:
    with pytest.raises(PaperError, match="toy rests on this paper"):
        remove(toy, "toy")
    assert "toy" in catalogue(toy)


def test_also_when_the_hypothesis_is_gone_and_its_seal_is_not(toy: Workspace) -> None:
    sealing.seal(toy, Experiment.of(toy, "toy"))
    (toy.experiments / "toy" / "hypothesis.toml").unlink()
    with pytest.raises(PaperError, match="toy rests on this paper"):
        remove(toy, "toy")


def test_an_experiment_that_cannot_be_read_may_rest_on_it(toy: Workspace) -> None:
    (toy.experiments / "toy" / "hypothesis.toml").write_text("paper = ")
    with pytest.raises(RecordError, match="hypothesis"):
        remove(toy, "toy")
    assert "toy" in catalogue(toy)


def test_status_week_and_version_change_their_lines_alone(workspace: Workspace) -> None:
    folder = put(workspace, "siglip", version=4)
    paper = set_status(workspace, "siglip", "read", week="2026-W48", read_version=4)
    assert (paper.note.status, paper.note.week, paper.note.read_version) == ("read", "2026-W48", 4)
    expected = (
        HAND_WRITTEN.replace(b"status:   reading ", b"status:   read ")
        .replace(b"status:   read   # \xec\x9d\xb4\xeb\xb2\x88 \xec\xa3\xbc\r\n", b"STATUS")
        .replace(b'id: "2303.15343"\r\n', b'id: "2303.15343"\r\nread_version: 4\r\n')
        .replace(b"STATUS", 'status:   read   # 이번 주\r\nweek: "2026-W48"\r\n'.encode())
    )
    assert (folder / "README.md").read_bytes() == expected


def test_a_week_that_is_none_changes_nothing(workspace: Workspace) -> None:
    folder = put(workspace, "siglip")
    with pytest.raises(RecordError, match="2026-W54"):
        set_status(workspace, "siglip", "read", week="2026-W54")
    assert (folder / "README.md").read_bytes() == HAND_WRITTEN


def test_a_version_that_arxiv_does_not_have_is_refused(workspace: Workspace) -> None:
    folder = put(workspace, "siglip", version=2)
    with pytest.raises(PaperError, match="the newest is v2"):
        set_status(workspace, "siglip", "read", read_version=3)
    assert (folder / "README.md").read_bytes() == HAND_WRITTEN


def test_of_a_paper_entered_by_hand_nobody_knows_the_versions(workspace: Workspace) -> None:
    put(workspace, "siglip", source="manual")
    assert set_status(workspace, "siglip", "read", read_version=3).note.read_version == 3


def test_tags_come_and_go(workspace: Workspace) -> None:
    folder = put(workspace, "siglip")
    paper = tag(workspace, "siglip", add=["상품 검색", "손실", "상품 검색"], remove=["pre-training"])
    assert paper.note.tags == ["손실", "상품 검색"]
    expected = HAND_WRITTEN.replace(b"-   'pre-training'\r\n", "- 상품 검색\r\n".encode())
    assert (folder / "README.md").read_bytes() == expected


def test_a_tag_to_remove_that_is_not_there_names_the_nearest(workspace: Workspace) -> None:
    put(workspace, "siglip")
    with pytest.raises(PaperError, match="did you mean 'pre-training'"):
        tag(workspace, "siglip", remove=["pretraining"])


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "\u202ereversed"])
def test_what_cannot_be_a_tag_is_refused(workspace: Workspace, text: str) -> None:
    folder = put(workspace, "siglip")
    with pytest.raises(PaperError, match="is no tag"):
        tag(workspace, "siglip", add=[text])
    assert (folder / "README.md").read_bytes() == HAND_WRITTEN


def test_a_note_that_is_a_link_stays_one(workspace: Workspace, tmp_path: Path) -> None:
    folder = put(workspace, "siglip")
    vault = tmp_path / "vault.md"
    (folder / "README.md").rename(vault)
    (folder / "README.md").symlink_to(vault)
    tag(workspace, "siglip", add=["new"])
    assert (folder / "README.md").is_symlink()
    assert b"- new\r\n" in vault.read_bytes()


def test_a_writer_waits_for_another_to_finish(workspace: Workspace) -> None:
    """The other holds the library until its standard input closes; it says so before it lets go."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from claimbook.papers.library import writing\n"
        "from claimbook.workspace import Workspace\n"
        "root = Path(sys.argv[1])\n"
        "with writing(Workspace(root)):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    (root / 'done').touch()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, workspace.root],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdin is not None
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    assert workspace.claim("papers") is None
    other.stdin.write("go on\n")
    other.stdin.flush()
    with writing(workspace):
        assert (workspace.root / "done").exists()
    other.communicate()
