"""The verdict of an experiment's folder: gathers what `judge` needs from the workspace."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import msgspec

from claimbook import integrity, papers
from claimbook.errors import JudgeError
from claimbook.experiments import Experiment, register
from claimbook.judge.verdict import judge
from claimbook.records import Claim, Reported, Run, SealEntry, Verdict
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Member:
    """Something else that was sealed on the same product set and metric."""

    name: str
    """The experiment's slug; for an earlier seal of an amended one, with that seal's hash."""
    sealed_at: str
    p: float | None
    """Of its verdict; None where there is none."""


def judge_experiment(workspace: Workspace, experiment: Experiment) -> Verdict:
    """Compute an experiment's verdict from its files, without writing it.

    Raises JudgeError when nothing is sealed, hypothesis.toml is not what was sealed, or runs are missing;
    RecordError when a file was changed after it had been recorded.
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
    broken = [error for error in integrity.problems(experiment) if _concerns(error.where, experiment, sealed)]
    if broken:
        raise broken[0]
    members = family(workspace, experiment, sealed.data, sealed.hypothesis.metric)
    claim = papers.load(workspace, sealed.hypothesis.paper).claim(sealed.hypothesis.claim)
    return computed(experiment, sealed, members, claim)


def computed(
    experiment: Experiment,
    sealed: SealEntry,
    members: list[Member],
    claim: Claim | None,
    known: dict[str, float | None] | None = None,
) -> Verdict:
    """The verdict under one of an experiment's seals, from its runs and their item scores.

    claim: the paper's, for its numbers to stand beside ours; None leaves them out. known: p of the family as
    it was at another time, in place of what the members' verdicts say now.
    """
    runs = experiment.runs()
    verdict = judge(
        experiment.slug,
        sealed,
        runs,
        experiment.items,
        family={member.name: member.p for member in members} if known is None else known,
        paper_scale=claim.scale if claim else None,
    )
    return msgspec.structs.replace(
        verdict,
        ordinal=1 + sum(member.sealed_at < sealed.sealed_at for member in members),
        attempts=_attempts(experiment, sealed, runs),
        ledger=experiment.ledger().heads,
        reported=_reported(claim) if claim else None,
    )


def family(
    workspace: Workspace, experiment: Experiment, data: str, metric: str, *, amending: bool = False
) -> list[Member]:
    """Everything else ever sealed on a product set and metric, in the order of sealing.

    An amended experiment counts once more for each earlier seal under which a run finished: who has seen a
    result and then changes the design has tested twice. What was sealed and is gone counts too. With
    `amending`, the seal in force is such an earlier one.
    """
    members: list[Member] = []
    own_seal = experiment.seal()
    mine = {entry.hash for entry in own_seal.entries} if own_seal else set()
    present: set[str] = set()
    for path in sorted(workspace.experiments.glob("*/seal.json")):
        other = Experiment(path.parent)
        seal = other.seal()
        if seal is None:
            continue
        present |= {entry.hash for entry in seal.entries}
        tested = [e for e in seal.entries if e.data == data and e.hypothesis.metric == metric]
        finished = {run.seal for run in other.runs() if run.status == "finished"} if tested else set()
        for entry in tested:
            own = other.slug == experiment.slug
            if not own and entry.hash in mine:
                continue  # a copy of this experiment's folder is no other hypothesis
            if entry.hash == seal.current.hash and not (own and amending):
                if not own:
                    members.append(Member(other.slug, entry.sealed_at, _known_p(other, entry)))
            elif entry.hash in finished:
                members.append(Member(f"{other.slug}, seal {entry.hash[:8]}", entry.sealed_at, None))
    members += [
        Member(f"{line.experiment}, seal {line.seal[:8]}, gone", line.at, None)
        for line in register(workspace.experiments).lines
        if (line.data, line.metric) == (data, metric) and line.seal not in present
    ]
    return sorted(members, key=lambda member: (member.sealed_at, member.name))


def outdated(workspace: Workspace, experiment: Experiment, verdict: Verdict) -> list[str]:
    """Experiments of a verdict's family whose own verdicts were corrected for a smaller one.

    A log that leaves them as they were finds one of ten true nulls `supported` in 6.3 % at alpha .05 (2,000
    simulated logs); judged again they keep to alpha.
    """
    slugs = {name for name in verdict.family if "," not in name} - {experiment.slug}
    present = [slug for slug in sorted(slugs) if (workspace.experiments / slug).is_dir()]
    earlier = {slug: Experiment.of(workspace, slug).verdict() for slug in present}
    return [slug for slug, one in earlier.items() if one and len(one.family) < len(verdict.family)]


def _known_p(other: Experiment, entry: SealEntry) -> float | None:
    verdict = other.verdict()
    return verdict.p if verdict and verdict.seal == entry.hash else None


def _concerns(where: str | None, experiment: Experiment, sealed: SealEntry) -> bool:
    """Whether a broken record is one that the verdict under a seal rests on: not a run of another seal."""
    folder = f"experiments/{experiment.slug}"
    if where and where.startswith((f"{folder}/verdict.json", f"{folder}/reruns/")):
        return False  # what was computed before is about to be computed again
    prefix = f"{folder}/runs/"
    if where is None or not where.startswith(prefix):
        return True
    run_id = where.removeprefix(prefix).split("/")[0]
    line = experiment.ledger().started().get(run_id)
    return line is None or line.seal == sealed.hash


def _attempts(experiment: Experiment, sealed: SealEntry, runs: list[Run]) -> dict[str, list[str]]:
    """How each confirmatory attempt ended, for the arms and seeds that took more than one.

    One that had said its result and does not count, since its code was changed under it say, shows it.
    """
    attempts: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.kind == "confirmatory" and run.seal == sealed.hash:
            attempts[f"{run.arm} s{run.seed}"].append(run)
    return {
        pair: [_how(experiment, run, sealed.hypothesis.metric) for run in tried]
        for pair, tried in sorted(attempts.items())
        if len(tried) > 1
    }


def _how(experiment: Experiment, run: Run, metric: str) -> str:
    if run.status == "finished":
        return run.status
    _, finish = experiment.steps(run.id)
    said = finish.metrics.get(metric) if finish else None
    return run.status if said is None else f"{run.status} with {said:.4g}"


def _reported(claim: Claim) -> Reported | None:
    if claim.reported is None:
        return None
    return Reported(value=claim.reported, metric=claim.metric, where=claim.where, confirmed=claim.confirmed)
