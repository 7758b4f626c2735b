from pathlib import Path

import pytest

from claimbook.site.markdown import Headings, code, formula, markdown
from claimbook.site.shelf import Page, Shelf


@pytest.fixture
def page(tmp_path: Path) -> Page:
    source = tmp_path / "papers" / "x" / "README.md"
    source.parent.mkdir(parents=True)
    return Shelf(tmp_path / "site", tmp_path).page("papers/x.html", source)


def shown(text: str, page: Page, top: int = 3) -> str:
    return str(markdown(text, page, Headings(top)))


def test_inline_formulas_become_mathml(page: Page) -> None:
    assert shown("쌍 $x_i$의 손실", page) == (
        "<p>쌍 <math><msub><mi>x</mi><mi>i</mi></msub></math>의 손실</p>\n"
    )


def test_a_formula_on_its_own_is_a_block_that_scrolls(page: Page) -> None:
    html = shown("$$\n\\frac{1}{2}\n$$", page)
    assert (
        '<div class="scroll math-block"><math display="block"><mfrac><mn>1</mn><mn>2</mn></mfrac></math>'
        in html
    )


def test_alignments_of_formulas_are_classes_since_pages_allow_no_style(page: Page) -> None:
    html = shown("$$\n\\begin{aligned} a &= b \\end{aligned}\n$$", page)
    assert 'class="math-text-align-right math-justify-items-end math-padding-right-0"' in html
    assert " style=" not in html


def test_every_alignment_of_the_converter_has_a_rule_in_the_stylesheet(page: Page) -> None:
    import re

    import claimbook.site

    css = (Path(claimbook.site.__file__).parent / "static" / "style.css").read_text()
    rows = "a & b \\\\ c & d"
    formulas = [
        f"\\begin{{{name}}} {rows} \\end{{{name}}}" for name in ("align", "aligned", "cases", "pmatrix")
    ]
    formulas.append("\\begin{equation} a \\end{equation}")
    formulas.append("\\begin{array}{l|r} a & b \\\\ \\hline c & d \\end{array}")
    for tex in formulas:
        for name in re.findall(r"math-[a-z0-9-]+", formula(tex, page, block=True)):
            # text-align does what justify-items repeats
            assert f".{name} " in css or name.startswith("math-justify-items"), name
    assert page.shelf.warnings == []


def test_a_formula_that_is_not_understood_is_shown_and_reported(page: Page) -> None:
    assert shown("$\\nosuch{x}$", page) == '<p><code class="math-source">\\nosuch{x}</code></p>\n'
    assert "Unknown command" in page.shelf.warnings[0]


def test_prices_are_no_formulas(page: Page) -> None:
    assert shown("It costs 5$ or 6$ a day.", page) == "<p>It costs 5$ or 6$ a day.</p>\n"


def test_text_in_formulas_is_escaped(page: Page) -> None:
    assert "<script" not in shown("$\\text{<script>alert(1)</script>}$", page)


def test_headings_follow_the_page_and_skip_no_level(page: Page) -> None:
    assert shown("# a\n### b\n## c\n# d", page, top=2) == ("<h2>a</h2>\n<h3>b</h3>\n<h3>c</h3>\n<h2>d</h2>\n")


def test_headings_never_leave_html(page: Page) -> None:
    assert [Headings(5).level(1)] == [5]
    deep = Headings(5)
    assert [deep.level(level) for level in (1, 2, 3, 4)] == [5, 6, 6, 6]


def test_tables_scroll_and_keep_their_alignment(page: Page) -> None:
    html = shown("| a | b |\n|---|--:|\n| 1 | 2 |", page)
    assert html.startswith('<div class="scroll"><table>')
    assert '<td class="right">2</td>' in html


def test_code_is_highlighted_and_unknown_languages_are_plain(page: Page) -> None:
    assert '<span class="hl-k">def</span>' in shown("```python\ndef f(): pass\n```", page)
    assert shown("```klingon\n<b>\n```", page) == '<pre class="hl"><code>&lt;b&gt;\n</code></pre>\n'


def test_listings_are_escaped() -> None:
    assert "<script>" not in code("'<script>alert(1)</script>'")


def test_pictures_beside_the_note_are_copied(page: Page) -> None:
    from PIL import Image

    Image.new("RGB", (3, 2)).save(page.source.parent / "그림.png")
    html = shown("![세 점](그림.png)", page)
    assert html.startswith('<p><img src="../figures/')
    assert 'alt="세 점"' in html
    assert len(list((page.shelf.folder / "figures").iterdir())) == 1


def test_a_picture_without_alt_text_is_reported(page: Page) -> None:
    from PIL import Image

    Image.new("RGB", (3, 2)).save(page.source.parent / "a.png")
    shown("![](a.png)", page)
    assert page.shelf.warnings == [
        "papers/x/README.md: a picture has no alt text: say in words what it shows"
    ]
