from __future__ import annotations

import json
import re

import msgspec
import pytest
from paper_examples import THEN, entry

from claimbook.papers.metadata import metadata
from claimbook.papers.scaffold import HEADINGS, note
from claimbook.records import Claim
from claimbook.records.paper import Paper, Reproduction, Scale, read_paper
from claimbook.week.note import lacks

META = json.dumps(msgspec.to_builtins(metadata(entry("2103.00020"), THEN))).encode()


def read(text: str) -> Paper:
    return read_paper("clip", META, text)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_new_note_can_be_read_and_is_empty(language):
    paper = read(note("2103.00020", "CLIP: a *star*", language, "reading", ["a: b", "검색"]))
    assert (paper.note.id, paper.note.status, paper.note.tags) == ("2103.00020", "reading", ["a: b", "검색"])
    assert (paper.note.claims, paper.note.reproduction, paper.note.read_version) == ([], None, None)
    headings = re.findall(r"^## (.*)$", paper.body, re.MULTILINE)
    assert headings == list(HEADINGS[language])
    assert paper.body.startswith("\n# CLIP: a \\*star\\*\n")
    assert lacks(paper.body) == f"empty: {', '.join(HEADINGS[language])}"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_with_a_word_under_each_heading_the_note_lacks_nothing(language):
    text = note("2103.00020", "CLIP", language)
    assert lacks(re.sub(r"^(## .*)$", r"\1\n\n적었다.", text, flags=re.MULTILINE)) is None


def test_its_examples_show_every_field_that_a_note_may_have():
    """Once the signs are gone, the comments are a claim and a reproduction that leave no field out."""
    text = note("2103.00020", "CLIP", "en")
    front, body = text.split("---\n\n", 1)
    filled = re.sub(
        r"^# (?=reproduction:|  )", "", front.replace("claims: []", "claims:"), flags=re.MULTILINE
    )
    paper = read(f"{filled}---\n\n{body}")
    (claim,) = paper.note.claims
    for record, kind in (
        (claim, Claim), (claim.scale, Scale), (paper.note.reproduction, Reproduction)
    ):  # fmt: skip
        assert isinstance(record, kind)
        assert None not in msgspec.structs.asdict(record).values()
    names = [name for kind in (Claim, Scale, Reproduction) for name in kind.__struct_fields__]
    assert all(re.search(rf"\b{name}:", front) for name in names)


def test_what_came_with_an_import_is_kept_as_a_last_section():
    text = note("2103.00020", "CLIP", "ko", remark="  본문\n---\nid: no field\n")
    assert text.endswith("## 서비스 적용\n\n## 읽기 전 메모\n\n> 본문\n> ---\n> id: no field\n")
    assert read(text).note.id == "2103.00020"


@pytest.mark.parametrize("remark", ["# a heading\ntext", "<!-- a comment", "## 방법"])
def test_a_remark_is_no_section_of_its_own_and_never_an_empty_one(remark):
    body = note("2103.00020", "CLIP", "ko", remark=remark).split("\n---\n", 1)[1]
    assert lacks(body) == f"empty: {', '.join(HEADINGS['ko'])}"
