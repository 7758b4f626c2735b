"""An executed notebook as a list of cells that a page can show.

Reads the notebook's JSON directly: a page needs text, code and a picture per output. nbconvert's exporter
takes two seconds to import, leaves formulas to a script from the network, and its HTML would need cleaning.
Knows nothing of runs and experiments.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from claimbook.errors import SiteError
from claimbook.site.clean import clean
from claimbook.site.markdown import Headings, code, formula, markdown
from claimbook.site.shelf import Figure, Page, from_base64

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_LONGEST = 20_000
"""Characters of one output that are shown; a page must stay readable, the notebook has the rest."""


@dataclass(frozen=True)
class Output:
    """What one output shows: safe HTML, a figure or a text."""

    kind: Literal["html", "figure", "text", "error"]
    html: Markup | Literal[""] = ""
    figure: Figure | None = None
    text: str = ""


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook."""

    html: Markup
    """Markdown rendered, or code highlighted."""
    is_code: bool
    outputs: tuple[Output, ...] = ()


def cells(page: Page) -> list[Cell]:
    """The cells of the page's notebook. Raises SiteError when it cannot be read."""
    headings = Headings(top=2)
    return [cell for raw in _read(page) if (cell := _cell(raw, page, headings)) is not None]


def _read(page: Page) -> list[dict[str, Any]]:
    name = page.source.relative_to(page.shelf.root).as_posix()
    try:
        document = json.loads(page.source.read_bytes())
        if document["nbformat"] == 4:
            return [cell for cell in document["cells"] if isinstance(cell, dict)]
    except (ValueError, KeyError, TypeError, OSError) as error:
        problem = f"the notebook cannot be read: {error}"
    else:
        problem = f"the notebook has format {document['nbformat']}, not 4"
    raise SiteError(problem, fix="run this arm and seed again, or delete the notebook", where=name)


def _cell(raw: dict[str, Any], page: Page, headings: Headings) -> Cell | None:
    source = _text(raw.get("source"))
    if raw.get("cell_type") == "markdown" and source.strip():
        return Cell(markdown(_attached(source, raw), page, headings), is_code=False)
    if raw.get("cell_type") != "code":
        return None
    outputs = tuple(_outputs(raw, page))
    return (
        Cell(code(source.strip("\n")), is_code=True, outputs=outputs) if source.strip() or outputs else None
    )


def _outputs(cell: dict[str, Any], page: Page) -> Iterator[Output]:
    stream = ""
    for raw in cell.get("outputs") or []:
        if raw.get("output_type") == "stream":  # the pieces of one text, as the kernel happened to send them
            stream += _text(raw.get("text"))
            continue
        if stream:
            yield Output("text", text=_plain(stream))
            stream = ""
        if raw.get("output_type") == "error":
            yield Output("error", text=_plain(_traceback(raw)))
        elif (shown := _data(raw, cell, page)) is not None:
            yield shown
    if stream:
        yield Output("text", text=_plain(stream))


def _data(raw: dict[str, Any], cell: dict[str, Any], page: Page) -> Output | None:
    """The richest form of a display that can be shown safely."""
    data = {kind: _text(value) for kind, value in (raw.get("data") or {}).items()}
    if "text/html" in data and (html := clean(data["text/html"], page)).strip():
        return Output("html", html=html)
    if "text/markdown" in data:
        return Output("html", html=markdown(data["text/markdown"], page, Headings(top=4)))
    for kind in ("image/svg+xml", "image/png", "image/jpeg", "image/webp", "image/gif"):
        if kind in data and (figure := _figure(kind, data[kind], raw, cell, page)) is not None:
            return Output("figure", figure=figure)
    if "text/latex" in data:
        tex = data["text/latex"].strip().strip("$").strip()
        return Output("html", html=formula(tex, page, block=True))
    return Output("text", text=_plain(data["text/plain"])) if data.get("text/plain") else None


def _figure(kind: str, text: str, raw: dict[str, Any], cell: dict[str, Any], page: Page) -> Figure | None:
    data = text.encode() if kind == "image/svg+xml" else from_base64(text)
    if data is None:
        return None
    alt = _alt(kind, raw.get("metadata"), cell.get("metadata"))
    if not alt:
        page.warn("a figure has no alt text: show it with run.figure(fig, alt=…)")
    return page.shelf.keep(data, alt)


def _alt(kind: str, *places: Any) -> str:
    """Alt text from the first of the output's and the cell's metadata that has one."""
    for metadata in places:
        if not isinstance(metadata, dict):
            continue
        for found in (metadata.get(kind), metadata):
            if isinstance(found, dict) and isinstance(found.get("alt"), str) and found["alt"].strip():
                return str(found["alt"]).strip()
    return ""


def _attached(source: str, cell: dict[str, Any]) -> str:
    """Markdown with the pictures that were pasted into it as data URLs."""
    for name, data in (cell.get("attachments") or {}).items():
        for kind, payload in data.items():
            source = source.replace(
                f"attachment:{name}", f"data:{kind};base64,{''.join(_text(payload).split())}"
            )
    return source


def _text(value: Any) -> str:
    """A notebook keeps long texts as lists of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value or "")


def _plain(text: str) -> str:
    """A terminal's text as it stands in the end: no colour codes, of each line what was drawn last."""
    lines = (line.rstrip("\r").rpartition("\r")[2] for line in _ANSI.sub("", text).split("\n"))
    shown = "\n".join(lines).strip("\n")
    return (
        shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}\n[… {len(shown) - _LONGEST:,} characters]"
    )


def _traceback(raw: dict[str, Any]) -> str:
    lines = raw.get("traceback") or []
    return "\n".join(map(str, lines)) or f"{raw.get('ename', '')}: {raw.get('evalue', '')}"
