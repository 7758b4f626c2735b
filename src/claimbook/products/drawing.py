"""How a product looks: silhouettes, patterns, materials, light and background, drawn with Pillow and numpy.

Knows shapes and colours by name, not which products exist or what they are called. No system font or file is
used, so that every machine draws the same. Coordinates are 0 to 100, x to the right and y down, unless said.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.floating[Any]]
Inks = NDArray[np.uint8]
Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Look:
    """What is the same in every view of a product."""

    kind: str
    colour: str
    pattern: str
    material: str
    print_size: str
    logo: str
    seed: str
    """Of the product's proportions."""


@dataclass(frozen=True, slots=True)
class View:
    """One way to photograph it: view 0 in the studio, every other somewhere else."""

    seed: str
    number: int


def draw(look: Look, view: View, size: int) -> Image.Image:
    """The product as seen in the view: RGB, `size` pixels a side."""
    side = 2 * size  # drawn at twice the size, because Pillow's polygons have hard edges
    product = _product(look, side)
    chance = random.Random(f"{view.seed} view {view.number}")
    camera = _studio(chance) if view.number == 0 else _elsewhere(chance)
    placed = product.transform((side, side), Image.Transform.AFFINE, camera.affine(look, side), _BILINEAR)
    scene = _background(camera.scene, side).copy()
    _cast_shadow(scene, placed, camera)
    scene.paste(placed, (0, 0), placed)
    return _lit(scene.reduce(2), camera)


# ---------------------------------------------------------------------------------------------- shapes


@dataclass(frozen=True, slots=True)
class Part:
    """A polygon, or a stroke where it has a width, in one of the roles of `_fills`."""

    role: str
    points: tuple[Point, ...]
    width: float = 0.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A silhouette: parts from back to front, and where a logo sits."""

    parts: tuple[Part, ...]
    seams: tuple[tuple[Point, ...], ...]
    small_logo: tuple[float, float, float]
    """Centre x, centre y, width."""
    large_logo: tuple[float, float, float]
    roundness: float
    """How far the shade of an edge reaches in."""


def _path(text: str) -> tuple[Point, ...]:
    """Points along "x y", "Q cx cy x y" (quadratic Bézier) steps, separated by commas."""
    points: list[Point] = []
    for step in text.split(","):
        words = step.split()
        if words[0] == "Q":
            (x0, y0), (cx, cy, x1, y1) = points[-1], map(float, words[1:])
            for i in range(1, 13):
                t = i / 12
                a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
                points.append((a * x0 + b * cx + c * x1, a * y0 + b * cy + c * y1))
        else:
            points.append((float(words[0]), float(words[1])))
    return tuple(points)


def _flipped(points: Sequence[Point]) -> tuple[Point, ...]:
    return tuple((100 - x, y) for x, y in points)


def _whole(right_half: str) -> tuple[Point, ...]:
    """A symmetric outline from its right half, top centre to bottom centre."""
    half = _path(right_half)
    return half + _flipped(half)[::-1]


def _ellipse(x: float, y: float, rx: float, ry: float) -> tuple[Point, ...]:
    turns = [i * math.tau / 40 for i in range(40)]
    return tuple((x + rx * math.cos(t), y + ry * math.sin(t)) for t in turns)


def _box(x0: float, y0: float, x1: float, y1: float) -> tuple[Point, ...]:
    return ((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _both(role: str, right: str, width: float = 0.0) -> tuple[Part, Part]:
    points = _path(right)
    return Part(role, points, width), Part(role, _flipped(points), width)


def _twice(*lines: str) -> tuple[tuple[Point, ...], ...]:
    """Each line and its mirror image."""
    paths = [_path(line) for line in lines]
    return (*paths, *map(_flipped, paths))


def _t_shirt() -> Shape:
    return Shape(
        (
            *_both("body", "66 15, Q 80 19 94 36, 82 49, 70 40"),
            Part("body", _whole("50 24, Q 60 24 62 13, 70 17, Q 72 40 73 60, 74 90, Q 62 92 50 92")),
            Part("trim", _path("38 13, Q 40 25 50 25, Q 60 25 62 13"), 4),
        ),
        (*_twice("69 18, Q 72 30 71 42", "84.5 46.5, 92 36.5"), _path("27 87, 73 87")),
        (61, 40, 14),
        (50, 50, 36),
        6,
    )


def _hoodie() -> Shape:
    return Shape(
        (
            *_both("body", "66 25, Q 82 28 85 46, 93 80, 81 84, 71 52"),
            *_both("trim", "81 84, 93.5 80, 94.5 86, 82.5 90"),
            Part("body", _whole("50 28, 62 23, 69 27, Q 73 44 73 62, 73 86, 50 86")),
            Part("trim", _box(27, 86, 73, 92)),
            Part("body", _whole("50 5, Q 70 5 70 25, Q 66 36 50 40")),
            Part("lining", _ellipse(50, 23, 11, 12)),
            Part("body", _whole("50 68, 62 68, 68 78, 68 86, 50 86")),
            *_both("white", "54 38, 55 53", 1.6),
        ),
        (
            *_twice("69 28, Q 73 40 71.5 54"),
            _path("38 68, 62 68, 68 78, 68 86"),
            _path("38 68, 32 78, 32 86"),
        ),
        (62, 51, 13),
        (50, 58, 36),
        7,
    )


def _dress() -> Shape:
    return Shape(
        (
            Part(
                "body",
                _whole(
                    "50 22, Q 59 22 60 8, 66 8, Q 64 22 69 31, Q 63 40 62 48, Q 72 66 84 90, Q 66 96 50 96"
                ),
            ),
            Part("trim", _path("38.5 48, 61.5 48"), 4),
        ),
        (*_twice("55 50, Q 60 70 63 93", "60 51, Q 68 70 74 92"), _path("50 50, 50 95")),
        (57, 33, 11),
        (50, 72, 30),
        7,
    )


def _trousers() -> Shape:
    return Shape(
        (
            Part("body", _whole("50 9, 68 9, 71 32, Q 73 60 72 94, 55 94, 51 44, 50 40")),
            Part("trim", _box(31.5, 7, 68.5, 14)),
            Part("metal", _ellipse(50, 10.5, 1.6, 1.6)),
        ),
        (
            *_twice("63 20, Q 62 60 63 93", "61 14, Q 63 22 70 25"),
            _path("50 14, 50 40"),
            _path("55 15, Q 56 30 50 34"),
        ),
        (60, 32, 11),
        (61, 58, 17),
        6,
    )


def _skirt() -> Shape:
    return Shape(
        (
            Part("body", _whole("50 18, 66 18, Q 76 46 90 82, Q 70 92 50 92")),
            Part("trim", _box(33.5, 14, 66.5, 22)),
        ),
        (*_twice("56 24, Q 62 56 66 88", "62 24, Q 72 54 80 85"), _path("50 24, 50 91")),
        (62, 38, 13),
        (50, 62, 34),
        7,
    )


def _sock() -> Shape:
    leg = "38 10, 62 10, 62 46, Q 63 56 72 62, 86 71, Q 96 80 87 89, Q 78 95 64 89, 44 76, Q 36 70 37 56"
    toe = "81 67.6, 86 71, Q 96 80 87 89, Q 82 92.5 75 92.4, Q 74 78 81 67.6"
    heel = "37.5 54, Q 48 60 52 81.2, 44 76, Q 36 70 37.5 54"
    behind = [tuple((x - 19, y - 2) for x, y in points) for points in (_path(leg), _box(37, 8, 63, 19))]
    return Shape(
        (
            Part("trim", behind[0]),  # plain, or the two melt into one
            Part("lining", behind[1]),
            Part("body", _path(leg)),
            Part("trim", _path(toe)),
            Part("trim", _path(heel)),
            Part("trim", _box(37, 8, 63, 19)),
        ),
        tuple(_path(f"{x} 9, {x} 18") for x in (41, 45, 49, 53, 57)),
        (50, 30, 13),
        (50, 36, 22),
        9,
    )


def _sneaker() -> Shape:
    laces = [(40, 37), (46, 45), (53, 51), (61, 55.5)]
    return Shape(
        (
            Part("lining", _path("15 31, Q 26 20 39 26, 36 36, 18 40")),
            Part(
                "body",
                _path("14 30, Q 26 37 40 27, Q 43 40 53 46, 76 57, Q 92 61 93 76, 12 76, Q 10 52 14 30"),
            ),
            Part("lining", _path("40 28, Q 43 41 53 47, 72 56, 66 60, Q 46 52 36 36")),
            Part("trim", _path("13 44, Q 25 46 26 76, 12 76, Q 10.5 58 13 44")),
            Part("white", _path("74 76, Q 76 60 87 62.5, Q 93 67 93 76")),
            Part("white", _path("10 74, 94 74, Q 97 86 90 87, 15 87, Q 8 86 10 74")),
            *(Part("white", ((x - 5, y + 4), (x + 5, y - 4)), 2.4) for x, y in laces),
        ),
        (_path("11 81, 95 81"), _path("36 37, Q 46 54 68 61")),
        (42, 63, 13),
        (48, 65, 28),
        8,
    )


def _boot() -> Shape:
    return Shape(
        (
            Part("body", _path("28 9, 60 9, 59 50, Q 62 60 76 64, Q 92 68 91 83, 27 83, Q 31 50 28 9")),
            Part("lining", _ellipse(44, 9, 16, 3)),
            Part("trim", _path("28 10, Q 44 15 60 10, 60 17, Q 44 22 29 17")),
            Part("dark", _path("25 82, 92 82, 92 90, 57 90, 55 87, 49 87, 48 92, 26 92")),
            Part("trim", _path("28 78, 91 78, 92 83, 26 83")),
        ),
        (_path("59 50, Q 50 56 34 56"),),
        (45, 32, 14),
        (45, 38, 24),
        13,
    )


def _cap() -> Shape:
    return Shape(
        (
            Part("body", _path("12 66, Q 8 24 46 22, Q 80 22 80 62, Q 46 58 12 66")),
            Part("trim", _path("42 62, Q 66 54 80 59, Q 98 64 97 78, Q 74 65 40 70, Q 38 64 42 62")),
            Part("trim", _ellipse(46, 22, 4, 2.2)),
        ),
        (_path("46 22, Q 30 36 28 62"), _path("46 22, Q 66 34 68 58"), _path("44 66, Q 70 58 95 74")),
        (48, 47, 14),
        (48, 45, 32),
        13,
    )


def _tote() -> Shape:
    return Shape(
        (
            Part("lining", _path("38 42, Q 38 14 50 14, Q 62 14 62 42"), 4.5),
            Part("body", _whole("50 40, 80 40, Q 83 66 84 92, Q 66 94 50 94")),
            Part("trim", _path("34 56, 34 36, Q 34 8 50 8, Q 66 8 66 36, 66 56"), 5),
        ),
        (_path("21 46, 79 46"), *_twice("80 42, 70 60")),
        (70, 80, 15),
        (50, 74, 42),
        6,
    )


def _backpack() -> Shape:
    return Shape(
        (
            Part("trim", _path("42 14, Q 42 4 50 4, Q 58 4 58 14"), 4),
            *_both("trim", "72 54, Q 87 56 86 84, Q 86 91 72 91"),
            Part("body", _whole("50 10, Q 74 10 76 36, 78 84, Q 78 94 68 94, 50 94")),
            Part("trim", _whole("50 56, 68 56, Q 71 57 71 62, 71 84, Q 71 88 66 88, 50 88")),
            Part("body", _whole("50 60, 67 60, 67.5 84, 50 84")),
            Part("metal", _path("32 60, 68 60"), 1.8),
            Part("metal", _path("26 44, Q 27 20 50 20, Q 73 20 74 44"), 1.6),
        ),
        (_path("24 46, 76 46"),),
        (50, 34, 16),
        (50, 37, 34),
        9,
    )


def _mug() -> Shape:
    return Shape(
        (
            Part("trim", _path("66 38, Q 91 34 90 55, Q 88 76 66 72"), 7.5),
            Part("body", _path("18 24, 72 24, 70 78, Q 69 90 58 90, 32 90, Q 21 90 20 78")),
            Part("trim", _ellipse(45, 24, 27, 7)),
            Part("lining", _ellipse(45, 24.6, 23.5, 5)),
        ),
        (),
        (45, 56, 16),
        (45, 58, 36),
        20,
    )


def _vase() -> Shape:
    return Shape(
        (
            Part("body", _whole("50 10, 63 10, Q 58 24 63 34, Q 86 50 78 74, Q 73 92 64 93, 50 94")),
            Part("trim", _ellipse(50, 10, 13, 3.6)),
            Part("lining", _ellipse(50, 10.4, 10.4, 2.3)),
        ),
        (),
        (50, 52, 16),
        (50, 60, 36),
        20,
    )


def _cushion() -> Shape:
    edge = "50 20, Q 72 19 90 13, Q 84 50 90 87, Q 72 81 50 80"
    return Shape(
        (Part("body", _whole(edge)), Part("trim", (*_whole(edge), (50.0, 20.0)), 2.6)),
        _twice("88 16, Q 80 26 74 29", "88 84, Q 80 75 74 72"),
        (72, 69, 14),
        (50, 50, 40),
        18,
    )


def _lamp() -> Shape:
    return Shape(
        (
            Part("metal", _path("50 50, 50 86"), 4.5),
            Part("lining", _whole("50 70, Q 62 72 62 80, Q 60 88 50 88")),
            Part("trim", _whole("50 84, Q 70 84 72 92, Q 62 95 50 95")),
            Part("glow", _ellipse(50, 52, 35, 5)),
            Part("body", _whole("50 8, 67 8, 85 52, Q 68 57 50 57")),
            Part("trim", _path("15 52, Q 32 57 50 57, Q 68 57 85 52"), 2.4),
            Part("trim", _path("33 8, 67 8"), 2.4),
        ),
        (),
        (60, 45, 15),
        (50, 36, 32),
        14,
    )


def _umbrella() -> Shape:
    return Shape(
        (
            Part("wood", _path("50 40, 50 84, Q 50 95 42 95, Q 34 94 35 85"), 3.6),
            Part("metal", _path("50 4, 50 14"), 2.2),
            Part("lining", _path("6 56, Q 50 38 94 56, Q 50 50 6 56")),
            Part(
                "body",
                _path(
                    "6 56, Q 10 12 50 10, Q 90 12 94 56, Q 84 47 72 54, Q 62 46 50 54, "
                    "Q 38 46 28 54, Q 16 47 6 56"
                ),
            ),
        ),
        (_path("50 10, Q 28 22 28 54"), _path("50 10, 50 54"), _path("50 10, Q 72 22 72 54")),
        (61, 40, 12),
        (50, 34, 30),
        9,
    )


SHAPES: dict[str, Callable[[], Shape]] = {
    "t-shirt": _t_shirt,
    "hoodie": _hoodie,
    "dress": _dress,
    "trousers": _trousers,
    "skirt": _skirt,
    "sock": _sock,
    "sneaker": _sneaker,
    "boot": _boot,
    "cap": _cap,
    "tote": _tote,
    "backpack": _backpack,
    "mug": _mug,
    "vase": _vase,
    "cushion": _cushion,
    "lamp": _lamp,
    "umbrella": _umbrella,
}


# --------------------------------------------------------------------------------------------- colours

COLOURS: dict[str, tuple[Colour, Colour]] = {  # the colour, and what is printed on it: never another's colour
    "black": ((36, 36, 40), (236, 230, 214)),
    "white": ((246, 245, 242), (20, 128, 132)),
    "grey": ((146, 149, 154), (62, 60, 68)),
    "beige": ((218, 196, 160), (176, 84, 52)),
    "brown": ((112, 70, 44), (236, 212, 176)),
    "red": ((204, 36, 44), (255, 240, 230)),
    "yellow": ((247, 204, 46), (208, 104, 26)),
    "green": ((38, 130, 74), (226, 240, 204)),
    "sky blue": ((120, 190, 234), (252, 253, 255)),
    "navy": ((28, 42, 94), (246, 240, 228)),
    "purple": ((120, 64, 158), (226, 204, 244)),
    "pink": ((245, 150, 178), (255, 248, 244)),
}
_ROLES = ("outside", "body", "trim", "lining", "dark", "white", "metal", "wood", "glow")
_PLAIN, _HALF, _PRINTED, _HEART = range(len(_ROLES), len(_ROLES) + 4)


def _palette(colour: str) -> Floats:
    """The colour of each role, then of the inks: plain, half printed, printed, a flower's heart; (n, 3)."""
    base, printed = (np.array(values, np.float32) for values in COLOURS[colour])
    trim = base * 0.82 if base.mean() > 90 else base * 0.8 + 42
    fixed = [(44, 42, 44), (240, 238, 232), (176, 178, 184), (142, 96, 58), (255, 236, 180)]
    inks = [base, base + 0.5 * (printed - base), printed, (250, 196, 70)]
    return np.array([(0, 0, 0), base, trim, base * 0.48, *fixed, *inks], np.float32)


# ------------------------------------------------------------------------------------ patterns, materials


@cache
def _grid(side: int) -> tuple[Floats, Floats]:
    line = (np.arange(side, dtype=np.float32) + 0.5) * (100 / side)
    u, v = np.meshgrid(line, line)
    return u, v


@cache
def _print(pattern: str, size: str, side: int) -> Inks:
    """Which ink lies at each pixel, (side, side); a base colour keeps more than half of the surface."""
    u, v = _grid(side)
    period = 20.0 if size == "large" else 10.0
    if pattern == "solid":
        return np.full(u.shape, _PLAIN, np.uint8)
    if pattern == "striped":
        return _inked(v % period < 0.4 * period)
    if pattern == "checked":
        across, down = u % period < 0.36 * period, v % period < 0.36 * period
        return np.where(across & down, _PRINTED, np.where(across | down, _HALF, _PLAIN)).astype(np.uint8)
    if pattern == "zigzag":
        wave = np.abs((u / period) % 1 - 0.5) * period
        return _inked((v + wave) % period < 0.4 * period)
    r, turn = _from_nearest_motif(u, v, period)
    if pattern == "dotted":
        return _inked(r < 0.29 * period)
    if pattern == "starry":
        return _inked(r < 0.48 * period * _star(turn))
    flowers = _inked(r < 0.44 * period * (0.62 + 0.38 * np.cos(5 * turn)))
    flowers[r < 0.14 * period] = _HEART
    return flowers


def _inked(mask: NDArray[np.bool_]) -> Inks:
    return np.where(mask, _PRINTED, _PLAIN).astype(np.uint8)


def _from_nearest_motif(u: Floats, v: Floats, period: float) -> tuple[Floats, Floats]:
    """Distance from the motif's middle and direction there; motifs stand in staggered rows."""
    row = np.floor(v / period)
    shifted = u / period + 0.5 * (row % 2)
    column = np.floor(shifted)
    x, y = (shifted - column - 0.5) * period, (v / period - row - 0.5) * period
    lean = 0.9 * np.sin(row * 5.1 + column * 3.7)
    return np.hypot(x, y), np.arctan2(x, -y) + lean


def _star(turn: Floats) -> Floats:
    """The radius of a five-pointed star of radius 1 at each direction."""
    half, inner = math.pi / 5, 0.45
    around = np.abs((turn + half) % (2 * half) - half)
    edge: Floats = inner * math.sin(half) / (np.sin(around) + inner * np.sin(half - around))
    return edge


def _of(mask: NDArray[np.bool_]) -> Floats:
    return mask.astype(np.float32)


@cache
def _weave(material: str, side: int) -> Floats:
    """What the material does to the light, about 1, (side, side)."""
    u, v = _grid(side)
    noise = np.random.default_rng(7).random((100, 100), dtype=np.float32)
    grain = _stretched(noise, side) - 0.5
    light: Floats = 1 + 0.02 * grain
    if material == "knit":
        stitch = np.abs((u / 4.5) % 1 - 0.5) * 5
        light = 0.93 + 0.13 * np.sin((v + stitch) * (math.tau / 4)) - 0.16 * _of((u / 4.5) % 1 < 0.16)
    elif material == "corduroy":
        light = 0.92 + 0.14 * np.sin(u * (math.tau / 3.6))
    elif material == "canvas":
        light = 0.96 + 0.05 * np.sin(u * (math.tau / 2.2)) * np.sin(v * (math.tau / 2.2)) + 0.12 * grain
    elif material == "linen":
        weft, warp = noise[:1].repeat(100, 0), noise[:, :1].repeat(100, 1)
        light = 0.97 + 0.15 * (_stretched(weft, side) + _stretched(warp, side) - 1)
    elif material == "nylon":
        light = 1.02 - 0.12 * _of((u % 6 < 0.7) | (v % 6 < 0.7))
    elif material == "satin":
        light = 1 + 0.16 * np.sin((u + 0.6 * v) * (math.tau / 34))
    elif material == "leather":
        light = 0.95 + 0.2 * grain
    elif material == "cotton":
        light = 1 + 0.08 * grain
    return light


_SHINE = {"glossy": 0.95, "leather": 0.5, "satin": 0.4, "nylon": 0.25}


def _stretched(small: Floats, side: int) -> Floats:
    return np.asarray(Image.fromarray(small).resize((side, side), _BILINEAR))


# ------------------------------------------------------------------------------------------ the product


@dataclass(frozen=True, slots=True)
class _Stencil:
    """What all products of a kind share, (side, side) each."""

    roles: NDArray[np.uint8]
    """The role's number at each pixel."""
    shade: Floats
    """Light and shade of edges, folds and seams, about 1."""
    shine: Floats
    """Where a polished surface would reflect a window, 0 to 1."""
    alpha: Image.Image
    """L: 255 on the product."""


@cache
def _stencil(kind: str, side: int) -> _Stencil:
    shape = SHAPES[kind]()
    roles = Image.new("L", (side, side))
    shade = np.ones((side, side), np.float32)
    for part in shape.parts:
        mask = Image.new("L", (side, side))
        _paint(mask, part, 255)
        inside = np.asarray(mask) > 0
        shade[inside] = _relief(mask, shape.roundness)[inside]
        _paint(roles, part, _ROLES.index(part.role))
    alpha = roles.point([0] + [255] * 255)
    shade *= 1 - 0.42 * _seams(shape, side)
    shine = np.clip((_relief(alpha, shape.roundness) - 1.06) * 9, 0, 1)
    return _Stencil(np.asarray(roles), shade, shine, alpha)


def _paint(canvas: Image.Image, part: Part, value: int) -> None:
    scale = canvas.width / 100
    points = [(x * scale, y * scale) for x, y in part.points]
    pen = ImageDraw.Draw(canvas)
    if not part.width:
        pen.polygon(points, fill=value)
        return
    pen.line(points, fill=value, width=max(1, round(part.width * scale)), joint="curve")
    radius = part.width * scale / 2
    for x, y in (points[0], points[-1]):
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)


def _relief(mask: Image.Image, roundness: float) -> Floats:
    """Darker towards the edges, lighter towards the upper left: a swelling of the mask, about 1."""
    soft = mask.filter(ImageFilter.GaussianBlur(roundness * mask.width / 200))
    height = np.asarray(soft, np.float32) / 255
    reach = max(1, round(roundness * mask.width / 300))
    slope = np.roll(height, (-reach, -reach), (0, 1)) - np.roll(height, (reach, reach), (0, 1))
    relief = 0.74 + 0.3 * np.clip(height * 2 - 0.8, 0, 1) + 0.34 * slope
    return relief


def _seams(shape: Shape, side: int) -> Floats:
    canvas = Image.new("L", (side, side))
    for seam in shape.seams:
        _paint(canvas, Part("body", seam, 0.9), 255)
    return np.asarray(canvas.filter(ImageFilter.GaussianBlur(side / 320)), np.float32) / 255


@lru_cache(maxsize=4)  # the views of a product are asked for one after the other
def _product(look: Look, side: int) -> Image.Image:
    """The product from the front in even light, RGBA."""
    stencil = _stencil(look.kind, side)
    body = stencil.roles == _ROLES.index("body")
    inks = np.where(body, _print(look.pattern, look.print_size, side), stencil.roles)
    if look.logo:
        _print_logo(inks, look)
    light = stencil.shade * np.where(body, _weave(look.material, side), np.float32(1))
    pixels = _palette(look.colour)[inks]
    pixels *= light[..., None]
    if look.material in _SHINE:
        pixels += (_SHINE[look.material] * stencil.shine)[..., None] * (255 - pixels)
    image = Image.fromarray(np.clip(pixels, 0, 255, out=pixels).astype(np.uint8))
    image.putalpha(stencil.alpha)
    return image


# ------------------------------------------------------------------------------------------------ logos

_LETTERS = {  # strokes on a grid 4 wide and 6 high
    "A": "0 6, 2 0, 4 6; 0.8 4, 3.2 4",
    "B": "0 0, 0 6, 3 6, 4 5, 4 4, 3 3, 0 3; 0 0, 3 0, 3.8 1, 3.8 2, 3 3",
    "D": "0 0, 0 6, 2.4 6, 4 4.4, 4 1.6, 2.4 0, 0 0",
    "E": "4 0, 0 0, 0 6, 4 6; 0 3, 3.2 3",
    "I": "2 0, 2 6",
    "K": "0 0, 0 6; 4 0, 0 3.4; 1.2 2.6, 4 6",
    "L": "0 0, 0 6, 4 6",
    "M": "0 6, 0 0, 2 3, 4 0, 4 6",
    "N": "0 6, 0 0, 4 6, 4 0",
    "O": "1.2 0, 2.8 0, 4 1.4, 4 4.6, 2.8 6, 1.2 6, 0 4.6, 0 1.4, 1.2 0",
    "P": "0 6, 0 0, 3 0, 4 1, 4 2.4, 3 3.4, 0 3.4",
    "R": "0 6, 0 0, 3 0, 4 1, 4 2.2, 3 3.2, 0 3.2; 2 3.2, 4 6",
    "T": "0 0, 4 0; 2 0, 2 6",
    "U": "0 0, 0 4.6, 1.2 6, 2.8 6, 4 4.6, 4 0",
    "V": "0 0, 2 6, 4 0",
    "Z": "0 0, 4 0, 0 6, 4 6",
}


def _print_logo(inks: Inks, look: Look) -> None:
    """The word in the printed colour; on a pattern it stands on a label of the plain colour."""
    word, label = _logo(look.logo, look.kind, look.print_size, inks.shape[0])
    if look.pattern != "solid":
        inks[label] = _PLAIN
    inks[word] = _PRINTED


@lru_cache(maxsize=256)
def _logo(word: str, kind: str, size: str, side: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the word lies and where its label, (side, side)."""
    shape = SHAPES[kind]()
    x, y, width = shape.large_logo if size == "large" else shape.small_logo
    unit = width / (len(word) * 5.6 - 1.6)
    canvas, label = Image.new("L", (side, side)), Image.new("L", (side, side))
    for i, letter in enumerate(word):
        for stroke in _LETTERS[letter].split(";"):
            points = tuple(
                (x - width / 2 + (i * 5.6 + a) * unit, y + (b - 3) * unit) for a, b in _path(stroke)
            )
            _paint(canvas, Part("body", points, 1.25 * unit), 255)
    half_width, half_height = width / 2 + 2.2 * unit, 5.2 * unit
    _paint(label, Part("body", _box(x - half_width, y - half_height, x + half_width, y + half_height)), 255)
    return np.asarray(canvas) > 0, np.asarray(label) > 0


# ----------------------------------------------------------------------------------------------- the view

_BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True, slots=True)
class _Camera:
    turn: float
    """Degrees."""
    scale: float
    shift: Point
    lean: float
    """How far the top is sheared to the side, of the height."""
    gain: float
    warmth: float
    """Added to red and taken from blue, of the brightness."""
    falloff: Point
    """How much lighter the right and the bottom are than the left and the top."""
    scene: tuple[str, Colour]

    def affine(self, look: Look, side: int) -> tuple[float, float, float, float, float, float]:
        """Output to product coordinates, pixels: product = A · (output − middle − shift) + middle."""
        chance = random.Random(f"{look.seed} proportions")
        wide, high = (self.scale * chance.uniform(0.93, 1.05) for _ in range(2))
        cos, sin = math.cos(math.radians(self.turn)), math.sin(math.radians(self.turn))
        a, b = cos / wide, sin / wide + self.lean
        d, e = -sin / high, cos / high
        x, y = (side * (0.5 + part) for part in self.shift)
        return (a, b, side / 2 - a * x - b * y, d, e, side / 2 - d * x - e * y)


def _studio(chance: random.Random) -> _Camera:
    tint = chance.choice([(250, 250, 250), (244, 245, 248), (248, 245, 240)])
    return _Camera(
        turn=chance.uniform(-4, 4),
        scale=chance.uniform(0.84, 0.94),
        shift=(chance.uniform(-0.02, 0.02), chance.uniform(-0.02, 0.02)),
        lean=0.0,
        gain=chance.uniform(0.97, 1.04),
        warmth=chance.uniform(-0.015, 0.015),
        falloff=(chance.uniform(-0.06, 0.06), chance.uniform(-0.08, 0.0)),
        scene=("sweep", tint),
    )


_TINTS: tuple[Colour, ...] = (
    (226, 214, 198),
    (198, 212, 220),
    (216, 222, 206),
    (232, 206, 204),
    (206, 202, 220),
    (188, 190, 192),
    (238, 228, 200),
)


def _elsewhere(chance: random.Random) -> _Camera:
    scene = chance.choice(["sweep", "room", "planks", "cloth", "tiles", "spot"])
    tint = (
        chance.choice(((176, 128, 88), (206, 170, 130), (122, 92, 70)))
        if scene == "planks"
        else chance.choice(_TINTS)
    )
    return _Camera(
        turn=chance.uniform(-17, 17),
        scale=chance.uniform(0.68, 1.02),
        shift=(chance.uniform(-0.08, 0.08), chance.uniform(-0.07, 0.07)),
        lean=chance.uniform(-0.1, 0.1),
        gain=chance.uniform(0.8, 1.08),
        warmth=chance.uniform(-0.05, 0.07),
        falloff=(chance.uniform(-0.25, 0.25), chance.uniform(-0.2, 0.1)),
        scene=(scene, tint),
    )


@lru_cache(maxsize=64)
def _background(scene: tuple[str, Colour], side: int) -> Image.Image:
    name, tint = scene
    u, v = _grid(side)
    light = np.ones_like(u)
    if name == "sweep":
        light = 1.03 - 0.1 * np.clip((v - 55) / 45, 0, 1)
    elif name == "room":
        light = np.where(v < 66, 1.04 - v * 0.001, 0.8 + (v - 66) * 0.002)
    elif name == "planks":
        board = np.floor(v / 19)
        light = (
            0.94
            + 0.06 * np.sin(board * 2.4)
            + 0.025 * np.sin(u * 0.5 + v * 2.1 + board * 7)
            - 0.25 * _of(v % 19 < 0.8)
        )
    elif name == "cloth":
        light = 0.97 + 0.05 * np.sin((u * 0.7 + v) * 0.16) + 0.02 * np.sin(u * 3) * np.sin(v * 3)
    elif name == "tiles":
        light = 1.0 - 0.13 * _of((u % 24 < 1) | (v % 24 < 1))
    elif name == "spot":
        light = 1.12 - 0.005 * np.hypot(u - 50, v - 45)
    pixels = light[..., None] * np.array(tint, np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _cast_shadow(scene: Image.Image, product: Image.Image, camera: _Camera) -> None:
    # blurred at an eighth of the size: the same to the eye, at a thirtieth of the time
    small = product.getchannel("A").reduce(8).filter(ImageFilter.GaussianBlur(1.6))
    shadow = small.resize(scene.size, _BILINEAR).point([value * 2 // 5 for value in range(256)])
    offset = scene.width // 32
    side = -offset if camera.falloff[0] > 0 else offset
    scene.paste((30, 26, 28), (side, offset), shadow)


def _lit(scene: Image.Image, camera: _Camera) -> Image.Image:
    u, v = _grid(scene.width)
    light = camera.gain * (1 + camera.falloff[0] * (u / 100 - 0.5) + camera.falloff[1] * (v / 100 - 0.5))
    tones = np.array((1 + camera.warmth, 1, 1 - camera.warmth), np.float32)
    pixels = np.asarray(scene, np.float32) * light[..., None] * tones
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
