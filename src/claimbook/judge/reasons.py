"""Why a verdict is inadmissible or deviated: the English sentence of the record, and its Korean.

Knows wordings only. A record keeps English; `translated` finds the template that a reason was made from.
"""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["en", "ko"]
Kind = Literal["arm", "seed", "parameter", "unset", "part", "control", "constant"]

_ENGLISH: dict[Kind, str] = {
    "arm": "run {run}: the sealed hypothesis has no arm {arm}",
    "seed": "run {run}: the sealed hypothesis has no seed {seed}",
    "parameter": "run {run}: parameter {name} is {found}, and {sealed} was sealed",
    "unset": "run {run}: parameter {name} is missing, and {sealed} was sealed",
    "part": "run {run}: the {part} is not the sealed one",
    "control": "control {name} scores {mean} where chance is {chance}: its interval around chance, "
    "{interval}, is not within ±{tolerance}",
    "constant": "all {count} seeds give the same score of every item, in both arms: "
    "the seed changes nothing, so they are one measurement",
}
_KOREAN: dict[Kind, str] = {
    "arm": "실행 {run}: 봉인된 가설에 없는 조건({arm})",
    "seed": "실행 {run}: 봉인된 가설에 없는 시드({seed})",
    "parameter": "실행 {run}: 매개변수 {name} 값이 {found}, 봉인된 값은 {sealed}",
    "unset": "실행 {run}: 매개변수 {name} 값이 없음, 봉인된 값은 {sealed}",
    "part": "실행 {run}: 봉인 당시와 다른 부분({part})",
    "control": "음성 대조군 {name}: 점수 {mean}, 우연 수준 {chance}, 우연 수준과의 차이 구간 {interval}, "
    "허용 한계 ±{tolerance} 초과",
    "constant": "두 군 모두 시드 {count}개에서 모든 항목의 점수가 같음: "
    "시드를 바꾸어도 결과가 달라지지 않으므로 측정은 사실상 한 번뿐임",
}
_KOREAN_PARTS = {
    "notebook code": "노트북 코드",
    "technique code": "기법 코드",
    "product set": "상품 데이터",
}


def reason(kind: Kind, **fields: str) -> str:
    """The English reason of a kind."""
    return _ENGLISH[kind].format(**fields)


def translated(text: str, language: Language) -> str:
    """A recorded reason in `language`; one that fits no template stays English."""
    if language == "en":
        return text
    for kind, template in _ENGLISH.items():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.+)", re.escape(template))
        if match := re.fullmatch(pattern, text):
            fields = match.groupdict()
            for english, korean in _KOREAN_PARTS.items():
                if "part" in fields:
                    fields["part"] = fields["part"].replace(english, korean)
            return _KOREAN[kind].format(**fields)
    return text
