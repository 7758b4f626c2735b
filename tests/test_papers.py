"""The papers that come along: each note says enough to begin with, and each number says where it stands."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from claimbook import workspace
from claimbook.papers import library
from claimbook.records import Paper
from claimbook.records.schema import split_front_matter

ROOT = Path(__file__).parent.parent
PAPERS = library(workspace.find(ROOT))

SECTIONS = [
    "The problem",
    "What is hard about it",
    "How it was tried before",
    "How similar problems were solved",
    "The method",
    "How one would verify it",
    "What it would change in our service",
]
"""The headings of a note, in the order in which research is done."""

FILLED = ["The problem", "What is hard about it", "The method"]
"""What a note says before anybody has read the paper in its week."""

IDS = [
    "1706.04599", "1809.02156", "1905.12794", "2010.00904", "2103.00020", "2106.09685", "2109.01134",
    "2109.01903", "2110.04544", "2110.05208", "2111.03930", "2111.07783", "2111.07991", "2111.09734",
    "2112.12750", "2201.12086", "2203.02053", "2204.14198", "2205.13147", "2207.00208", "2210.01936",
    "2212.00638", "2212.00794", "2301.12597", "2302.03084", "2303.15343", "2304.08485", "2305.10355",
    "2306.14610", "2310.03744", "2405.18570", "2407.01449", "2407.07726", "2408.12637",
]  # fmt: skip
"""Thirty-four weeks of reading, by their arXiv ids."""

every_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.slug)


def sections(body: str) -> list[tuple[str, str]]:
    """Heading and text of each section of a note."""
    parts = re.split(r"^## (.+)\n", body, flags=re.MULTILINE)[1:]
    return [(heading, text.strip()) for heading, text in zip(parts[::2], parts[1::2], strict=True)]


def paragraphs(body: str) -> list[str]:
    """The paragraphs of a note that are long enough to say something, on one line each."""
    return [" ".join(part.split()) for part in body.split("\n\n") if len(part) >= 40]


def test_the_year_is_complete_and_no_paper_is_there_twice():
    ids = [paper.meta.id for paper in PAPERS]
    assert len(set(ids)) == len(ids)
    assert set(IDS) <= set(ids)


@every_paper
def test_a_note_has_its_sections_and_says_problem_difficulty_and_method(paper: Paper):
    found = sections(paper.body)
    assert [heading for heading, _ in found] == SECTIONS
    for heading, text in found:
        if heading in FILLED:
            assert len(text) >= 80, heading


def test_no_paragraph_stands_in_two_notes():
    counts = Counter(paragraph for paper in PAPERS for paragraph in paragraphs(paper.body))
    assert [paragraph for paragraph, count in counts.items() if count > 1] == []


@every_paper
def test_a_paper_has_a_claim_and_every_reported_number_says_where_it_stands(paper: Paper):
    text = (ROOT / "papers" / paper.slug / "README.md").read_text("utf-8")
    written = split_front_matter(text, paper.slug)[0]["claims"]
    assert written
    for claim in written:
        if "reported" in claim:
            assert claim["where"].strip(), claim["id"]
            assert "confirmed" in claim, f"{claim['id']}: looked up, or from memory?"


@every_paper
def test_what_a_reproduction_takes_is_judged_before_the_week_comes(paper: Paper):
    takes = paper.note.reproduction
    assert takes is not None
    assert takes.gpu_minutes is not None


@every_paper
def test_metadata_is_whole_and_says_whether_arxiv_gave_it(paper: Paper):
    meta = paper.meta
    assert meta.title.strip()
    assert meta.authors
    assert all(author == author.strip() != "" for author in meta.authors)
    assert len(set(meta.authors)) == len(meta.authors)
    assert re.fullmatch(r"[a-z-]+\.[A-Z]{2}", meta.categories[0])
    assert meta.versions == list(range(1, len(meta.versions) + 1))
    assert (meta.source == "manual") == (meta.fetched_at is None)


@every_paper
def test_a_paper_was_published_in_the_month_of_its_id(paper: Paper):
    """Or in the month before: a paper held for a while gets its id when it is announced."""
    year, month = 2000 + int(paper.meta.id[:2]), int(paper.meta.id[2:4])
    before = f"{year}-{month - 1:02}" if month > 1 else f"{year - 1}-12"
    assert paper.meta.published[:7] in (f"{year}-{month:02}", before)
    assert paper.meta.published[:7] <= paper.meta.updated[:7]


@every_paper
def test_every_formula_of_a_note_can_be_shown(paper: Paper):
    from math_core import LatexToMathML

    for formula in re.findall(r"\$([^$]+)\$", paper.body):
        assert "<math" in LatexToMathML().convert_with_local_state(formula, displaystyle=False)
