"""The query language: what it reads, and how it complains."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claimbook.errors import QueryError
from claimbook.index.query import (
    And,
    Compare,
    Contains,
    Field,
    Has,
    In,
    Key,
    Moment,
    Not,
    Or,
    Query,
    Text,
    parse,
)


def field(name: str) -> Field:
    family, dot, rest = name.partition(".")
    return Field(family, rest) if dot else Field("run", name)  # type: ignore[arg-type]


def strip(node: object) -> object:
    """A tree without the places of its fields."""
    match node:
        case Field(family, name):
            return Field(family, name)
        case Query(_, where, order, limit):
            return Query("", strip(where), strip(order), limit)
        case tuple():
            return tuple(strip(part) for part in node)
        case Compare(f, operator, value):
            return Compare(strip(f), operator, value)
        case In(f, values):
            return In(strip(f), values)
        case Contains(f, part):
            return Contains(strip(f), part)
        case Has(f):
            return Has(strip(f))
        case Key(f, descending):
            return Key(strip(f), descending)
        case Not(part):
            return Not(strip(part))
        case And(parts):
            return And(strip(parts))
        case Or(parts):
            return Or(strip(parts))
    return node


def read(text: str) -> Query:
    return strip(parse(text))  # type: ignore[return-value]


ARM = Compare(field("arm"), "=", "treatment")
SEED = Compare(field("seed"), "<", 3.0)
LOST = Compare(field("status"), "=", "lost")


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("arm = treatment", ARM),
        ("ARM".lower() + "='treatment'", ARM),
        ('"sigmoid loss"', Text("sigmoid loss")),
        ('text contains "작은 배치"', Text("작은 배치")),
        ("text contains 배치", Text("배치")),
        ("notebook contains sig", Contains(field("notebook"), "sig")),
        ("has metric.f1", Has(field("metric.f1"))),
        ("seed in (1, 2.5)", In(field("seed"), (1.0, 2.5))),
        ('metric."my metric" >= -1e-3', Compare(field("metric.my metric"), ">=", -0.001)),
        ("metric.recall@1 != .5", Compare(field("metric.recall@1"), "!=", 0.5)),
        ("param.a.b = true", Compare(field("param.a.b"), "=", True)),
        ("param.a = 'true'", Compare(field("param.a"), "=", "true")),
        ("param.a = 64", Compare(field("param.a"), "=", 64.0)),
        ("param.a = '64'", Compare(field("param.a"), "=", "64")),
        ("param.a = v64", Compare(field("param.a"), "=", "v64")),
        ("arm = 64", Compare(field("arm"), "=", "64")),
        ('arm = "say ""hi"""', Compare(field("arm"), "=", 'say "hi"')),
        ("env.gpu = 'NVIDIA H100'", Compare(field("env.gpu"), "=", "NVIDIA H100")),
        ("deleted = true", Compare(field("deleted"), "=", True)),
        ("arm = treatment or seed < 3 and status = lost", Or((ARM, And((SEED, LOST))))),
        ("(arm = treatment or seed < 3) and status = lost", And((Or((ARM, SEED)), LOST))),
        ("not arm = treatment and seed < 3", And((Not(ARM), SEED))),
        ("NOT (arm = treatment AND NOT seed<3)", Not(And((ARM, Not(SEED))))),
    ],
)
def test_a_condition_becomes_its_tree(text, tree):
    assert read(text) == Query("", tree)


def test_order_and_limit_end_a_query():
    keys = (Key(field("metric.recall@1"), True), Key(field("seed"), False), Key(field("arm"), False))
    assert read("order by metric.recall@1 desc, seed, arm asc limit 20") == Query("", None, keys, 20)
    assert read("seed < 3 limit 5") == Query("", SEED, (), 5)
    assert read("  ") == Query("")


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        # Seoul is nine hours before UTC: its first of November begins at 15:00 UTC the day before
        ("2026-11-01", "2026-10-31T15:00Z", "2026-11-01T15:00Z"),
        ("2026-11-01T14:30", "2026-11-01T05:30Z", "2026-11-01T05:31Z"),
        ("'2026-11-01 14:30:05'", "2026-11-01T05:30:05Z", "2026-11-01T05:30:06Z"),
        ("2026-11-01T14:30:05Z", "2026-11-01T14:30:05Z", "2026-11-01T14:30:06Z"),
        ("2026-11-01T14:30:05.250+00:00", "2026-11-01T14:30:05.250Z", "2026-11-01T14:30:05.251Z"),
    ],
)
def test_a_day_stands_for_the_whole_day_of_the_workspace(text, start, end):
    import numpy as np

    where = parse(f"started = {text}", ZoneInfo("Asia/Seoul")).where
    oracle = [int(np.datetime64(moment.removesuffix("Z"), "ms").astype(int)) for moment in (start, end)]
    assert where.value == Moment(*oracle)


def test_the_day_on_which_the_clock_is_set_forward_has_23_hours():
    day = parse("started = 2026-03-29", ZoneInfo("Europe/Berlin")).where.value
    assert (day.end - day.start) / 3_600_000 == 23


@pytest.mark.parametrize(
    ("text", "column", "problem", "fix"),
    [
        ("statsu = lost", 1, "no field 'statsu', did you mean 'status'?", "name one of id"),
        ("seed = 1 and metrc.f1 > 0", 14, "no field 'metrc.f1', did you mean 'metric.'?", "metric.NAME"),
        ("status = finishd", 10, "'finishd' is no status, did you mean 'finished'?", "running, finished"),
        ("kind in (confirmatory, pilot)", 24, "'pilot' is no kind", "confirmatory, exploratory"),
        ("verdict = suported", 11, "did you mean 'supported'?", "refuted"),
        ("seed = abc", 8, "seed is a number, not 'abc'", "such as 3"),
        ("metric.f1 > high", 13, "metric.f1 is a number, not 'high'", "such as 3"),
        ("metric.f1 > '1'", 13, "metric.f1 is a number, not '1'", "such as 3"),
        ("deleted = yes", 11, "deleted is true or false", "deleted = true"),
        ("started > tomorrow", 11, "'tomorrow' is no day", "2026-11-01"),
        ("started > 2026-02-30", 11, "is no day", "2026-11-01"),
        ('arm = "treatment', 7, "the quotation is not closed", 'end it with "'),
        ("arm = it's", 9, "the quotation is not closed", "end it with '"),
        ("(seed = 1 or (seed = 2)", 24, "the parenthesis of column 1 is open", "close it"),
        ("seed = 1)", 9, "')' is not expected here", "join tests"),
        ("seed = 1 seed = 2", 10, "'seed' is not expected here", "and / or"),
        ("seed in ()", 10, "the list is empty", "seed in (a, b)"),
        ("seed in (1 2)", 12, "not with '2'", "close the list"),
        ("seed in 1", 9, "after `in` comes a list", "seed in (a, b)"),
        ("order by", 9, "a field is expected, not the end", "name one of"),
        ("order seed", 7, "after `order` comes `by`", "order by FIELD"),
        ("limit 0", 7, "the limit is '0'", "above 0"),
        ("limit", 6, "the limit is the end", "above 0"),
        ("seed == 1", 6, "not '=='", "equal is ="),
        ("seed", 5, "after seed comes a comparison, not the end", "use one of"),
        ("status < lost", 8, "status has no order", "= or !="),
        ("param.x < true", 11, "true and false have no order", "= or !="),
        ("text = sigmoid", 6, "`text` is searched with contains", 'text contains "words"'),
        ('text contains "!?"', 15, "no letter or digit", "write a word"),
        ('arm contains ""', 14, "an empty text", "write what"),
        ("seed contains 1", 6, "seed is no text", "use contains with a text"),
        ("metric. = 1", 1, "metric. has no name", 'metric."odd name"'),
        ("arm = and", 7, "not the keyword 'and'", '"and"'),
        ("has", 4, "a field is expected, not the end", "name one of"),
        ("and", 1, "a field is expected, not 'and'", "name one of"),
        ("arm = 'a\udc80'", 7, "no UTF-8", "UTF-8"),
    ],
)
def test_a_mistake_is_shown_in_its_place(text, column, problem, fix):
    with pytest.raises(QueryError) as caught:
        parse(text)
    assert caught.value.where == f"query, column {column}"
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_the_caret_stands_under_the_place_also_behind_korean():
    with pytest.raises(QueryError) as caught:
        parse('"작은 배치" and 시드 = 3')
    _, line, carets = caught.value.problem.splitlines()
    assert line == '    "작은 배치" and 시드 = 3'
    # four columns of indent, two quotes, four syllables of two columns each, one space, and " and "
    assert carets == " " * (4 + 2 + 8 + 1 + 5) + "^^^^"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x" * 1_000_000, "longer than 20000 characters"),
        ("(" * 10_000, "nested more than 50 deep"),
        ("not " * 4_000 + "seed = 1", "nested more than 50 deep"),
        (" and ".join(["seed = 1"] * 1_000), "more than 300 tests"),
    ],
)
def test_a_query_without_end_is_refused(text, problem):
    with pytest.raises(QueryError, match=problem):
        parse(text)


PIECES = """
and or not ( ) has in , = != < contains order by desc limit seed arm status started metric.f1 param. text
deleted lost true 1 'a' " ' 배치 2026-11-01 9999-12-31 0001-01-01
"""


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES.split())).map(" ".join)))
def test_any_text_is_read_or_refused(text):
    try:
        query = parse(text, ZoneInfo("Asia/Seoul"))
    except QueryError as error:
        refused = error
    else:
        refused = None
        assert query.text == text
    assert refused is None or (refused.fix and refused.where.startswith("query, column "))
