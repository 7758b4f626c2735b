"""What a study group reads."""

import re
from collections.abc import Callable
from typing import Any, get_args

import pytest

from claimbook.judge import OUTCOME_NAMES, sentence
from claimbook.judge.reasons import Language, reason, translated
from claimbook.judge.wording import p_value, signed
from claimbook.records.verdict import Outcome

Build = Callable[..., Any]
NOISE = (-0.0012, -0.0007, -0.0001, 0.0003, 0.0006, 0.0011)


def around(mean: float, scale: float = 1.0) -> list[float]:
    return [mean + scale * noise for noise in NOISE]


def test_a_supported_claim_in_english(by_seed: Build) -> None:
    verdict = by_seed(around(0.02), controls={"shuffled": around(0.0)}).judge()
    assert sentence(verdict) == (
        "Supported: recall@1 is 0.4225 with the treatment and 0.4025 with the baseline, a difference of "
        "+0.0200 (95 % interval +0.0191 to +0.0209, adjusted p = 0.0312, 6 paired seeds), which reaches "
        "0.01, the smallest worth having. This speaks of the method at our scale."
    )


def test_a_supported_claim_in_korean(by_seed: Build) -> None:
    verdict = by_seed(around(0.02), controls={"shuffled": around(0.0)}).judge()
    assert sentence(verdict, "ko") == (
        "지지됨: 지표 recall@1 기준으로 처리군 평균은 0.4225, 기준군 평균은 0.4025, 차이는 +0.0200입니다"
        "(95% 신뢰구간 [+0.0191, +0.0209], 보정 유의확률 p = 0.0312, 짝지은 시드 6개). "
        "의미 있는 최소 차이(0.01) 이상의 우월성이 확인되었으며, 이 결과는 방법 자체에 대한 것입니다."
    )


def test_a_refutation_with_equivalence_says_that_the_two_do_the_same(by_seed: Build) -> None:
    verdict = by_seed(around(0.002)).judge()
    assert "Refuted" in sentence(verdict)
    assert "within ±0.01 the two do the same" in sentence(verdict)
    assert "±0.01 범위 안에서 동등" in sentence(verdict, "ko")
    worse = by_seed(around(-0.02)).judge()
    assert "the same" not in sentence(worse)
    assert "동등" not in sentence(worse, "ko")


def test_where_lower_is_better_the_sentence_says_so(by_seed: Build) -> None:
    verdict = by_seed(around(-0.02), direction="lower").judge()
    assert "(lower is better)" in sentence(verdict)
    assert "better direction of +0.02" in sentence(verdict)
    assert "낮을수록 좋음" in sentence(verdict, "ko")


def test_checkpoints_speak_of_two_checkpoints_only(by_item: Build) -> None:
    verdict = by_item([0.1, 0.2, 0.3, 0.4], [0.3, 0.4, 0.6, 0.4]).judge()
    assert "these two checkpoints only" in sentence(verdict)
    assert "4 paired clusters of items" in sentence(verdict)
    assert "두 체크포인트에만" in sentence(verdict, "ko")


def test_a_missing_control_is_told(by_seed: Build) -> None:
    verdict = by_seed(around(0.02)).judge()
    assert "no control" in sentence(verdict)
    assert "음성 대조군 없음" in sentence(verdict, "ko")


def test_an_inadmissible_verdict_names_the_control_its_score_and_chance(by_seed: Build) -> None:
    verdict = by_seed(around(0.02), controls={"shuffled": around(0.05)}).judge()
    english, korean = sentence(verdict), sentence(verdict, "ko")
    assert english.startswith("Inadmissible: control shuffled scores 0.3 where chance is 0.25")
    assert "no evidence for or against" in english
    assert korean.startswith("부적격: 음성 대조군 shuffled: 점수 0.3, 우연 수준 0.25")
    assert "+0.02" in korean


def test_a_deviation_says_what_and_how_many_more(by_seed: Build) -> None:
    study = by_seed(around(0.02))
    study.change("treatment", 1, fingerprints={"notebook": "n" * 64, "code": {}, "data": "d" * 64})
    study.change("treatment", 2, parameters={"loss": "sigmoid", "epochs": 9})
    verdict = study.judge()
    assert sentence(verdict).startswith(
        "Deviated: run 003-treatment-1: the technique code (vlm/loss.py) is not the sealed one (and 1 more)."
    )
    assert sentence(verdict, "ko").startswith(
        "계획 이탈: 실행 003-treatment-1: 봉인 당시와 다른 부분(기법 코드 (vlm/loss.py))(외 1건)."
    )


def test_a_deviation_before_all_runs_are_done_has_no_numbers(by_seed: Build, four_items: Build) -> None:
    study = by_seed(around(0.02))
    study.add("treatment", 17, four_items(0.5))
    study.change("treatment", 2, status="failed")
    verdict = study.judge()
    assert "no difference was computed" in sentence(verdict)
    assert "차이는 계산하지 않았습니다" in sentence(verdict, "ko")


@pytest.mark.parametrize("kind", ["superiority", "non-inferiority", "equivalence"])
@pytest.mark.parametrize("language", get_args(Language))
def test_every_outcome_of_every_kind_has_words_with_its_numbers(
    by_seed: Build, kind: str, language: Language
) -> None:
    seen = set()
    for mean in (-0.02, -0.01, 0.0, 0.002, 0.01, 0.02):
        for scale in (1, 5, 10.5):
            verdict = by_seed(around(mean, scale), kind=kind).judge()
            seen.add(verdict.outcome)
            text = sentence(verdict, language)
            assert OUTCOME_NAMES[language][verdict.outcome] in text.lower()
            assert "0.01" in text
            assert "p = " in text
            assert re.search(r"\b6\b|6개", text)
            assert "-0" not in text
            assert "{" not in text
            assert text.count(". ") <= 1
    assert {"supported", "refuted", "inconclusive"} <= seen


def test_no_korean_particle_hangs_on_a_word_that_varies(by_seed: Build) -> None:
    particle = re.compile(r"[0-9A-Za-z@](은|는|이|가|을|를|와|과|로|으로)(?![가-힣])")
    for changes in ({}, {"direction": "lower"}, {"kind": "equivalence"}, {"kind": "non-inferiority"}):
        for mean in (-0.02, 0.0, 0.02):
            for excess in (0.0, 0.05):
                study = by_seed(around(mean), controls={"shuffled": around(excess)}, **changes)
                text = sentence(study.judge(), "ko")
                assert not particle.search(text), text
                assert not re.search(r"[은는이가을를]\([은는이가을를]\)", text)


def test_every_reason_has_a_korean_of_its_own() -> None:
    made = [
        reason("arm", run="r1", arm="third"),
        reason("seed", run="r1", seed="17"),
        reason("parameter", run="r1", name="epochs", found="7", sealed="6"),
        reason("unset", run="r1", name="epochs", sealed="6"),
        reason("part", run="r1", part="product set"),
        reason("control", name="blind", mean="0.3", chance="0.1", interval="[0, 1]", tolerance="0.01"),
        reason("constant", count="6"),
    ]
    koreans = {translated(text, "ko") for text in made}
    assert len(koreans) == len(made)
    assert all(re.search("[가-힣]", text) for text in koreans)
    assert translated(made[0], "en") == made[0]
    assert translated("written by a later version", "ko") == "written by a later version"


def test_every_outcome_has_a_name_in_every_language() -> None:
    for language in get_args(Language):
        assert set(OUTCOME_NAMES[language]) == set(get_args(Outcome))


def test_numbers_have_a_true_minus_and_no_p_is_zero() -> None:
    assert (signed(0.0123, 3), signed(-0.0123, 3), signed(-0.0001, 3)) == ("+0.012", "−0.012", "0.000")
    assert (p_value(0.03125), p_value(0.0), p_value(1.0)) == ("= 0.0312", "< 0.0001", "= 1")
