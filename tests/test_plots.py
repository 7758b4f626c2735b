"""Figures say in words what they show, draw without a warning, and leave no global state behind."""

import io
import subprocess
import sys
import threading
import warnings
from typing import Any, Literal

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from claimbook import plots
from claimbook.errors import SiteError
from claimbook.records import SeedDifference, Verdict
from claimbook.week import SIGNS, Standing, State, Week, weeks_of

DIFFERENCES = [0.031, 0.012, 0.022, 0.027, -0.008, 0.019]


def a_verdict(**changes: Any) -> Verdict:
    pairs = [
        SeedDifference(seed=seed, baseline=0.4, treatment=0.4 + d, difference=d, runs=["a", "b"])
        for seed, d in enumerate(DIFFERENCES)
    ]
    verdict = Verdict(
        experiment="siglip",
        outcome="supported",
        reasons=[],
        seal="s",
        kind="superiority",
        scope="method",
        metric="recall@1",
        direction="higher",
        margin=0.01,
        alpha=0.05,
        effect=0.0172,
        interval=[0.0025, 0.0318],
        p=0.0625,
        p_adjusted=0.0625,
        family=["siglip"],
        smallest_p=0.03125,
        equivalent=False,
        units=6,
        means={"baseline": 0.4, "treatment": 0.4172},
        pairs=pairs,
        controls=[],
        replication=None,
        data="d",
        data_description="catalog",
        our_scale=None,
        paper_scale=None,
    )
    return msgspec.structs.replace(verdict, **changes)


def drawn(figure: Figure) -> bytes:
    """The PNG of a figure; any warning, such as a missing glyph, is an error."""
    target = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(target, format="png")
    return target.getvalue()


def texts(figure: Figure) -> set[str]:
    drawn(figure)  # tick labels are made while drawing
    return {text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()}


def pictures(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (40 + 10 * (n % 3), 50), (20 * n, 90, 120)) for n in range(count)]


needs_korean = pytest.mark.skipif(len(plots._fonts()) < 2, reason="no Korean font is installed here")


# forest


def test_a_forest_plot_says_every_number_in_words_and_beside_the_points() -> None:
    figure, alt = plots.forest(a_verdict())
    assert alt == (
        "Forest plot of recall@1: seed 0 +0.031; seed 1 +0.012; seed 2 +0.022; seed 3 +0.027; "
        "seed 4 −0.008; seed 5 +0.019; mean difference +0.017, 95 % interval +0.003 to +0.032, "
        "margin +0.01. Positive favours the treatment."
    )
    shown = texts(figure)
    assert {"seed 4", "−0.008", "+0.031", "mean", "+0.017  [+0.003, +0.032]", "margin +0.01"} <= shown


def test_a_forest_plot_puts_each_seed_where_its_difference_is() -> None:
    figure, _ = plots.forest(a_verdict())
    points = figure.axes[0].lines[2]  # after zero and the margin
    assert list(points.get_xdata()) == DIFFERENCES
    assert list(points.get_ydata()) == list(range(6))


@pytest.mark.parametrize(
    ("kind", "margins"),
    [
        ("superiority", {"margin +0.01"}),
        ("non-inferiority", {"margin −0.01"}),
        ("equivalence", {"margin +0.01", "margin −0.01"}),
    ],
)
def test_the_margin_stands_where_the_kind_puts_it(kind: str, margins: set[str]) -> None:
    figure, _ = plots.forest(a_verdict(kind=kind))
    assert {text for text in texts(figure) if text.startswith("margin")} == margins


def test_where_lower_is_better_the_axis_says_improvement() -> None:
    figure, _ = plots.forest(a_verdict(direction="lower"))
    assert figure.axes[0].get_xlabel() == "improvement in recall@1 (lower is better)"


def test_checkpoints_show_the_mean_over_clusters_alone() -> None:
    verdict = a_verdict(scope="checkpoints", units=400, pairs=a_verdict().pairs[:1])
    figure, alt = plots.forest(verdict)
    assert "mean\n400 clusters" in texts(figure)
    assert "seed" not in alt
    assert figure.get_figheight() < plots.forest(a_verdict())[0].get_figheight()


def test_a_point_interval_is_drawn() -> None:
    pairs = [msgspec.structs.replace(pair, difference=0.02) for pair in a_verdict().pairs]
    figure, _ = plots.forest(a_verdict(effect=0.02, interval=[0.02, 0.02], pairs=pairs))
    assert drawn(figure).startswith(b"\x89PNG")


def test_a_verdict_without_numbers_cannot_be_drawn() -> None:
    with pytest.raises(SiteError, match="no numbers to draw"):
        plots.forest(a_verdict(outcome="deviated", effect=None, interval=None))


@needs_korean
def test_a_korean_forest_plot_has_all_its_glyphs() -> None:
    figure, alt = plots.forest(a_verdict(), "ko")
    assert {"시드 4", "평균", "95% 신뢰구간", "의미 있는 최소 차이 +0.01"} <= texts(figure)
    assert "시드 4 −0.008" in alt
    assert "95% 신뢰구간 [+0.003, +0.032]" in alt


# curves


def test_seeds_of_an_arm_share_colour_line_style_and_legend_entry() -> None:
    series = {
        f"{arm}/{seed}": [(0, 2.0 + seed), (10, 1.0)] for arm in ("baseline", "treatment") for seed in (0, 1)
    }
    figure, _ = plots.curves(series, "loss")
    (axes,) = figure.axes
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines[:4]]
    assert looks[0] == looks[1]
    assert looks[2] == looks[3]
    assert looks[0][0] != looks[2][0]
    assert looks[0][1] != looks[2][1]
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["baseline", "treatment"]
    drawn(figure)


def test_curves_say_where_they_begin_and_end() -> None:
    _, alt = plots.curves({"blind-text": [(0, 2.5), (300, -0.25)], "empty": []}, "margin", xlabel="epoch")
    assert alt == "Curves of margin over epoch: blind-text from 2.5 at epoch 0 to −0.25 at 300."


def test_one_curve_needs_no_legend_and_one_point_is_seen() -> None:
    figure, _ = plots.curves({"loss": [(3, 0.5)]}, "loss")
    assert figure.axes[0].get_legend() is None
    assert figure.axes[0].lines[0].get_marker() == "o"


@pytest.mark.parametrize("series", [{}, {"loss": []}])
def test_no_curves_are_an_error(series: dict[str, list[tuple[int, float]]]) -> None:
    with pytest.raises(SiteError, match="nothing to draw"):
        plots.curves(series, "loss")


# picture walls


def test_right_and_wrong_differ_in_more_than_colour() -> None:
    figure, alt = plots.picture_wall(pictures(3), ["mug", "lamp", "shoe"], 3, [True, False, None])
    assert alt == "Wall of 3 pictures, 1 right and 1 wrong: mug (right); lamp (wrong); shoe."
    assert {"✓", "✗", "mug", "lamp", "shoe"} == texts(figure)
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes]
    assert len(set(frames)) == 3


def test_a_wall_takes_grey_float_and_colour_arrays_and_leaves_spare_cells_empty() -> None:
    arrays = [np.zeros((8, 6)), np.ones((6, 8, 3)), np.zeros((6, 6, 3), dtype=np.uint8)]
    figure, alt = plots.picture_wall(arrays, ["a", "b", "c"], 2)
    assert [axes.axison for axes in figure.axes] == [True, True, True, False]
    assert alt == "Wall of 3 pictures: a; b; c."
    drawn(figure)


def test_a_long_caption_takes_two_lines_and_stays_whole_in_the_alt_text() -> None:
    caption = "a red enamel mug with a wooden handle and a lid that closes tightly"
    figure, alt = plots.picture_wall(pictures(2), [caption, "mug"], 2)
    (shown,) = (text for text in texts(figure) if text.startswith("a red"))
    assert shown.count("\n") == 1
    assert shown.endswith("…")
    assert caption in alt


@pytest.mark.parametrize(
    ("count", "captions", "columns", "marks"),
    [(0, [], 2, None), (2, ["a"], 2, None), (2, ["a", "b"], 0, None), (2, ["a", "b"], 2, [True])],
)
def test_a_wall_that_does_not_fit_together_is_an_error(
    count: int, captions: list[str], columns: int, marks: list[bool | None] | None
) -> None:
    with pytest.raises(SiteError, match=f"{count} pictures, {len(captions)} captions"):
        plots.picture_wall(pictures(count), captions, columns, marks)


# similarity matrices


def test_a_similarity_matrix_tells_the_nearest_of_every_row() -> None:
    matrix = [[0.9, 0.1], [-0.2, 0.3], [0.5, 0.4]]
    figure, alt = plots.similarity_matrix(matrix, ["red mug", "lamp", "shoe"], ["p1", "p2"])
    assert alt == (
        "Similarity matrix of 3 rows and 2 columns, from −0.20 to 0.90. "
        "The largest of each row: red mug – p1 0.90; lamp – p2 0.30; shoe – p1 0.50."
    )
    assert {"0.90", "−0.20", "red mug", "p2"} <= texts(figure)
    corners = [patch.get_xy() for patch in figure.axes[0].patches]
    assert [tuple(np.round(xy).astype(int)) for xy in corners] == [(0, 0), (1, 1), (0, 2)]


def test_a_square_matrix_counts_its_diagonal() -> None:
    _, alt = plots.similarity_matrix([[0.9, 0.1], [0.6, 0.3]], ["a", "b"], ["a", "b"])
    assert "1 of 2 rows are largest on the diagonal." in alt


def test_a_matrix_of_equal_values_or_many_columns_is_drawn() -> None:
    drawn(plots.similarity_matrix(np.full((2, 2), 0.5), ["a", "b"], ["a", "b"])[0])
    names = [f"n{n}" for n in range(30)]
    figure, _ = plots.similarity_matrix(np.eye(30), names, names)
    assert "1.00" not in texts(figure)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [([[0.1, 0.2]], "2 row labels"), ([0.1, 0.2], "shape"), ([[0.1, float("nan")], [0.0, 1.0]], "finite")],
)
def test_a_matrix_that_cannot_be_read_is_an_error(matrix: Any, says: str) -> None:
    with pytest.raises(SiteError, match=says):
        plots.similarity_matrix(matrix, ["a", "b"], ["a", "b"])


# years


def a_year(number: int, states: dict[int, State]) -> list[Standing]:
    """The weeks of a year by number; all others are still to come."""
    return [Standing(week, states.get(week.number, "future"), (), None) for week in weeks_of(number)]


STATES: dict[int, State] = {
    **{number: "before" for number in range(1, 40)},
    40: "done",
    41: "done",
    42: "caught up",
    43: "missed",
    44: "done",
    45: "excused",
    46: "missed",
    47: "missed",
    48: "open",
}


def test_a_year_says_in_words_what_became_of_its_weeks() -> None:
    _, alt = plots.year(a_year(2026, STATES), Week(2026, 48))
    assert alt == (
        "The weeks of 2026: done W40–W41, W44; caught up W42; open W48; missed W43, W46–W47; excused W45."
    )
    _, korean = plots.year(a_year(2026, STATES), Week(2026, 48), "ko")
    assert korean == (
        "2026년 주별 기록: 완료 W40–W41, W44; 늦게 완료 W42; 진행 중 W48; 놓침 W43, W46–W47; 쉬는 주 W45."
    )
    assert plots.year(a_year(2027, {}), Week(2026, 48))[1] == "The weeks of 2027: none counts yet."


def test_each_state_of_a_week_has_a_sign_of_its_own_and_a_count() -> None:
    assert len(set(SIGNS.values())) == len(SIGNS) == 7
    figure, _ = plots.year(a_year(2026, STATES), Week(2026, 48))
    shown = texts(figure)
    assert set(SIGNS.values()) <= shown
    (legend,) = (text for text in shown if "done" in text)
    counts = ["✓ done 3", "+ caught up 1", "◐ open 1", "✕ missed 3", "– excused 1", "○ to come 5"]
    assert legend.split("      ") == counts


def test_a_53rd_week_stands_at_the_end_of_the_last_row() -> None:
    """Cells lie at the left of their middle by 0.4; months and rows are those of the ISO year."""
    figure, _ = plots.year(a_year(2026, STATES), Week(2026, 53))
    cells = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert len(cells) == 54  # and the frame of this week
    assert cells[52].get_x() + 0.4 == pytest.approx(13)
    assert cells[52].get_y() == pytest.approx(cells[51].get_y())
    assert {"W1–13", "W14–26", "W27–39", "W40–53", "Jan", "Dec"} <= texts(figure)
    assert "W40–52" in texts(plots.year(a_year(2027, {}), Week(2026, 48))[0])


def test_months_stand_above_the_week_of_their_first_thursday() -> None:
    """Thursdays of 2026: 01-01 in week 1, 02-05 in week 6, 03-05 in week 10, 04-02 in week 14."""
    figure, _ = plots.year(a_year(2026, {}), Week(2026, 48))
    places = {text.get_text(): text.get_position() for text in figure.axes[0].texts}
    assert [places[month][0] for month in ("Jan", "Feb", "Mar", "Apr")] == [0, 5, 9, 0]
    assert places["Apr"][1] > places["Mar"][1]


@needs_korean
def test_a_year_in_korean_has_its_glyphs() -> None:
    figure, _ = plots.year(a_year(2026, STATES), Week(2026, 48), "ko")
    assert {"1–13주", "10월"} <= texts(figure)


def test_a_year_without_weeks_cannot_be_drawn() -> None:
    with pytest.raises(SiteError, match="without weeks"):
        plots.year([], Week(2026, 48))


# all figures


def test_a_missing_korean_font_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import font_manager

    def fonts_with(*names: str) -> list[str]:
        entries = [font_manager.FontEntry(name=name) for name in ("DejaVu Sans", *names)]
        monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
        return plots._fonts.__wrapped__()

    assert fonts_with() == ["DejaVu Sans"]
    assert fonts_with("Malgun Gothic") == ["DejaVu Sans", "Malgun Gothic"]
    assert fonts_with("Malgun Gothic", "NanumGothic") == ["DejaVu Sans", "NanumGothic"]


@needs_korean
def test_hangul_captions_and_labels_have_their_glyphs() -> None:
    drawn(plots.picture_wall(pictures(1), ["빨간 법랑 머그컵"], 1, [True])[0])
    drawn(plots.similarity_matrix([[0.5]], ["빨간 컵"], ["사진"])[0])
    drawn(plots.curves({"손실": [(0, 1.0), (1, 0.5)]}, "손실", xlabel="단계")[0])


def test_no_figure_touches_pyplot() -> None:
    code = (
        "import sys; from claimbook import plots; assert 'matplotlib' not in sys.modules; "
        "plots.curves({'loss': [(0, 1.0)]}, 'loss')[0].savefig('/dev/null', format='png'); "
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_threads_draw_the_same_pictures_at_once() -> None:
    alone: dict[Literal["en", "ko"], bytes] = {}
    languages: tuple[Literal["en", "ko"], ...] = ("en", "ko") if len(plots._fonts()) > 1 else ("en",)
    for language in languages:
        alone[language] = drawn(plots.forest(a_verdict(), language)[0])
    together: list[bool] = []

    def draw(language: Literal["en", "ko"]) -> None:
        target = io.BytesIO()
        plots.forest(a_verdict(), language)[0].savefig(target, format="png")
        together.append(target.getvalue() == alone[language])

    threads = [threading.Thread(target=draw, args=(language,)) for language in languages * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [True] * len(threads)
