"""HTML that others wrote, made harmless: no script, no handler, no style, nothing loaded from elsewhere.

Knows which elements and attributes may stay. Links and pictures are led through the page, which knows where
they are.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

from markupsafe import Markup

from claimbook.site.shelf import Page

_TEXT = """
a abbr b bdi blockquote br caption code dd del details div dl dt em figcaption figure h1 h2 h3 h4 h5 h6 hr i
img ins kbd li mark ol p pre q s samp small span strong sub summary sup table tbody td tfoot th thead time tr
u ul var wbr
"""
_MATH = """
math menclose merror mfrac mi mmultiscripts mn mo mover mpadded mphantom mprescripts mroot mrow ms mspace
msqrt msub msubsup msup mtable mtd mtext mtr munder munderover
"""
_MATH_ATTRIBUTES = """
accent accentunder columnspan depth display displaystyle fence form height largeop linethickness lspace
mathvariant maxsize minsize movablelimits notation rowspan rspace scriptlevel separator stretchy symmetric
voffset width
"""
_ATTRIBUTES = {
    "*": {"dir", "lang"},
    "a": {"href"},
    "details": {"open"},
    "img": {"alt", "height", "src", "width"},
    "ol": {"start"},
    "td": {"class", "colspan", "rowspan"},
    "th": {"class", "colspan", "rowspan", "scope"},
    "time": {"datetime"},
    **{name: {"class"} for name in ("code", "div", "pre", "span", "table")},
    **{name: {"class", *_MATH_ATTRIBUTES.split()} for name in _MATH.split()},
}
_OURS = re.compile(r"hl(?:-[a-z0-9]+)?|math-[a-z0-9-]+|menclose-[a-z]+|scroll|right|center|dataframe")
"""The classes that our stylesheet knows; any other would only let a text dress up as a part of the page."""


def clean(html: str, page: Page) -> Markup:
    """A fragment that can be put on a page as it is."""
    import nh3

    def attribute(tag: str, name: str, value: str) -> str | None:
        if name == "class":
            return " ".join(word for word in value.split() if _OURS.fullmatch(word)) or None
        if (tag, name) == ("a", "href"):
            return page.link(value)
        if (tag, name) == ("img", "src"):
            return page.picture(value)
        return value

    cleaned = nh3.clean(
        html,
        tags={*_TEXT.split(), *_MATH.split()},
        clean_content_tags={"script", "style", "template", "iframe", "object", "noscript"},
        attributes=_ATTRIBUTES,
        attribute_filter=attribute,
        url_schemes={"http", "https", "mailto", "data"},
    )
    for _ in range(_without_alt(cleaned)):
        page.warn("a picture has no alt text: say in words what it shows")
    return Markup(cleaned)


def _without_alt(html: str) -> int:
    """How many pictures of a fragment have no alt text."""
    if "<img" not in html:
        return 0
    pictures = _Pictures()
    pictures.feed(html)
    return pictures.without_alt


class _Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.without_alt = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img" and not (dict(attrs).get("alt") or "").strip():
            self.without_alt += 1
