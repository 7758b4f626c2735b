"""Records to what the templates show: one function per kind of page, a dictionary each.

Knows which facts stand on which page and in which order. Knows nothing of files being written or of HTML.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from claimbook.records import Claim, Hypothesis, Paper, Run, Scale, Verdict
from claimbook.records.experiment import Arm, Value
from claimbook.records.verdict import Outcome
from claimbook.site.dossier import Dossier
from claimbook.site.formats import decimals_for, large, number
from claimbook.workspace import Language

LANGUAGES: tuple[Language, ...] = get_args(Language)
_BOARD_ORDER = ("broken", "judged", "outdated", "sealed", "unsealed")
_ARM_ORDER = ("baseline", "treatment")
_POINTS = 400
"""Points of a curve: more than a figure has pixels for only makes the page larger."""
_MARKS: dict[str, str] = {
    "supported": "✓",
    "refuted": "✕",
    "equivalent": "=",
    "inconclusive": "?",
    "inadmissible": "⊘",
    "deviated": "≠",
    "broken": "!",
    "outdated": "↻",
    "sealed": "●",
    "unsealed": "○",
}


@dataclass(frozen=True)
class Badge:
    """An outcome or state as a sign, a word and a colour, in this order of importance."""

    name: str
    word: str
    mark: str


@dataclass(frozen=True)
class ScaleRow:
    """One size in which our training differs from the paper's."""

    label: str
    """A word of the interface."""
    ours: str | None
    papers: str | None
    ratio: str | None


@dataclass(frozen=True)
class ParameterRow:
    """One notebook parameter and its value per arm; None where a control takes the treatment's."""

    name: str
    values: list[str | None]


def sentences(verdict: Verdict, language: Language) -> list[tuple[Language, str]]:
    """The verdict in one sentence in both languages, the workspace's first."""
    from claimbook.judge import sentence

    ordered = sorted(LANGUAGES, key=lambda other: other != language)
    return [(each, sentence(verdict, each)) for each in ordered]


def beside(verdict: Verdict, language: Language) -> list[str]:
    """What a reader should know beside a verdict: its family, attempts, the paper's own number and scale."""
    from claimbook.judge import beside

    return beside(verdict, language)


def badge(dossier: Dossier, language: Language, words: Mapping[str, str]) -> Badge:
    """The outcome of an experiment, or how far it has come."""
    from claimbook.judge import OUTCOME_NAMES

    if dossier.verdict is None:
        return Badge(dossier.state, words[dossier.state], _MARKS[dossier.state])
    outcome: Outcome = dossier.verdict.outcome
    word = OUTCOME_NAMES[language][outcome]
    return Badge(outcome, word[0].upper() + word[1:], _MARKS[outcome])


def on_board(dossiers: Iterable[Dossier]) -> list[Dossier]:
    """In the order of the board: what needs mending, verdicts, then what waits; by slug within."""
    return sorted(dossiers, key=lambda each: (_BOARD_ORDER.index(each.state), each.slug))


def tally(badges: Iterable[Badge]) -> list[tuple[Badge, int]]:
    """How many experiments there are of each badge, in the order of their first appearance."""
    return list(Counter(badges).items())


def claim_dossiers(claim: Claim, slug: str, dossiers: Iterable[Dossier]) -> list[Dossier]:
    """The experiments about a claim of a paper."""
    return [
        each
        for each in dossiers
        if each.hypothesis and (each.hypothesis.paper, each.hypothesis.claim) == (slug, claim.id)
    ]


def claim_of(dossier: Dossier, papers: Mapping[str, Paper | None]) -> Claim | None:
    """The claim that an experiment tests, where the library has it."""
    if dossier.hypothesis is None or (paper := papers.get(dossier.hypothesis.paper)) is None:
        return None
    return next((claim for claim in paper.note.claims if claim.id == dossier.hypothesis.claim), None)


def parameter_rows(hypothesis: Hypothesis) -> list[ParameterRow]:
    """What the arms and controls set, a row per parameter, a value per arm."""
    tables = {**hypothesis.arms, **hypothesis.controls}
    names = list(dict.fromkeys(name for table in tables.values() for name in table))
    return [
        ParameterRow(name, [_own_value(hypothesis, arm, table, name) for arm, table in tables.items()])
        for name in names
    ]


def shown_value(value: Value) -> str:
    """A parameter's value as one would write it in TOML, without quotes."""
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(shown_value(each) for each in value) if isinstance(value, list) else str(value)


def scale_rows(ours: Scale | None, papers: Scale | None) -> list[ScaleRow]:
    """Sizes of our training beside the paper's, those that at least one of the two records."""
    pairs = (
        ("parameters_scale", _size(ours, "parameters"), _size(papers, "parameters")),
        ("pairs_scale", _size(ours, "pairs_seen"), _size(papers, "pairs_seen")),
        ("resolution_scale", _size(ours, "resolution"), _size(papers, "resolution")),
    )
    return [_scale_row(*pair) for pair in pairs if pair[1:] != (None, None)]


def metric_of(run: Run, metric: str | None, decimals: int | None) -> str | None:
    """The run's value of the experiment's metric, if it has one."""
    value = run.metrics.get(metric) if metric else None
    return None if value is None else number(value, decimals)


def decimals_of(dossier: Dossier) -> int | None:
    """Decimals for all numbers in the metric of an experiment: those of the verdict's sentence."""
    from claimbook.judge.wording import decimals_of as of_verdict

    if dossier.recorded is not None:
        return of_verdict(dossier.recorded)
    return decimals_for(dossier.hypothesis.margin) if dossier.hypothesis else None


def reasons(verdict: Verdict, language: Language) -> list[str]:
    """Why a verdict is inadmissible or deviated, in the language of the pages."""
    from claimbook.judge.reasons import translated

    return [translated(reason, language) for reason in verdict.reasons]


def curve_series(dossier: Dossier) -> dict[str, dict[str, list[tuple[int, float]]]]:
    """Step metrics to draw: name of the metric, then "arm/seed", then (step, value).

    The last run of each arm and seed, confirmatory ones where there are any, thinned to what a figure
    can show.
    """
    logged = [run for run in dossier.runs if run.id in dossier.steps]
    confirmatory = [run for run in logged if run.kind == "confirmatory"]
    latest = {(by_arm(run)[1:4]): run for run in confirmatory or logged}
    found: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for _, run in sorted(latest.items()):
        for step in dossier.steps[run.id]:
            for metric, value in step.values.items():
                series = found.setdefault(metric, {}).setdefault(f"{run.arm}/{run.seed}", [])
                series.append((step.step, value))
    return {
        metric: {name: _thinned(points) for name, points in series.items()}
        for metric, series in sorted(found.items())
    }


def by_arm(run: Run) -> tuple[bool, int, str, int, str]:
    """Confirmatory runs first; baseline, treatment, controls; then by seed and time."""
    place = _ARM_ORDER.index(run.arm) if run.arm in _ARM_ORDER else len(_ARM_ORDER)
    return run.kind != "confirmatory", place, run.arm, run.seed, run.started


def questions(hypothesis: Hypothesis) -> list[tuple[str, str]]:
    """Word of the interface and answer of each research question."""
    answers: dict[str, Any] = {name: getattr(hypothesis.questions, name) for name in _QUESTIONS}
    return [(_QUESTIONS[name], answer) for name, answer in answers.items()]


_QUESTIONS = {
    "problem": "problem",
    "difficulty": "difficulty",
    "tried": "tried",
    "similar": "similar",
    "method": "method_question",
    "verification": "verification",
    "service": "service",
}


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Every n-th point and the last, at most _POINTS and one more."""
    every = -(-len(points) // _POINTS)
    return [*points[:-1:every], points[-1]]


def _own_value(hypothesis: Hypothesis, arm: str, table: Arm, name: str) -> str | None:
    if name in table:
        return shown_value(table[name])
    if arm in hypothesis.controls:
        return None
    return shown_value(hypothesis.parameters[name]) if name in hypothesis.parameters else "–"


def _size(scale: Scale | None, name: str) -> float | None:
    return None if scale is None else getattr(scale, name)


def _scale_row(label: str, ours: float | None, papers: float | None) -> ScaleRow:
    ratio = f"{large(float(f'{papers / ours:.2g}'))}×" if ours and papers else None
    return ScaleRow(label, _large(ours), _large(papers), ratio)


def _large(value: float | None) -> str | None:
    return None if value is None else large(value)
