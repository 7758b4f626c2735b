"""What the pages of a site share: the folder they are built in, their addresses, figures and complaints.

A figure lies under the hash of its bytes, so that one shown on ten pages is stored once and two builds give
the same names. Knows nothing of what the pages say.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, quote, unquote, urlsplit

from claimbook.site.svg import clean_svg

_DATA_URL = re.compile(r"data:image/[\w.+-]+;base64,(?P<payload>.*)", re.DOTALL | re.IGNORECASE)
_SUFFIXES = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "GIF": "gif"}


@dataclass(frozen=True)
class Figure:
    """A picture of a page."""

    path: str
    """From the site's top."""
    alt: str
    width: int | None = None
    """Pixels; None for a drawing, which has no size of its own."""
    height: int | None = None


@dataclass
class Shelf:
    """The folder that a site is built in."""

    folder: Path
    root: Path
    """The workspace, where relative pictures and links of notes lead."""
    known: Mapping[str, str] = field(default_factory=dict)
    """Page of each file or folder that has one, both as POSIX paths from their tops."""
    warnings: list[str] = field(default_factory=list)

    def page(self, path: str, source: Path) -> Page:
        """A page at a path from the site's top, made from a file of the workspace."""
        return Page(self, path, source)

    def write(self, path: str, data: bytes) -> None:
        """Write a file of the site."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def keep(self, data: bytes, alt: str) -> Figure | None:
        """Store a picture. None when the bytes are no picture that a browser shows."""
        size = _raster(data)
        if size is not None:
            suffix, width, height = size
            return Figure(self._store(data, suffix), alt, width, height)
        drawing = clean_svg(data.decode("utf-8", "replace"))
        return None if drawing is None else Figure(self._store(drawing, "svg"), alt)

    def _store(self, data: bytes, suffix: str) -> str:
        path = f"figures/{hashlib.sha256(data).hexdigest()[:16]}.{suffix}"
        if not (self.folder / path).exists():
            self.write(path, data)
        return path


@dataclass(frozen=True)
class Page:
    """A page being made: where it lies, and where the text shown on it comes from."""

    shelf: Shelf
    path: str
    source: Path

    @property
    def top(self) -> str:
        """The way from this page to the site's top: "", "../" or "../../"."""
        return "../" * self.path.count("/")

    def href(self, path: str) -> str:
        """A link from this page to a path from the site's top."""
        return self.top + quote(path)

    def warn(self, problem: str) -> None:
        """Note something that a person should mend; the page is built all the same."""
        name = self.source.relative_to(self.shelf.root).as_posix()
        self.shelf.warnings.append(f"{name}: {problem}")

    def link(self, url: str) -> str | None:
        """Where a link in a text leads from this page; None when it leads nowhere from here."""
        parts = _split(url)
        if parts.scheme:
            return url if parts.scheme in ("http", "https", "mailto") else None
        target = self._inside(parts.path) if parts.path and not parts.netloc else None
        page = None if target is None else self.shelf.known.get(target.as_posix())
        if page is None:
            self.warn(f"the link {url!r} leads to no page of this site; its text is kept")
        return None if page is None else self.href(page)

    def picture(self, url: str) -> str | None:
        """Where a picture in a text lies from this page: copied beside the pages, or None."""
        data = _from_data_url(url) if url.startswith("data:") else self._file(url)
        figure = None if data is None else self.shelf.keep(data, "")
        if figure is None:
            shown = url if len(url) <= 80 else f"{url[:80]}…"
            self.warn(
                f"the picture {shown!r} is left out: put the file beside the text and link it relatively"
            )
        return None if figure is None else self.href(figure.path)

    def _file(self, url: str) -> bytes | None:
        parts = _split(url)
        path = None if parts.scheme or parts.netloc else self._inside(parts.path)
        file = None if path is None else self.shelf.root / path
        return file.read_bytes() if file is not None and file.is_file() else None

    def _inside(self, path: str) -> PurePosixPath | None:
        """A relative path of the text as a path from the workspace; None when it leads out of it."""
        target = (self.source.parent / unquote(path).replace("\0", "")).resolve()
        root = self.shelf.root.resolve()
        return PurePosixPath(target.relative_to(root)) if target.is_relative_to(root) else None


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:  # such as "http://[": leads nowhere
        return SplitResult("invalid", "", "", "", "")


def _from_data_url(url: str) -> bytes | None:
    match = _DATA_URL.fullmatch(url)
    return None if match is None else from_base64(match["payload"])


def from_base64(text: str) -> bytes | None:
    """The bytes of a base64 text that may be broken into lines; None when it is none."""
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def _raster(data: bytes) -> tuple[str, int, int] | None:
    """File suffix, width and height of a picture of pixels, read from its head."""
    import io

    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data), formats=list(_SUFFIXES)) as image:
            return _SUFFIXES[image.format or ""], image.width, image.height
    except (UnidentifiedImageError, OSError, KeyError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
