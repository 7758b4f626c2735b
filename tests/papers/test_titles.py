from __future__ import annotations

import html
import re

import cmarkgfm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claimbook.papers.titles import as_markdown, resembling_titles, slug_of
from claimbook.workspace import check_slug

TITLES = {
    "siglip": "Sigmoid Loss for Language Image Pre-Training",
    "clip": "Learning Transferable Visual Models From Natural Language Supervision",
    "mine": "이미지 검색을 위한 대조학습 모형",
    "poincare": "On Poincaré Embeddings",
}


@pytest.mark.parametrize(
    ("title", "slug"),
    [
        ("Sigmoid Loss for Language Image Pre-Training", "sigmoid-loss-for-language"),
        ("LiT: Zero-Shot Transfer with Locked-image text Tuning", "lit"),
        ("BLIP-2: Bootstrapping Language-Image Pre-training", "blip-2"),
        ("Contrastive Language-Image Pre-training (CLIP) at Scale", "clip"),
        ("When and why vision-language models behave like bags: a study", "when-and-why-vision"),
        ("What's Poincaré $\\alpha$? Straße", "whats-poincare-alpha-strasse"),
        ("한국어 상품 검색: CLIP", "clip"),
        ("한국어 상품 검색", "arxiv-2103-00020"),
        ("", "arxiv-2103-00020"),
        ("2024: 7", "arxiv-2103-00020"),
        ("x" * 100_000, "x" * 40),
        ("Electroencephalographically informed representations", "electroencephalographically-informed"),
    ],
)  # fmt: skip
def test_a_slug_is_the_name_the_acronym_or_the_first_words(title, slug):
    assert slug_of(title, "2103.00020") == slug


def test_a_paper_of_the_old_scheme_is_named_by_its_archive():
    assert slug_of("", "math/0309136") == "arxiv-math-0309136"


def test_a_taken_slug_gets_the_next_free_number():
    assert slug_of("LiT: a", "2103.00020", {"lit"}) == "lit-2"
    assert slug_of("LiT: a", "2103.00020", {"lit", "lit-2", "lit-4"}) == "lit-3"


@given(st.text(), st.sets(st.sampled_from(["a", "a-2", "arxiv-2103-00020"])))
@settings(deadline=None)
def test_every_title_has_a_slug_that_can_name_a_folder(title, taken):
    slug = slug_of(title, "2103.00020", taken)
    assert check_slug(slug) == slug
    assert slug not in taken


def shown(markdown: str) -> str:
    """The text of the one link, as GitHub's own parser shows it in a table."""
    page = cmarkgfm.github_flavored_markdown_to_html(f"| a |\n| --- |\n| [{markdown}](x/) |\n")
    (row,) = re.findall(r"<td>(.*?)</td>", page, re.DOTALL)
    link = re.fullmatch(r'<a href="x/">(.*)</a>', row, re.DOTALL)
    assert link, row
    assert "<" not in link[1], row
    return html.unescape(link[1])


@pytest.mark.parametrize(
    "title",
    [
        "a | b || c",
        "[x](https://example.org) ![y](z) [[w]]",
        "`code` ``two`` *a* **b** _c_ __d__ ~~e~~",
        "<script>alert(1)</script> <!-- --> &amp; &#65; <https://a.b>",
        "https://example.org www.example.org http://x.y",
        "$\\alpha$ \\| \\\\ C# #1 ^2",
        "ends with a backslash \\",
        "- 1. > # =",
    ],
)
def test_a_hostile_title_is_shown_letter_by_letter(title):
    assert shown(as_markdown(title)) == title


def test_line_breaks_controls_and_marks_of_direction_are_gone():
    assert as_markdown("a\nb\r\n\tc \x00\x1b[31m\u202ed\u2066\u200fe\ud800\u2028f") == "a b c \\[31mde f"


@given(st.text(st.characters(codec="utf-8"), min_size=1))
@settings(deadline=None)
def test_whatever_the_title_says_the_table_keeps_its_form(title):
    visible = "".join(letter for letter in title if letter.isprintable() or letter.isspace())
    plain = " ".join(visible.split())
    if plain:
        assert shown(as_markdown(title)) == plain


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("sigmiod los", ["siglip"]),  # two swapped, one too few
        ("SIGMOID", ["siglip"]),
        ("lerning transferrable", ["clip"]),
        ("clpi", ["clip"]),  # the slug
        ("poincare", ["poincare"]),
        ("이미지 검섹을", ["mine"]),  # a letter of a syllable
        ("대조학슴", ["mine"]),
        ("모경", ["mine"]),
        ("학생", []),
        ("los", ["siglip"]),
        ("sigmoid models", []),  # every word must be there
        ("xy", []),
        ("", []),
        ("!?", []),
    ],
)
def test_titles_are_found_in_spite_of_slips(query, found):
    assert resembling_titles(query, TITLES) == found


def test_the_title_with_fewer_slips_comes_first():
    titles = {"b": "contrastive learning", "a": "contrasting learning"}
    assert resembling_titles("contrastive lerning", titles) == ["b", "a"]
