"""Batches from a file, and the batches there were: `batch` and `batches`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.experiment import judge_and_save, make, replicate
from claimbook.cli.making import Making
from claimbook.cli.printing import AS_JSON, print_json, print_table
from claimbook.errors import ClaimbookError, RecordError, RunError

if TYPE_CHECKING:
    from claimbook.experiments import Experiment
    from claimbook.records import Run
    from claimbook.records.batch import BatchFile
    from claimbook.runner.batch import Plan
    from claimbook.runner.journal import Batch, JobNow
    from claimbook.workspace import Workspace

_OPTIONS = {
    "-j": "count",
    "--gpus": "gpus",
    "--memory": "memory",
    "--ray-address": "ray_address",
    "--verify-cold": "verify_cold",
}
"""The field of a batch file that stands for an option."""
_SHOWN = 20
"""Failures that a summary names."""


@click.command(epilog="Example: claimbook batch nightly.toml -j 4")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-j", "count", type=click.IntRange(1), help="Runs at a time, in place of the file's.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@AS_JSON
def batch(file: Path, count: int | None, dry_run: bool, as_json: bool) -> None:
    """Make what a TOML file asks for, judge what is complete, and sum up.

    For cron and clusters: what is done already is not made again, so an interrupted batch is continued by
    the next one. The exit code is 0 only when everything is done. The README shows a file and the lines for
    cron and Slurm.
    """
    from claimbook import workspace
    from claimbook.records.batch import read_batch_file

    here = workspace.find()
    try:
        asked = read_batch_file(file.read_text("utf-8-sig"), str(file))
    except UnicodeDecodeError as error:
        raise RecordError(f"byte {error.start} is no UTF-8", fix="save it as UTF-8", where=file) from error
    experiments = _chosen(here, asked, str(file))
    if asked.title:
        click.echo(asked.title, err=as_json)
    left_out: dict[str, str] = {}
    plans: list[Plan] = []
    if asked.make == "rerun":
        experiments = _replicable(experiments, asked, left_out)
    else:
        plans = _plans(here, experiments, asked, str(file), left_out)
    reruns = experiments if asked.make == "rerun" else []
    if dry_run:
        _print_plans(plans, reruns, as_json=as_json)
    elif not plans and not reruns and not left_out:
        click.echo("there is nothing to make: no experiment is sealed", err=True)
    else:
        how = _how(asked, count)
        try:
            _make(here, asked, experiments, plans, how, left_out, name=file.stem, as_json=as_json)
        except RunError as error:
            if field := _OPTIONS.get(error.where or ""):
                raise RunError(error.problem, fix=error.fix, where=f"{file}: slots.{field}") from None
            raise
    if left_out:
        raise RunError(
            f"experiments were left out: {', '.join(left_out)}",
            fix="see above why, and what to do",
            where=file,
        )


@click.command(epilog="Example: claimbook batches nightly")
@click.argument("names", nargs=-1)
@AS_JSON
def batches(names: tuple[str, ...], as_json: bool) -> None:
    """List the batches there were, newest first.

    With the id of one, or a name for the newest of that name: what came of it, beside the one of the same
    name before it. With two: the first beside the second.
    """
    from claimbook import workspace
    from claimbook.runner import journal

    if len(names) > 2:
        raise click.UsageError("name one batch, or two to compare")
    here = workspace.find()
    if not names:
        _list(here, as_json)
        return
    one = journal.read(here, names[0])
    other = journal.read(here, names[1]) if len(names) == 2 else journal.before(here, one)
    if as_json:
        print_json({**_figures(one), "jobs": _jobs(one), "before": other and _figures(other)})
    else:
        click.echo("\n".join(summary(one, other)))


def _chosen(workspace: Workspace, asked: BatchFile, where: str) -> list[Experiment]:
    """The experiments that a file names, each once. RecordError for a name or pattern that fits none."""
    from claimbook.experiments import written_or_sealed
    from claimbook.workspace import nearest

    known = {one.slug: one for one in written_or_sealed(workspace)}
    if asked.experiments is None:
        return [one for one in known.values() if one.seal_path.exists()]
    chosen: dict[str, Experiment] = {}
    for pattern in asked.experiments:
        found = {slug: one for slug, one in known.items() if fnmatchcase(slug, pattern)}
        if not found:
            raise RecordError(
                f"no experiment is called {pattern!r}{nearest(pattern, list(known))}",
                fix=f"write slugs, or patterns such as siglip-*; there are: {', '.join(known) or 'none yet'}",
                where=f"{where}: experiments",
            )
        chosen |= found
    return list(chosen.values())


def _plans(
    workspace: Workspace,
    experiments: Iterable[Experiment],
    asked: BatchFile,
    where: str,
    left_out: dict[str, str],
) -> list[Plan]:
    """What is to be made of each experiment; those of which nothing can be made are named in `left_out`."""
    plans: list[Plan] = []
    for experiment in experiments:
        try:
            own = _plans_of(workspace, experiment, asked, where)
        except ClaimbookError as error:  # one that is broken must not keep the others from being made
            _leave_out(left_out, experiment.slug, error)
            continue
        if own[0].seal is None and not _explores(own[0], asked):
            why = ", ".join(own[0].why_exploratory)
            _leave_out(
                left_out,
                experiment.slug,
                f"no run of it would count: {why}\n"
                "  what to do: `claimbook seal` or `claimbook amend`; a grid, or seeds of its own, explore",
            )
        else:
            plans += own
    return plans


def _replicable(
    experiments: Iterable[Experiment], asked: BatchFile, left_out: dict[str, str]
) -> list[Experiment]:
    """Those with a verdict to replicate. One without is missed only where the file names it."""
    from claimbook.runner import replication

    found = []
    for experiment in experiments:
        slug = experiment.slug
        try:
            if replication.replicable(experiment):
                found.append(experiment)
            elif asked.experiments is not None:
                _leave_out(
                    left_out,
                    slug,
                    "there is no verdict of the seal in force to replicate\n"
                    f"  what to do: `claimbook run {slug}`, then `claimbook judge {slug}`",
                )
        except ClaimbookError as error:
            _leave_out(left_out, slug, error)
    return found


def _plans_of(workspace: Workspace, experiment: Experiment, asked: BatchFile, where: str) -> list[Plan]:
    """A plan for each point of the grid."""
    from claimbook.runner.batch import plan
    from claimbook.runner.grid import points_of
    from claimbook.runner.parameters import notebook_parameters

    declared = notebook_parameters(workspace.notebook(experiment.hypothesis().notebook))
    return [
        plan(
            workspace,
            experiment,
            seeds=asked.seeds,
            arms=asked.arms,
            changes=point,
            failed_only=asked.make == "failed",
        )
        for point in points_of(asked.grid, declared, f"{where}: grid")
    ]


def _explores(one: Plan, asked: BatchFile) -> bool:
    """Whether a file asks for runs that do not count."""
    return bool(asked.grid) or not {*(asked.seeds or [])} <= {*one.state.hypothesis.seeds}


def _how(asked: BatchFile, count: int | None) -> Making:
    slots = asked.slots
    return Making(
        slots=count or slots.count,
        gpus=slots.gpus,
        timeout=slots.timeout,
        cell_timeout=slots.cell_timeout,
        memory=slots.memory,
        cold=slots.cold,
        verify_cold=slots.verify_cold,
        engine=slots.engine,
        ray_address=slots.ray_address,
    )


def _make(
    workspace: Workspace,
    asked: BatchFile,
    experiments: list[Experiment],
    plans: list[Plan],
    how: Making,
    left_out: dict[str, str],
    *,
    name: str,
    as_json: bool,
) -> None:
    """Make a batch and sum it up, also one that was stopped, or whose runs failed."""
    from claimbook.experiments import this_process
    from claimbook.runner import journal
    from claimbook.runner.batch import Conclusion

    def conclude(runs: list[Run]) -> Conclusion:
        not_judged: dict[str, str] = {}
        verdicts = _judged(workspace, [one.experiment for one in plans if one.seal], not_judged)
        left_out.update(not_judged)
        return Conclusion(verdicts, not_judged)

    try:
        if asked.make == "rerun":
            slugs = [one.slug for one in experiments]
            replicate(workspace, slugs, how, as_json=as_json, name=name, left_out=left_out)
        else:
            make(
                workspace,
                plans,
                how,
                as_json=as_json,
                name=name,
                left_out=left_out,
                keep_empty=True,
                conclude=conclude,
            )
    finally:
        made = journal.of_process(workspace, this_process())
        if made and not as_json:
            click.echo("\n".join(summary(made, journal.before(workspace, made))))


def _judged(
    workspace: Workspace, experiments: Iterable[Experiment], left_out: dict[str, str]
) -> dict[str, str]:
    """Judge the experiments whose sealed runs are all there; the outcome of each."""
    from claimbook.judge.of_experiment import judge_experiment

    complete = [one for one in dict.fromkeys(experiments) if _is_complete(one)]
    if len(complete) > 1:
        for one in complete:  # each verdict is corrected for the others' p, which this makes known
            with suppress(ClaimbookError):  # it is said below
                one.save_verdict(judge_experiment(workspace, one))
    verdicts: dict[str, str] = {}
    for one in complete:
        try:
            verdicts[one.slug] = judge_and_save(workspace, one, quiet=True).outcome
        except ClaimbookError as error:
            _leave_out(left_out, one.slug, error)
    return verdicts


def _is_complete(experiment: Experiment) -> bool:
    """Whether all sealed runs are there. Records that cannot be read are for the judge to complain of."""
    from claimbook.experiments import finished_runs

    try:
        seal, runs = experiment.seal(), experiment.runs()
    except ClaimbookError:
        return True
    if seal is None:
        return False
    hypothesis = seal.current.hypothesis
    return len(finished_runs(seal.current, runs)) == len(hypothesis.arm_names()) * len(hypothesis.seeds)


def _leave_out(left_out: dict[str, str], slug: str, why: object) -> None:
    """Say at once why an experiment is left out; the others are made, and the exit code will tell."""
    left_out[slug] = str(why)
    click.secho(f"left out: {slug}: {why}", fg="yellow", err=True)


def _print_plans(plans: list[Plan], reruns: list[Experiment], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {
                    "experiment": one.experiment.slug,
                    "changes": dict(one.changes),
                    "kind": one.kind,
                    "missing": one.missing,
                    "reused": [run.id for run in one.reused],
                }
                for one in plans
            ]
            + [{"experiment": one.slug, "kind": "replication"} for one in reruns]
        )
        return
    for one in plans:
        point = "".join(f" {name}={value}" for name, value in one.changes.items())
        counts = f"{len(one.missing)} runs to make, {len(one.reused)} reused"
        click.echo(f"{one.experiment.slug}{point}: {counts} ({one.kind})")
    for experiment in reruns:
        click.echo(f"{experiment.slug}: to be replicated")


def _list(workspace: Workspace, as_json: bool) -> None:
    from claimbook.runner import journal

    found, problems = journal.journals(workspace)
    for problem in problems:
        click.secho(f"left out: {problem}", fg="yellow", err=True)
    if as_json:
        print_json([_figures(one) for one in reversed(found)])
    elif found:
        header = ["batch", "state", "began", "took", "done", "not done", "verdicts"]
        print_table(header, [_row(workspace, one) for one in reversed(found)])
    else:
        click.echo("there are no batches yet: `claimbook run` and `claimbook batch` make them")


def _row(workspace: Workspace, one: Batch) -> list[str]:
    from claimbook.display import span
    from claimbook.runner.journal import DONE

    done = sum(count for state, count in one.counts.items() if state in DONE)
    other = ", ".join(f"{count} {state}" for state, count in one.counts.items() if state not in DONE)
    outcomes = list(one.verdicts.values())
    verdicts = ", ".join(f"{outcomes.count(outcome)} {outcome}" for outcome in dict.fromkeys(outcomes))
    began = _local(workspace, one.opened.at)
    return [one.opened.batch, one.state, began, span(one.seconds), str(done), other, verdicts]


def _local(workspace: Workspace, at: str) -> str:
    """A time in the workspace's zone."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime.fromisoformat(at).astimezone(ZoneInfo(workspace.timezone)).strftime("%Y-%m-%d %H:%M")


def summary(one: Batch, before: Batch | None) -> Iterator[str]:
    """What came of a batch, line by line, beside an earlier one."""
    from claimbook.display import span

    yield f"{one.opened.batch}: {one.state}, after {span(one.seconds)}"
    yield from _labelled("verdicts", _verdicts(one, before))
    counts = ", ".join(f"{count} {state}" for state, count in one.counts.items())
    yield from _labelled("runs", [counts or "nothing was to be made"])
    failures = [_failure(job) for job in one.failures[:_SHOWN]]
    if len(one.failures) > _SHOWN:
        failures.append(f"… {len(one.failures)} in all: `claimbook batches {one.opened.batch} --json`")
    yield from _labelled("not done", failures)
    yield from _labelled("notes", [notice.text for notice in one.notices])
    yield from _labelled("time", [_time(one, before)])
    yield from _labelled("cost", _cost(one))


def _labelled(label: str, texts: Iterable[str]) -> Iterator[str]:
    for number, text in enumerate(texts):
        yield f"  {'' if number else label:<9}{text}"


def _verdicts(one: Batch, before: Batch | None) -> Iterator[str]:
    """The outcome of each experiment, and the one before where it was another."""
    earlier = before.verdicts if before else {}
    for slug, outcome in one.verdicts.items():
        was = earlier.get(slug, outcome)
        yield f"{slug} {outcome}" + (f", was {was}" if was != outcome else "")
    for slug in earlier.keys() - one.verdicts.keys() if one.closed else ():
        yield f"{slug} not judged, was {earlier[slug]}"


def _failure(job: JobNow) -> str:
    from claimbook.display import why

    cause = why(job.ended.failure) if job.ended else ""
    return f"{job.job.experiment} {job.job.label} {job.state}{cause} ({job.run})"


def _time(one: Batch, before: Batch | None) -> str:
    from claimbook.display import span

    text = f"{span(one.seconds)} for {len(one.endings)} runs"
    if one.seconds and len(one.endings) > 1:
        text += f", {span(one.run_seconds)} together, {one.run_seconds / one.seconds:.1f} at a time"
    if before and before.endings and one.endings:
        text += f"; {span(before.seconds)} for {len(before.endings)} on {before.opened.at[:10]}"
    return text


def _cost(one: Batch) -> Iterator[str]:
    """Time of processors and GPUs, and energy, as far as they are known."""
    from claimbook.display import span

    parts = []
    if one.cpu_seconds is not None:
        parts.append(f"{span(one.cpu_seconds)} of a processor core")
    if one.closed and one.closed.gpu_seconds:
        parts.append(f"{span(one.closed.gpu_seconds)} of a GPU")
    if one.closed and one.closed.gpu_energy is not None:
        parts.append(f"{one.closed.gpu_energy / 3600:.1f} Wh on the GPUs")
    if parts:
        yield ", ".join(parts)


def _figures(one: Batch) -> dict[str, Any]:
    """A batch in numbers, for scripts."""
    closed = one.closed
    return {
        "batch": one.opened.batch,
        "name": one.opened.name,
        "state": one.state,
        "began": one.opened.at,
        "engine": one.opened.engine,
        "slots": one.opened.slots,
        "gpus": one.opened.gpus,
        "seconds": round(one.seconds, 3),
        "run_seconds": round(one.run_seconds, 3),
        "cpu_seconds": one.cpu_seconds,
        "gpu_seconds": closed.gpu_seconds if closed else None,
        "gpu_energy": closed.gpu_energy if closed else None,
        "runs": len(one.endings),
        "counts": one.counts,
        "verdicts": one.verdicts,
        "notices": [notice.text for notice in one.notices],
    }


def _jobs(one: Batch) -> list[dict[str, Any]]:
    import msgspec

    return [
        {
            **msgspec.to_builtins(job.job),
            "state": job.state,
            "run": job.run,
            "failure": msgspec.to_builtins(job.ended.failure) if job.ended else None,
        }
        for job in one.jobs
    ]


VERBS = (batch, batches)
