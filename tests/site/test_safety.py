"""What others wrote must not act in the reader's browser: the pages are parsed, not searched."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from claimbook.site.clean import clean
from claimbook.site.shelf import Page, Shelf
from claimbook.site.svg import clean_svg
from claimbook.workspace import Workspace

FORBIDDEN = {
    "script",
    "iframe",
    "object",
    "embed",
    "form",
    "input",
    "button",
    "base",
    "style",
    "svg",
    "template",
}


class Dangers(HTMLParser):
    """Collects everything in a page that runs, sends or loads from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag] if tag in FORBIDDEN else []
        for name, value in attrs:
            url = "".join((value or "").split()).lower()
            if name.startswith("on") or name in ("style", "srcdoc", "action", "formaction", "ping", "srcset"):
                self.found.append(f"{tag} {name}")
            acts = url.startswith(("javascript:", "data:text", "vbscript:", "//"))
            if (name == "href" and acts) or (name == "src" and (acts or ":" in url)):
                self.found.append(f"{tag} {name}={value}")


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return Shelf(tmp_path / "site", tmp_path).page("papers/x.html", tmp_path / "papers" / "x" / "README.md")


@pytest.mark.parametrize("site", ["full", "korean"])
def test_no_page_holds_anything_that_acts(site: str, request: pytest.FixtureRequest) -> None:
    workspace: Workspace = request.getfixturevalue(site)
    for path in workspace.site.rglob("*.html"):
        assert Dangers(path.read_text("utf-8")).found == [], path


def test_every_page_forbids_scripts_and_the_network(full: Workspace) -> None:
    for path in full.site.rglob("*.html"):
        policy = (
            "default-src 'none'; img-src 'self' data:; style-src 'self'; base-uri 'none'; form-action 'none'"
        )
        assert f'http-equiv="Content-Security-Policy" content="{policy}"' in path.read_text("utf-8")


def test_hostile_titles_are_shown_as_text(full: Workspace, make: Any) -> None:
    class Texts(HTMLParser):
        text = ""

        def handle_data(self, data: str) -> None:
            self.text += data

    for name in ("index.html", "papers/hostile.html", "experiments/hostile.html", "experiments/judged.html"):
        texts = Texts()
        texts.feed((full.site / name).read_text("utf-8"))
        assert make.HOSTILE in texts.text, name


def test_no_direction_override_reaches_the_window_title(full: Workspace) -> None:
    page = (full.site / "experiments/hostile.html").read_text("utf-8")
    title = page.partition("<title>")[2].partition("</title>")[0]
    assert "evil" in title
    assert "\u202e" not in title


def test_no_drawing_of_the_site_holds_a_script(full: Workspace) -> None:
    drawings = list((full.site / "figures").glob("*.svg"))
    assert drawings
    for path in drawings:
        for element in ElementTree.parse(path).iter():
            assert str(element.tag).rpartition("}")[2] not in ("script", "foreignObject", "a")
            assert not [name for name in element.attrib if name.rpartition("}")[2].lower().startswith("on")]
        assert b"example" not in path.read_bytes()


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<a href='java\tscript:alert(1)'>x</a>",
        "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
        "<svg><script>alert(1)</script></svg>",
        "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=x()&gt;'>",
        "<math href='javascript:alert(1)'><mi>x</mi></math>",
        "<p style='background:url(https://example.org)'>x</p>",
        "<form action='https://example.org'><button formaction='javascript:alert(1)'>x</button></form>",
        "<meta http-equiv=refresh content='0;url=https://example.org'>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<img alt='<table onclick=alert(1)>' src='//tracker.example/x.png'>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    ],
)
def test_cleaning_leaves_nothing_that_acts(html: str, page: Page) -> None:
    assert Dangers(clean(html, page)).found == []


def test_cleaning_keeps_what_a_text_is_made_of(page: Page) -> None:
    html = "<p>a <strong>b</strong></p><table><tbody><tr><td colspan=2>1</td></tr></tbody></table>"
    assert clean(html, page) == html.replace("=2", '="2"')


def test_a_text_cannot_dress_up_as_a_part_of_the_page(page: Page) -> None:
    assert clean('<div class="badge supported hl">x</div>', page) == '<div class="hl">x</div>'


def test_a_picture_from_the_network_is_left_out_with_a_warning(page: Page) -> None:
    assert clean('<img src="https://example.org/x.png" alt="x">', page) == '<img alt="x">'
    assert "left out" in page.shelf.warnings[0]


@pytest.mark.parametrize(
    "url", ["../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "..%2f..%2f..%2fetc/passwd"]
)
def test_a_picture_outside_the_workspace_is_left_out(url: str, page: Page) -> None:
    assert page.picture(url) is None
    assert not (page.shelf.folder / "figures").exists()


def test_a_link_to_another_record_leads_to_its_page(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "site", tmp_path, known={"experiments/a": "experiments/a.html"})
    page = shelf.page("papers/x.html", tmp_path / "papers" / "x" / "README.md")
    assert page.link("../../experiments/a/") == "../experiments/a.html"
    assert page.link("../../experiments/b") is None
    assert page.link("https://example.org/?a=b") == "https://example.org/?a=b"
    assert page.link("ftp://example.org") is None
    assert page.link("http://[") is None


def test_an_svg_keeps_its_shapes_and_loses_what_acts(make: Any) -> None:
    cleaned = clean_svg(make.SVG)
    assert cleaned is not None
    root = ElementTree.fromstring(cleaned)
    assert [str(child.tag).rpartition("}")[2] for child in root] == ["rect", "image"]
    assert root[0].attrib == {"x": "4", "y": "4", "width": "112", "height": "32", "fill": "#2a6f97"}
    assert "href" not in root[1].attrib
    assert "onload" not in root.attrib


def test_an_svg_keeps_references_into_itself() -> None:
    text = (
        '<svg xmlns="http://www.w3.org/2000/svg"><defs><path id="a"/></defs>'
        '<use href="#a" style="clip-path: url(#b)"/><rect fill="url(https://example.org/x)"/></svg>'
    )
    root = ElementTree.fromstring(clean_svg(text) or b"")
    assert root[1].attrib == {"href": "#a", "style": "clip-path: url(#b)"}
    assert root[2].attrib == {}


@pytest.mark.parametrize(
    "text",
    [
        "<html xmlns='http://www.w3.org/1999/xhtml'/>",
        "<svg",
        '<!DOCTYPE svg [<!ENTITY a "aaaa">]><svg xmlns="http://www.w3.org/2000/svg"><text>&a;</text></svg>',
    ],
)
def test_what_is_no_plain_svg_is_refused(text: str) -> None:
    assert clean_svg(text) is None
