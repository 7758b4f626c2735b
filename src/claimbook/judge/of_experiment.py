"""The verdict of an experiment's folder: gathers what `judge` needs from the workspace."""

from __future__ import annotations

from claimbook import papers
from claimbook.errors import JudgeError
from claimbook.experiments import Experiment
from claimbook.judge.verdict import judge
from claimbook.records import SealEntry, Verdict
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
        family=family(workspace, experiment, sealed.data, sealed.hypothesis.metric),
        paper_scale=paper.claim(sealed.hypothesis.claim).scale,
    )


def family(
    workspace: Workspace, experiment: Experiment, data: str, metric: str, *, amending: bool = False
) -> dict[str, float | None]:
    """p of everything else ever sealed on a product set and metric, None where there is no verdict on it.

    An amended experiment counts once more for each earlier seal under which a run finished: who has seen a
    result and then changes the design has tested twice. With `amending`, the seal in force is such an
    earlier one.
    """
    members: dict[str, float | None] = {}
    for path in sorted(workspace.experiments.glob("*/seal.json")):
        other = Experiment(path.parent)
        seal = other.seal()
        if seal is None:
            continue
        tested = [e for e in seal.entries if e.data == data and e.hypothesis.metric == metric]
        finished = {run.seal for run in other.runs() if run.status == "finished"}
        for entry in tested:
            own = other.slug == experiment.slug
            if entry.hash == seal.current.hash and not (own and amending):
                if not own:
                    members[other.slug] = _known_p(other, entry)
            elif entry.hash in finished:
                members[f"{other.slug}, seal {entry.hash[:8]}"] = None
    return members


def _known_p(other: Experiment, entry: SealEntry) -> float | None:
    verdict = other.verdict()
    return verdict.p if verdict and verdict.seal == entry.hash else None
