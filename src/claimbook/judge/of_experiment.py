"""The verdict of an experiment's folder: gathers what `judge` needs from the workspace."""

from __future__ import annotations

from claimbook import papers
from claimbook.errors import JudgeError
from claimbook.experiments import Experiment, experiments
from claimbook.judge.verdict import judge
from claimbook.records import Verdict
from claimbook.workspace import Workspace


def judge_experiment(workspace: Workspace, experiment: Experiment) -> Verdict:
    """Compute an experiment's verdict from its files, without writing it.

    Raises JudgeError when nothing is sealed, hypothesis.toml is not what was sealed, or runs are missing.
    """
    seal = experiment.seal()
    if seal is None:
        raise JudgeError(
            "nothing is sealed, so no run counts",
            fix=f"run `claimbook seal {experiment.slug}`, then `claimbook run {experiment.slug}`",
            where=f"experiments/{experiment.slug}",
        )
    sealed = seal.current
    if experiment.hypothesis() != sealed.hypothesis:
        raise JudgeError(
            "the hypothesis is not the one that was sealed",
            fix=f'undo the change (git checkout), or run `claimbook amend {experiment.slug} --reason "…"`',
            where=f"experiments/{experiment.slug}/hypothesis.toml",
        )
    paper = papers.load(workspace, sealed.hypothesis.paper)
    return judge(
        experiment.slug,
        sealed,
        experiment.runs(),
        experiment.items,
        family=family(workspace, experiment.slug, sealed.data, sealed.hypothesis.metric),
        paper_scale=paper.claim(sealed.hypothesis.claim).scale,
    )


def family(workspace: Workspace, slug: str, data: str, metric: str) -> dict[str, float | None]:
    """p of the other experiments ever sealed on a product set and metric, None for one without a verdict."""
    members: dict[str, float | None] = {}
    for other in experiments(workspace):
        seal = None if other.slug == slug else other.seal()
        if seal and any(e.data == data and e.hypothesis.metric == metric for e in seal.entries):
            verdict = other.verdict()
            members[other.slug] = verdict.p if verdict else None
    return members
