"""Which paper of the queue comes next: the one most likely to be reproduced here within the week.

Every reason has a weight in `WEIGHTS`, and a proposal shows all of its reasons: the score is their sum. Only
proposes; a person gives a paper its week.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from claimbook.records import Paper, Reproduction
from claimbook.week.machine import Machine, weights_are_here
from claimbook.workspace import Workspace

WEIGHTS = {
    "scratch": 3,  # a tiny model trained from nothing shows the claim
    "features": 2,  # features of any frozen encoder show it
    "weights here": 2,  # it needs pretrained weights, which are on this machine
    "weights absent": -2,
    "fits": 2,  # memory, disk and GPU suffice
    "does not fit": -3,
    "quick": 2,  # an experiment is over within an hour
    "overnight": 1,  # within twelve
    "long": -1,
    "unknown": -1,  # nobody has written what a reproduction takes
    "claim": 2,  # a claim names its metric and direction
    "no claim": -2,
    "notebook": 2,  # the technique's notebook is written
    "code": 1,  # the authors' code is linked
    "model": 1,  # so are their weights
    "products": 1,  # for each word of shopping, up to _WORDS
    "withdrawn": -5,  # the last version looks withdrawn
}
"""What each reason adds to the score."""

_WORDS = 3
"""More words of shopping than these say no more."""
_RUNS = 18
"""Runs of an experiment as `claimbook new` begins it: two arms and a control, six seeds each."""
_MEMORY = 1.0
"""GiB that a run takes: 0.66 measured over the 18 runs of experiments/siglip-small-batch."""

_SHOPPING = (
    "product", "e-commerce", "ecommerce", "retail", "retailer", "shop", "shopping", "catalog", "catalogue",
    "fashion", "grocery", "merchandise", "retrieval", "recommendation", "attribute",
)  # fmt: skip
_SHOPPING_KO = (
    "상품", "제품", "쇼핑", "전자상거래", "커머스", "카탈로그", "패션", "식료품", "검색", "추천", "속성",
)  # fmt: skip
_MATHEMATICS = re.compile(
    r"\b(?:by|dot|inner|outer|cross|tensor|matrix|cartesian|hadamard|kronecker|element-?wise)[ -]products?\b"
    r"|\bproduct quanti[sz]ation\b"
)
"""Products that nobody sells."""


@dataclass(frozen=True)
class Reason:
    """One thing that speaks for a paper or against it."""

    name: str
    """Of its weight in `WEIGHTS`."""
    weight: int
    text: str


@dataclass(frozen=True)
class Proposal:
    """A paper of the queue and what speaks for it."""

    slug: str
    title: str
    week: str | None
    """The week that it is planned for already."""
    reasons: tuple[Reason, ...]

    @property
    def score(self) -> int:
        """The sum of the reasons' weights."""
        return sum(reason.weight for reason in self.reasons)


def propose(
    workspace: Workspace,
    papers: Iterable[Paper],
    machine: Machine,
    here: Callable[[str], bool] = weights_are_here,
) -> list[Proposal]:
    """The queue, best first: papers that are queued, or begun without a week. Of equals, by slug.

    here: whether weights of a name are on this machine.
    """
    proposals = [
        Proposal(
            paper.slug,
            paper.meta.title,
            paper.note.week,
            tuple(
                Reason(name, WEIGHTS[name], text) for name, text in _reasons(workspace, paper, machine, here)
            ),
        )
        for paper in papers
        if _is_waiting(paper)
    ]
    return sorted(proposals, key=lambda one: (-one.score, one.slug))


def _is_waiting(paper: Paper) -> bool:
    return paper.note.status == "queued" or (paper.note.status == "reading" and paper.note.week is None)


def _reasons(
    workspace: Workspace, paper: Paper, machine: Machine, here: Callable[[str], bool]
) -> Iterator[tuple[str, str]]:
    """Name and words of all that speaks for a paper or against it."""
    if paper.meta.withdrawn:
        yield "withdrawn", f"the last version looks withdrawn: {paper.meta.withdrawn}"
    takes = paper.note.reproduction
    if takes is None:
        yield "unknown", "nobody has written what it takes: `reproduction:` in its README.md"
    else:
        absent = takes.mode == "weights" and not (takes.weights and here(takes.weights))
        yield _mode(takes, absent)
        yield _fit(takes, machine, absent)
        yield from _time(takes, machine)
    yield from _claim(paper)
    if (workspace.notebooks / f"{paper.slug}.ipynb").is_file():
        yield "notebook", f"notebooks/{paper.slug}.ipynb is written"
    links = {link.kind: link.url for link in reversed(paper.meta.links)}
    for kind, said in (("code", "its code is linked"), ("model", "its weights are linked")):
        if kind in links:
            yield kind, f"{said}: {links[kind]}"
    for word in shopping_words(paper, workspace.products)[:_WORDS]:
        yield "products", f"speaks of {word}"


def _mode(takes: Reproduction, absent: bool) -> tuple[str, str]:
    if takes.mode == "scratch":
        return "scratch", "a tiny model trained from scratch can show it"
    if takes.mode == "features":
        return "features", "features of any frozen encoder can show it"
    if absent:
        named = takes.weights or "weights that the note does not name"
        return "weights absent", f"needs {named}, not on this machine"
    return "weights here", f"{takes.weights} is on this machine"


def _fit(takes: Reproduction, machine: Machine, absent: bool) -> tuple[str, str]:
    """Whether memory, disk and GPU suffice. Weights to fetch take at most the GPU memory of their run."""
    need = takes.gpu_memory
    if need is not None or (takes.cpu_minutes is None and takes.gpu_minutes is not None):
        size = "" if need is None else f" with {need:g} GiB"
        if not machine.gpu:
            return "does not fit", f"needs a GPU{size}, and there is none here"
        if need and machine.gpu_memory is not None and machine.gpu_memory < need:
            return "does not fit", f"needs a GPU{size}; this one has {machine.gpu_memory:.0f}"
    if machine.memory < _MEMORY:
        return "does not fit", f"{machine.memory:.1f} GiB of memory are free, a run takes about {_MEMORY:g}"
    if absent and need and machine.disk < need:
        return "does not fit", f"{machine.disk:.0f} GiB of disk are free for weights of up to {need:g}"
    on = "the GPU" if machine.gpu and takes.gpu_minutes is not None else "the CPU"
    free = f"{machine.memory:.0f} GiB of memory and {machine.disk:.0f} of disk are free"
    return "fits", f"fits this machine, on {on}: {free}"


def _time(takes: Reproduction, machine: Machine) -> Iterator[tuple[str, str]]:
    """How long an experiment takes, where the note says how long a run does."""
    on_gpu = machine.gpu and takes.gpu_minutes is not None
    minutes = takes.gpu_minutes if on_gpu else takes.cpu_minutes
    if minutes is None:
        return
    hours = minutes * _RUNS / 60
    name = "quick" if hours <= 1 else "overnight" if hours <= 12 else "long"
    yield (
        name,
        f"{_RUNS} runs take about {f'{60 * hours:.0f} minutes' if hours < 2 else f'{hours:.1f} hours'}",
    )


def _claim(paper: Paper) -> Iterator[tuple[str, str]]:
    """Each claim of a note has a metric and a direction, so that any can be tested."""
    if not paper.note.claims:
        yield "no claim", "its note lists no claim yet"
    else:
        claim = paper.note.claims[0]
        yield "claim", f"claim {claim.id} can be tested: {claim.metric}, {claim.direction} is better"


def shopping_words(paper: Paper, sets: Iterable[str] = ()) -> list[str]:
    """Words of shopping, and names of product sets, in title, abstract, tags and claims; the list's order."""
    parts = [
        paper.meta.title,
        paper.meta.abstract,
        *paper.note.tags,
        *(claim.text for claim in paper.note.claims),
    ]
    text = _MATHEMATICS.sub(" ", unicodedata.normalize("NFC", "\n".join(parts)).lower())
    words = set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", text))
    words |= {part for word in words for part in word.split("-")}
    english = [word for word in dict.fromkeys((*_SHOPPING, *sets)) if _forms(word.lower()) & words]
    return english + [word for word in _SHOPPING_KO if word in text]


def _forms(word: str) -> set[str]:
    """A word and its plural."""
    return {word, f"{word}s", f"{word[:-1]}ies"} if word.endswith("y") else {word, f"{word}s"}
