"""SVG that cannot act: a drawing is kept, scripts, handlers and foreign content are not.

nh3 cleans HTML, and an SVG file is XML with names of its own, so the list of what may stay is here.
Knows nothing of notebooks or pages.
"""

from __future__ import annotations

import re
from xml.etree import ElementTree

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
_ELEMENTS = """
svg g defs symbol use path rect circle ellipse line polyline polygon text tspan textPath title desc clipPath
mask pattern marker linearGradient radialGradient stop image style filter feGaussianBlur feOffset feBlend
feFlood feComposite feMerge feMergeNode feColorMatrix
""".strip()
_PICTURE = re.compile(r"data:image/(?:png|jpeg|webp);base64,[A-Za-z0-9+/=\s]*")
_OUTSIDE = re.compile(r"@import|expression|url\s*\(\s*['\"]?\s*(?!#)", re.IGNORECASE)
_ENTITY = re.compile(r"<!(?:DOCTYPE[^>]*\[|ENTITY)", re.IGNORECASE)


def clean_svg(text: str) -> bytes | None:
    """The drawing without anything that runs or loads, or None when it is no SVG.

    An entity declaration makes it no SVG: a few lines of them can unfold to gigabytes.
    """
    if _ENTITY.search(text):
        return None
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    if root.tag != f"{{{_SVG}}}svg":
        return None
    _clean(root)
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    data = ElementTree.tostring(root, encoding="utf-8")
    assert isinstance(data, bytes)
    return data


def _clean(element: ElementTree.Element) -> None:
    for child in list(element):
        if _stays(child):
            _clean(child)
        else:
            element.remove(child)
    for name, value in list(element.attrib.items()):
        if not _attribute_stays(element, name, value):
            del element.attrib[name]


def _stays(element: ElementTree.Element) -> bool:
    namespace, _, name = str(element.tag)[1:].partition("}")
    if namespace != _SVG or name not in _ELEMENTS.split():
        return False
    return name != "style" or not _OUTSIDE.search(element.text or "")


def _attribute_stays(element: ElementTree.Element, name: str, value: str) -> bool:
    plain = name.rpartition("}")[2].lower()
    if plain.startswith("on"):
        return False
    if plain in ("href", "src"):
        inside = value.startswith("#")
        return inside or (str(element.tag).endswith("}image") and bool(_PICTURE.fullmatch(value)))
    return not _OUTSIDE.search(value)
