"""Every verdict computed anew from the raw item scores, in a clean process, compared to the last digit.

    python -I -m claimbook.verification ROOT SLUG…      what `verify` starts; prints its findings as JSON

The process is clean: it reads the files, has no variable of the caller but path, home and language, and
Python's isolated mode keeps the current folder and PYTHONPATH out of its imports.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from claimbook import integrity, papers, workspace
from claimbook.errors import ClaimbookError, JudgeError
from claimbook.experiments import Experiment
from claimbook.judge.of_experiment import Member, computed, family
from claimbook.judge.verdict import judge_rerun, largest_difference
from claimbook.records import Claim, Rerun, SealEntry, Verdict, encode_json
from claimbook.workspace import Workspace

_OF_THE_PAPER = ("reported", "paper_scale")
"""Fields that come from a person's note, who may correct it at any time."""
_OF_THE_MOMENT = ("ledger", "family", "ordinal")
"""Fields that say what was known at the judgement: they are used, not computed again."""
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT")


class Verification(msgspec.Struct, frozen=True):
    """What came out for one experiment."""

    experiment: str
    state: Literal["verified", "no verdict", "does not verify"]
    outcome: str | None
    """As recorded in verdict.json."""
    problems: list[str]
    """What was changed, is missing or does not compute: file, field, and what to do."""
    notes: list[str]
    """What is worth knowing and no fault, such as a verdict that later hypotheses made out of date."""


def verify(space: Workspace, slugs: Sequence[str]) -> list[Verification]:
    """Verify experiments in a clean process. Raises JudgeError when that process itself fails."""
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-I", "-m", "claimbook.verification", str(space.root), *slugs],
        capture_output=True,
        env=environment,
        check=False,
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise JudgeError(
            f"the verifying process failed: {said[-1] if said else f'exit code {done.returncode}'}",
            fix="run `python -I -m claimbook.verification` in the workspace to see all of it",
        )
    return msgspec.json.decode(done.stdout, type=list[Verification])


def verify_here(space: Workspace, slug: str) -> Verification:
    """Verify one experiment in this process."""
    experiment = Experiment.of(space, slug)
    broken = [*integrity.register_problems(space), *integrity.problems(experiment)]
    problems = [str(error) for error in broken]
    notes: list[str] = []
    recorded: Verdict | None = None
    try:
        notes += integrity.notes(experiment)
        recorded = experiment.verdict()
        if recorded is not None:
            found, said = _recomputed(space, experiment, recorded)
            problems += found
            notes += said
        problems += _reruns(experiment, recorded)
        notes += _unsealed_changes(experiment)
    except ClaimbookError as error:
        # where the check above has named a file, computing stumbles over the same one
        problems = problems or [str(error)]
    state: Literal["verified", "no verdict", "does not verify"]
    state = "does not verify" if problems else "verified" if recorded else "no verdict"
    return Verification(slug, state, recorded.outcome if recorded else None, problems, notes)


def _recomputed(space: Workspace, experiment: Experiment, recorded: Verdict) -> tuple[list[str], list[str]]:
    seal = experiment.seal()
    entries = {entry.hash: entry for entry in seal.entries} if seal else {}
    where = f"experiments/{experiment.slug}/verdict.json"
    if recorded.seal not in entries or recorded.experiment != experiment.slug:
        return [f"{where}: it belongs to no seal of this experiment\n  what to do: {_judge(experiment)}"], []
    sealed = entries[recorded.seal]
    own = f"{experiment.slug}, seal {sealed.hash[:8]}"  # after an amendment the family lists this seal itself
    everything = family(space, experiment, sealed.data, sealed.hypothesis.metric)
    members = [member for member in everything if member.name != own]
    known = {name: p for name, p in recorded.family.items() if name != experiment.slug}
    claim, lost = _claim(space, sealed)
    again = computed(experiment, sealed, members, claim, known)
    # a seal without a ledger may have been judged by the first version, which wrote fewer fields
    said = encode_json(recorded) if sealed.with_ledger else json.loads(experiment.verdict_path.read_bytes())
    different = [
        *_differences(said, encode_json(again)),
        *_family_differences(experiment, recorded, again, members),
    ]
    problems = [
        f"{where}: {difference}\n  what to do: restore the file (git checkout), or {_judge(experiment)}"
        for difference in different
    ]
    notes = [*lost, *_family_notes(experiment, sealed, recorded, members, claim)]
    paper = encode_json(again)
    if not lost and any(said[name] != paper[name] for name in _OF_THE_PAPER if name in said):
        notes.append(f"the paper's own numbers were changed in its note since; {_judge(experiment)}")
    if seal and sealed.hash != seal.current.hash:
        notes.append("amended since: the verdict is one under an earlier seal")
    return problems, notes


def _claim(space: Workspace, sealed: SealEntry) -> tuple[Claim | None, list[str]]:
    """The paper's claim, or why there is none any more: a person's file, and no part of the verdict."""
    try:
        return papers.load(space, sealed.hypothesis.paper).claim(sealed.hypothesis.claim), []
    except ClaimbookError as error:
        return None, [f"the paper's claim cannot be read: {error.problem}"]


def _differences(recorded: dict[str, Any], again: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Fields of the recorded verdict that are not what was computed."""
    for name, value in recorded.items():
        if not prefix and name in (*_OF_THE_PAPER, *_OF_THE_MOMENT, "schema"):
            continue
        other = again.get(name)
        if isinstance(value, dict) and isinstance(other, dict):
            names = dict.fromkeys([*value, *other])
            yield from _differences(
                {key: value.get(key) for key in names},
                {key: other.get(key) for key in names},
                f"{prefix}{name}.",
            )
        elif value != other:
            yield f"{prefix}{name} is {_said(value)}, and {_said(other)} is computed"


def _family_differences(
    experiment: Experiment, recorded: Verdict, again: Verdict, members: list[Member]
) -> Iterator[str]:
    """What a recorded family cannot have been, whenever it was judged."""
    own = recorded.family.get(experiment.slug)
    if experiment.slug not in recorded.family or own != again.p:
        yield f"family.{experiment.slug} is {_said(own)}, and {_said(again.p)} is computed"
    # only a verdict of the first version, which has no ledger either, may lack it
    ordinal = 1 if recorded.ordinal is None and not again.ledger else recorded.ordinal or 0
    if not 1 <= ordinal <= len(recorded.family):
        yield f"ordinal is {recorded.ordinal} in a family of {len(recorded.family)}"
    # what was sealed before the last of the runs was there at any judgement, under this name or,
    # amended since, under another one
    of_verdict = {run for pair in recorded.pairs for run in pair.runs}
    last = max((run.started for run in experiment.runs() if run.id in of_verdict), default="")
    earlier = [member for member in members if member.sealed_at < last]
    for member in earlier:
        said = recorded.family.get(member.name)
        if said is not None and member.p is not None and said != member.p:
            yield f"family.{member.name} is {_said(said)}, and its own verdict says {_said(member.p)}"
    there = Counter(name.split(",")[0] for name in recorded.family if name != experiment.slug)
    due = Counter(member.name.split(",")[0] for member in earlier)
    for slug in due - there:
        yield f"family leaves out {slug}, sealed before these runs, here or on a branch that was merged since"


def _family_notes(
    experiment: Experiment,
    sealed: SealEntry,
    recorded: Verdict,
    members: list[Member],
    claim: Claim | None,
) -> Iterator[str]:
    """Holm's correction holds for the family that was known: a later hypothesis makes it stricter."""
    gone = recorded.family.keys() - {member.name for member in members} - {experiment.slug}
    if gone:
        yield f"of its family these are gone: {', '.join(sorted(gone))}"
    lost = [member.name for member in members if member.name.endswith(", gone")]
    if lost:
        yield f"sealed on the same products and metric, and gone: {'; '.join(lost)}; they count in the family"
    others = {name: p for name, p in recorded.family.items() if name != experiment.slug}
    if {member.name: member.p for member in members} != others:
        today = computed(experiment, sealed, members, claim)
        changed = "" if today.outcome == recorded.outcome else f", judged today it is {today.outcome}"
        yield (
            f"judged in a family of {len(recorded.family)}, which has {len(today.family)} today"
            f"{changed}; {_judge(experiment)} brings it up to date"
        )


def _reruns(experiment: Experiment, recorded: Verdict | None) -> Iterator[str]:
    seal = experiment.seal()
    entries = {entry.hash: entry for entry in seal.entries} if seal else {}
    for rerun in experiment.reruns():
        where = f"experiments/{experiment.slug}/reruns/{rerun.id}.json"
        if rerun.seal not in entries:
            yield f"{where}: it belongs to no seal here\n  what to do: restore it (git checkout)"
            continue
        for difference in _rerun_differences(experiment, rerun, entries[rerun.seal], recorded):
            yield f"{where}: {difference}\n  what to do: restore the file (git checkout)"


def _rerun_differences(
    experiment: Experiment, rerun: Rerun, sealed: SealEntry, recorded: Verdict | None
) -> Iterator[str]:
    runs = experiment.runs()
    said, again = rerun.verdict, None
    known = said.family if said else recorded.family if recorded else {}
    family = {name: p for name, p in known.items() if name != experiment.slug}
    with suppress(JudgeError):  # replications that failed, as the record must then say
        again = judge_rerun(experiment.slug, sealed, runs, experiment.items, rerun=rerun.id, family=family)
    if said is not None and again is not None:
        yield from _differences(encode_json(said), encode_json(again))
    elif (said is None) != (again is None):
        yield f"verdict is {'missing' if said is None else 'there'}, and its runs say otherwise"
    if said is not None:
        was = computed(experiment, sealed, [], None, family).outcome
        if rerun.was != was:
            yield f"was is {_said(rerun.was)}, and {_said(was)} is computed"
    if rerun.experiment not in {run.experiment for run in runs}:
        yield f"experiment is {rerun.experiment!r}, and its runs are of another one"
    if again is None and rerun.failure is None:
        yield "failure is missing, and its replications did not come to an end"
    difference, where = largest_difference(sealed, runs, rerun.id)
    result = "no longer runs" if again is None else "held" if again.outcome == rerun.was else "flipped"
    computed_now = {
        "now": again.outcome if again else None,
        "result": result,
        "largest_difference": difference,
        "largest_where": where,
    }
    for name, value in computed_now.items():
        if getattr(rerun, name) != value:
            yield f"{name} is {_said(getattr(rerun, name))}, and {_said(value)} is computed"


def _said(value: Any) -> str:
    """A value as it stands in a record."""
    return "missing" if value is None else json.dumps(value, ensure_ascii=False)


def _unsealed_changes(experiment: Experiment) -> Iterator[str]:
    seal = experiment.seal()
    if seal is not None and experiment.hypothesis() != seal.current.hypothesis:
        yield "hypothesis.toml is not what was sealed; runs made now would be exploratory"


def _judge(experiment: Experiment) -> str:
    return _judge_slug(experiment.slug)


def _judge_slug(slug: str) -> str:
    return f"`claimbook judge {slug}`"


def _main(root: str, *slugs: str) -> None:
    space = workspace.find(Path(root))
    found = [verify_here(space, slug) for slug in slugs]
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
