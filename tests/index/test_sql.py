"""Queries find just the runs that their trees are true of: plain Python over the records is the oracle."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from claimbook.errors import QueryError
from claimbook.index import Index, sql
from claimbook.index.query import And, Compare, Contains, Has, In, Key, Moment, Not, Or, Text, parse

TEXTS = [
    "sigmoid",
    "Sigmoid",
    "시그모이드 손실",
    "'; DROP TABLE runs; --",
    "100%",
    "a_b",
    'say "hi"',
    "",
    "7",
    "true",
]
VALUES: list[Any] = [*TEXTS, 7, 7.5, -1, 0, 1, 10**25, True, False, ["sigmoid", 7], []]
NAMES = {
    "metric": ["recall@1", "f 1", "x'); --"],
    "chance": ["recall@1"],
    "param": ["loss", "size", 'odd "name"', "크기"],
    "env": ["gpu", "torch"],
}
DOCUMENTS = {
    "small": ("A sigmoid loss at small batches", "작은 배치에서 학습이 어렵다.", "siglip"),
    "search": ("이미지검색모델의 재현율", "Search misses new products.", "clip"),
    "loss": ("Loss weights", "손실의 무게를 바꾼다.", "none"),
}
PAPERS = {
    "siglip": (
        "Sigmoid Loss for Language Image Pre-Training",
        "We propose a pairwise loss.",
        "배치가 작아도 좋다.",
    ),
    "clip": ("Learning Transferable Visual Models", "Images and text.", "검색이 된다."),
}
BOUND = {"verdict": {}, "paper": {name: paper for name, (_, _, paper) in DOCUMENTS.items()}}


def draw_run(draw: random.Random, number: int) -> dict[str, Any]:
    status = draw.choice(["finished", "failed", "lost", "cancelled"])
    failed = {"error": "ValueError", "message": draw.choice(["The shelf is empty", "선반이 비었다"])}
    started = (
        f"2026-{draw.randint(10, 12)}-{draw.randint(1, 28):02}T{draw.randint(0, 23):02}:30:00.{number:03}Z"
    )
    return {
        "experiment": draw.choice([*DOCUMENTS, "exploratory"]),
        "arm": draw.choice(["baseline", "treatment", "shuffled"]),
        "seed": draw.randint(0, 4),
        "kind": draw.choice(["confirmatory", "exploratory"]),
        "status": status,
        "notebook": draw.choice(["siglip", "SigLIP", "실험"]),
        "seal": draw.choice([None, "ab" * 32, "cd" * 32]),
        "failure": failed if status == "failed" else None,
        "started": started,
        "ended": draw.choice([None, started.replace(":30:", ":45:")]),
        "seconds": draw.choice([None, 0.5, 20.0, 61.25]),
        "peak_memory": draw.choice([None, 1000, 2000]),
        "metrics": {name: draw.choice([0.0, 0.25, 0.5, -3.0, 1e300]) for name in pick(draw, NAMES["metric"])},
        "chance": {name: draw.choice([0.25, 0.5]) for name in pick(draw, NAMES["chance"])},
        "parameters": {name: draw.choice(VALUES) for name in pick(draw, NAMES["param"])},
        "environment": {name: draw.choice(["NVIDIA H100", "2.13.0"]) for name in pick(draw, NAMES["env"])},
        "deleted": draw.random() < 0.2,
    }


def pick(draw: random.Random, names: list[str]) -> list[str]:
    return [name for name in names if draw.random() < 0.6]


class Runs(list[dict[str, Any]]):
    """The runs as they were drawn, unseen in a failing example."""

    def __repr__(self) -> str:
        return f"{len(self)} runs"


@pytest.fixture(scope="module", params=[256, 3], ids=["wide", "mostly rare"])
def logged(request, tmp_path_factory, make_log) -> Iterator[tuple[Index, list[dict[str, Any]]]]:
    """An index over drawn runs, with a column per name and with columns for three names only."""
    log = make_log(tmp_path_factory.mktemp("log") / "workspace")
    for slug, (title, problem, paper) in DOCUMENTS.items():
        log.hypothesis(slug, title, paper=paper, problem=problem)
    for slug, (title, abstract, note) in PAPERS.items():
        log.paper(slug, title, abstract, note=note)
    draw = random.Random(3)
    runs = [{"id": f"run-{n}-Ä" if n % 9 == 0 else f"run-{n}", **draw_run(draw, n)} for n in range(80)]
    for run in runs:
        changes = {name: value for name, value in run.items() if name not in ("id", "experiment", "deleted")}
        log.run(run["experiment"], run["id"], deleted=run["deleted"], **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sql, "WIDE", request.param)
        with Index.open(log.workspace) as index:
            yield index, Runs(runs)


def value_of(run: dict[str, Any], family: str, name: str) -> Any:
    """What a run has under a field; None where it has nothing."""
    if family != "run":
        table = {"metric": "metrics", "chance": "chance", "param": "parameters", "env": "environment"}[family]
        return run[table].get(name)
    match name:
        case "paper":
            return BOUND["paper"].get(run["experiment"])
        case "claim":
            return "small-batch" if run["experiment"] in DOCUMENTS else None
        case "verdict":
            return None
        case "memory":
            return run["peak_memory"]
        case "error":
            return run["failure"] and f"{run['failure']['error']}: {run['failure']['message']}"
        case "started" | "ended":
            return run[name] and round(datetime.fromisoformat(run[name]).timestamp() * 1000)
    return run[name]


def compared(value: Any, operator: str, other: Any) -> bool:
    if value is None:
        return False
    if isinstance(other, Moment):
        return {
            "=": other.start <= value < other.end,
            "!=": not other.start <= value < other.end,
            "<": value < other.start,
            "<=": value < other.end,
            ">": value >= other.end,
            ">=": value >= other.start,
        }[operator]
    same = rank(value) == rank(other) and not isinstance(value, list) and value == other
    if operator in ("=", "!="):
        return same == (operator == "=")
    if rank(value) != rank(other):
        return False
    return {"<": value < other, "<=": value <= other, ">": value > other, ">=": value >= other}[operator]


def rank(value: Any) -> int:
    """The kinds of values, in the order in which they are sorted."""
    return 2 if isinstance(value, bool | list) else 1 if isinstance(value, str) else 0


def true_of(node: Any, run: dict[str, Any]) -> bool:
    match node:
        case None:
            return True
        case And(parts):
            return all(true_of(part, run) for part in parts)
        case Or(parts):
            return any(true_of(part, run) for part in parts)
        case Not(part):
            return not true_of(part, run)
        case Compare(field, operator, other):
            return compared(value_of(run, field.family, field.name), operator, other)
        case In(field, values):
            return any(compared(value_of(run, field.family, field.name), "=", other) for other in values)
        case Has(field):
            return value_of(run, field.family, field.name) is not None
        case Contains(field, part):
            value = value_of(run, field.family, field.name)
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
            return isinstance(text, str) and part.casefold() in text.casefold()
        case Text(words):
            return all(in_text(word, run["experiment"]) for word in words.split())
    raise AssertionError(node)


def in_text(word: str, slug: str) -> bool:
    if slug not in DOCUMENTS:
        return False
    title, problem, paper = DOCUMENTS[slug]
    text = " ".join([title, problem, *PAPERS.get(paper, ()), "It works." if paper in PAPERS else ""]).lower()
    return word in text if not word.isascii() else word.lower() in re.findall(r"[a-z]+", text)


def ordered(runs: list[dict[str, Any]], keys: tuple[Key, ...]) -> list[str]:
    runs = sorted(runs, key=lambda run: run["started"], reverse=True)
    for key in reversed(keys):
        values = {run["id"]: value_of(run, key.field.family, key.field.name) for run in runs}
        present = [run for run in runs if values[run["id"]] is not None]
        present.sort(key=lambda run, v=values: sortable(v[run["id"]]), reverse=key.descending)
        runs = [*present, *(run for run in runs if values[run["id"]] is None)]
    return [run["id"] for run in runs]


def sortable(value: Any) -> Any:
    if isinstance(value, list):
        return 2, json.dumps(value, ensure_ascii=False).encode()
    return rank(value), bytes([value]) if isinstance(value, bool) else value


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


NUMBERS = st.sampled_from(["0", "7", "7.5", "-1", "0.25", "1e300", "20", "3"])
COMPARISON = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
RUN_TEXTS = {
    "id": ["run-3", "run-9-Ä"],
    "experiment": ["small", "exploratory"],
    "arm": ["baseline", "nobody"],
    "notebook": ["siglip", "실험"],
    "paper": ["siglip", "clip"],
    "claim": ["small-batch"],
    "seal": ["ab" * 32],
    "error": ["ValueError: The shelf is empty"],
}
CHOICES = {
    "status": ["finished", "lost"],
    "kind": ["confirmatory", "replication"],
    "verdict": ["supported"],
    "deleted": ["true", "false"],
}
MOMENTS = ["2026-11-01", "2026-10-15T09:30", "'2026-12-01 00:00:00+09:00'", "0001-01-01", "9999-12-31"]
NUMERIC = ["seed", "seconds", "memory", *(f'metric."{name}"' for name in NAMES["metric"]), "chance.recall@1"]
PARAMETERS = [f"param.{quoted(name)}" for name in NAMES["param"]]
ENVIRONMENT = [f"env.{name}" for name in NAMES["env"]]
EVERY = [*RUN_TEXTS, *CHOICES, "started", "ended", *NUMERIC, *PARAMETERS, *ENVIRONMENT]
TEXT_FIELDS = [*RUN_TEXTS, "status", "kind", "verdict", *PARAMETERS, *ENVIRONMENT]
ANY_VALUE = st.one_of(NUMBERS, st.sampled_from(TEXTS).map(quoted), st.sampled_from(["true", "false"]))

TESTS = st.one_of(
    st.builds("{} {} {}".format, st.sampled_from(NUMERIC), COMPARISON, NUMBERS),
    st.builds("{} in ({}, {})".format, st.sampled_from(NUMERIC), NUMBERS, NUMBERS),
    st.sampled_from(list(RUN_TEXTS)).flatmap(
        lambda name: st.builds(
            f"{name} {{}} {{}}".format, COMPARISON, st.sampled_from([*RUN_TEXTS[name], *TEXTS]).map(quoted)
        )
    ),
    st.sampled_from(list(CHOICES)).flatmap(
        lambda name: st.builds(
            f"{name} {{}} {{}}".format, st.sampled_from(["=", "!="]), st.sampled_from(CHOICES[name])
        )
    ),
    st.builds("{} {} {}".format, st.sampled_from(["started", "ended"]), COMPARISON, st.sampled_from(MOMENTS)),
    st.builds("started in ({}, {})".format, st.sampled_from(MOMENTS), st.sampled_from(MOMENTS)),
    st.builds("{} {} {}".format, st.sampled_from(PARAMETERS), st.sampled_from(["=", "!="]), ANY_VALUE),
    st.builds("{} {} {}".format, st.sampled_from(PARAMETERS), COMPARISON, NUMBERS),
    st.builds("{} {} {}".format, st.sampled_from(PARAMETERS), COMPARISON, st.sampled_from(TEXTS).map(quoted)),
    st.builds("{} in ({}, {})".format, st.sampled_from(PARAMETERS), ANY_VALUE, ANY_VALUE),
    st.builds("{} {} {}".format, st.sampled_from(ENVIRONMENT), COMPARISON, st.just("'NVIDIA H100'")),
    st.builds("has {}".format, st.sampled_from(EVERY)),
    st.builds(
        "{} contains {}".format,
        st.sampled_from(TEXT_FIELDS),
        st.sampled_from(["s", "SIG", "손실", "ä", "'", "%", "_", "h100", "선반", "DROP", "[", "-1"]).map(
            quoted
        ),
    ),
    st.sampled_from(["배치", "작은", "검색", "SIGMOID", "sigmoid loss", "지검 모델", "search", "없는말"]).map(
        lambda words: f"text contains {quoted(words)}"
    ),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not {}".format, inner),
    ),
    max_leaves=8,
)
KEYS = st.builds("{} {}".format, st.sampled_from(EVERY), st.sampled_from(["", "asc", "desc"]))
ORDERS = st.one_of(
    st.just(""), st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: "order by " + ", ".join(keys))
)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(condition=CONDITIONS, order=ORDERS, shown=st.booleans())
def test_a_query_finds_what_its_tree_is_true_of_in_its_order(logged, condition, order, shown):
    index, runs = logged
    query = parse(f"{condition} {order}", ZoneInfo("Asia/Seoul"))
    shown_too = shown or "deleted" in f"{condition} {order}"
    expected = [run for run in runs if (shown_too or not run["deleted"]) and true_of(query.where, run)]
    page = index.runs(query.text, limit=None, deleted=shown)
    assert [row["id"] for row in page.rows] == ordered(expected, query.order)
    assert page.total == len(expected)


def test_not_divides_the_runs_and_has_tells_why(logged):
    index, runs = logged
    counts = [
        index.runs(query, deleted=True).total
        for query in ("metric.recall@1 > 0.2", "not metric.recall@1 > 0.2", "not has metric.recall@1")
    ]
    assert counts[0] + counts[1] == len(runs)
    assert counts[2] == sum("recall@1" not in run["metrics"] for run in runs)


def test_rows_give_back_what_the_files_say(logged):
    index, runs = logged
    rows = {row["id"]: row for row in index.runs(limit=None, deleted=True).rows}
    for run in runs:
        row = rows[run["id"]]
        said = {
            name.removeprefix("param."): value for name, value in row.items() if name.startswith("param.")
        }
        expected = {n: float(v) if v == 10**25 else v for n, v in run["parameters"].items()}
        assert said == expected
        assert {name: type(value) for name, value in said.items()} == {
            n: type(v) for n, v in expected.items()
        }
        assert {n.removeprefix("metric."): v for n, v in row.items() if n.startswith("metric.")} == run[
            "metrics"
        ]
        assert datetime.fromisoformat(row["started"]) == datetime.fromisoformat(run["started"]).astimezone(
            UTC
        )
        for name in ("experiment", "arm", "seed", "kind", "status", "notebook", "seal", "seconds", "deleted"):
            assert row[name] == run[name]


@pytest.mark.parametrize(
    ("query", "problem", "fix"),
    [
        ("metric.recal@1 > 0", "no run has a metric 'recal@1', did you mean 'recall@1'?", "metric.recall@1"),
        ("has param.lose", "no run has a parameter 'lose', did you mean 'loss'?", "param.loss"),
        ("order by env.gpus", "no run has a environment entry 'gpus', did you mean 'gpu'?", "env.gpu"),
    ],
)
def test_a_name_that_no_run_has_is_an_error(logged, query, problem, fix):
    with pytest.raises(QueryError) as caught:
        logged[0].runs(query)
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_the_text_of_a_query_never_becomes_sql(tmp_path: Path, make_log):
    log = make_log(tmp_path / "workspace")
    attack = 'v0"; DROP TABLE runs; --'
    log.run("a", "a1", metrics={attack: 1.0}, parameters={attack: attack}, arm=attack)
    with Index.open(log.workspace) as index:
        name = quoted(attack)
        for query in (
            f"metric.{name} = 1",
            f"param.{name} = {name}",
            f"arm = {name}",
            f"arm contains {name}",
        ):
            assert index.runs(f"{query} order by metric.{name}, param.{name}").total == 1
        assert index.runs().rows[0][f"param.{attack}"] == attack
