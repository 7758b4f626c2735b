"""What a person wrote stays byte for byte. The oracle is PyYAML's reading before and after."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from claimbook.errors import PaperError, RecordError
from claimbook.papers.front_matter import Value, set_fields

PLACE = "papers/siglip/README.md"
NOTE = """\
---
# 이 논문은 화요일에 읽는다
id: "2303.15343"        # quoted, or YAML takes it for a number
status:   queued   # for now
"week": '2026-W48'

tags: [loss, 'pre-training',  "대조 학습"] # three
claims: # one
  - id: small-batch
    text: >
      At small batches:
        the sigmoid loss # is better
    metric: {name: accuracy, on: [ImageNet]}
---

# SigLIP  
status: this line is the note's
"""


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    """The lines that differ, where none was added or removed."""
    pairs = zip(before.splitlines(keepends=True), after.splitlines(keepends=True), strict=True)
    return [(old, new) for old, new in pairs if old != new]


def test_a_status_changes_one_word_of_the_note():
    after = set_fields(NOTE, {"status": "reading"}, PLACE)
    assert changed_lines(NOTE, after) == [
        ("status:   queued   # for now\n", "status:   reading   # for now\n"),
    ]


def test_the_quotes_of_a_value_are_kept():
    after = set_fields(NOTE, {"week": "2026-W49"}, PLACE)
    assert changed_lines(NOTE, after) == [("\"week\": '2026-W48'\n", "\"week\": '2026-W49'\n")]


def test_a_field_that_is_not_there_goes_behind_the_one_before_it():
    after = set_fields(NOTE, {"read_version": 4}, PLACE)
    quoted = 'id: "2303.15343"        # quoted, or YAML takes it for a number\n'
    assert after == NOTE.replace(quoted, quoted + "read_version: 4\n")


def test_a_new_week_is_quoted():
    text = '---\nid: "2303.15343"\n---\n'
    assert set_fields(text, {"week": "2026-W49"}, PLACE) == '---\nid: "2303.15343"\nweek: "2026-W49"\n---\n'


def test_tags_that_stay_keep_their_quotes():
    after = set_fields(NOTE, {"tags": ["loss", "대조 학습", "on", "상품"]}, PLACE)
    assert changed_lines(NOTE, after) == [
        (
            "tags: [loss, 'pre-training',  \"대조 학습\"] # three\n",
            'tags: [loss, "대조 학습", "on", 상품] # three\n',
        )
    ]


@pytest.mark.parametrize(
    ("before", "tags", "after"),
    [
        ("tags: []\n", ["a"], "tags: [a]\n"),
        ("tags:   # none yet\n", ["a"], "tags: [a]   # none yet\n"),
        ("tags: [a, b]\n", [], "tags: []\n"),
        ("tags: [\n  a,\n  b,\n]\n", ["a", "c"], "tags: [\n  a,\n  c,\n]\n"),
        ("tags:\n- a # why\n# these\n- b\n", ["b", "c"], "tags:\n# these\n- b\n- c\n"),
        ("tags:\n    -   a\n    -   b\n", ["a"], "tags:\n    -   a\n"),
        ("tags: # mine\n  - a\n  - b\n", [], "tags: [] # mine\n"),
        ("tags: [b, a]\n", ["a", "b"], "tags: [a, b]\n"),
    ],
)
def test_tags_in_any_form(before, tags, after):
    begin, end = '---\nid: "2303.15343"\n', "status: read # done\n---\nnote\n"
    assert set_fields(begin + before + end, {"tags": tags}, PLACE) == begin + after + end


def test_a_value_that_is_set_already_changes_nothing():
    fields: dict[str, Value] = {
        "status": "queued", "week": "2026-W48", "tags": ["loss", "pre-training", "대조 학습"]
    }  # fmt: skip
    assert set_fields(NOTE, fields, PLACE) == NOTE


def test_line_ends_of_windows_and_a_byte_order_mark_stay():
    text = "\ufeff" + NOTE.replace("\n", "\r\n")
    fields: dict[str, Value] = {"read_version": 4, "status": "read", "tags": ["새 태그"]}
    after = set_fields(text, fields, PLACE)
    assert after.startswith("\ufeff---\r\n")
    assert after.replace("\r\n", "").count("\n") == 0
    assert after.replace("\r\n", "\n") == "\ufeff" + set_fields(NOTE, fields, PLACE)


@pytest.mark.parametrize(
    ("line", "problem_line"),
    [
        ("status: &now queued", 3),
        ("status: !!str queued", 3),
        ("status: |\n  queued", 3),
        ("status: queued\n  and on", 3),
        ("? status\n: - queued", 3),
        ("x: &s queued\nstatus: *s", 4),
    ],
)
def test_a_scalar_in_an_odd_form_is_left_to_the_person(line, problem_line):
    with pytest.raises(PaperError, match="cannot be changed safely") as caught:
        set_fields(f'---\nid: "2303.15343"\n{line}\n---\n', {"status": "read"}, PLACE)
    assert caught.value.where == f"{PLACE}:{problem_line}"
    assert caught.value.fix.endswith("status: read")


@pytest.mark.parametrize(
    "lines",
    [
        "tags: &mine [a]",
        "tags: [a, # the first\n  b]",
        "tags:\n  - a\n  - {b: c}",
        "tags: [a, [b]]",
        "tags:\n  -\n    a",
        "tags: [&x a, b]",
    ],
)
def test_a_list_in_an_odd_form_is_left_to_the_person(lines):
    with pytest.raises(PaperError) as caught:
        set_fields(f'---\nid: "2303.15343"\n{lines}\n---\n', {"tags": ["a", "검색"]}, PLACE)
    assert caught.value.where == f"{PLACE}:3"
    assert caught.value.fix.endswith("tags: [a, 검색]")


def test_a_front_matter_on_one_line_is_left_to_the_person():
    with pytest.raises(PaperError):
        set_fields('---\n{id: "2303.15343", status: queued}\n---\n', {"status": "read"}, PLACE)


def test_a_change_that_another_field_would_feel_is_refused():
    """The anchor stands in the list, and another field repeats it."""
    text = '---\nid: "2303.15343"\ntags: [&a loss, b]\nmine: *a\n---\n'
    with pytest.raises(PaperError):
        set_fields(text, {"tags": ["b"]}, PLACE)


def test_a_front_matter_that_is_none_names_its_line():
    with pytest.raises(RecordError) as caught:
        set_fields("---\nid: [\n---\n", {"status": "read"}, PLACE)
    assert caught.value.where.startswith(PLACE)


@dataclass(frozen=True)
class Written:
    """One field as somebody might write it."""

    name: str
    text: str
    odd: bool = False
    """May be refused."""


WORD = st.text("abcxyz대조학습é", min_size=1, max_size=6)
ANY_TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\x85\u2028\u2029\ufeff"), max_size=12
)
COMMENT = st.one_of(st.just(""), ANY_TEXT.map(lambda text: f"  #\t{text}"))
STATUS = st.sampled_from(["queued", "reading", "read"])
WEEK = st.integers(1, 52).map(lambda number: f"2026-W{number:02}")


def quoted(value: str, style: str) -> str:
    return {"plain": value, "single": f"'{value}'", "double": f'"{value}"'}[style]


@st.composite
def scalar_fields(draw, name, values):
    value = str(draw(values))
    form = draw(st.sampled_from(["plain", "single", "double", "empty", "block", "anchor"]))
    comment = draw(COMMENT)
    space = draw(st.sampled_from([" ", "   "]))
    if form == "empty":
        return Written(name, f"{name}:{comment}\n")
    if form == "block":
        return Written(name, f"{name}: |-\n  {value}\n", odd=True)
    if form == "anchor":
        return Written(name, f"{name}: &{name} {value}{comment}\n", odd=True)
    key = draw(st.sampled_from([name, f'"{name}"', f"{name} "]))
    return Written(name, f"{key}:{space}{quoted(value, form)}{comment}\n")


@st.composite
def tag_fields(draw):
    styles = st.sampled_from(["plain", "single", "double"])
    items = [quoted(word, draw(styles)) for word in draw(st.lists(WORD, max_size=4, unique=True))]
    form = draw(st.sampled_from(["flow", "spread", "commented", "block"]))
    comment = draw(COMMENT)
    if form == "block" and items:
        indent = draw(st.sampled_from(["", "  ", "      "]))
        return Written(
            "tags", f"tags:{comment}\n" + "".join(f"{indent}- {item}{comment}\n" for item in items)
        )
    if form == "spread":
        return Written("tags", "tags: [\n  " + ",\n  ".join(items) + f"\n  ]{comment}\n")
    if form == "commented" and items:
        return Written("tags", f"tags: [  # {draw(ANY_TEXT)}\n  {', '.join(items)}]\n", odd=True)
    return Written("tags", f"tags: [{draw(st.sampled_from(['', ' ']))}{', '.join(items)}]{comment}\n")


OTHERS = st.sampled_from(
    [
        "\n",
        "# 주석: status: read\n",
        "   # indented\n",
        'mine: {a: [1, 2.50], "b c": ~}\n',
        "text: |\n  status: read\n\n    # no comment\n  tags: [x]\n",
        "folded: >-\n  아주 긴\n  줄\n",
        "claims:\n- id: a\n  tags: [x]\n  status: odd\n- id: b # two\n",
        "number: 0.10\ntruth: yes\nnothing:\nday: 2026-11-24\nnan: .nan\n",
        "quoted: 'it''s # not \"a\" comment'\n",
        "base: &base {x: 1}\nagain: *base\n",
        "nested:\n    deep:\n        - - 1\n          - 2\n",
    ]
)


@st.composite
def front_matters(draw):
    """The parts of a front matter in their order; the id is among them, a field or a filler each."""
    parts = [Written("id", f'id: "2303.15343"{draw(COMMENT)}\n')]
    for part in (
        scalar_fields("status", STATUS), scalar_fields("week", WEEK),
        scalar_fields("read_version", st.integers(1, 9)), tag_fields(),
    ):  # fmt: skip
        if draw(st.booleans()):
            parts.append(draw(part))
    parts += [Written("", text) for text in draw(st.lists(OTHERS, unique=True, max_size=5))]
    return draw(st.permutations(parts))


CHANGES = st.one_of(
    st.tuples(st.just("status"), STATUS),
    st.tuples(st.just("week"), WEEK),
    st.tuples(st.just("read_version"), st.integers(1, 12)),
    st.tuples(st.just("tags"), st.lists(WORD | ANY_TEXT, max_size=5, unique=True)),
)


def reading(text: str) -> dict[str, str]:
    """Each field as PyYAML reads it, in a form in which NaN equals itself."""
    front = text.removeprefix("\ufeff").split("---", 2)[1]
    return {name: repr(value) for name, value in yaml.safe_load(front).items()}


@given(
    parts=front_matters(), change=CHANGES, ends=st.sampled_from(["\n", "\r\n"]),
    mark=st.sampled_from(["", "\ufeff"]), body=ANY_TEXT,
)  # fmt: skip
@settings(deadline=None)
def test_only_the_lines_of_a_field_change_whatever_is_around_them(parts, change, ends, mark, body):
    assume(not any("---" in part.text for part in parts))
    name, value = change
    lines = [part.text.replace("\n", ends) for part in parts]
    text = f"{mark}---{ends}{''.join(lines)}---{ends}{body}"
    before = reading(text)
    field = next((part for part in parts if part.name == name), None)
    try:
        after = set_fields(text, {name: value}, PLACE)
    except PaperError:
        assert field is not None
        assert field.odd
        return
    assert reading(after) == {**before, name: repr(value)}
    if field is None:
        kept = after.split(ends)
        without = [kept[:number] + kept[number + 1 :] for number in range(len(kept))]
        assert text.split(ends) in without, "one line was added, and nothing else"
    else:
        place = parts.index(field)
        assert after.startswith(mark + "---" + ends + "".join(lines[:place]))
        assert after.endswith("".join(lines[place + 1 :]) + "---" + ends + body)
