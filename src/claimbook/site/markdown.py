"""Markdown to HTML: formulas as MathML, code highlighted, headings that follow the page's own.

Formulas are converted while building: a page needs neither a script nor the network to show them. What comes
out is cleaned. Knows nothing of notebooks or records.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from claimbook.site.clean import clean
from claimbook.site.shelf import Page

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token
    from math_core import LatexToMathML

_SCROLL = '<div class="scroll">'
_STYLE = re.compile(r' style="([^"]*)"')
_DECLARATION = re.compile(r"[^a-z0-9]+")


class Headings:
    """Levels for the headings of a text so that they begin at `top` and none is skipped."""

    def __init__(self, top: int) -> None:
        self.top = top
        self._open: list[int] = []

    def level(self, written: int) -> int:
        """The level on the page of the next heading, from the level that the text gives it."""
        while self._open and self._open[-1] >= written:
            self._open.pop()
        self._open.append(written)
        return min(self.top + len(self._open) - 1, 6)


def markdown(text: str, page: Page, headings: Headings) -> Markup:
    """A Markdown text as clean HTML."""
    parser = _parser()
    tokens = parser.parse(text)
    tag = ""
    for token in tokens:
        if token.type == "heading_open":
            tag = token.tag = f"h{headings.level(int(token.tag[1]))}"
        elif token.type == "heading_close":
            token.tag = tag
        elif token.type in ("th_open", "td_open"):
            _align(token)
    return clean(parser.renderer.render(tokens, parser.options, {"page": page}), page)


def code(source: str, language: str = "ipython3") -> Markup:
    """A highlighted listing. Unknown languages are shown plain."""
    return Markup('<pre class="hl"><code>{}</code></pre>').format(_highlight(source, language))


def formula(tex: str, page: Page, *, block: bool) -> Markup:
    """A formula as MathML, or its source and a warning where it is not understood."""
    from math_core import LatexError

    try:
        mathml = _converter().convert_with_local_state(tex, displaystyle=block)
    except LatexError as error:
        page.warn(f"the formula {tex.strip()!r} is shown as it is written: {error}")
        return Markup('<code class="math-source">{}</code>').format(tex)
    # the pages' security policy forbids style attributes: each declaration becomes a class of style.css
    return Markup(_STYLE.sub(lambda match: f' class="{_classes(match[1])}"', mathml))


def _classes(style: str) -> str:
    """ "text-align: right;padding-left: 0;" as "math-text-align-right math-padding-left-0"."""
    declarations = [part.strip().lower() for part in style.split(";") if part.strip()]
    return " ".join(f"math-{_DECLARATION.sub('-', part).strip('-')}" for part in declarations)


@cache
def _converter() -> LatexToMathML:
    from math_core import LatexToMathML

    return LatexToMathML(fancy_error=False)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt
    from mdit_py_plugins.amsmath import amsmath_plugin
    from mdit_py_plugins.dollarmath import dollarmath_plugin

    parser = MarkdownIt("commonmark", {"highlight": _fence}).enable(["table", "strikethrough"])
    parser.use(dollarmath_plugin, allow_digits=False, allow_space=False, double_inline=True)
    parser.use(amsmath_plugin)
    parser.add_render_rule("math_inline", _inline_math)
    for name in ("math_inline_double", "math_block", "math_block_label", "amsmath"):
        parser.add_render_rule(name, _block_math)
    parser.add_render_rule("table_open", lambda *_: f"{_SCROLL}<table>")
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    return parser


def _inline_math(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    return formula(tokens[index].content, env["page"], block=False)


def _block_math(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    mathml = formula(tokens[index].content, env["page"], block=True)
    # inside a paragraph, where $$…$$ may stand too, only a span is allowed
    box = "span" if tokens[index].type == "math_inline_double" else "div"
    return f'<{box} class="scroll math-block">{mathml}</{box}>'


def _fence(source: str, language: str, _attributes: str) -> str:
    return code(source, language)


def _highlight(source: str, language: str) -> Markup:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return escape(source)
    return Markup(highlight(source, lexer, HtmlFormatter(nowrap=True, classprefix="hl-")).rstrip("\n"))


def _align(cell: Token) -> None:
    """Turn the alignment of a table's column from a style into a class."""
    style = str(cell.attrs.pop("style", ""))
    side = style.rpartition(":")[2]
    if side in ("right", "center"):
        cell.attrSet("class", side)
