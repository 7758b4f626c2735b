"""What arXiv says becomes meta.json; what is new in it is named."""

from __future__ import annotations

import gzip
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from claimbook.papers.ids import ArxivId
from claimbook.papers.metadata import metadata, news, withdrawal
from claimbook.papers.outcomes import Entry
from claimbook.records import Link, PaperMeta

AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LATER = datetime(2026, 12, 1, 12, 0, tzinfo=UTC)
ENTRY = Entry(
    id=ArxivId("2303.15343", 2),
    title="Sigmoid Loss for Language Image Pre-Training",
    authors=("Xiaohua Zhai", "Basil Mustafa"),
    abstract="A pairwise loss. Code: https://github.com/google-research/big_vision.",
    categories=("cs.CV", "cs.AI"),
    published="2023-03-27",
    updated="2023-05-04",
    comment=None,
    journal_ref=None,
    doi=None,
    has_pdf=True,
)
BY_HAND = PaperMeta(
    id="2303.15343",
    title="Sigmoid Loss",
    authors=["X. Zhai"],
    abstract="",
    categories=["cs.CV"],
    published="2023-03",
    updated="2023-03",
    versions=[1],
    source="manual",
    links=[Link(kind="model", url="https://huggingface.co/google/siglip", said_in="person")],
)


def test_a_first_answer_becomes_metadata_with_every_version_up_to_it() -> None:
    meta = metadata(ENTRY, AT)
    assert (meta.id, meta.versions, meta.source, meta.fetched_at) == (
        "2303.15343", [1, 2], "arxiv", "2026-11-24T12:00:00Z",
    )  # fmt: skip
    assert meta.links == [
        Link(kind="code", url="https://github.com/google-research/big_vision", said_in="abstract")
    ]


def test_what_a_person_entered_gives_way_to_arxiv_but_for_the_links() -> None:
    meta = metadata(ENTRY, AT, BY_HAND)
    assert (meta.title, meta.published, meta.source) == (ENTRY.title, "2023-03-27", "arxiv")
    assert [link.said_in for link in meta.links] == ["abstract", "person"]
    assert [one.kind for one in news(BY_HAND, meta)] == ["version", "fetched", "title", "link"]


def test_an_answer_about_an_older_version_takes_nothing_back() -> None:
    newest = metadata(replace(ENTRY, id=ArxivId("2303.15343", 4), title="Newer"), AT)
    assert metadata(ENTRY, LATER, newest) == newest


def test_an_earlier_answer_about_the_same_version_takes_nothing_back() -> None:
    later = metadata(replace(ENTRY, doi="10.1109/x"), LATER)
    assert metadata(ENTRY, AT, later) == later
    assert metadata(ENTRY, LATER, metadata(replace(ENTRY, doi="10.1109/x"), AT)).doi is None


def test_a_new_version_a_journal_and_a_doi_are_news() -> None:
    before = metadata(ENTRY, AT)
    entry = replace(
        ENTRY,
        id=ArxivId("2303.15343", 4),
        updated="2023-09-27",
        journal_ref="ICCV 2023",
        doi="10.1109/ICCV51070.2023.01100",
        comment="Weights: huggingface.co/google/siglip-base-patch16-224, demo https://huggingface.co/spaces/a/b",
    )
    after = metadata(entry, LATER, before)
    assert after.versions == [1, 2, 3, 4]
    assert [(one.kind, one.text) for one in news(before, after)] == [
        ("version", "v4 of 2023-09-27; known so far: v2"),
        ("journal", "published: ICCV 2023"),
        ("doi", "published as https://doi.org/10.1109/ICCV51070.2023.01100"),
        ("link", "model: https://huggingface.co/google/siglip-base-patch16-224"),
        ("link", "project: https://huggingface.co/spaces/a/b"),
    ]


def test_nothing_new_is_no_news() -> None:
    before = metadata(ENTRY, AT)
    assert news(before, metadata(ENTRY, LATER, before)) == []


@pytest.mark.parametrize(
    ("comment", "has_pdf", "reason"),
    [
        ("This paper has been withdrawn by the authors: Table 2 is wrong", False, "Table 2 is wrong"),
        ("Withdrawn: the proof of Lemma 3 is wrong", False, "Lemma 3"),
        ("withdrawn", True, "withdrawn"),
        ("This submission has been withdrawn by arXiv administrators", True, "administrators"),
        (None, False, "arXiv offers no PDF of v2"),
        ("HTML only, 12 pages", False, "arXiv offers no PDF of v2; the comment: HTML only"),
    ],
)  # fmt: skip
def test_a_withdrawal_is_seen_and_tells_its_reason(comment: str | None, has_pdf: bool, reason: str) -> None:
    assert reason in (withdrawal(replace(ENTRY, comment=comment, has_pdf=has_pdf)) or "")


@pytest.mark.parametrize(
    "comment",
    [
        None,
        "ICCV 2023, 12 pages",
        "An earlier version of this work was withdrawn from ICLR; accepted at CVPR",
        "We study retracted papers. 10 pages",
    ],
)
def test_a_paper_with_a_pdf_that_speaks_of_other_withdrawals_is_none(comment: str | None) -> None:
    assert withdrawal(replace(ENTRY, comment=comment)) is None


def test_a_withdrawal_and_its_end_come_first_among_the_news() -> None:
    fine = metadata(ENTRY, AT)
    gone = metadata(
        replace(ENTRY, id=ArxivId("2303.15343", 3), has_pdf=False, comment="Withdrawn by the authors"),
        AT,
        fine,
    )
    back = metadata(replace(ENTRY, id=ArxivId("2303.15343", 4)), LATER, gone)
    assert news(fine, gone)[0].text == "it looks withdrawn: Withdrawn by the authors"
    assert news(gone, back)[0].kind == "restored"


@pytest.mark.parametrize(
    ("text", "url", "kind"),
    [
        ("(see https://github.com/a/b).", "https://github.com/a/b", "code"),
        ("at github.com/a/b, now", "https://github.com/a/b", "code"),
        ("https://en.wikipedia.org/wiki/Loss_(x)", "https://en.wikipedia.org/wiki/Loss_(x)", "project"),
        ("[page](https://a.github.io/b)", "https://a.github.io/b", "project"),
        ("https://huggingface.co/datasets/a/b", "https://huggingface.co/datasets/a/b", "data"),
        ("https://huggingface.co/a/b!", "https://huggingface.co/a/b", "model"),
        ("https://huggingface.co/a", "https://huggingface.co/a", "project"),
        ("\\url{https://gitlab.com/a/b}", "https://gitlab.com/a/b", "code"),
    ],
)
def test_links_are_found_whole_and_told_apart(text: str, url: str, kind: str) -> None:
    (link,) = metadata(replace(ENTRY, abstract=text), AT).links
    assert (link.url, link.kind) == (url, kind)


@pytest.mark.parametrize(
    "text", ["https://arxiv.org/abs/2103.00020", "https://doi.org/10.1/x", "https://[x/y"]
)
def test_papers_and_broken_addresses_are_no_links(text: str) -> None:
    assert metadata(replace(ENTRY, abstract=text), AT).links == []


def test_no_link_of_a_real_abstract_is_lost_or_torn(test_data: Path) -> None:
    """Every github.com/owner/name that a plain search sees is in the links, without what follows it."""
    seen = 0
    with gzip.open(test_data / "arxiv" / "records.jsonl.gz", "rt") as lines:
        for record in map(json.loads, lines):
            abstract = " ".join(record["abstract"].split())
            urls = [link.url for link in metadata(replace(ENTRY, abstract=abstract), AT).links]
            for match in re.finditer(r"https://github\.com/[\w.-]*\w/[\w.-]*\w", abstract):
                assert any(url.startswith(match[0]) for url in urls)
                seen += 1
            assert not any(url.endswith((".", ",", ")", "}")) for url in urls)
    assert seen > 1_000
