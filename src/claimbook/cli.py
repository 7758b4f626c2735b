"""The command line: arguments and printing, nothing else."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claimbook import __version__
from claimbook.errors import ClaimbookError, JudgeError, RunError, SiteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from claimbook.experiments import Experiment
    from claimbook.records import Verdict
    from claimbook.records.experiment import Value
    from claimbook.runner.batch import Plan
    from claimbook.runner.supervise import Limits, Progress
    from claimbook.workspace import Workspace

_AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")
_SLOTS = click.option(
    "-j", "slots", default=1, show_default=True, type=click.IntRange(1), help="Runs at a time."
)
_TIMEOUT = click.option(
    "--timeout",
    default=3600.0,
    show_default=True,
    type=click.FloatRange(1),
    help="Seconds that one run may take.",
)


def main() -> None:
    """Run the command line; a user's errors are printed without a traceback and end with exit code 1."""
    signal.signal(signal.SIGTERM, _interrupt)  # a batch that is told to stop records it, as with Ctrl-C
    try:
        cli(standalone_mode=False)
    except ClaimbookError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(1)
    except OSError as error:
        click.secho(f"error: {error.filename or 'a file'}: {error.strerror or error}", fg="red", err=True)
        click.secho(
            "  what to do: mend the path, its permissions or the disk, then try again", fg="red", err=True
        )
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped; what was finished is recorded", err=True)
        sys.exit(130)


@click.group(epilog="Begin with `claimbook demo`, or with `claimbook init DIR`.")
@click.version_option(__version__, prog_name="claimbook")
def cli() -> None:
    """From a paper's claim to a verdict that anyone would accept.

    \b
    new → edit hypothesis.toml → check → seal → run → judge → site build
    """


@cli.command(epilog="Example: claimbook init my-claims")
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a workspace of your own: papers, notebooks, experiments, settings."""
    from claimbook import starter

    workspace = starter.init(folder)
    click.echo(f"{workspace.root}: papers/ notebooks/ experiments/ and pyproject.toml")
    click.echo(f"next: cd {folder}")
    click.echo("then: claimbook new SLUG --paper siglip --claim small-batch --notebook siglip")


@cli.command(epilog="Example: claimbook new siglip-shop --paper siglip --claim small-batch --notebook siglip")
@click.argument("slug")
@click.option("--paper", required=True, help="Slug of a paper in the library.")
@click.option("--claim", required=True, help="Id of one of its claims.")
@click.option("--notebook", required=True, help="Slug of the notebook that tests it.")
def new(slug: str, paper: str, claim: str, notebook: str) -> None:
    """Write the hypothesis.toml of a new experiment, for you to fill in."""
    from claimbook import papers, starter, workspace

    here = workspace.find()
    path = starter.new_experiment(here, slug, paper, papers.load(here, paper).claim(claim), notebook)
    click.echo(f"{path.relative_to(here.root)}: fill it in, then `claimbook check {slug}`")


@cli.command(epilog="Example: claimbook params siglip")
@click.argument("notebook")
@_AS_JSON
def params(notebook: str, as_json: bool) -> None:
    """List a notebook's parameters: types, defaults, comments."""
    from claimbook import workspace
    from claimbook.runner.parameters import notebook_parameters

    declared = notebook_parameters(workspace.find().notebook(notebook)).values()
    if as_json:
        _print_json([vars(parameter) for parameter in declared])
        return
    rows = [[p.name, p.type, repr(p.default), p.comment] for p in declared]
    _print_table(["parameter", "type", "default", ""], rows)


@cli.command(epilog="Example: claimbook check siglip-shop")
@click.argument("slug")
@_AS_JSON
def check(slug: str, as_json: bool) -> None:
    """Say before sealing what this design can decide, how worn its test set is, and what was tried before."""
    from claimbook.runner.history import history
    from claimbook.runner.sealing import check as check_design

    workspace, experiment = _experiment(slug)
    checked = check_design(workspace, experiment)
    past = history(workspace, experiment, checked.state)
    design, pilot = checked.design, checked.pilot
    if as_json:
        _print_json(
            {
                "smallest_p": design.smallest_p,
                "smallest_p_adjusted": design.smallest_p_adjusted,
                "detectable": design.detectable,
                "pilot_seeds": pilot.seeds,
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
        hypothesis = checked.state.hypothesis
        click.echo(f"{len(checked.state.parameters)} runs on {checked.state.data_description}")
        if checked.changed is not None:
            click.echo(f"sealed already; changed since: {', '.join(checked.changed) or 'nothing'}")
        click.echo(
            f"smallest p that can be reached: {design.smallest_p:.3g}, in a family of {design.family_size}: "
            f"{design.smallest_p_adjusted:.3g} (alpha {hypothesis.alpha:g})"
        )
        if design.detectable is not None:
            click.echo(
                f"smallest detectable effect, from {len(pilot.differences)} pilot differences: "
                f"{design.detectable:.3g} (margin {hypothesis.margin:g})"
            )
        else:
            click.echo(
                "smallest detectable effect: unknown without a pilot; "
                f"`claimbook run {slug} --seeds 101,102,103` makes one"
            )
        clusters, wear = checked.clusters, past.wear
        scored = (
            ""
            if pilot.items is None
            else f"; the pilot scored {pilot.items:,} in {pilot.clusters:,} clusters"
        )
        click.echo(f"test items: {clusters.pictures:,} pictures of {clusters.products:,} products{scored}")
        click.echo(
            f"test set used before: {wear.hypotheses} hypotheses sealed on it, "
            f"{wear.runs:,} finished runs in {wear.experiments} experiments"
        )
        for one in past.tried:
            what = "tried before, the same claim" if one.same_claim else "tried before, something like it"
            click.echo(f"{what}: {one.experiment} ({one.outcome or 'no verdict'}): {one.title}")
        for label, findings in (("warning", design.warnings), ("problem", design.problems)):
            for finding in findings:
                click.echo(f"{label}: {finding.problem}\n  what to do: {finding.fix}")
    design.refuse()


@cli.command(epilog="Example: claimbook seal siglip-shop")
@click.argument("slug")
@_AS_JSON
def seal(slug: str, as_json: bool) -> None:
    """Fix hypothesis, notebook, technique code and product set: runs from here on can count."""
    from claimbook.records import encode_json
    from claimbook.runner import sealing

    entry = sealing.seal(*_experiment(slug))
    if as_json:
        _print_json(encode_json(entry))
    else:
        click.echo(f"sealed {slug} at {entry.sealed_at}: {entry.hash}\n{entry.data_description}")
        click.echo(f"next: `claimbook run {slug}`")


@cli.command(epilog='Example: claimbook amend siglip-shop --reason "the margin was in percent"')
@click.argument("slug")
@click.option("--reason", required=True, help="Why the sealed design had to change.")
def amend(slug: str, reason: str) -> None:
    """Seal the changed state anew; runs made before never count for it."""
    from claimbook.runner import sealing

    entry, changed = sealing.amend(*_experiment(slug), reason)
    click.echo(f"amended {slug} at {entry.sealed_at}: {entry.hash}")
    for line in (entry.changes or "").splitlines():
        click.secho(f"  {line}", fg={"+": "green", "-": "red"}.get(line[:1]))
    click.echo(f"changed: {', '.join(changed) or 'nothing'}; runs made before do not count any more")
    click.echo(f"next: `claimbook run {slug}`")


@cli.command(epilog="Example: claimbook run siglip-shop -j 2")
@click.argument("slugs", nargs=-1, required=True)
@_SLOTS
@_TIMEOUT
@click.option("--seeds", help="Other seeds than the registered ones, such as 101,102: a pilot.")
@click.option(
    "--set", "changes", multiple=True, metavar="NAME=VALUE", help="Change a parameter, for a pilot."
)
@_AS_JSON
def run(
    slugs: tuple[str, ...],
    slots: int,
    timeout: float,
    seeds: str | None,
    changes: tuple[str, ...],
    as_json: bool,
) -> None:
    """Make the runs that are missing: every arm and control with every seed. Finished ones are reused."""
    from claimbook.runner import batch

    numbers = _seeds(seeds)
    plans = []
    for slug in dict.fromkeys(slugs):
        workspace, experiment = _experiment(slug)
        changed = _changes(workspace, experiment, changes)
        plans.append(batch.plan(workspace, experiment, seeds=numbers, changes=changed))
    _run(workspace, plans, slots, timeout, as_json)


@cli.command(epilog="Example: claimbook judge siglip-shop")
@click.argument("slugs", nargs=-1, required=True)
@_AS_JSON
def judge(slugs: tuple[str, ...], as_json: bool) -> None:
    """Compute the verdict from the records and write verdict.json."""
    from claimbook.records import encode_json

    verdicts = [_judge(*_experiment(slug), quiet=as_json) for slug in dict.fromkeys(slugs)]
    if as_json:
        _print_json([encode_json(verdict) for verdict in verdicts])


@cli.command(epilog="Example: claimbook verify")
@click.argument("slugs", nargs=-1)
@_AS_JSON
def verify(slugs: tuple[str, ...], as_json: bool) -> None:
    """Compute every verdict anew from the raw scores, in a clean process; name what was changed."""
    from rich.console import Console

    from claimbook import workspace
    from claimbook.records import encode_json
    from claimbook.verification import verify as verify_all

    here = workspace.find()
    names = _named(here, slugs)
    with Console(stderr=True).status(f"verifying {len(names)} experiments …"):
        found = verify_all(here, names)
    if as_json:
        _print_json([encode_json(one) for one in found])
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


@cli.command(epilog="Example: claimbook rerun siglip-shop -j 2")
@click.argument("slugs", nargs=-1)
@_SLOTS
@_TIMEOUT
@_AS_JSON
def rerun(slugs: tuple[str, ...], slots: int, timeout: float, as_json: bool) -> None:
    """Replicate judged experiments under today's code and environment: which verdicts held?

    Without SLUGS, all that have a verdict. Replications are judged by themselves and never add to n.
    """
    from claimbook import workspace
    from claimbook.records import encode_json
    from claimbook.runner import replication

    here = workspace.find()
    names = slugs or [slug for slug in here.slugs("experiments") if _open(here, slug).verdict_path.exists()]
    prepared = [replication.prepare(here, _open(here, slug)) for slug in dict.fromkeys(names)]
    total = sum(len(one.plan.missing) for one in prepared if one.plan)
    with _followed(total, slots, timeout) as (limits, report):
        reruns = replication.replicate(here, prepared, slots=slots, limits=limits, report=report)
    if as_json:
        _print_json([encode_json(one) for one in reruns])
    for one in [] if as_json else reruns:
        color = "green" if one.result == "held" else "red"
        became = f" → {one.now}" if one.now and one.now != one.was else ""
        click.echo(f"{one.experiment}: {click.style(one.result, fg=color)} ({one.was}{became})")
        if one.largest_difference is not None:
            click.echo(f"  largest difference of a run: {one.largest_difference:.3g} ({one.largest_where})")
        click.echo(f"  changed since: {'; '.join(one.changed) or 'nothing'}")
        if one.failure:
            click.echo(f"  {one.failure.error}: {one.failure.message}")
    broken = [one.experiment for one in reruns if one.result == "no longer runs"]
    if broken:
        raise RunError(
            f"{len(broken)} of {len(reruns)} experiments no longer run: {', '.join(broken)}",
            fix="mend what is named above, or pin the versions that they ran with; their verdicts stand",
        )


@cli.group()
def site() -> None:
    """The study group's pages."""


@site.command(epilog="Example: claimbook site build")
@_AS_JSON
def build(as_json: bool) -> None:
    """Render papers, experiments and executed notebooks to site/index.html."""
    from claimbook import workspace

    index = _build(workspace.find(), quiet=as_json)
    if as_json:
        _print_json({"index": str(index)})


@cli.command(epilog="Example: claimbook demo")
@click.argument("folder", type=click.Path(path_type=Path), default="claimbook-demo")
@click.option("-j", "slots", type=click.IntRange(1), help="Runs at a time; default: 2, or 1 on one core.")
def demo(folder: Path, slots: int | None) -> None:
    """Go the whole way on the embedded catalog: seal, run, judge, page. Minutes on a laptop."""
    import os

    from claimbook import starter, workspace
    from claimbook.runner import batch, sealing

    slug = "siglip-small-batch"
    here = workspace.find(folder) if (folder / "pyproject.toml").exists() else starter.init(folder)
    starter.copy_experiment(here, slug)
    experiment = _open(here, slug)
    hypothesis = experiment.hypothesis()
    click.echo(f"workspace    {here.root}")
    click.echo(f"hypothesis   {hypothesis.title}")
    entry = sealing.seal(here, experiment)
    click.echo(f"sealed       {entry.hash[:16]}, before any run, on {entry.data_description}")
    _run(here, [batch.plan(here, experiment)], slots or min(2, os.cpu_count() or 1), 3600.0, as_json=False)
    _judge(here, experiment)
    _build(here, quiet=False)


def _experiment(slug: str) -> tuple[Workspace, Experiment]:
    from claimbook import workspace

    here = workspace.find()
    return here, _open(here, slug)


def _open(workspace: Workspace, slug: str) -> Experiment:
    from claimbook.experiments import Experiment

    return Experiment.of(workspace, slug)


def _judge(workspace: Workspace, experiment: Experiment, *, quiet: bool = False) -> Verdict:
    from claimbook.judge import beside, sentence
    from claimbook.judge.of_experiment import judge_experiment

    verdict = judge_experiment(workspace, experiment)
    experiment.save_verdict(verdict)
    click.echo(f"verdict      {sentence(verdict, workspace.language)}", err=quiet)
    for line in beside(verdict, workspace.language):
        click.echo(f"             {line}", err=quiet)
    return verdict


def _build(workspace: Workspace, *, quiet: bool) -> Path:
    from claimbook.site import build as build_site

    built = build_site(workspace)
    for warning in built.warnings:
        click.echo(f"warning: {warning}", err=True)
    if not quiet:
        click.echo(f"pages        {built.pages}, open {built.index}")
    if built.errors:
        raise SiteError(
            "\n".join(str(error) for error in built.errors), fix="mend that; all other pages were built"
        )
    return built.index


def _run(workspace: Workspace, plans: list[Plan], slots: int, timeout: float, as_json: bool) -> None:
    """Make missing runs with a progress display; RunError when one of them did not finish."""
    from claimbook.records import encode_json
    from claimbook.runner.batch import execute

    for one in plans:
        kind = "confirmatory" if one.seal else f"exploratory: {', '.join(one.why_exploratory)}"
        note = f"{len(one.missing)} runs to make, {len(one.reused)} finished ones reused ({kind})"
        click.echo(f"{one.experiment.slug}: {note}", err=as_json)
    total = sum(len(one.missing) for one in plans)
    with _followed(total, slots, timeout) as (limits, report):
        runs = execute(workspace, plans, slots=slots, limits=limits, report=report)
    if as_json:
        reused = [run for one in plans for run in one.reused]
        _print_json([encode_json(run) for run in [*reused, *runs]])
    bad = [run for run in runs if run.status != "finished"]
    if bad:
        first = bad[0].failure
        raise RunError(
            f"{len(bad)} of {len(runs)} runs did not finish; {bad[0].id} {bad[0].status}: "
            + (f"{first.error}: {first.message.splitlines()[0]}" if first else "no reason recorded"),
            fix="read its notebook.ipynb, mend the cause, run again: finished runs are kept",
            where=f"experiments/{bad[0].experiment}/runs/{bad[0].id}",
        )


@contextmanager
def _followed(total: int, slots: int, timeout: float) -> Iterator[tuple[Limits, Callable[[Progress], None]]]:
    """What a batch of `total` runs may take, and the display that follows it."""
    import os

    from claimbook.display import follow
    from claimbook.runner.supervise import Limits

    with follow(total) as report:
        yield Limits(seconds=timeout, threads=max(1, (os.cpu_count() or 1) // slots)), report


def _named(workspace: Workspace, slugs: tuple[str, ...]) -> list[str]:
    """The experiments that were named, each once, or all of them."""
    if not slugs:
        return workspace.slugs("experiments")
    return [_open(workspace, slug).slug for slug in dict.fromkeys(slugs)]


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.BadParameter("write whole numbers such as 101,102", param_hint="--seeds") from None


def _changes(workspace: Workspace, experiment: Experiment, texts: tuple[str, ...]) -> dict[str, Value]:
    """NAME=VALUE pairs, read by the type that the notebook declares for the name."""
    if not texts:
        return {}
    from claimbook.runner.parameters import notebook_parameters

    declared = notebook_parameters(workspace.notebook(experiment.hypothesis().notebook))
    changes: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is no NAME=VALUE", param_hint="--set")
        kind = declared[name].type if name in declared else "str"
        changes[name] = _parsed(value, kind)
    return changes


def _parsed(value: str, kind: str) -> Value:
    """A command line's text as a value: JSON, unless the declared type makes it a string."""
    if kind == "str":
        return value
    try:
        parsed: Value = json.loads(value)
    except ValueError:
        return value  # a choice of Literal["softmax", …]; the declared type checks it
    return parsed


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(header: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
