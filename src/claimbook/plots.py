"""Figures with their alt text: forest plots, curves, picture walls, similarity matrices, the weeks of a year.

Knows verdicts, weeks, numbers and pictures; knows nothing of where a figure is shown. No pyplot: every figure
is an object of its own, so that a kernel shows nothing twice and threads do not collide. Colours are Okabe
and Ito's, which colour-blind readers tell apart (https://jfly.uni-koeln.de/color/); none is the only cue.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from datetime import date
from functools import cache
from itertools import cycle
from typing import TYPE_CHECKING, Any, Literal

from claimbook.errors import SiteError
from claimbook.records import Verdict
from claimbook.week import SIGNS, Standing, State, Week

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike
    from PIL.Image import Image

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#E69F00",
    "#CC79A7",
    "#56B4E9",
)
INK, GREY, PALE = "#222222", "#6B6B6B", "#D9D9D9"
DPI = 150
_KOREAN_FONTS = (
    "NanumGothic",
    "Noto Sans CJK KR",
    "Noto Sans KR",
    "Malgun Gothic",
    "Apple SD Gothic Neo",
    "AppleGothic",
    "NanumBarunGothic",
    "UnDotum",
)
_WORDS = {
    "en": {
        "seed": "seed {seed}",
        "mean": "mean",
        "level": "{level} % interval",
        "clusters": "{units:,} clusters",
        "axis": "difference in {metric}, treatment − baseline",
        "gain": "improvement in {metric} (lower is better)",
        "margin": "margin",
        "alt": "Forest plot of {metric}: {seeds}mean difference {effect}, "
        "{level} % interval {low} to {high}, margin {margin}. Positive favours the treatment.",
        "alt seed": "seed {seed} {difference}; ",
    },
    "ko": {
        "seed": "시드 {seed}",
        "mean": "평균",
        "level": "{level}% 신뢰구간",
        "clusters": "묶음 {units:,}개",
        "axis": "지표 {metric} 차이(처리군 − 기준군)",
        "gain": "지표 {metric} 개선 폭(낮을수록 좋음)",
        "margin": "의미 있는 최소 차이",
        "alt": "숲 그림, 지표 {metric}: {seeds}평균 차이 {effect}, {level}% 신뢰구간 [{low}, {high}], "
        "의미 있는 최소 차이 {margin}. 양수일수록 처리군에 유리합니다.",
        "alt seed": "시드 {seed} {difference}; ",
    },
}


def forest(verdict: Verdict, language: Literal["en", "ko"] = "en") -> tuple[Figure, str]:
    """The difference of every seed, their mean and its t-interval, zero and the margin.

    In scope checkpoints there is one pair of runs, and only the mean over clusters is drawn. Raises SiteError
    when the verdict has no numbers.
    """
    if verdict.effect is None or verdict.interval is None:
        raise SiteError(
            f"the verdict of {verdict.experiment} has no numbers to draw",
            fix=f"`claimbook run {verdict.experiment}` and judge again",
        )
    words, digits = _WORDS[language], _decimals(verdict)
    pairs = verdict.pairs if verdict.scope == "method" else []
    rows = len(pairs)
    figure, axes = _figure(7.0, 1.7 + 0.3 * rows)
    _reference_lines(axes, verdict, words)
    axes.plot([pair.difference for pair in pairs], range(rows), "o", color=BLUE, ms=6, mec="white", mew=0.8)
    _mean_row(axes, verdict.effect, verdict.interval, y=rows + 0.35)
    values = [_signed(pair.difference, digits) for pair in pairs]
    low, high = (_signed(end, digits) for end in verdict.interval)
    effect, level = _signed(verdict.effect, digits), f"{100 * (1 - verdict.alpha):g}"
    _row_labels(axes, words, verdict, values, f"{effect}  [{low}, {high}]", level)
    lower = verdict.direction == "lower"
    axes.set_xlabel(words["gain" if lower else "axis"].format(metric=verdict.metric), color=INK)
    seeds = "".join(
        words["alt seed"].format(seed=pair.seed, difference=value)
        for pair, value in zip(pairs, values, strict=True)
    )
    alt = words["alt"].format(
        metric=verdict.metric,
        seeds=seeds,
        effect=effect,
        level=level,
        low=low,
        high=high,
        margin=_margin_text(verdict),
    )
    return _finished(figure), alt


def curves(
    series: Mapping[str, Sequence[tuple[int, float]]], ylabel: str, *, xlabel: str = "step"
) -> tuple[Figure, str]:
    """Step metrics, each a list of (step, value). Names such as "treatment/0" and "treatment/1" are seeds of
    one arm: one colour, one line style and one entry in the legend. Raises SiteError when nothing is given.
    """
    if not any(series.values()):
        raise SiteError("there is nothing to draw", fix="log the metric first, with run.log(step=i, …)")
    figure, axes = _figure(7.0, 3.5)
    arms = list(dict.fromkeys(_arm(name) for name in series))
    colours, styles = cycle((BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)), cycle(("-", "--", "-.", ":"))
    looks: dict[str, dict[str, Any]] = {arm: {"color": next(colours), "ls": next(styles)} for arm in arms}
    several = len(series) > len(arms)
    for name, points in series.items():
        steps, values = [step for step, _ in points], [value for _, value in points]
        axes.plot(
            steps,
            values,
            lw=1.0 if several else 1.6,
            alpha=0.8,
            marker=_dot(points),
            ms=4,
            **looks[_arm(name)],
        )
    if len(arms) > 1:
        handles = [axes.plot([], [], lw=1.8, label=arm, **looks[arm])[0] for arm in arms]
        axes.legend(handles=handles, frameon=False, handlelength=2.6, fontsize=9)
    axes.grid(axis="y", color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel, color=INK)
    axes.set_ylabel(ylabel, color=INK)
    ends = "; ".join(
        f"{name} from {_minus(f'{points[0][1]:.4g}')} at {xlabel} {points[0][0]} "
        f"to {_minus(f'{points[-1][1]:.4g}')} at {points[-1][0]}"
        for name, points in series.items()
        if points
    )
    return _finished(figure), f"Curves of {ylabel} over {xlabel}: {ends}."


def picture_wall(
    pictures: Sequence[Image | ArrayLike],
    captions: Sequence[str],
    columns: int,
    marks: Sequence[bool | None] | None = None,
) -> tuple[Figure, str]:
    """Pictures in a grid, each with a caption of up to two lines.

    pictures: PIL images, or arrays H×W (grey) or H×W×3, uint8 or float in [0, 1]. marks: True frames a
    picture in green with a tick, False in red with a cross, None leaves it plain. Raises SiteError when
    nothing is given or the lengths differ.
    """
    judged: list[bool | None] = list(marks) if marks is not None else [None] * len(pictures)
    if not pictures or not len(pictures) == len(captions) == len(judged) or columns < 1:
        raise SiteError(
            f"{len(pictures)} pictures, {len(captions)} captions, {len(judged)} marks, {columns} columns",
            fix="give at least one picture and column, and a caption (and mark) for every picture",
        )
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    side = min(1.8, 9.0 / columns)
    lines = max(len(_wrapped(caption, side)) for caption in captions)
    figure = _canvas(columns * side, rows * (side + 0.02 + 0.17 * lines))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(pictures) :]:
        axes.set_axis_off()
    for axes, picture, caption, mark in zip(grid, pictures, captions, judged, strict=False):
        _picture(axes, picture, "\n".join(_wrapped(caption, side)), mark)
    listed = "; ".join(f"{caption}{_MARKED[mark]}" for caption, mark in zip(captions, judged, strict=True))
    right, wrong = judged.count(True), judged.count(False)
    counted = f", {right} right and {wrong} wrong" if right + wrong else ""
    noun = "picture" if len(pictures) == 1 else "pictures"
    return _finished(figure), f"Wall of {len(pictures)} {noun}{counted}: {listed}."


def similarity_matrix(
    matrix: ArrayLike, row_labels: Sequence[str], column_labels: Sequence[str]
) -> tuple[Figure, str]:
    """A similarity per cell, rows × columns, the largest of every row framed.

    Values are printed where they can be read, up to 12 columns. Raises SiteError when the labels do not fit
    the matrix or a value is not finite.
    """
    import numpy as np

    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or not values.size or values.shape != (len(row_labels), len(column_labels)):
        raise SiteError(
            f"a matrix of shape {values.shape} has {len(row_labels)} row labels "
            f"and {len(column_labels)} column labels",
            fix="give rows × columns similarities and one label for each",
        )
    if not np.isfinite(values).all():
        raise SiteError("a similarity is not a finite number", fix="look for an embedding of norm 0")
    rows, columns = values.shape
    printed = columns <= 12
    cell = 0.5 if printed else max(0.16, 6.0 / columns)
    beside, above = (max(len(_short(label)) for label in labels) for labels in (row_labels, column_labels))
    figure, axes = _figure(cell * columns + 0.09 * beside + 0.9, cell * rows + 0.06 * above + 0.4)
    image = axes.imshow(values, cmap="Blues", aspect="equal")
    _matrix_labels(axes, row_labels, column_labels)
    best = values.argmax(axis=1)
    for row, column in enumerate(best):
        _cell_frame(axes, row, int(column))
    if printed:
        _cell_values(axes, values)
    bar_area = axes.inset_axes((1 + 0.12 / (cell * columns), 0, 0.14 / (cell * columns), 1))
    bar = figure.colorbar(image, cax=bar_area)
    bar.ax.tick_params(labelsize=8, length=0, labelcolor=INK)
    bar.ax.spines[:].set_visible(False)
    return _finished(figure), _matrix_alt(values, row_labels, column_labels)


def year(weeks: Sequence[Standing], this: Week, language: Literal["en", "ko"] = "en") -> tuple[Figure, str]:
    """The weeks of a year in four rows, a cell each with the sign of its state; `this` week in a frame.

    weeks: as `Habit.year` gives them. Raises SiteError when there are none.
    """
    if not weeks:
        raise SiteError("a year without weeks", fix="give the weeks of `Habit.year`")
    figure, axes = _figure(7.0, 2.75)
    axes.set_axis_off()
    axes.set(xlim=(-1.9, 13.6), ylim=(6.9, -0.9), aspect="equal")
    for number, (standing, month) in enumerate(zip(weeks, _months(weeks), strict=True)):
        place = _cell_of(number)
        _week(axes, standing, place, framed=standing.week == this)
        if month:
            _year_text(axes, (place[0], place[1] - 0.65), _YEAR_WORDS[language]["months"].split()[month - 1])
    for row in range(4):
        ends = [one.week.number for number, one in enumerate(weeks) if _cell_of(number)[1] == _ROW * row]
        _year_text(axes, (-1.3, _ROW * row), _YEAR_WORDS[language]["row"].format(ends[0], ends[-1]))
    axes.text(6, 6.4, _legend(weeks, language), ha="center", va="center", fontsize=8.5, color=INK)
    return _finished(figure), _year_alt(weeks, this, language)


# forest


def _reference_lines(axes: Axes, verdict: Verdict, words: Mapping[str, str]) -> None:
    """Zero, and the margin where the kind of the hypothesis puts it."""
    axes.axvline(0, color=GREY, lw=1.0, zorder=0)
    for place in _margins(verdict):
        axes.axvline(place, color=VERMILION, lw=1.2, ls=(0, (5, 3)), zorder=0)
        axes.annotate(
            f"{words['margin']} {_signed(place, 0, exact=True)}",
            (place, 1.0),
            (0, 4),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=8.5,
            color=VERMILION,
        )


def _margins(verdict: Verdict) -> list[float]:
    return {
        "superiority": [verdict.margin],
        "non-inferiority": [-verdict.margin],
        "equivalence": [-verdict.margin, verdict.margin],
    }[verdict.kind]


def _margin_text(verdict: Verdict) -> str:
    sign = {"superiority": "+", "non-inferiority": "−", "equivalence": "±"}[verdict.kind]
    return f"{sign}{verdict.margin:g}"


def _mean_row(axes: Axes, effect: float, interval: Sequence[float], y: float) -> None:
    low, high = interval
    axes.plot([low, high], [y, y], color=INK, lw=2.4, solid_capstyle="butt")
    axes.plot([low, high], [y, y], "|", color=INK, ms=9, mew=1.6)
    axes.plot([effect], [y], "D", color=INK, ms=7.5, mec="white", mew=0.8)


def _row_labels(
    axes: Axes, words: Mapping[str, str], verdict: Verdict, values: Sequence[str], mean: str, level: str
) -> None:
    """Seeds at the left, their values at the right, the mean below a thin line."""
    rows = len(values)
    seeds = [words["seed"].format(seed=pair.seed) for pair in verdict.pairs] if rows else []
    units = "" if rows else f"\n{words['clusters'].format(units=verdict.units)}"
    axes.set_yticks([*range(rows), rows + 0.35], [*seeds, words["mean"] + units])
    if rows:
        axes.axhline(rows - 0.35, color=PALE, lw=0.8)
    axes.set_ylim(rows + 0.95, -0.6 if rows else -0.25)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    beside: dict[str, Any] = {
        "xycoords": ("axes fraction", "data"),
        "textcoords": "offset points",
        "va": "center",
        "fontsize": 9,
        "color": INK,
        "annotation_clip": False,
    }
    for row, value in enumerate(values):
        axes.annotate(value, (1.0, row), (10, 0), **beside)
    axes.annotate(mean, (1.0, rows + 0.35), (10, 0), **beside)
    axes.annotate(
        words["level"].format(level=level),
        (1.0, rows + 0.35),
        (10, -13),
        **(beside | {"fontsize": 8, "color": GREY}),
    )
    axes.margins(x=0.08)


def _decimals(verdict: Verdict) -> int:
    """One digit of the interval's half width, and one more than the margin has."""
    low, high = verdict.interval or (0.0, 0.0)
    sizes = [size for size in ((high - low) / 2, verdict.margin / 10) if size > 0]
    return max(0, min(6, max(-math.floor(math.log10(size)) for size in sizes)))


def _signed(number: float, decimals: int, *, exact: bool = False) -> str:
    text = f"{number:+g}" if exact else f"{number:+.{decimals}f}"
    return text[1:] if float(text) == 0 else _minus(text)


def _minus(number: str) -> str:
    """A true minus sign, as wide as the plus."""
    return number.replace("-", "−")


# curves


def _arm(name: str) -> str:
    return name.partition("/")[0]


def _dot(points: Sequence[Any]) -> str:
    """A line through one point is invisible."""
    return "o" if len(points) == 1 else ""


# picture walls

_MARKED = {True: " (right)", False: " (wrong)", None: ""}


def _wrapped(caption: str, side: float) -> list[str]:
    """Up to two lines that fit `side` inches; Hangul is twice as wide as Latin letters."""
    wide = sum(ord(letter) > 0x1100 for letter in caption) / max(1, len(caption))
    return textwrap.wrap(
        caption,
        max(6, int(side * 13 / (1 + 0.7 * wide))),
        max_lines=2,
        placeholder="…",
        break_long_words=True,
    ) or [""]


def _picture(axes: Axes, picture: Image | ArrayLike, caption: str, mark: bool | None) -> None:
    import numpy as np

    array = np.asarray(picture)
    axes.imshow(array, cmap="gray" if array.ndim == 2 else None, interpolation="antialiased")
    height, width = array.shape[:2]
    half = max(height, width) / 2
    # every picture in the middle of a square, so that captions stand in line
    axes.set(xlim=(width / 2 - half - 0.5, width / 2 + half - 0.5), facecolor="#F4F4F4")
    axes.set_ylim(height / 2 + half - 0.5, height / 2 - half - 0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(caption, fontsize=8, color=INK, y=0, va="top", pad=-5)
    colour = {True: GREEN, False: VERMILION, None: PALE}[mark]
    for spine in axes.spines.values():
        spine.set(visible=True, color=colour, linewidth=0.6 if mark is None else 3.0)
    if mark is not None:
        axes.annotate(
            "✓" if mark else "✗",
            (0, 1),
            (9, -9),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            color="white",
            bbox={"boxstyle": "circle,pad=0.18", "fc": colour, "ec": "white", "lw": 1.0},
        )


# similarity matrices


def _matrix_labels(axes: Axes, row_labels: Sequence[str], column_labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(row_labels)), [_short(label) for label in row_labels])
    above = [_short(label) for label in column_labels]
    axes.set_xticks(range(len(above)), above, rotation=40, ha="left", rotation_mode="anchor")
    axes.tick_params(length=0, labelsize=8.5, top=False, labeltop=True, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _short(label: str) -> str:
    return label if len(label) <= 28 else label[:27].rstrip() + "…"


def _cell_frame(axes: Axes, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, ec=VERMILION, lw=1.8))


def _cell_values(axes: Axes, values: Any) -> None:
    dark = values.min() + 0.6 * (values.max() - values.min())
    for (row, column), value in ((place, values[place]) for place in _places(values.shape)):
        colour = "white" if value > dark else INK
        text = _minus(f"{value:.2f}")
        axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)


def _places(shape: tuple[int, int]) -> list[tuple[int, int]]:
    return [(row, column) for row in range(shape[0]) for column in range(shape[1])]


def _matrix_alt(values: Any, row_labels: Sequence[str], column_labels: Sequence[str]) -> str:
    rows, columns = values.shape
    best = values.argmax(axis=1)
    nearest = "; ".join(
        f"{label} – {column_labels[column]} {_minus(f'{values[row, column]:.2f}')}"
        for row, (label, column) in enumerate(zip(row_labels, best, strict=True))
    )
    square = rows == columns
    on_diagonal = sum(row == column for row, column in enumerate(best))
    diagonal = f" {on_diagonal} of {rows} rows are largest on the diagonal." if square else ""
    low, high = _minus(f"{values.min():.2f}"), _minus(f"{values.max():.2f}")
    return (
        f"Similarity matrix of {rows} rows and {columns} columns, from {low} to {high}.{diagonal} "
        f"The largest of each row: {nearest}."
    )


# years

_CELLS: dict[State, tuple[str, str, str]] = {
    "done": (GREEN, GREEN, "white"),
    "caught up": (SKY, SKY, INK),
    "open": ("white", INK, INK),
    "missed": ("white", VERMILION, VERMILION),
    "excused": (PALE, PALE, INK),
    "before": ("white", "white", GREY),
    "future": ("white", PALE, PALE),
}
"""Colours of face, edge and sign."""
_STATE_WORDS: dict[str, dict[State, str]] = {
    "en": {
        "done": "done",
        "caught up": "caught up",
        "open": "open",
        "missed": "missed",
        "excused": "excused",
        "before": "before the first paper",
        "future": "to come",
    },
    "ko": {
        "done": "완료",
        "caught up": "늦게 완료",
        "open": "진행 중",
        "missed": "놓침",
        "excused": "쉬는 주",
        "before": "첫 논문 이전",
        "future": "남은 주",
    },
}
_YEAR_WORDS = {
    "en": {
        "row": "W{}–{}",
        "months": "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec",
        "alt": "The weeks of {year}: {weeks}.",
        "none": "none counts yet",
    },
    "ko": {
        "row": "{}–{}주",
        "months": "1월 2월 3월 4월 5월 6월 7월 8월 9월 10월 11월 12월",
        "alt": "{year}년 주별 기록: {weeks}.",
        "none": "아직 집계한 주가 없음",
    },
}


_ROW = 1.6
"""From one row of weeks to the next, where a week is 1 wide."""


def _cell_of(number: int) -> tuple[int, float]:
    """Where the n-th week from 0 stands: thirteen in a row, a 53rd at the end of the last."""
    row = min(number // 13, 3)
    return number - 13 * row, _ROW * row


def _week(axes: Axes, standing: Standing, place: tuple[float, float], *, framed: bool) -> None:
    from matplotlib.patches import Rectangle

    face, edge, ink = _CELLS[standing.state]
    column, row = place
    axes.add_patch(Rectangle((column - 0.4, row - 0.4), 0.8, 0.8, fc=face, ec=edge, lw=1.2))
    axes.text(*place, SIGNS[standing.state], ha="center", va="center", fontsize=10.5, color=ink)
    if framed:
        axes.add_patch(Rectangle((column - 0.49, row - 0.49), 0.98, 0.98, fill=False, ec=INK, lw=1.6))


def _year_text(axes: Axes, place: tuple[float, float], text: str) -> None:
    axes.text(*place, text, ha="center", va="center", fontsize=7.5, color=GREY)


def _legend(weeks: Sequence[Standing], language: Literal["en", "ko"]) -> str:
    states = [one.state for one in weeks]
    return "      ".join(
        f"{SIGNS[state]} {name} {states.count(state)}"
        for state, name in _STATE_WORDS[language].items()
        if state in states and state != "before"
    )


def _months(weeks: Sequence[Standing]) -> list[int | None]:
    """The month that begins with each week, by its Thursday; None where none does."""
    months = [date.fromisocalendar(one.week.year, one.week.number, 4).month for one in weeks]
    return [
        month if month != before else None for before, month in zip([None, *months], months, strict=False)
    ]


def _year_alt(weeks: Sequence[Standing], this: Week, language: Literal["en", "ko"]) -> str:
    words, names = _YEAR_WORDS[language], _STATE_WORDS[language]
    told = []
    for state in names:
        numbers = [one.week.number for one in weeks if one.state == state]
        if numbers and state not in ("before", "future"):
            told.append(f"{names[state]} {_ranges(numbers)}")
    return words["alt"].format(year=weeks[0].week.year, weeks="; ".join(told) or words["none"])


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending week numbers, neighbours joined: 1, 2, 3, 7 gives W1–W3, W7."""
    joined: list[list[int]] = []
    for number in numbers:
        if joined and joined[-1][-1] == number - 1:
            joined[-1].append(number)
        else:
            joined.append([number])
    return ", ".join(f"W{run[0]}" if len(run) == 1 else f"W{run[0]}–W{run[-1]}" for run in joined)


# all figures


def _canvas(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.08, h_pad=0.08)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of `width` × `height` inches and its axes, without a box."""
    figure = _canvas(width, height)
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelcolor=INK, labelsize=9)
    return figure, axes


def _finished(figure: Figure) -> Figure:
    """Set the fonts text by text: rcParams are shared by all threads."""
    from matplotlib.text import Text

    fonts = _fonts()
    for axes in figure.axes:
        axes.tick_params(labelfontfamily=fonts)
    for text in figure.findobj(Text):
        text.set_fontfamily(fonts)
    return figure


@cache
def _fonts() -> list[str]:
    """DejaVu Sans and the first Korean font that is installed: naming a missing one warns at every text."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *[name for name in _KOREAN_FONTS if name in installed][:1]]
