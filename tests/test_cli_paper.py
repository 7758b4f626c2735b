"""The verbs of the library as a user types them; what asks arXiv is in papers/test_adding.py."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec
import pytest

from claimbook.records import PaperMeta, encode_json
from claimbook.workspace import Workspace, write_json

COMMAND = [sys.executable, "-c", "from claimbook.cli import main; main()", "paper"]
NOTE = """\
---
id: "2303.15343"  # SigLIP
read_version: 2
status: read
week: "2026-W48"
tags: [loss, 대조 학습]
claims:
  - id: small-batch
    text: 작은 배치에서 시그모이드 손실이 낫다
    metric: recall@1
    reported: 0.71
    where: table 2
---

# SigLIP

## 문제

소프트맥스는 배치 전체를 본다.

## 방법
"""


@pytest.fixture
def shelf(toy: Workspace) -> Workspace:
    """The toy workspace, whose paper `toy` has an experiment, with a second paper and a broken third."""
    toy_folder = toy.papers / "toy"
    meta = json.loads((toy_folder / "meta.json").read_text("utf-8"))
    write_json(toy_folder / "meta.json", {**meta, "id": "2103.00020"})
    note = (toy_folder / "README.md").read_text("utf-8")
    (toy_folder / "README.md").write_text(note.replace("2303.15343", "2103.00020"), "utf-8")
    siglip = PaperMeta(
        id="2303.15343",
        title="Sigmoid Loss for Language Image Pre-Training",
        authors=["Xiaohua Zhai", "Lucas Beyer"],
        abstract="A pairwise sigmoid loss.",
        categories=["cs.CV"],
        published="2023-03-27",
        updated="2023-09-27",
        versions=[1, 2, 3, 4],
        source="arxiv",
        fetched_at="2026-11-24T01:28:00Z",
    )
    write_json(toy.papers / "siglip" / "meta.json", encode_json(siglip))
    (toy.papers / "siglip" / "README.md").write_text(NOTE, "utf-8")
    other = msgspec.structs.replace(siglip, id="2111.07991", title="LiT")
    write_json(toy.papers / "broken" / "meta.json", encode_json(other))
    (toy.papers / "broken" / "README.md").write_text("no front matter", "utf-8")
    return toy


def paper(*arguments: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a verb of the library in a process of its own."""
    done = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_the_list_can_be_narrowed_and_names_what_it_leaves_out(shelf: Workspace) -> None:
    done = paper("list")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["paper", "siglip", "toy"]
    assert "v2 → v4" in done.stdout
    assert "left out: papers/broken/README.md:1: the front matter is missing" in done.stderr
    for narrowed in (("--tag", "대조 학습"), ("--week", "2026-W48"), ("--status", "read", "--tag", "loss")):
        (found,) = json.loads(paper("list", *narrowed, "--json").stdout)
        assert found == {
            "slug": "siglip", "id": "2303.15343", "title": "Sigmoid Loss for Language Image Pre-Training",
            "url": "https://arxiv.org/abs/2303.15343", "status": "read", "week": "2026-W48",
            "read_version": 2, "latest": 4, "withdrawn": None, "tags": ["loss", "대조 학습"],
            "claims": ["small-batch"],
        }  # fmt: skip
    assert paper("list", "--status", "queued").stdout == "no paper\n"


def test_a_paper_is_shown_with_claims_drift_and_what_its_note_lacks(shelf: Workspace) -> None:
    shown = paper("show", "https://arxiv.org/pdf/2303.15343v1").stdout
    assert "v1 of 2023-03-27, v4 of 2023-09-27" in shown
    assert "recall@1, higher is better; reported: 0.71 (table 2, from memory)" in shown
    assert "you read v2 of siglip; v4 exists" in shown
    assert "2 of 7 sections" in shown
    assert "empty: 방법" in shown
    record = json.loads(paper("show", "toy", "--json").stdout)
    assert record["experiments"] == {"toy": None}
    assert record["meta"]["id"] == record["note"]["id"] == "2103.00020"


def test_an_unknown_paper_names_the_nearest(shelf: Workspace) -> None:
    assert "did you mean 'siglip'" in paper("show", "SigLP", code=1).stderr
    assert "`claimbook paper add 2105.00001`" in paper("show", "2105.00001", code=1).stderr


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("소프트맥스는", [("siglip", "words")]),  # the note
        ("시그모이드 손실", [("siglip", "words")]),  # a claim
        ("pairwise", [("siglip", "words")]),  # the abstract
        ("Larger is better", [("toy", "words")]),
        ("sigmiod los", [("siglip", "resemblance")]),
        ("sgilip", [("siglip", "resemblance")]),
        ("lti", [("broken", "resemblance")]),  # its note cannot be read, its title can
        ("zzzz", []),
    ],
)
def test_papers_are_found_by_their_words_and_titles_in_spite_of_slips(
    shelf: Workspace, words: str, found: list[tuple[str, str]]
) -> None:
    hits = json.loads(paper("search", *words.split(), "--json").stdout)
    assert [(hit["slug"], hit["found_by"]) for hit in hits] == found


def test_tags_and_status_change_the_note_and_the_overview(shelf: Workspace) -> None:
    assert paper("tag", "siglip", "--add", "검색", "--remove", "loss").stdout == "siglip: 대조 학습, 검색\n"
    zone = ZoneInfo(shelf.timezone)
    before = datetime.now(zone).strftime("%G-W%V")
    said = paper("status", "2303.15343", "reading", "--week", "this", "--version", "4").stdout
    assert said in [
        f"siglip: reading in {week}, v4\n" for week in (before, datetime.now(zone).strftime("%G-W%V"))
    ]
    expected = NOTE.replace("[loss, 대조 학습]", "[대조 학습, 검색]").replace(
        "status: read", "status: reading"
    )
    text = (shelf.papers / "siglip" / "README.md").read_text("utf-8")
    week = said.split()[3].rstrip(",")
    assert text == expected.replace("read_version: 2", "read_version: 4").replace("2026-W48", week)
    assert "## Being read (1)" in (shelf.papers / "README.md").read_text("utf-8")
    assert "which version was it?" in paper("status", "toy", "read").stdout


def test_a_wrong_week_changes_nothing(shelf: Workspace) -> None:
    assert "no ISO week" in paper("status", "siglip", "read", "--week", "W48", code=2).stderr
    assert (shelf.papers / "siglip" / "README.md").read_text("utf-8") == NOTE


def test_a_paper_goes_and_comes_back_and_one_that_is_rested_on_stays(shelf: Workspace) -> None:
    assert "siglip: now in papers/.trash/siglip-" in paper("remove", "2303.15343").stdout
    assert "siglip/" not in (shelf.papers / "README.md").read_text("utf-8")
    paper("restore", "siglip")
    assert "siglip/" in (shelf.papers / "README.md").read_text("utf-8")
    assert (shelf.papers / "siglip" / "README.md").read_text("utf-8") == NOTE
    assert "toy rests on this paper" in paper("remove", "toy", code=1).stderr


def test_the_tables_are_written_and_named(shelf: Workspace) -> None:
    assert paper("bib").stdout == f"{shelf.papers / 'library.bib'}\n"
    assert "@misc{siglip," in (shelf.papers / "library.bib").read_text("utf-8")


@pytest.mark.parametrize(
    ("option", "address"),
    [((), "https://arxiv.org/abs/2303.15343"), (("--pdf",), "https://arxiv.org/pdf/2303.15343")],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the browser is opened by xdg-open on Linux only")
def test_the_page_is_opened_in_the_browser(
    shelf: Workspace, tmp_path: Path, option: tuple[str, ...], address: str
) -> None:
    """In place of the system's opener stands one that writes the address down for us; nobody waits for it."""
    opener, opened = tmp_path / "bin" / "xdg-open", tmp_path / "opened"
    opener.parent.mkdir()
    opener.write_text(
        f'#!/bin/sh\nexec >/dev/null 2>&1\necho "$1" > {opened}.new; mv {opened}.new {opened}\n'
    )
    opener.chmod(0o755)
    done = paper("open", "siglip", *option, PATH=f"{opener.parent}:{os.environ['PATH']}")
    assert done.stdout == f"{address}\n"
    deadline = time.monotonic() + 60
    while not opened.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert opened.read_text() == f"{address}\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_the_note_is_opened_in_the_editor_in_a_terminal_only(
    shelf: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "edited" >> "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("VISUAL", str(editor))
    note = shelf.papers / "siglip" / "README.md"
    assert paper("open", "siglip", "--note").stdout == f"{note}\n"
    assert note.read_text("utf-8") == NOTE
    ours, its = pty.openpty()
    subprocess.run([*COMMAND, "open", "siglip", "--note"], stdin=its, stdout=its, stderr=its, check=True)
    assert os.read(ours, 1024).decode().splitlines() == [str(note)]
    assert note.read_text("utf-8") == NOTE + "edited\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("add",), ("add", "2103.00020", "--query", "all:clip"),
        ("add", "2103.00020", "2303.15343", "--as", "x"),
        ("add", "-", "--as", "x"), ("tag", "siglip"), ("status", "siglip", "finished"),
        ("import", "missing.bib"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_exit_code_2(shelf: Workspace, arguments: tuple[str, ...]) -> None:
    paper(*arguments, code=2)


def test_a_wrong_name_or_tag_is_refused_before_anybody_is_asked(shelf: Workspace) -> None:
    """Port 9 of this machine is nobody's: an attempt to ask would end as unreachable."""
    nobody = {"CLAIMBOOK_ARXIV_URL": "http://127.0.0.1:9"}
    done = paper("add", "2105.00001", "--as", "Bad Name", code=1, **nobody)
    assert "'Bad Name' cannot name a folder" in done.stderr
    done = paper("add", "2105.00001", "--tag", " ", code=1, **nobody)
    assert "' ' is no tag" in done.stderr
    assert done.stdout == ""
