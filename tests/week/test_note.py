"""A note is filled in when all of its sections have text, whatever their words."""

from pathlib import Path

import pytest

from claimbook.papers.scaffold import HEADINGS, note
from claimbook.week.note import lacks

ROOT = Path(__file__).parent.parent.parent
KOREAN = ("문제", "어려움", "기존 시도", "비슷한 문제", "방법", "검증", "서비스 적용")


def a_note(headings: tuple[str, ...] = KOREAN, empty: tuple[str, ...] = ()) -> str:
    parts = [f"## {heading}\n\n{'' if heading in empty else '한 문장.'}\n" for heading in headings]
    return "# 읽기 노트\n\n" + "\n".join(parts)


def test_the_note_that_comes_with_the_kit_is_filled_in() -> None:
    text = (ROOT / "papers" / "siglip" / "README.md").read_text("utf-8")
    assert lacks(text.split("\n---\n", 1)[1]) is None


def test_a_korean_note_is_filled_in() -> None:
    assert lacks(a_note()) is None


def test_empty_sections_are_named_as_the_note_calls_them() -> None:
    assert lacks(a_note(empty=("방법", "서비스 적용"))) == "empty: 방법, 서비스 적용"


@pytest.mark.parametrize("headings", [*HEADINGS.values(), KOREAN])
@pytest.mark.parametrize("place", range(7))
def test_a_missing_section_is_told_from_the_headings_that_are_there(
    headings: tuple[str, ...], place: int
) -> None:
    left = headings[:place] + headings[place + 1 :]
    assert lacks(a_note(left)) == f"6 of 7 sections, missing: {HEADINGS['en'][place]}"


def test_a_new_note_has_every_section_to_fill_in() -> None:
    body = note("2303.15343", "A title", "ko").split("\n---\n", 1)[1]
    assert lacks(body) == f"empty: {', '.join(HEADINGS['ko'])}"


def test_sections_of_a_persons_own_count() -> None:
    assert lacks(a_note(("A", "B", "C", "D", "E", "F", "G"))) is None
    assert lacks(a_note((*KOREAN, "Questions"), empty=("Questions",))) == "empty: Questions"


def test_headings_that_cannot_be_told_name_no_section_as_missing() -> None:
    assert lacks(a_note(("A", "The method"))) == "2 of 7 sections"


def test_a_note_without_sections_says_how_many_there_should_be() -> None:
    assert lacks("") == lacks("# Title\n\nA long text.\n\n### deep\n\ntext") == "0 of 7 sections"


@pytest.mark.parametrize(
    "filler",
    ["", "<!-- what is the problem? -->", "<!--\nseveral\n\nlines\n-->\n", "…", "### A lower heading", "---"],
)
def test_what_is_no_text_fills_no_section(filler: str) -> None:
    assert lacks(a_note().replace("한 문장.", filler, 1)) == "empty: 문제"


@pytest.mark.parametrize(
    "text",
    [
        "$$\n\\mathcal{L} = 1\n$$",
        "- a list",
        "```python\n## no heading\n```",
        "> a quotation",
        "![curve](curve.png)",
        "### Lower\n\nwith text",
        "| a |\n|---|\n| b |",
    ],
)
def test_anything_that_is_read_fills_a_section(text: str) -> None:
    assert lacks(a_note().replace("한 문장.", text, 1)) is None


def test_underlined_headings_and_windows_lines_are_headings_too() -> None:
    underlined = "\r\n".join(f"{heading}\r\n---\r\n\r\ntext\r\n" for heading in KOREAN)
    assert lacks(underlined) is None
