"""The verbs of an experiment, in the order of its life: check, seal, amend, run, judge, verify, rerun."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import click

from claimbook.cli.making import Making, engine_of, followed, making
from claimbook.cli.printing import AS_JSON, experiment_of, named, opened, print_json
from claimbook.errors import JudgeError, RunError

if TYPE_CHECKING:
    from claimbook.experiments import Experiment
    from claimbook.records import Rerun, Run, Verdict
    from claimbook.records.experiment import Value
    from claimbook.runner.batch import Conclusion, Plan
    from claimbook.runner.history import History
    from claimbook.runner.sealing import Check
    from claimbook.workspace import Workspace


@click.command(epilog="Example: claimbook check siglip-shop")
@click.argument("slug")
@AS_JSON
def check(slug: str, as_json: bool) -> None:
    """Say before sealing what this design can decide.

    The p that its seeds can reach, the smallest effect that they see, how worn the test set is, and what was
    tried before.
    """
    from claimbook.runner.history import history
    from claimbook.runner.sealing import check as check_design

    workspace, experiment = experiment_of(slug)
    checked = check_design(workspace, experiment)
    past = history(workspace, experiment, checked.state)
    design = checked.design
    if as_json:
        print_json(
            {
                "smallest_p": design.smallest_p,
                "smallest_p_adjusted": design.smallest_p_adjusted,
                "detectable": design.detectable,
                "supportable": design.supportable,
                "pilot_seeds": checked.pilot.seeds,
                "test_items": vars(checked.clusters),
                "family": checked.family,
                "changed_since_seal": checked.changed,
                "wear": vars(past.wear),
                "tried_before": [vars(one) for one in past.tried],
                "problems": [vars(finding) for finding in design.problems],
                "warnings": [vars(finding) for finding in design.warnings],
            }
        )
    else:
        _print_design(slug, checked)
        _print_past(past)
        stands = checked.changed == []
        problem = "for another seal it would be a problem" if stands else "problem"
        for label, findings in (("warning", design.warnings), (problem, design.problems)):
            for finding in findings:
                click.echo(f"{label}: {finding.problem}\n  what to do: {finding.fix}")
    if checked.changed != []:  # what is sealed already stands as it is
        design.refuse()


def _print_design(slug: str, checked: Check) -> None:
    design, pilot, hypothesis = checked.design, checked.pilot, checked.state.hypothesis
    click.echo(f"{len(checked.state.parameters)} runs on {checked.state.data_description}")
    if checked.changed is not None:
        click.echo(f"sealed already; changed since: {', '.join(checked.changed) or 'nothing'}")
    click.echo(
        f"smallest p that can be reached: {design.smallest_p:.3g}, in a family of {design.family_size}: "
        f"{design.smallest_p_adjusted:.3g} (alpha {hypothesis.alpha:g})"
    )
    if design.detectable is None:
        click.echo(
            "smallest detectable effect: unknown without a pilot; "
            f"`claimbook run {slug} --seeds 101,102,103` makes one"
        )
    else:
        click.echo(
            f"smallest detectable effect, from {len(pilot.differences)} pilot differences: "
            f"{design.detectable:.3g} (margin {hypothesis.margin:g})"
        )
    if design.supportable is not None:
        click.echo(f"smallest effect that ends supported in 80 %: {design.supportable:.3g}")
    test = checked.clusters
    click.echo(f"test items: {test.pictures:,} pictures of {test.products:,} products")
    if pilot.items is not None:
        click.echo(f"scored by the pilot: {pilot.items:,} items in {pilot.clusters:,} clusters")


def _print_past(past: History) -> None:
    wear = past.wear
    click.echo(
        f"test set used before: experiments sealed on it: {wear.hypotheses}; "
        f"finished runs: {wear.runs:,} (in experiments: {wear.experiments})"
    )
    for one in past.tried:
        what = "tried before, the same claim" if one.same_claim else "tried before, something like it"
        click.echo(f"{what}: {one.experiment} ({one.outcome or 'no verdict'}): {one.title}")


@click.command(epilog="Example: claimbook seal siglip-shop")
@click.argument("slug")
@AS_JSON
def seal(slug: str, as_json: bool) -> None:
    """Fix the design: runs from here on can count.

    Hypothesis, notebook, technique code and product set are fixed by a hash.
    """
    from claimbook.records import encode_json
    from claimbook.runner import sealing

    entry = sealing.seal(*experiment_of(slug))
    if as_json:
        print_json(encode_json(entry))
    else:
        click.echo(f"sealed {slug} at {entry.sealed_at}: {entry.hash}\n{entry.data_description}")
        click.echo(f"next: `claimbook run {slug}`")


@click.command(epilog='Example: claimbook amend siglip-shop --reason "the margin was in percent"')
@click.argument("slug")
@click.option("--reason", required=True, help="Why the sealed design had to change.")
def amend(slug: str, reason: str) -> None:
    """Seal the changed state anew; runs made before never count for it."""
    from claimbook.runner import sealing

    entry, changed = sealing.amend(*experiment_of(slug), reason)
    click.echo(f"amended {slug} at {entry.sealed_at}: {entry.hash}")
    for line in (entry.changes or "").splitlines():
        click.secho(f"  {line}", fg={"+": "green", "-": "red"}.get(line[:1]))
    click.echo(f"changed: {', '.join(changed) or 'nothing'}; runs made before do not count any more")
    click.echo(f"next: `claimbook run {slug}`")


@click.command(epilog="Example: claimbook run siglip-shop -j 2")
@click.argument("slugs", nargs=-1, required=True)
@making
@click.option("--failed", "failed_only", is_flag=True, help="Only what was tried and did not finish.")
@click.option("--arms", help="Only these arms and controls, such as baseline,treatment.")
@click.option("--seeds", help="Other seeds than the registered ones, such as 101,102: a pilot.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a parameter, for a pilot."
)
@click.option(
    "--grid", multiple=True, metavar="NAME=V1,V2", help="Every combination of these values, as pilots."
)
@AS_JSON
def run(
    slugs: tuple[str, ...],
    how: Making,
    failed_only: bool,
    arms: str | None,
    seeds: str | None,
    changes: tuple[str, ...],
    grid: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make the runs that are missing.

    Every arm and control with every seed; finished ones are reused. Two of these at once share the work.
    """
    from claimbook.runner import batch
    from claimbook.runner.grid import changes_of, grid_of
    from claimbook.runner.parameters import notebook_parameters

    numbers = _seeds(seeds)
    names = None if arms is None else [part.strip() for part in arms.split(",")]
    plans = []
    for slug in dict.fromkeys(slugs):
        workspace, experiment = experiment_of(slug)
        points: list[dict[str, Value]] = [{}]
        if changes or grid:
            declared = notebook_parameters(workspace.notebook(experiment.hypothesis().notebook))
            fixed = changes_of(changes, declared)
            points = grid_of(grid, declared, fixed)
        plans += [
            batch.plan(
                workspace, experiment, seeds=numbers, arms=names, changes=point, failed_only=failed_only
            )
            for point in points
        ]
    make(workspace, plans, how, as_json=as_json)


@click.command(epilog="Example: claimbook judge siglip-shop")
@click.argument("slugs", nargs=-1, required=True)
@AS_JSON
def judge(slugs: tuple[str, ...], as_json: bool) -> None:
    """Compute the verdict from the records and write verdict.json."""
    from claimbook.records import encode_json

    verdicts = [judge_and_save(*experiment_of(slug), quiet=as_json) for slug in dict.fromkeys(slugs)]
    if as_json:
        print_json([encode_json(verdict) for verdict in verdicts])


@click.command(epilog="Example: claimbook verify")
@click.argument("slugs", nargs=-1)
@AS_JSON
def verify(slugs: tuple[str, ...], as_json: bool) -> None:
    """Compute every verdict anew; name what was tampered with.

    From the raw item scores, in a clean process, compared to the last digit.
    """
    from rich.console import Console

    from claimbook import workspace
    from claimbook.records import encode_json
    from claimbook.verification import verify as verify_all

    here = workspace.find()
    names = named(here, slugs)
    if not names and not as_json:
        click.echo("there are no experiments yet: `claimbook new` writes one")
    with Console(stderr=True).status(f"verifying {len(names)} experiments …"):
        found = verify_all(here, names)
    if as_json:
        print_json([encode_json(one) for one in found])
    for one in [] if as_json else found:
        color = {"verified": "green", "does not verify": "red"}.get(one.state)
        outcome = f" ({one.outcome})" if one.outcome else ""
        click.echo(f"{one.experiment}: {click.style(one.state, fg=color)}{outcome}")
        for text in [*one.problems, *(f"note: {note}" for note in one.notes)]:
            click.echo("\n".join(f"  {line}" for line in text.splitlines()))
    failed = [one.experiment for one in found if one.problems]
    if failed:
        raise JudgeError(
            f"{len(failed)} of {len(found)} experiments do not verify: {', '.join(failed)}",
            fix="see above what was changed or is missing",
        )


@click.command(epilog="Example: claimbook rerun siglip-shop -j 2")
@click.argument("slugs", nargs=-1)
@making
@AS_JSON
def rerun(slugs: tuple[str, ...], how: Making, as_json: bool) -> None:
    """Replicate judged experiments: which verdicts held?

    Under today's code and environment.

    Without SLUGS, all that have a verdict. Replications are judged by themselves and never add to n.
    """
    from claimbook import workspace
    from claimbook.runner import replication

    here = workspace.find()
    everything = here.slugs("experiments")
    names = slugs or [slug for slug in everything if replication.replicable(opened(here, slug))]
    if not slugs and len(names) < len(everything):
        left = ", ".join(sorted({*everything} - {*names}))
        click.echo(f"left out, since there is no verdict of the seal in force: {left}", err=True)
    if not names and not as_json:
        click.echo("nothing to replicate: no experiment has a verdict of the seal in force")
    replicate(here, names, how, as_json=as_json)


def replicate(
    workspace: Workspace,
    slugs: Iterable[str],
    how: Making,
    *,
    as_json: bool,
    name: str = "rerun",
    left_out: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Replicate experiments and say which verdicts held; RunError when one no longer runs."""
    from claimbook.records import encode_json
    from claimbook.runner import replication

    prepared = [replication.prepare(workspace, opened(workspace, slug)) for slug in dict.fromkeys(slugs)]
    plans = [one.plan for one in prepared if one.plan]
    with engine_of(workspace, how, plans) as engine, followed(as_json) as report:
        reruns = replication.replicate(
            workspace,
            prepared,
            engine=engine,
            report=report,
            name=name,
            verify_cold=how.verify_cold,
            left_out=left_out,
        )
    made = [run for one in reruns for run in opened(workspace, one.experiment).runs() if run.rerun == one.id]
    for one in reruns:
        if as_json:
            click.echo(json.dumps({"event": "rerun", **encode_json(one)}, ensure_ascii=False))
        else:
            _print_rerun(one)
    broken = [one.experiment for one in reruns if one.result == "no longer runs"]
    if broken:
        raise RunError(
            f"{len(broken)} of {len(reruns)} experiments no longer run: {', '.join(broken)}",
            fix="mend what is named above, or pin the versions that they ran with; their verdicts stand",
        )
    _refuse_unlike_cold(made)


def _print_rerun(one: Rerun) -> None:
    from claimbook.display import why

    color = "green" if one.result == "held" else "red"
    became = f" → {one.now}" if one.now and one.now != one.was else ""
    click.echo(f"{one.experiment}: {click.style(one.result, fg=color)} ({one.was}{became})")
    if one.largest_difference is not None:
        click.echo(f"  largest difference of a run: {one.largest_difference:.3g} ({one.largest_where})")
    click.echo(f"  changed since: {'; '.join(one.changed) or 'nothing'}")
    if one.failure:
        click.echo(f"  failed{why(one.failure)}")


def judge_and_save(workspace: Workspace, experiment: Experiment, *, quiet: bool = False) -> Verdict:
    """Compute a verdict, write it, and say it; on standard error when `quiet`."""
    from claimbook.judge import beside, sentence
    from claimbook.judge.of_experiment import judge_experiment, outdated
    from claimbook.papers import write_tables

    verdict = judge_experiment(workspace, experiment)
    experiment.save_verdict(verdict)
    write_tables(workspace)  # papers/README.md shows what came of each paper's claims
    click.echo(f"verdict      {sentence(verdict, workspace.language)}", err=quiet)
    for line in beside(verdict, workspace.language):
        click.echo(f"             {line}", err=quiet)
    if earlier := outdated(workspace, experiment, verdict):
        click.echo(
            f"             judged in a smaller family, and so more mildly: {', '.join(earlier)}", err=quiet
        )
        click.echo(f"             next: `claimbook judge {' '.join(earlier)}`", err=quiet)
    return verdict


def make(
    workspace: Workspace,
    plans: list[Plan],
    how: Making,
    *,
    as_json: bool = False,
    name: str = "run",
    left_out: Mapping[str, str] = MappingProxyType({}),
    keep_empty: bool = False,
    conclude: Callable[[list[Run]], Conclusion] | None = None,
) -> None:
    """Make missing runs, followed by a display; RunError when one of them did not finish."""
    from claimbook.runner.batch import execute

    for one in plans:
        kind = "confirmatory" if one.seal else f"exploratory: {', '.join(one.why_exploratory)}"
        note = f"{len(one.missing)} runs to make, {len(one.reused)} finished ones reused ({kind})"
        point = "".join(f" {name}={value}" for name, value in one.changes.items())
        click.echo(f"{one.experiment.slug}{point}: {note}", err=as_json)
    with engine_of(workspace, how, plans) as engine, followed(as_json) as report:
        runs = execute(
            workspace,
            plans,
            engine=engine,
            report=report,
            name=name,
            verify_cold=how.verify_cold,
            left_out=left_out,
            keep_empty=keep_empty,
            conclude=conclude,
        )
    _refuse_unfinished(runs)
    _refuse_unlike_cold(runs)


def _refuse_unfinished(runs: list[Run]) -> None:
    from claimbook.display import why

    bad = [run for run in runs if run.status != "finished"]
    if bad:
        cause = why(bad[0].failure) or ": no reason recorded"
        raise RunError(
            f"{len(bad)} of {len(runs)} runs did not finish; {bad[0].id} {bad[0].status}{cause}",
            fix="read its notebook.ipynb, mend the cause, run again: finished runs are kept",
            where=f"experiments/{bad[0].experiment}/runs/{bad[0].id}",
        )


def _refuse_unlike_cold(runs: list[Run]) -> None:
    """Warm runs that were repeated cold must be the same. Raises RunError with what differs, and why."""
    checked = [(run, run.cold_check) for run in runs if run.cold_check]
    unlike = [(run, check) for run, check in checked if not check.same]
    if not unlike:
        return
    run, check = unlike[0]
    if check.same is None:
        what, fix = "it did not finish", "run with --cold, and read the notebook of the run that fails"
    elif check.cold_alike is False:
        what = "two cold runs differ as well: the notebook gives no fixed result"
        fix = "seed everything that the notebook draws"
    else:
        what = f"largest difference of a metric {check.largest_difference:.3g}"
        fix = "run with --cold, and report the difference"
    raise RunError(
        f"{len(unlike)} of {len(checked)} warm runs, repeated cold, were not the same; {run.id}: {what}",
        fix=fix,
        where=f"experiments/{run.experiment}/runs/{run.id}",
    )


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("write whole numbers such as 101,102", param_hint="--seeds") from None


VERBS = (check, seal, amend, run, judge, verify, rerun)
