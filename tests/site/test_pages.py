from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from claimbook.judge import OUTCOME_NAMES, sentence
from claimbook.records import Scale, SealedSources, Step
from claimbook.site import build
from claimbook.site.dossier import read_dossier
from claimbook.site.pages import curve_series, scale_rows, shown_value
from claimbook.workspace import Workspace


class Passages(HTMLParser):
    """The text of each element, with the language in force there, and the heading levels."""

    void = {"meta", "link", "img", "br", "hr", "input"}

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.languages: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.headings: list[int] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if len(tag) == 2 and tag[0] == "h" and tag[1].isdigit():
            self.headings.append(int(tag[1]))
        if tag not in self.void:
            self.languages.append(dict(attrs).get("lang") or (self.languages or [""])[-1])

    def handle_endtag(self, tag: str) -> None:
        self.languages.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.languages[-1], data.strip()))

    def text(self) -> str:
        return " ".join(text for _, text in self.texts)


@pytest.mark.parametrize(("site", "first", "second"), [("full", "en", "ko"), ("korean", "ko", "en")])
def test_the_verdict_stands_in_both_languages_the_workspaces_first(
    site: str, first: Any, second: Any, request: pytest.FixtureRequest
) -> None:
    workspace: Workspace = request.getfixturevalue(site)
    verdict = read_dossier(workspace, "judged").verdict
    assert verdict is not None
    texts = Passages(workspace.site / "experiments/judged.html").texts
    places = [texts.index((language, sentence(verdict, language))) for language in (first, second)]
    assert places == sorted(places)
    assert (first, sentence(verdict, first)) in Passages(workspace.site / "index.html").texts


@pytest.mark.parametrize("site", ["full", "korean"])
def test_headings_are_in_order_on_every_page(site: str, request: pytest.FixtureRequest) -> None:
    workspace: Workspace = request.getfixturevalue(site)
    for path in workspace.site.rglob("*.html"):
        headings = Passages(path).headings
        assert headings[0] == 1, path
        assert headings.count(1) == 1, path
        steps = [after - before for before, after in pairwise(headings)]
        assert max(steps, default=0) <= 1, path


def test_passages_name_their_language(full: Workspace, korean: Workspace) -> None:
    assert ("ko", "봉인만 된 실험") in Passages(full.site / "index.html").texts
    assert ("en", "Sigmoid beats softmax") in Passages(korean.site / "index.html").texts
    claims = Passages(full.site / "papers/siglip.html").texts
    assert ("ko", "편향을 −10으로 초기화하면 학습 초기가 안정적이다.") in claims


def test_an_outcome_is_a_word_and_not_only_a_colour(korean: Workspace) -> None:
    assert OUTCOME_NAMES["ko"]["supported"] in Passages(korean.site / "index.html").text()


IN_W45, IN_W46 = datetime(2026, 11, 4, tzinfo=UTC), datetime(2026, 11, 11, tzinfo=UTC)


def test_the_home_page_begins_with_this_weeks_paper_and_what_it_lacks(
    workspace: Workspace, make: Any
) -> None:
    """The note has one of its seven sections; the experiment's 15 runs are finished and judged."""
    make.put_paper(workspace)
    make.put_judged(workspace)
    build(workspace, now=IN_W45)
    text = Passages(workspace.site / "index.html").text()
    assert text.index("This week 2026-W45") < text.index("Verdicts")
    assert "Status ◐ Open Weeks in a row 0 Longest 0 Sigmoid Loss for" in text
    assert "✓ done: Paper read ○ to do: Note filled in papers/siglip/README.md ✓ done: Hypothesis" in text
    assert "✓ done: Page built" in text
    assert 'alt="The weeks of 2026: open W45."' in (workspace.site / "index.html").read_text("utf-8")


def test_a_week_without_a_paper_names_the_proposal(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    build(workspace, now=IN_W46)
    home = (workspace.site / "index.html").read_text("utf-8")
    assert "This week" in home
    assert "<code>claimbook week next</code>" in home
    assert 'alt="The weeks of 2026: open W46; missed W45."' in home


def test_the_week_is_told_in_korean(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace)
    space = replace(workspace, language="ko", excused={"2026-W46": "워크숍 <b>"})
    build(space, now=IN_W46)
    text = Passages(workspace.site / "index.html").text()
    assert "이번 주 2026-W46 상태 – 쉬는 주: 워크숍 <b> 연속 완료 0주 최장 기록 0주" in text
    assert "claimbook week next" not in text
    home = (workspace.site / "index.html").read_text("utf-8")
    assert 'alt="2026년 주별 기록: 놓침 W45; 쉬는 주 W46."' in home


def test_without_a_week_in_any_note_there_is_no_calendar(workspace: Workspace, make: Any) -> None:
    make.put_paper(workspace, note='---\nid: "2303.15343"\n---\n')
    build(workspace, now=IN_W45)
    assert not (workspace.site / "figures").exists()
    assert "claimbook week next" in (workspace.site / "index.html").read_text("utf-8")


def test_the_board_says_what_comes_next(full: Workspace) -> None:
    text = Passages(full.site / "index.html").text()
    assert "claimbook run sealed" in text
    assert "0 of 15 runs finished" in text
    assert "claimbook check hostile && claimbook seal hostile" in text


def test_when_all_runs_are_finished_judging_comes_next(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    (workspace.experiments / "judged" / "verdict.json").unlink()
    dossier = read_dossier(workspace, "judged")
    assert (dossier.state, dossier.done, dossier.planned) == ("sealed", 15, 15)
    assert dossier.next == ("next_judge", "claimbook judge judged")


def test_a_verdict_about_an_earlier_seal_is_not_shown(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    experiment = read_dossier(workspace, "judged").experiment
    seal = experiment.seal()
    assert seal is not None
    text = make.hypothesis("Sigmoid beats softmax").replace("epochs = 6", "epochs = 9")
    longer = make.seal_of(text, reason="longer", previous=seal.current)
    experiment.add_seal(longer, SealedSources(notebook=[], code={}))
    dossier = read_dossier(workspace, "judged")
    assert (dossier.state, dossier.verdict) == ("outdated", None)
    assert dossier.next == ("next_run", "claimbook run judged")
    build(workspace)
    assert "Judged before an amendment" in Passages(workspace.site / "index.html").text()


def test_what_was_sealed_is_shown_and_not_what_was_written_later(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    path = workspace.experiments / "judged" / "hypothesis.toml"
    path.write_text(path.read_text("utf-8").replace("margin = 0.01", "margin = 0.001"), "utf-8")
    dossier = read_dossier(workspace, "judged")
    assert dossier.hypothesis is not None
    assert (dossier.hypothesis.margin, dossier.changed) == (0.01, ["margin"])
    build(workspace)
    assert "was changed after sealing" in Passages(workspace.site / "experiments/judged.html").text()


def test_the_experiment_page_shows_what_the_records_say(full: Workspace) -> None:
    text = Passages(full.site / "experiments/judged.html").text()
    for shown in (
        "+0.032",  # the effect, (0.035 + 0.026 + 0.032 + 0.038 + 0.029) / 5
        "2026-11-03 14:00 KST",  # sealed at 05:00 UTC
        "5 epochs were too few",
        "catalog: 1,920 pictures of 480 products",
        "[−0.001, +0.001]",
        "torch 2.6.0 → 2.7.1",
        "MemoryError",
        "86M",
        "27×",
        "1.3 GiB",
        "2 min 10 s",
        "shuffle_pairs",
        "시그모이드 손실은 쌍마다 독립이라",
        "The gain holds on",
    ):
        assert shown in text, shown


def test_curves_of_all_arms_and_seeds_are_overlaid(full: Workspace) -> None:
    series = curve_series(read_dossier(full, "judged"))
    assert list(series) == ["loss"]
    names = [f"{arm}/{seed}" for arm in ("baseline", "treatment", "shuffled") for seed in range(5)]
    assert list(series["loss"]) == names
    assert series["loss"]["treatment/0"][0] == (0, 1.7)
    assert "Curves of loss over step" in (full.site / "experiments/judged.html").read_text("utf-8")


def test_long_curves_are_thinned_and_keep_their_ends(workspace: Workspace, make: Any) -> None:
    make.put_judged(workspace)
    dossier = read_dossier(workspace, "judged")
    steps = [Step(step=step, values={"loss": 1.0}, at=0.0) for step in range(10_000)]
    dossier.steps = {"treatment-0": steps}
    points = curve_series(dossier)["loss"]["treatment/0"]
    assert len(points) == 401
    assert (points[0][0], points[1][0], points[-1][0]) == (0, 25, 9_999)


def test_the_paper_page_says_whether_a_number_was_looked_up(full: Workspace) -> None:
    text = Passages(full.site / "papers/siglip.html").text()
    assert "73.4 confirmed" in text
    assert "the curve without bias diverges from memory" in text
    assert "v1, v2, v3, v4" in text
    assert "entered by hand" in Passages(full.site / "papers/hostile.html").text()


def test_every_table_has_a_caption_and_scopes(full: Workspace) -> None:
    html = (full.site / "experiments/judged.html").read_text("utf-8")
    assert html.count("<table") == html.count("<caption") > 4
    assert html.count("<th") - html.count("<thead") == html.count("<th scope=")


def test_a_scale_without_a_partner_has_no_ratio() -> None:
    rows = scale_rows(Scale(parameters=2e6, resolution=64), Scale(parameters=4e8))
    assert [(row.label, row.ours, row.papers, row.ratio) for row in rows] == [
        ("parameters_scale", "2M", "400M", "200×"),
        ("resolution_scale", "64", None, None),
    ]
    assert scale_rows(None, None) == []


def test_values_are_written_as_in_toml() -> None:
    assert [shown_value(value) for value in (True, -10.0, "catalog", [1, "a"])] == [
        "true",
        "-10.0",
        "catalog",
        "1, a",
    ]


@pytest.mark.parametrize("outcome", ["inadmissible", "deviated"])
def test_a_verdict_without_an_effect_says_why(workspace: Workspace, make: Any, outcome: str) -> None:
    nothing = {
        "effect": None,
        "interval": None,
        "p": None,
        "p_adjusted": None,
        "smallest_p": None,
        "pairs": [],
    }
    make.put_judged(
        workspace, outcome=outcome, reasons=["seed 4 of the baseline is missing"], means={}, **nothing
    )
    assert build(workspace).errors == []
    assert "seed 4 of the baseline is missing" in Passages(workspace.site / "experiments/judged.html").text()


@pytest.mark.parametrize(
    ("language", "reading", "experiment", "withdrawn"),
    [
        (
            "en",
            "You read v4; v5 exists",
            "This rests on v2 of the paper; v5 exists",
            "The paper looks withdrawn",
        ),
        (
            "ko",
            "읽은 버전은 v4이고, 최신 버전은 v5입니다",
            "이 실험이 근거한 논문 버전은 v2이고, 최신 버전은 v5입니다",
            "철회된 논문으로 보입니다",
        ),
    ],
)  # fmt: skip
def test_an_older_version_and_a_withdrawal_are_marked_on_paper_and_experiment(
    tmp_path: Path, make: Any, language: Any, reading: str, experiment: str, withdrawn: str
) -> None:
    workspace = Workspace(tmp_path, language=language)
    note = make.NOTE.replace("    metric: recall@1\n", "    metric: recall@1\n    version: 2\n")
    make.put_paper(
        workspace, note=note, versions=[1, 2, 3, 4, 5], withdrawn="This paper has been withdrawn: <b>"
    )
    make.put_judged(workspace)
    build(workspace)
    paper = Passages(workspace.site / "papers/siglip.html").text()
    assert reading in paper
    assert f"{withdrawn} This paper has been withdrawn: <b>" in paper
    assert experiment in Passages(workspace.site / "experiments/judged.html").text()


def test_what_arxiv_says_besides_stands_on_the_papers_page(tmp_path: Path, make: Any) -> None:
    workspace = Workspace(tmp_path)
    url = 'https://github.com/a/b?"><script>alert(1)</script>'
    make.put_paper(
        workspace,
        comment="ICCV 2023 <script>alert(1)</script>",
        journal_ref="ICCV 2023, pages 1-9",
        doi='10.1109/"><script>',
        links=[{"kind": "code", "url": url, "said_in": "abstract"}],
    )
    build(workspace)
    page = workspace.site / "papers/siglip.html"
    for text in (
        "ICCV 2023 <script>alert(1)</script>",
        "ICCV 2023, pages 1-9",
        url,
        'doi:10.1109/"><script>',
    ):
        assert text in Passages(page).text()
    assert "<script" not in page.read_text("utf-8")


def test_a_paper_read_in_its_newest_version_is_not_marked(full: Workspace) -> None:
    assert "exists" not in Passages(full.site / "papers/siglip.html").text()
    assert "rests on" not in Passages(full.site / "experiments/judged.html").text()
