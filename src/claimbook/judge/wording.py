"""A verdict in words, English and Korean: what a study group reads first. Knows verdicts, nothing of pages.

The Korean is phrased so that no word or number that varies is followed by a particle which would depend on
its last sound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from claimbook.judge.reasons import Language, translated
from claimbook.records import Scale, Verdict
from claimbook.records.verdict import Outcome

__all__ = ["OUTCOME_NAMES", "Language", "beside", "p_value", "scale_gap", "sentence", "signed"]

OUTCOME_NAMES: Mapping[Language, Mapping[Outcome, str]] = {
    "en": {
        "supported": "supported",
        "refuted": "refuted",
        "equivalent": "equivalent",
        "inconclusive": "inconclusive",
        "inadmissible": "inadmissible",
        "deviated": "deviated",
    },
    "ko": {
        "supported": "지지됨",
        "refuted": "반증됨",  # not 기각됨: that is what happens to a null hypothesis
        "equivalent": "동등함",
        "inconclusive": "판단 보류",
        "inadmissible": "부적격",
        "deviated": "계획 이탈",
    },
}
"""How pages call an outcome."""

_MEANING: Mapping[Language, Mapping[tuple[str, str], str]] = {
    "en": {
        ("superiority", "supported"): "which reaches {margin}, the smallest worth having",
        ("superiority", "refuted"): "which rules out an advantage of {margin}, the smallest worth having",
        ("superiority", "same"): "which rules out an advantage of {margin}: "
        "within ±{margin} the two do the same",
        ("superiority", "equivalent"): "so that within ±{margin} the two do the same",
        ("superiority", "inconclusive"): "which shows neither an advantage of {margin} nor its absence",
        ("non-inferiority", "supported"): "so that the treatment is not worse by {margin} or more",
        ("non-inferiority", "refuted"): "so that the treatment is worse by more than {margin}",
        ("non-inferiority", "inconclusive"): "which leaves open whether the treatment "
        "is worse by {margin} or more",
        ("equivalence", "supported"): "so that within ±{margin} the two do the same",
        ("equivalence", "refuted"): "so that the two differ by more than {margin}",
        ("equivalence", "inconclusive"): "which leaves open whether the two differ by {margin} or more",
    },
    "ko": {
        ("superiority", "supported"): "의미 있는 최소 차이({margin}) 이상의 우월성이 확인되었으며",
        ("superiority", "refuted"): "의미 있는 최소 차이({margin})만큼의 우월성은 없는 것으로 나타났으며",
        ("superiority", "same"): "의미 있는 최소 차이({margin})만큼의 우월성은 없고 "
        "두 군의 성능은 ±{margin} 범위 안에서 동등하며",
        ("superiority", "equivalent"): "두 군의 성능은 ±{margin} 범위 안에서 동등하며",
        ("superiority", "inconclusive"): "의미 있는 최소 차이({margin})만큼의 우월성이 "
        "있다고도 없다고도 할 수 없으며",
        ("non-inferiority", "supported"): "처리군이 허용 한계({margin}) 이상 열등하지 않음이 확인되었으며",
        ("non-inferiority", "refuted"): "처리군이 허용 한계({margin})를 넘어 열등한 것으로 나타났으며",
        ("non-inferiority", "inconclusive"): "처리군이 허용 한계({margin}) 이상 열등한지 판단할 수 없으며",
        ("equivalence", "supported"): "두 군의 성능이 허용 한계(±{margin}) 안에서 동등함이 확인되었으며",
        ("equivalence", "refuted"): "두 군의 차이가 허용 한계(±{margin})를 벗어난 것으로 나타났으며",
        ("equivalence", "inconclusive"): "두 군의 차이가 허용 한계(±{margin}) 안에 있는지 판단할 수 없으며",
    },
}


def sentence(verdict: Verdict, language: Language = "en") -> str:
    """What a verdict says, in one or two sentences: outcome, means, difference, interval, adjusted p,
    units, margin and scope; for an inadmissible or deviated one, why."""
    name = OUTCOME_NAMES[language][verdict.outcome]
    words = _without_a_verdict if verdict.outcome in ("inadmissible", "deviated") else _with_a_verdict
    return f"{name[0].upper()}{name[1:]}: {words(verdict, language)}"


def signed(number: float, decimals: int) -> str:
    """A number with its sign, the minus a true one; what rounds to zero has none."""
    text = f"{number:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def p_value(p: float) -> str:
    """A p with its relation, to three digits: "= 0.0312", or "< 0.0001"."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.3g}"


def decimals_of(verdict: Verdict) -> int:
    """Decimals that show one digit of the interval's half width, and one more than the margin has."""
    low, high = verdict.interval or (0.0, 0.0)
    sizes = [size for size in ((high - low) / 2, verdict.margin / 10) if size > 0]
    return max(0, min(6, max(-math.floor(math.log10(size)) for size in sizes)))


def _with_a_verdict(verdict: Verdict, language: Language) -> str:
    decimals = decimals_of(verdict)
    treatment, baseline = (
        f"{verdict.means[arm]:.{decimals}f}".replace("-", "−") for arm in ("treatment", "baseline")
    )
    effect = signed(verdict.effect or 0.0, decimals)
    evidence = _evidence(verdict, language)
    same = verdict.outcome == "refuted" and verdict.equivalent and verdict.kind == "superiority"
    meaning = _MEANING[language][verdict.kind, "same" if same else verdict.outcome].format(
        margin=f"{verdict.margin:g}"
    )
    method = verdict.scope == "method"
    if language == "ko":
        lower = "(낮을수록 좋음)" if verdict.direction == "lower" else ""
        difference = "개선 방향의 차이는" if verdict.direction == "lower" else "차이는"
        scope = "방법 자체에 대한 것입니다" if method else "비교한 두 체크포인트에만 해당합니다"
        return (
            f"지표 {verdict.metric}{lower} 기준으로 처리군 평균은 {treatment}, 기준군 평균은 {baseline}, "
            f"{difference} {effect}입니다({evidence}). {meaning}, 이 결과는 {scope}."
        )
    lower = " (lower is better)" if verdict.direction == "lower" else ""
    difference = (
        "a difference in the better direction of" if verdict.direction == "lower" else "a difference of"
    )
    scope = "the method at our scale" if method else "these two checkpoints only, one training each"
    return (
        f"{verdict.metric}{lower} is {treatment} with the treatment and {baseline} with the baseline, "
        f"{difference} {effect} ({evidence}), {meaning}. This speaks of {scope}."
    )


def _without_a_verdict(verdict: Verdict, language: Language) -> str:
    first, *more = [translated(reason, language) for reason in verdict.reasons]
    if language == "ko":
        others = f"(외 {len(more)}건)" if more else ""
        if verdict.effect is None:
            return f"{first}{others}. 계획된 실행이 모두 끝나지 않아 차이는 계산하지 않았습니다."
        effect = signed(verdict.effect, decimals_of(verdict))
        return (
            f"{first}{others}. 측정된 차이({effect}, {_evidence(verdict, language)})는 "
            "가설의 근거로 쓸 수 없습니다."
        )
    others = f" (and {len(more)} more)" if more else ""
    if verdict.effect is None:
        return f"{first}{others}. The sealed runs are not complete, so no difference was computed."
    effect = signed(verdict.effect, decimals_of(verdict))
    return (
        f"{first}{others}. The measured difference of {effect} ({_evidence(verdict, language)}) "
        "is no evidence for or against the hypothesis."
    )


def _evidence(verdict: Verdict, language: Language) -> str:
    """Interval, adjusted p, units, and whether there was a control."""
    decimals = decimals_of(verdict)
    low, high = (signed(end, decimals) for end in verdict.interval or (0.0, 0.0))
    level = f"{100 * (1 - verdict.alpha):g}"
    p = p_value(1.0 if verdict.p_adjusted is None else verdict.p_adjusted)
    method = verdict.scope == "method"
    if language == "ko":
        units = f"짝지은 시드 {verdict.units}개" if method else f"짝지은 항목 묶음 {verdict.units:,}개"
        parts = [f"{level}% 신뢰구간 [{low}, {high}]", f"보정 유의확률 p {p}", units]
        return ", ".join(parts if verdict.controls else [*parts, "음성 대조군 없음"])
    units = f"{verdict.units} paired seeds" if method else f"{verdict.units:,} paired clusters of items"
    parts = [f"{level} % interval {low} to {high}", f"adjusted p {p}", units]
    return ", ".join(parts if verdict.controls else [*parts, "no control"])


_BESIDE: Mapping[Language, Mapping[str, str]] = {
    "en": {
        "family": "hypothesis {ordinal} of {count} sealed on this product set and metric; "
        "p is corrected for all of them",
        "attempts": "more than one attempt: {pairs}",
        "fallbacks": "memory ran out, and the declared fallback (half the batch, twice the accumulation) "
        "was used in {arms}",
        "of": "{count} of {all} runs of {arm}",
        "uneven": "one arm used it more often than the other, and so trained with smaller batches, "
        "at seeds {seeds}",
        "surroundings": "the arms ran under different installed versions or on different GPUs "
        "at seeds {seeds}",
        "unlike_cold": "gave other numbers when repeated in a fresh interpreter: {runs}",
        "reported": "the paper reports: {value} ({metric}{where}{confirmed}), "
        "here the treatment scores {ours}; the verdict does not rest on it",
        "unconfirmed": "; from memory, nobody has looked it up",
        "gap": "scale of the paper against ours: {ratios}",
        "parameters": "{ratio}× the parameters",
        "pairs_seen": "{ratio}× the pairs seen",
        "resolution": "{ratio}× the resolution",
    },
    "ko": {
        "family": "이 상품 데이터와 지표로 봉인된 가설 {count}개 중 {ordinal}번째이며, "
        "p 값은 전체에 대해 보정했습니다",
        "attempts": "두 번 이상 시도한 실행: {pairs}",
        "fallbacks": "메모리가 부족해 미리 정해 둔 대체 설정(배치 절반, 누적 2배)으로 진행한 실행: {arms}",
        "of": "{arm} {all}개 중 {count}개",
        "uneven": "두 비교군의 대체 설정 적용 횟수가 달라 배치 크기가 서로 다른 시드: {seeds}",
        "surroundings": "두 비교군의 설치 패키지 버전이나 GPU가 서로 다른 시드: {seeds}",
        "unlike_cold": "새 인터프리터에서 다시 실행했을 때 수치가 달라진 실행: {runs}",
        "reported": "논문 보고값: {value}({metric}{where}{confirmed}), 여기서 처리군 점수: {ours}. "
        "판정에는 쓰이지 않습니다",
        "unconfirmed": ", 원문 대조 전",
        "gap": "우리 실험 대비 논문의 규모: {ratios}",
        "parameters": "매개변수 {ratio}배",
        "pairs_seen": "학습한 쌍 {ratio}배",
        "resolution": "해상도 {ratio}배",
    },
}


def beside(verdict: Verdict, language: Language = "en") -> list[str]:
    """What a reader should know beside the verdict, a line each: how often this test set was tested before,
    runs that took more than one attempt or the declared fallback, or that a cold kernel did not repeat, the
    paper's own number and how much larger its training was."""
    words = _BESIDE[language]
    lines = []
    if verdict.ordinal is not None and len(verdict.family) > 1:
        lines.append(words["family"].format(ordinal=verdict.ordinal, count=len(verdict.family)))
    if verdict.attempts:
        pairs = "; ".join(f"{pair} ({', '.join(ends)})" for pair, ends in verdict.attempts.items())
        lines.append(words["attempts"].format(pairs=pairs))
    if verdict.fallbacks:
        counts = [
            words["of"].format(arm=arm, count=count, all=len(verdict.pairs))
            for arm, count in verdict.fallbacks.items()
        ]
        lines.append(words["fallbacks"].format(arms=", ".join(counts)))
    if verdict.uneven_seeds:
        lines.append(words["uneven"].format(seeds=", ".join(map(str, verdict.uneven_seeds))))
    if verdict.uneven_surroundings:
        lines.append(words["surroundings"].format(seeds=", ".join(map(str, verdict.uneven_surroundings))))
    if verdict.unlike_cold:
        lines.append(words["unlike_cold"].format(runs=", ".join(verdict.unlike_cold)))
    if verdict.reported is not None and "treatment" in verdict.means:
        reported = verdict.reported
        lines.append(
            words["reported"].format(
                value=reported.value,
                metric=reported.metric,
                where=f", {reported.where}" if reported.where else "",
                confirmed="" if reported.confirmed else words["unconfirmed"],
                ours=f"{verdict.means['treatment']:.{decimals_of(verdict)}f}",
            )
        )
    if gaps := scale_gap(verdict):
        ratios = ", ".join(
            words[name].format(ratio=f"{float(f'{ratio:.3g}'):,.10g}") for name, ratio in gaps.items()
        )
        lines.append(words["gap"].format(ratios=ratios))
    return lines


def scale_gap(verdict: Verdict) -> dict[str, float]:
    """How many times larger the paper's training was, by each measure that both sides know."""
    ours, theirs = verdict.our_scale, verdict.paper_scale
    if ours is None or theirs is None:
        return {}
    sizes = {name: (getattr(theirs, name), getattr(ours, name)) for name in Scale.__struct_fields__}
    return {name: paper / our for name, (paper, our) in sizes.items() if paper and our}
