"""The query language of the log: a text becomes a small tree. Knows no SQL and no records.

    query      = [condition] ["order" "by" key {"," key}] ["limit" NUMBER]
    condition  = and-part {"or" and-part}
    and-part   = part {"and" part}
    part       = "not" part | "(" condition ")" | "has" field | STRING | field test
    test       = operator value | "contains" value | "in" "(" value {"," value} ")"
    operator   = "=" | "!=" | "<" | "<=" | ">" | ">="
    key        = field ["asc" | "desc"]
    field      = NAME | ("metric." | "chance." | "param." | "env.") (NAME | STRING)

`not` binds closer than `and`, `and` closer than `or`. A test of a field that a run does not have is false, so
`not` is true of it: `metric.f1 > 0.5` and `not metric.f1 > 0.5` divide all runs between them, and
`has metric.f1` tells the two ways of the latter apart. A number in quotes is a text. A day such as 2026-11-01
stands for the whole day, a minute for the whole minute, in the workspace's time zone. A STRING alone is
`text contains STRING`.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Literal, NoReturn, TypeVar, cast, get_args

from claimbook.errors import QueryError
from claimbook.index.text import match_all
from claimbook.records.run import Status
from claimbook.records.verdict import Outcome

T = TypeVar("T")
Family = Literal["run", "metric", "chance", "param", "env"]
Operator = Literal["=", "!=", "<", "<=", ">", ">="]

TEXTS = (
    "id",
    "experiment",
    "arm",
    "kind",
    "status",
    "notebook",
    "paper",
    "claim",
    "verdict",
    "seal",
    "error",
)
NUMBERS = ("seed", "seconds", "memory", "gpu_memory", "energy")
TIMES = ("started", "ended")
FIELDS = (*TEXTS, *NUMBERS, *TIMES, "deleted")
"""What a run is asked for by name; `text` beside them is the full text of its experiment."""

_WORDS_OF = {
    "status": get_args(Status),
    "kind": ("confirmatory", "exploratory", "replication"),
    "verdict": get_args(Outcome),
}
_KEYWORDS = {"and", "or", "not", "has", "contains", "in", "order", "by", "asc", "desc", "limit"}
_OPERATORS = get_args(Operator)
_LONGEST = 20_000
"""Characters of a query."""
_MOST_TESTS = 300
"""SQLite takes expressions that are 1,000 deep, and a chain of tests is as deep as it is long."""
_DEEPEST = 50
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"]|"")*"|'(?:[^']|'')*')
      | (?P<operator>[=!<>~]+)
      | (?P<mark>[(),])
      | (?P<word>[^\s()=!<>~,"']+)""",
    re.VERBOSE,
)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Moment:
    """A stretch of time that a query names: from `start` on and before `end`, milliseconds since 1970."""

    start: int
    end: int


Value = str | bool | float | Moment
"""Whole numbers are floats too: what is compared is the number."""


@dataclass(frozen=True)
class Field:
    """What a test looks at: a run's own field, or a name of one of its families."""

    family: Family
    name: str
    place: tuple[int, int] = (0, 0)
    """Where it stands in the query."""

    def __str__(self) -> str:
        return self.name if self.family == "run" else f"{self.family}.{self.name}"


@dataclass(frozen=True)
class Compare:
    """`field operator value`"""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True)
class In:
    """`field in (values)`"""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Contains:
    """`field contains part`, whatever the case of letters."""

    field: Field
    part: str


@dataclass(frozen=True)
class Has:
    """`has field`"""

    field: Field


@dataclass(frozen=True)
class Text:
    """The full text of the run's experiment holds every word."""

    words: str


@dataclass(frozen=True)
class Not:
    """What the part is not true of."""

    part: Node


@dataclass(frozen=True)
class And:
    """What all parts are true of."""

    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """What some part is true of."""

    parts: tuple[Node, ...]


Node = Compare | In | Contains | Has | Text | Not | And | Or


@dataclass(frozen=True)
class Key:
    """One key of the order; runs without the field come last either way."""

    field: Field
    descending: bool


@dataclass(frozen=True)
class Query:
    """A query that has been read."""

    text: str
    where: Node | None = None
    order: tuple[Key, ...] = ()
    limit: int | None = None

    def fields(self) -> Iterator[Field]:
        """Every field that it names, tests first."""
        if self.where is not None:
            yield from _fields(self.where)
        yield from (key.field for key in self.order)


def parse(text: str, zone: tzinfo = UTC) -> Query:
    """Read a query; days and hours in it are those of `zone`.

    Raises QueryError that shows the place, and says what was expected or which name is near.
    """
    return _Parser(text, zone).query()


def refuse(query: str, place: tuple[int, int], problem: str, fix: str) -> NoReturn:
    """Raise a QueryError that shows a place of a query with a caret under it."""
    start, end = place
    shown = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in query)
    left, right = max(0, start - 50), min(len(shown), max(end, start + 1) + 20)
    before = ("…" if left else "") + shown[left:start]
    line = before + shown[start:right] + ("…" if right < len(shown) else "")
    carets = "^" * min(max(1, _width(shown[start:end])), 40)
    raise QueryError(
        f"{problem}\n    {line}\n    {' ' * _width(before)}{carets}",
        fix=fix,
        where=f"query, column {start + 1}",
    )


def near(word: str, known: list[str]) -> str:
    """ ", did you mean 'x'?" when a known word is close to this one, else nothing."""
    close = difflib.get_close_matches(word.casefold(), known, n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


@dataclass(frozen=True)
class _Token:
    kind: Literal["word", "string", "operator", "mark", "end"]
    text: str
    """As it stands in the query; a string without its quotes."""
    place: tuple[int, int]

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


class _Parser:
    def __init__(self, text: str, zone: tzinfo) -> None:
        self.text, self.zone = text, zone
        self.tokens = list(self._split())
        self.at = 0
        self.tests = 0
        self.depth = 0

    def query(self) -> Query:
        where = None if self._is("order", "limit") or self._here.kind == "end" else self._or()
        order: tuple[Key, ...] = ()
        if self._take("order"):
            self._expect("by", "after `order` comes `by`", "write `order by FIELD`")
            order = self._separated(self._key)
        limit = self._limit() if self._take("limit") else None
        if self._here.kind != "end":
            self._refuse(
                f"{self._here} is not expected here", "join tests with and / or, and end with order by, limit"
            )
        return Query(self.text, where, order, limit)

    def _or(self) -> Node:
        parts = [self._and()]
        while self._take("or"):
            parts.append(self._and())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _and(self) -> Node:
        parts = [self._part()]
        while self._take("and"):
            parts.append(self._part())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _part(self) -> Node:
        opening = self._here
        if self._take("not"):
            return Not(self._deeper(self._part))
        if self._mark("("):
            inner = self._deeper(self._or)
            if not self._mark(")"):
                self._refuse(
                    f"the parenthesis of column {opening.place[0] + 1} is open, and here is {self._here}",
                    "close it with `)`, or join tests with and / or",
                )
            return inner
        return self._test()

    def _deeper(self, read: Callable[[], Node]) -> Node:
        self.depth += 1
        if self.depth > _DEEPEST:
            self._refuse(f"the query is nested more than {_DEEPEST} deep", "take parentheses or `not` away")
        node = read()
        self.depth -= 1
        return node

    def _test(self) -> Node:
        self.tests += 1
        if self.tests > _MOST_TESTS:
            self._refuse(
                f"there are more than {_MOST_TESTS} tests", "use `in (…)`, or ask in several queries"
            )
        if self._here.kind == "string":
            return self._full_text()
        if self._take("has"):
            return Has(self._field())
        if self._is("text"):
            self._next()
            self._expect("contains", "`text` is searched with contains", 'write `text contains "words"`')
            return self._full_text()
        field = self._field()
        if self._take("contains"):
            return self._contains(field)
        if self._take("in"):
            return self._in(field)
        return self._compare(field)

    def _compare(self, field: Field) -> Compare:
        token = self._here
        if token.kind != "operator" or token.text not in _OPERATORS:
            self._refuse(
                f"after {field} comes a comparison, not {token}",
                "use one of = != < <= > >=, contains, in (…)"
                + ("; equal is =" if token.text == "==" else ""),
            )
        operator = cast(Operator, self._next().text)
        if (
            operator not in ("=", "!=")
            and (field.name in _WORDS_OF or field.name == "deleted")
            and (field.family == "run")
        ):
            self._refuse(f"{field} has no order", f"compare it with = or !=, not {operator}", token)
        value_token = self._here
        value = self._value(field)
        if isinstance(value, bool) and operator not in ("=", "!="):
            self._refuse("true and false have no order", f"use = or !=, not {operator}", value_token)
        return Compare(field, operator, value)

    def _in(self, field: Field) -> In:
        if not self._mark("("):
            self._refuse(f"after `in` comes a list, not {self._here}", f"write `{field} in (a, b)`")
        if self._here.text == ")" and self._here.kind == "mark":
            self._refuse("the list is empty", f"write values in it: `{field} in (a, b)`")
        values = self._separated(lambda: self._value(field))
        if not self._mark(")"):
            self._refuse(
                f"the list goes on with `,` or ends with `)`, not with {self._here}", "close the list"
            )
        return In(field, values)

    def _contains(self, field: Field) -> Contains:
        if field.family in ("metric", "chance") or (field.family == "run" and field.name not in TEXTS):
            self._refuse(f"{field} is no text", "use contains with a text; compare with = < >", self._before)
        token = self._word_or_string("a text to look for")
        if not token.text:
            self._refuse("an empty text is contained in everything", "write what to look for", token)
        return Contains(field, token.text)

    def _full_text(self) -> Text:
        token = self._word_or_string("a text to search for")
        if match_all(token.text) is None:
            self._refuse("there is no letter or digit to search for", "write a word", token)
        return Text(token.text)

    def _key(self) -> Key:
        field = self._field()
        descending = self._take("desc")
        if not descending:
            self._take("asc")
        return Key(field, descending)

    def _limit(self) -> int:
        token = self._next()
        if token.kind != "word" or not re.fullmatch(r"[1-9]\d{0,8}", token.text, re.ASCII):
            self._refuse(f"the limit is {token}", "write a whole number above 0 after `limit`", token)
        return int(token.text)

    def _field(self) -> Field:
        token = self._here
        if token.kind != "word" or token.text.lower() in _KEYWORDS:
            self._refuse(f"a field is expected, not {token}", f"name one of {_fields_in_words()}")
        self._next()
        family, dot, name = token.text.partition(".")
        if dot and family in get_args(Family)[1:]:
            place = token.place
            if not name and self._here.kind == "string" and self._here.place[0] == place[1]:
                name, place = self._here.text, (place[0], self._next().place[1])
            if not name:
                self._refuse(f"{family}. has no name", f'write {family}.NAME or {family}."odd name"', token)
            return Field(cast(Family, family), name, place)
        if token.text not in FIELDS:
            hint = near(token.text, [*FIELDS, "text", "metric.", "chance.", "param.", "env."])
            self._refuse(
                f"there is no field {token.text!r}{hint}", f"name one of {_fields_in_words()}", token
            )
        return Field("run", token.text, token.place)

    def _value(self, field: Field) -> Value:
        token = self._word_or_string(f"a value of {field}")
        if field.family in ("metric", "chance") or (field.family == "run" and field.name in NUMBERS):
            return self._number(field, token)
        if field.family == "run" and field.name in TIMES:
            return self._moment(token)
        if field.family == "run" and field.name == "deleted":
            if token.text not in ("true", "false"):
                self._refuse(f"deleted is true or false, not {token}", "write `deleted = true`", token)
            return token.text == "true"
        if field.family == "param" and token.kind == "word":
            if token.text in ("true", "false"):
                return token.text == "true"
            return float(token.text) if _NUMBER.fullmatch(token.text) else token.text
        if field.family == "run" and field.name in _WORDS_OF and token.text not in _WORDS_OF[field.name]:
            known = _WORDS_OF[field.name]
            self._refuse(
                f"{token.text!r} is no {field}{near(token.text, list(known))}",
                f"write one of {', '.join(known)}",
                token,
            )
        return token.text

    def _number(self, field: Field, token: _Token) -> float:
        if token.kind != "word" or not _NUMBER.fullmatch(token.text):
            self._refuse(f"{field} is a number, not {token}", "write a number such as 3 or 0.41", token)
        return float(token.text)

    def _moment(self, token: _Token) -> Moment:
        try:
            return _moment(token.text, self.zone)
        except (ValueError, OverflowError):
            self._refuse(
                f"{token} is no day and no time",
                "write 2026-11-01, 2026-11-01T14:30 or 2026-11-01T14:30:05",
                token,
            )

    def _separated(self, read: Callable[[], T]) -> tuple[T, ...]:
        found = [read()]
        while self._mark(","):
            found.append(read())
        return tuple(found)

    def _word_or_string(self, expected: str) -> _Token:
        token = self._here
        if token.kind not in ("word", "string"):
            self._refuse(
                f"{expected} is expected, not {token}", "write it, in quotes when it is not one word"
            )
        if token.kind == "word" and token.text.lower() in _KEYWORDS:
            self._refuse(f"{expected} is expected, not the keyword {token}", f'write "{token.text}"')
        return self._next()

    @property
    def _here(self) -> _Token:
        return self.tokens[self.at]

    @property
    def _before(self) -> _Token:
        return self.tokens[self.at - 1]

    def _next(self) -> _Token:
        token = self._here
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def _is(self, *words: str) -> bool:
        return self._here.kind == "word" and self._here.text.lower() in words

    def _take(self, word: str) -> bool:
        found = self._is(word)
        if found:
            self._next()
        return found

    def _mark(self, mark: str) -> bool:
        found = self._here.kind == "mark" and self._here.text == mark
        if found:
            self._next()
        return found

    def _expect(self, word: str, problem: str, fix: str) -> None:
        if not self._take(word):
            self._refuse(f"{problem}, not {self._here}", fix)

    def _refuse(self, problem: str, fix: str, token: _Token | None = None) -> NoReturn:
        refuse(self.text, (token or self._here).place, problem, fix)

    def _split(self) -> Iterator[_Token]:
        if len(self.text) > _LONGEST:
            refuse(
                self.text[:100],
                (0, 1),
                f"the query is longer than {_LONGEST} characters",
                "ask for less at once",
            )
        at = 0
        while at < len(self.text):
            found = _TOKEN.match(self.text, at)
            if found is None:  # every other character begins some token
                refuse(self.text, (at, at + 1), "the quotation is not closed", f"end it with {self.text[at]}")
            place, kind, text = found.span(), found.lastgroup, found[0]
            if not text.isprintable() and any("\ud800" <= char <= "\udfff" for char in text):
                refuse(self.text, place, "these bytes are no UTF-8", "type the query in a UTF-8 terminal")
            if kind == "string":
                yield _Token("string", text[1:-1].replace(text[0] * 2, text[0]), place)
            elif kind != "space":
                yield _Token(cast(Literal["word", "operator", "mark"], kind), text, place)
            at = place[1]
        yield _Token("end", "", (at, at + 1))


def _fields(node: Node) -> Iterator[Field]:
    if isinstance(node, And | Or):
        for part in node.parts:
            yield from _fields(part)
    elif isinstance(node, Not):
        yield from _fields(node.part)
    elif not isinstance(node, Text):
        yield node.field


def _fields_in_words() -> str:
    return f"{', '.join(FIELDS)}, text, metric.NAME, chance.NAME, param.NAME, env.NAME"


def _moment(text: str, zone: tzinfo) -> Moment:
    """The day, hour, minute, second or millisecond that an ISO text names. Raises ValueError."""
    if "T" not in text and " " not in text:
        day = date.fromisoformat(text)
        start = datetime(day.year, day.month, day.day, tzinfo=zone)
        if day == date.max:  # no calendar has a day after it
            return Moment(_milliseconds(start), _milliseconds(start) + timedelta(days=1) // _MILLISECOND)
        return Moment(_milliseconds(start), _milliseconds(start + timedelta(days=1)))
    start = datetime.fromisoformat(text)
    if start.tzinfo is None:
        start = start.replace(tzinfo=zone)
    clock = re.split("[T ]", text, maxsplit=1)[1]
    digits = len(re.sub(r"\D", "", re.split("[Z+-]", clock)[0]))
    width = {2: timedelta(hours=1), 4: timedelta(minutes=1), 6: timedelta(seconds=1)}
    return Moment(
        _milliseconds(start),
        _milliseconds(start) + width.get(digits, timedelta(milliseconds=1)) // _MILLISECOND,
    )


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _width(text: str) -> int:
    """Columns that a terminal gives a text: two for a Korean syllable."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
