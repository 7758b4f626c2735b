"""What stands beside a verdict and never in it; and how near to chance a control must score."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from claimbook.experiments import Experiment
from claimbook.judge import beside, sentence
from claimbook.judge.of_experiment import judge_experiment
from claimbook.judge.wording import scale_gap
from claimbook.records import Reported, Run, Scale, Verdict, encode_json
from claimbook.runner import sealing

Build = Callable[..., Any]
BESIDE = {"reported", "paper_scale"}


@pytest.fixture
def experiment(judged) -> Experiment:
    return Experiment.of(judged, "toy")


def write_claim(space, lines: str) -> None:
    """Add fields to the claim in the paper's note, as a person would."""
    note = space.papers / "toy" / "README.md"
    note.write_text(note.read_text().replace("metric: hit@1\n", f"metric: hit@1\n{lines}"))


REPORTED = """\
    reported: 0.831
    where: "표 3, COCO 5K"
    scale: {parameters: 2.0e+8, pairs_seen: 1.8e+10, resolution: 224}
"""


# the paper's number and its scale


def test_the_papers_number_and_scale_stand_beside_the_verdict_and_change_no_number_of_it(judged, experiment):
    plain = judge_experiment(judged, experiment)
    write_claim(judged, REPORTED)
    verdict = judge_experiment(judged, experiment)
    assert verdict.reported == Reported(value=0.831, metric="hit@1", where="표 3, COCO 5K", confirmed=False)
    without, with_paper = encode_json(plain), encode_json(verdict)
    assert {name for name in without if without[name] != with_paper[name]} == BESIDE
    assert sentence(verdict) == sentence(plain)
    assert scale_gap(verdict) == {"parameters": 2e8 / 1e3, "pairs_seen": 1.8e10 / 6e3, "resolution": 28.0}
    assert beside(plain) == []
    assert beside(verdict) == [
        "the paper reports: 0.831 (hit@1, 표 3, COCO 5K; from memory, nobody has looked it up), "
        "here the treatment scores 0.598; the verdict does not rest on it",
        "scale of the paper against ours: 200,000× the parameters, 3,000,000× the pairs seen, "
        "28× the resolution",
    ]


def test_the_same_in_korean(judged, experiment):
    write_claim(judged, REPORTED)
    assert beside(judge_experiment(judged, experiment), "ko") == [
        "논문 보고값: 0.831(hit@1, 표 3, COCO 5K, 원문 대조 전), 여기서 처리군 점수: 0.598. "
        "판정에는 쓰이지 않습니다",
        "우리 실험 대비 논문의 규모: 매개변수 200,000배, 학습한 쌍 3,000,000배, 해상도 28배",
    ]


def test_a_number_that_was_looked_up_has_no_caveat_and_words_stand_for_a_curve(by_seed: Build) -> None:
    verdict = by_seed([0.02, 0.03, 0.02, 0.03, 0.02, 0.04]).judge()
    confirmed = Reported(value="그림 5의 곡선", metric="recall@1", where="", confirmed=True)
    (line,) = beside(msgspec.structs.replace(verdict, reported=confirmed))
    assert line.startswith("the paper reports: 그림 5의 곡선 (recall@1), here the treatment scores 0.4")
    (line,) = beside(msgspec.structs.replace(verdict, reported=confirmed), "ko")
    assert line.startswith("논문 보고값: 그림 5의 곡선(recall@1), 여기서 처리군 점수: 0.4")


@pytest.mark.parametrize(
    ("ours", "theirs", "gap"),
    [
        (None, Scale(parameters=2e8), {}),
        (Scale(parameters=2e5), None, {}),
        (Scale(parameters=2e5), Scale(pairs_seen=1e9), {}),
        (Scale(resolution=64, parameters=2e5), Scale(resolution=224), {"resolution": 3.5}),
        (Scale(parameters=2e5), Scale(parameters=2e8), {"parameters": 1000.0}),
        (Scale(parameters=0.0, pairs_seen=4.0), Scale(parameters=2e8, pairs_seen=2.0), {"pairs_seen": 0.5}),
    ],
)
def test_the_scale_gap_has_what_both_sides_know(by_seed: Build, ours, theirs, gap) -> None:
    verdict = by_seed([0.02, 0.03, 0.02, 0.03, 0.02, 0.04]).judge()
    assert scale_gap(msgspec.structs.replace(verdict, our_scale=ours, paper_scale=theirs)) == gap


# how often the product set was tested


def sealed_at(space, slug: str, at: str) -> None:
    """Another hypothesis on the same products and metric, as it was sealed at another time."""
    toy = Experiment.of(space, "toy")
    entry = toy.seal().current
    other = Experiment(space.experiments / slug)
    entry = msgspec.structs.replace(entry, sealed_at=at)
    entry = msgspec.structs.replace(entry, hash=entry.digest)
    other.folder.mkdir()
    other.add_seal(entry, toy.sealed_sources(toy.seal().current))


def test_the_third_of_five_hypotheses_says_so_and_is_corrected_for_all_five(judged, experiment):
    for slug, at in (("a", "2026-01-01"), ("b", "2026-01-02"), ("y", "2999-01-01"), ("z", "2999-01-02")):
        sealed_at(judged, slug, f"{at}T00:00:00.000Z")
    verdict = judge_experiment(judged, experiment)
    assert verdict.ordinal == 3
    assert sorted(verdict.family) == ["a", "b", "toy", "y", "z"]
    assert verdict.p == 2 / 2**6
    assert verdict.p_adjusted == 5 * 2 / 2**6  # Holm: those not yet judged count as smaller
    assert verdict.outcome == "inconclusive"
    assert beside(verdict) == [
        "hypothesis 3 of 5 sealed on this product set and metric; p is corrected for all of them"
    ]
    assert beside(verdict, "ko") == [
        "이 상품 데이터와 지표로 봉인된 가설 5개 중 3번째이며, p 값은 전체에 대해 보정했습니다"
    ]


def test_the_only_hypothesis_on_a_product_set_says_nothing_of_a_family(judged, experiment):
    verdict = judge_experiment(judged, experiment)
    assert (verdict.ordinal, verdict.family) == (1, {"toy": 2 / 2**6})
    assert beside(verdict) == []


def test_an_own_earlier_seal_counts_before_the_later_one(judged, experiment, edit):
    """Judged under the amendment, the same hypothesis is the second on its product set."""
    from claimbook.judge.of_experiment import family

    first = experiment.seal().current
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [6, 7, 8, 9, 10, 11, 12]")
    second, _ = sealing.amend(judged, experiment, "새 시드로 다시")
    members = family(judged, experiment, second.data, "hit@1")
    assert [one.name for one in members] == [f"toy, seal {first.hash[:8]}"]
    assert 1 + sum(one.sealed_at < second.sealed_at for one in members) == 2


# attempts


def failed_before(experiment: Experiment, arm: str, seed: int, **changes: Any) -> None:
    """A first attempt at a run that is recorded and entered as the batch would leave it."""
    (made,) = [run for run in experiment.runs() if (run.arm, run.seed, run.status) == (arm, seed, "finished")]
    fields: dict[str, Any] = {
        "id": f"{made.id}-first",
        "started": "2026-01-01T00:00:00.000Z",
        "status": "failed",
    }
    run: Run = msgspec.structs.replace(made, **{**fields, "metrics": {}, "items_sha256": None, **changes})
    experiment.save_run(run)
    experiment.enter_start(run)
    experiment.enter_end(run)


def test_a_run_that_took_more_than_one_attempt_is_told(judged, experiment):
    plain = judge_experiment(judged, experiment)
    failed_before(experiment, "treatment", 3)
    failed_before(
        experiment, "treatment", 3, id="treatment-s3-second", status="timed-out", started="2026-01-02"
    )
    failed_before(experiment, "baseline", 0, status="cancelled")
    verdict = judge_experiment(judged, experiment)
    assert verdict.attempts == {
        "baseline s0": ["cancelled", "finished"],
        "treatment s3": ["failed", "timed-out", "finished"],
    }
    told = "baseline s0 (cancelled, finished); treatment s3 (failed, timed-out, finished)"
    assert beside(verdict) == [f"more than one attempt: {told}"]
    assert beside(verdict, "ko") == [f"두 번 이상 시도한 실행: {told}"]
    changed = {"attempts", "ledger"}
    assert numbers(verdict, changed) == numbers(plain, changed)


def numbers(verdict: Verdict, left_out: set[str]) -> dict[str, Any]:
    return {name: value for name, value in encode_json(verdict).items() if name not in left_out}


def test_replications_and_pilots_are_no_attempts(judged, experiment):
    failed_before(experiment, "treatment", 3, kind="replication", rerun="rerun-1", status="finished")
    failed_before(experiment, "baseline", 0, kind="exploratory", seal=None)
    assert judge_experiment(judged, experiment).attempts == {}


def test_no_korean_particle_hangs_on_a_word_that_varies(judged, experiment):
    write_claim(judged, REPORTED)
    failed_before(experiment, "treatment", 3)
    sealed_at(judged, "earlier", "2026-01-01T00:00:00.000Z")
    lines = beside(judge_experiment(judged, experiment), "ko")
    assert len(lines) == 4
    particle = re.compile(r"[0-9A-Za-z@×](은|는|이|가|을|를|와|과|로|으로)(?![가-힣])")
    assert not [line for line in lines if particle.search(line)]


# a control's own margin


def test_a_control_is_held_to_its_own_margin_where_it_has_one(by_seed: Build) -> None:
    """Mean excess 0.004 with a 90 % interval within ± 0.005: near enough for 0.01, not for 0.004."""
    differences = [0.02, 0.03, 0.02, 0.03, 0.02, 0.04]
    excess = {"shuffled": [0.0035, 0.0045, 0.004, 0.0035, 0.0045, 0.004]}
    for margin, passed in ((None, True), (0.02, True), (0.005, True), (0.004, False), (0.001, False)):
        verdict = by_seed(differences, controls=excess, control_margin=margin).judge()
        (control,) = verdict.controls
        assert control.tolerance == (0.01 if margin is None else margin)
        assert control.passed is passed
        assert verdict.outcome == ("supported" if passed else "inadmissible")
    strict = by_seed(differences, controls=excess, control_margin=0.001).judge()
    assert "is not within ±0.001" in sentence(strict)
    assert "허용 한계 ±0.001 초과" in sentence(strict, "ko")


def test_the_margin_of_a_control_changes_nothing_about_the_effect(by_seed: Build) -> None:
    differences = [0.02, 0.03, 0.02, 0.03, 0.02, 0.04]
    excess = {"shuffled": [0.0035, 0.0045, 0.004, 0.0035, 0.0045, 0.004]}
    plain = by_seed(differences, controls=excess).judge()
    wide = by_seed(differences, controls=excess, control_margin=0.5).judge()
    assert numbers(wide, {"controls", "seal"}) == numbers(plain, {"controls", "seal"})
