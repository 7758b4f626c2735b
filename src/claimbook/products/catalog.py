"""The catalog: which invented products there are, what a shop would call them, and which pictures show them.

Knows the attributes and their words in English and Korean; how a product looks is `drawing`'s. Nothing
is downloaded or copied: the pictures are drawn, so that anyone has the same products.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from claimbook.errors import ProductsError
from claimbook.products import drawing
from claimbook.products.drawing import Look, View
from claimbook.products.rows import Row
from claimbook.workspace import nearest

TITLES = ("title_en", "title_ko")
_Word = TypeVar("_Word")
_Cell = tuple[str, str, str]
"""Kind, colour and pattern."""


@dataclass(frozen=True, slots=True)
class _Kind:
    english: tuple[str, str]
    """Two nouns that shops use for it, singular ones first."""
    korean: tuple[str, str]
    materials: tuple[str, ...]


_KINDS = {
    "t-shirt": _Kind(("t-shirt", "tee"), ("티셔츠", "반팔 티셔츠"), ("cotton", "linen")),
    "hoodie": _Kind(("hoodie", "hooded sweatshirt"), ("후드티", "후드 티셔츠"), ("cotton", "knit")),
    "dress": _Kind(("dress", "sleeveless dress"), ("원피스", "민소매 원피스"), ("cotton", "linen", "satin")),
    "trousers": _Kind(("trousers", "pants"), ("팬츠", "긴바지"), ("cotton", "linen", "corduroy")),
    "skirt": _Kind(("skirt", "a-line skirt"), ("스커트", "A라인 스커트"), ("cotton", "satin", "corduroy")),
    "sock": _Kind(("socks", "crew socks"), ("양말", "중목 양말"), ("cotton", "knit")),
    "sneaker": _Kind(
        ("sneakers", "high-top sneakers"), ("스니커즈", "하이탑 스니커즈"), ("canvas", "leather")
    ),
    "boot": _Kind(("rain boots", "wellington boots"), ("레인부츠", "장화"), ("matte", "glossy")),
    "cap": _Kind(("cap", "baseball cap"), ("볼캡", "야구 모자"), ("cotton", "corduroy")),
    "tote": _Kind(("tote bag", "shopper bag"), ("토트백", "쇼퍼백"), ("canvas", "leather")),
    "backpack": _Kind(("backpack", "daypack"), ("백팩", "데일리 백팩"), ("canvas", "nylon")),
    "mug": _Kind(("mug", "coffee mug"), ("머그컵", "머그잔"), ("matte", "glossy")),
    "vase": _Kind(("vase", "flower vase"), ("화병", "꽃병"), ("matte", "glossy")),
    "cushion": _Kind(("cushion", "throw pillow"), ("쿠션", "소파 쿠션"), ("cotton", "linen", "knit")),
    "lamp": _Kind(("table lamp", "bedside lamp"), ("테이블 램프", "침실 스탠드"), ("linen", "glossy")),
    "umbrella": _Kind(("umbrella", "stick umbrella"), ("우산", "장우산"), ("nylon", "satin")),
}
_COLOURS = {
    "black": "블랙",
    "white": "화이트",
    "grey": "그레이",
    "beige": "베이지",
    "brown": "브라운",
    "red": "레드",
    "yellow": "옐로우",
    "green": "그린",
    "sky blue": "스카이블루",
    "navy": "네이비",
    "purple": "퍼플",
    "pink": "핑크",
}
_PATTERNS = {  # as it is said beside a logo, with a small print, with a large print; English and Korean
    "solid": (("plain",) * 3, ("무지",) * 3),
    "striped": (
        ("striped", "fine-striped", "wide-striped"),
        ("스트라이프", "잔스트라이프", "와이드 스트라이프"),
    ),
    "checked": (("checked", "small-check", "large-check"), ("체크", "잔체크", "빅체크")),
    "dotted": (("polka-dot", "pin-dot", "large polka-dot"), ("도트", "잔도트", "빅도트")),
    "zigzag": (("zigzag", "fine zigzag", "bold zigzag"), ("지그재그", "잔 지그재그", "와이드 지그재그")),
    "floral": (("floral", "ditsy floral", "large floral"), ("플라워", "잔꽃무늬", "큰 꽃무늬")),
    "starry": (("star-print", "small star-print", "large star-print"), ("별무늬", "잔별무늬", "큰 별무늬")),
}
_MATERIALS = {
    "cotton": "코튼",
    "linen": "린넨",
    "knit": "니트",
    "satin": "새틴",
    "corduroy": "코듀로이",
    "canvas": "캔버스",
    "leather": "가죽",
    "nylon": "나일론",
    "matte": "무광",
    "glossy": "유광",
}
LOGOS = ("NORI", "MIRU", "DALO", "TOVA", "ZEPO", "KUVO", "LUNE", "BORI")


@dataclass(frozen=True, slots=True)
class Product:
    """One invented product; no two have the same values."""

    kind: str
    colour: str
    pattern: str
    material: str
    print_size: str
    """small or large, of the pattern's motif and the logo; "" where nothing is printed."""
    logo: str
    """A word, or ""."""


@dataclass(frozen=True, slots=True)
class DrawnPicture:
    """A view of a product, drawn when it is asked for."""

    product: Product
    seed: str
    """Of the product's proportions and of everything that differs between its views."""
    view: int
    size: int

    def read(self) -> bytes:
        """The definition of the picture, with the code that draws it.

        Not its pixels: another Pillow may round an edge otherwise, and a sealed hypothesis should not break
        on that. The installed versions stand in every run's record.
        """
        definition = {**dataclasses.asdict(self), "drawn by": _code()}
        return json.dumps(definition, sort_keys=True).encode()

    def check(self, data: bytes) -> None:
        """A drawing cannot be broken."""

    def decode(self, data: bytes) -> Image.Image:
        """The picture, drawn at its full size."""
        look = Look(**dataclasses.asdict(self.product), seed=self.seed)
        return drawing.draw(look, View(self.seed, self.view), self.size)


def draw_catalog(
    *,
    n_products: int,
    views: int,
    size: int,
    seed: int,
    kinds: Sequence[str] | None,
    colours: Sequence[str] | None,
    patterns: Sequence[str] | None,
    title: str,
    where: str,
) -> list[Row]:
    """`views` rows of each product, undrawn yet; of one seed, a larger catalog begins with the smaller.

    Raises ProductsError for a kind, colour or pattern that cannot be drawn, or more products than there are.
    """
    ranges = {"n_products": (n_products, 2, 20_000), "views": (views, 1, 50), "size": (size, 32, 512)}
    for name, (value, least, most) in ranges.items():
        if not least <= value <= most:
            raise ProductsError(f"{name} is {value}", fix=f"write {least} to {most}", where=where)
    products = list(
        _products(
            n_products,
            _known(kinds, list(_KINDS), "kinds", where),
            _known(colours, list(_COLOURS), "colours", where),
            _known(patterns, list(_PATTERNS), "patterns", where),
            seed,
        )
    )
    if len(products) < n_products:
        raise ProductsError(
            f"n_products is {n_products}, and {len(products)} different ones can be drawn",
            fix="ask for fewer, or allow more kinds, colours or patterns",
            where=where,
        )
    return [
        _row(product, f"{product.kind}-{number:05}", view, size, seed, title)
        for number, product in enumerate(products)
        for view in range(views)
    ]


def _known(asked: Sequence[str] | None, known: list[str], name: str, where: str) -> list[str]:
    for word in asked or []:
        if word not in known:
            raise ProductsError(
                f"{name} has {word!r}, which cannot be drawn{nearest(word, known)}",
                fix=f"name some of: {', '.join(known)}",
                where=where,
            )
    if asked is not None and (not asked or len(set(asked)) < len(asked)):
        raise ProductsError(
            f"{name} is empty, or names one twice", fix="name each once, or leave it out", where=where
        )
    return known if asked is None else list(asked)


def _products(
    n: int, kinds: Sequence[str], colours: Sequence[str], patterns: Sequence[str], seed: int
) -> Iterator[Product]:
    """Up to n different products; kinds, colours, patterns and pairs of them come about equally often."""
    kinds, colours, patterns = (_shuffled(words, seed, "words") for words in (kinds, colours, patterns))
    open_cells = {kind: [(kind, c, p) for c in colours for p in patterns] for kind in kinds}
    finishes: dict[_Cell, list[Product]] = {}
    used: Counter[tuple[str, ...]] = Counter()
    for kind in itertools.cycle(kinds):
        if n == 0 or not any(open_cells.values()):
            return
        if open_cells[kind]:
            cell = min(open_cells[kind], key=partial(_crowding, used))
            if cell not in finishes:
                finishes[cell] = _finishes(cell, seed)
            yield finishes[cell].pop()
            if not finishes[cell]:
                open_cells[kind].remove(cell)
            used.update(_marginals(cell))
            n -= 1


def _crowding(used: Counter[tuple[str, ...]], cell: _Cell) -> tuple[int, ...]:
    return tuple(used[key] for key in _marginals(cell))


def _marginals(cell: _Cell) -> list[tuple[str, ...]]:
    kind, colour, pattern = cell
    return [
        cell,
        (kind, "colour", colour),
        (kind, "pattern", pattern),
        (colour, pattern),
        ("colour", colour),
        ("pattern", pattern),
    ]


def _finishes(cell: _Cell, seed: int) -> list[Product]:
    """All that can be made of a cell; every other one has a logo, as long as those without last."""
    kind, colour, pattern = cell
    make = partial(Product, *cell)
    materials = _KINDS[kind].materials
    sizes = ("",) if pattern == "solid" else ("small", "large")
    plain = [make(m, s, "") for m in materials for s in sizes]
    branded = [make(m, s, logo) for m in materials for s in ("small", "large") for logo in LOGOS]
    name = f"{kind} {colour} {pattern}"
    plain, branded = _shuffled(plain, seed, name), _shuffled(branded, seed, name)
    mixed = [product for pair in zip(plain, branded, strict=False) for product in pair]
    if _number(seed, name) % 2:
        mixed.reverse()
    return branded[len(plain) :] + mixed  # taken from the end


def _row(product: Product, identity: str, view: int, size: int, seed: int, title: str) -> Row:
    titles = {"title_en": _english(product, identity, seed), "title_ko": _korean(product, identity, seed)}
    (other,) = (name for name in TITLES if name != title)
    attributes = {**dataclasses.asdict(product), "view": str(view), other: titles[other]}
    return Row(
        place=f"catalog: {identity}",
        item=f"{identity}-{view}",
        product=identity,
        title=titles[title],
        split="",
        attributes=attributes,
        picture=DrawnPicture(product, f"{seed} {identity}", view, size),
    )


def _english(product: Product, identity: str, seed: int) -> str:
    """A title that says every attribute, in one of six wordings."""
    number = _number(seed, f"english {identity}")
    noun = _KINDS[product.kind].english[number % 2]
    pattern = _said(product, 0)
    logo, size = product.logo, product.print_size
    wording = number // 2 % 3
    if wording == 0:
        title = f"{product.colour} {pattern} {product.material} {noun}"
        title += f" with {size} {logo} logo" if logo else ""
    elif wording == 1:
        title = f"{logo + ' ' if logo else ''}{product.material} {noun} in {product.colour}, {pattern}"
        title += f", {size} logo" if logo else ""
    else:
        title = f"{pattern} {product.colour} {noun}, {product.material}"
        title += f", {size} {logo} logo" if logo else ""
    return title[0].upper() + title[1:]


def _korean(product: Product, identity: str, seed: int) -> str:
    """A title as Korean shops write it: the logo in front or behind, the colour in front or in brackets."""
    number = _number(seed, f"korean {identity}")
    noun = _KINDS[product.kind].korean[number % 2]
    colour, material = _COLOURS[product.colour], _MATERIALS[product.material]
    pattern = _said(product, 1)
    wording = number // 2 % 3
    if wording == 0:
        size = {"small": "작은", "large": "큰", "": ""}[product.print_size]
        return f"{colour} {pattern} {material} {noun}" + (
            f", {size} {product.logo} 로고" if product.logo else ""
        )
    size = {"small": "스몰", "large": "빅", "": ""}[product.print_size]
    brand = f"{product.logo} {size} 로고 " if product.logo else ""
    if wording == 1:
        return f"{brand}{colour} {pattern} {material} {noun}"
    return f"{brand}{pattern} {material} {noun} ({colour})"


def _said(product: Product, language: int) -> str:
    beside_logo, small, large = _PATTERNS[product.pattern][language]
    if product.logo:
        return beside_logo
    return {"small": small, "large": large, "": beside_logo}[product.print_size]


def _shuffled(values: Sequence[_Word], seed: int, what: str) -> list[_Word]:
    return sorted(values, key=lambda value: _number(seed, f"{what} {value}"))


def _number(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:8], "big")


@cache
def _code() -> str:
    """sha256 of the code that draws, whatever its line ends."""
    source = Path(drawing.__file__).read_text("utf-8")
    return hashlib.sha256(source.encode()).hexdigest()
