"""The queue in the order of hand-computed scores, and every score is the sum of the reasons shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claimbook.records import Claim, Link, Paper, PaperMeta, PaperNote, Reproduction
from claimbook.week import Proposal, propose
from claimbook.week.machine import Machine
from claimbook.week.proposal import WEIGHTS, shopping_words
from claimbook.workspace import Workspace

LAPTOP = Machine(memory=8.0, disk=50.0, gpu=False)
SERVER = Machine(memory=64.0, disk=500.0, gpu=True, gpu_memory=24.0)
CLAIM = Claim(id="one", text="It is better", metric="accuracy")
SCRATCH = Reproduction(mode="scratch", cpu_minutes=1.5, gpu_minutes=1.0)
WEIGHTS_ONLY = Reproduction(mode="weights", weights="org/model", gpu_minutes=5.0, gpu_memory=16.0)


def a_paper(slug: str, *, title: str = "Learning", abstract: str = "", **fields: Any) -> Paper:
    """A queued paper; the fields of its metadata and of its note by their names."""
    of_meta = {name: fields.pop(name) for name in ("links", "withdrawn") if name in fields}
    meta = PaperMeta(
        id="2303.15343",
        title=title,
        authors=["A. Author"],
        abstract=abstract,
        categories=["cs.CV"],
        published="2023-03-27",
        updated="2023-03-27",
        versions=[1],
        source="manual",
        **of_meta,
    )
    return Paper(slug=slug, meta=meta, note=PaperNote(id="2303.15343", **fields), body="")


def ranked(
    *papers: Paper, machine: Machine = LAPTOP, here: bool = False, root: Path = Path()
) -> list[Proposal]:
    return propose(Workspace(root), papers, machine, lambda name: here)


def names(paper: Paper, **options: Any) -> list[str]:
    (proposal,) = ranked(paper, **options)
    assert proposal.score == sum(WEIGHTS[reason.name] for reason in proposal.reasons)
    return [reason.name for reason in proposal.reasons]


def test_the_queue_is_what_is_queued_or_begun_without_a_week() -> None:
    papers = [
        a_paper("queued"),
        a_paper("planned", week="2026-W50"),
        a_paper("begun", status="reading"),
        a_paper("under-way", status="reading", week="2026-W48"),
        a_paper("read", status="read"),
    ]
    assert {one.slug: one.week for one in ranked(*papers)} == {
        "queued": None,
        "planned": "2026-W50",
        "begun": None,
    }


def test_a_small_paper_on_products_comes_before_a_large_one(tmp_path: Path) -> None:
    """small: 3 from scratch + 2 fits + 2 quick (27 minutes) + 2 claim + 2 notebook + 1 products = 12.
    large: −2 weights absent − 3 no GPU + 2 claim = −3; nobody knows how long it takes on a CPU.
    blank: −1 unknown − 2 no claim = −3; of equals the first by slug.
    """
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "small.ipynb").write_text("{}")
    small = a_paper("small", title="Product pictures", reproduction=SCRATCH, claims=[CLAIM])
    large = a_paper("large", reproduction=WEIGHTS_ONLY, claims=[CLAIM])
    queue = ranked(large, small, a_paper("blank"), root=tmp_path)
    assert [(one.slug, one.score) for one in queue] == [("small", 12), ("blank", -3), ("large", -3)]


def test_weights_that_are_here_and_a_gpu_turn_the_order() -> None:
    """large: 2 weights here + 2 fits + 1 overnight (18 × 5 minutes = 1.5 hours) + 2 claim = 7."""
    large = a_paper("large", reproduction=WEIGHTS_ONLY, claims=[CLAIM])
    queue = ranked(large, a_paper("blank"), machine=SERVER, here=True)
    assert [(one.slug, one.score) for one in queue] == [("large", 7), ("blank", -3)]
    assert [reason.text for reason in queue[0].reasons] == [
        "org/model is on this machine",
        "fits this machine, on the GPU: 64 GiB of memory and 500 of disk are free",
        "18 runs take about 90 minutes",
        "claim one can be tested: accuracy, higher is better",
    ]


@pytest.mark.parametrize(
    ("takes", "machine", "reason"),
    [
        (SCRATCH, LAPTOP, "fits this machine, on the CPU: 8 GiB of memory and 50 of disk are free"),
        (WEIGHTS_ONLY, LAPTOP, "needs a GPU with 16 GiB, and there is none here"),
        (WEIGHTS_ONLY, Machine(64, 500, True, 8.0), "needs a GPU with 16 GiB; this one has 8"),
        (
            WEIGHTS_ONLY,
            Machine(64, 500, True, None),
            "fits this machine, on the GPU: 64 GiB of memory and 500 of disk are free",
        ),
        (WEIGHTS_ONLY, Machine(64, 9, True, 24.0), "9 GiB of disk are free for weights of up to 16"),
        (SCRATCH, Machine(0.5, 50, False), "0.5 GiB of memory are free, a run takes about 1"),
        (
            Reproduction(mode="weights", weights="x", gpu_minutes=1.0),
            LAPTOP,
            "needs a GPU, and there is none here",
        ),
    ],
)
def test_what_fits_is_said_with_its_numbers(takes: Reproduction, machine: Machine, reason: str) -> None:
    (proposal,) = ranked(a_paper("x", reproduction=takes), machine=machine)
    (fit,) = [one for one in proposal.reasons if one.name in ("fits", "does not fit")]
    assert fit.text == reason
    assert fit.name == ("fits" if reason.startswith("fits") else "does not fit")


@pytest.mark.parametrize(
    ("minutes", "name"), [(3.3, "quick"), (3.4, "overnight"), (40, "overnight"), (41, "long")]
)
def test_an_hour_is_quick_and_twelve_are_overnight(minutes: float, name: str) -> None:
    """Eighteen runs of 3.3 minutes are 59.4 minutes, of 40 minutes twelve hours."""
    assert name in names(a_paper("x", reproduction=Reproduction(mode="features", cpu_minutes=minutes)))


def test_links_and_withdrawal_count() -> None:
    links = [
        Link(kind="code", url="https://github.com/org/code", said_in="abstract"),
        Link(kind="code", url="https://github.com/org/other", said_in="comment"),
        Link(kind="model", url="https://huggingface.co/org/model", said_in="person"),
        Link(kind="data", url="https://example.org/data", said_in="person"),
    ]
    paper = a_paper("x", links=links, withdrawn="This paper has been withdrawn")
    assert names(paper) == ["withdrawn", "unknown", "no claim", "code", "model"]
    assert ranked(paper)[0].reasons[3].text == "its code is linked: https://github.com/org/code"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Contrastive learning for e-commerce products", ["product", "e-commerce"]),
        ("상품 사진에서 속성을 찾는다", ["상품", "속성"]),
        ("이미지검색과 전자상거래", ["전자상거래", "검색"]),
        ("The dot product and an inner-product, by-products, product quantization", []),
        ("Groceries in many shops", ["shop", "grocery"]),
        ("A photoshop workshop on shopping", ["shopping"]),
        ("Productive production", []),
        ("Fits our Mugs-2026 set", ["mugs-2026"]),
    ],
)
def test_words_of_shopping_are_found_in_both_languages(text: str, words: list[str]) -> None:
    assert shopping_words(a_paper("x", title=text), ["mugs-2026"]) == words
    assert shopping_words(a_paper("x", abstract=text.upper()), ["mugs-2026"]) == words
    assert shopping_words(a_paper("x", claims=[Claim(id="a", text=text, metric="m")]), ["mugs-2026"]) == words


def test_no_more_than_three_words_count() -> None:
    title = "Retail catalogues of fashion products for shopping"
    assert names(a_paper("x", title=title)).count("products") == 3
    assert names(a_paper("x", tags=["fashion"])).count("products") == 1


def test_decomposed_hangul_is_the_same_word() -> None:
    import unicodedata

    assert shopping_words(a_paper("x", title=unicodedata.normalize("NFD", "상품 검색"))) == ["상품", "검색"]
