"""The verbs about what a notebook takes, and what is done with its runs: params, explain."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from claimbook.cli.printing import AS_JSON, print_json, print_table
from claimbook.errors import RunError

if TYPE_CHECKING:
    from claimbook.experiments import Experiment
    from claimbook.records import Run
    from claimbook.runner.explanation import Explanation
    from claimbook.runner.parameters import Parameter
    from claimbook.runner.reuse import Outlook
    from claimbook.workspace import Workspace


@click.command(epilog="Example: claimbook params siglip")
@click.argument("notebook")
@AS_JSON
def params(notebook: str, as_json: bool) -> None:
    """List a notebook's parameters: types, ranges, defaults, comments.

    NOTEBOOK is its name, or the path of any .ipynb file.
    """
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    from claimbook.runner.parameters import notebook_parameters

    declared = notebook_parameters(_notebook(notebook)).values()
    if as_json:
        print_json([_as_json(parameter) for parameter in declared])
        return
    console = Console()
    for parameter in declared:
        line = Text.assemble(
            (parameter.name, "bold"),
            f": {parameter.kind} = {parameter.default!r}",
            (f"   {parameter.kind.range}".rstrip(), "cyan"),
        )
        console.print(line)
        if parameter.comment:
            console.print(Padding(Text(parameter.comment), (0, 0, 0, 4), expand=False))


def _notebook(name: str) -> Path:
    """A notebook by its path, else by its name in the workspace."""
    from claimbook import workspace

    path = Path(name)
    if path.suffix != ".ipynb":
        return workspace.find().notebook(name)
    return path if path.is_file() else workspace.find().notebook(path.stem)


def _as_json(parameter: Parameter) -> dict[str, Any]:
    """Choices and bounds are there where there are any."""
    kind = parameter.kind
    return {
        "name": parameter.name,
        "type": parameter.type,
        "default": parameter.default,
        "comment": parameter.comment,
        **({"choices": list(kind.choices)} if kind.choices else {}),
        **({"range": {bound.name: bound.limit for bound in kind.bounds}} if kind.bounds else {}),
    }


@click.command(epilog="Example: claimbook explain treatment-s3-20261124-101500-3f2a1b")
@click.argument("name", metavar="RUN|EXPERIMENT")
@AS_JSON
def explain(name: str, as_json: bool) -> None:
    """Say why a run is reused, or is not.

    Compares it with what `claimbook run` would make now for its arm and seed: seal, parameters, notebook,
    code and product set decide; versions, hardware and git state are shown. Of an experiment, says for each
    arm and seed which run is reused, or why one would be made.
    """
    from rich.console import Console

    from claimbook import workspace
    from claimbook.records import encode_json
    from claimbook.runner import explanation, reuse

    here = workspace.find()
    found = _named(here, name)
    with Console(stderr=True).status("comparing …"):  # a large product set takes a while to be read
        told = explanation.explain(here, *found) if isinstance(found, tuple) else reuse.outlook(here, found)
    if as_json:
        print_json(encode_json(told))
    elif isinstance(told, explanation.Explanation):
        _print_explanation(told)
    else:
        _print_outlook(told)


def _named(workspace: Workspace, name: str) -> Experiment | tuple[Experiment, Run]:
    """The experiment of a slug, or the run of an id, also a deleted one."""
    from claimbook.experiments import Experiment
    from claimbook.workspace import nearest

    folders = {path.name: path.parent.parent for path in workspace.experiments.glob("*/deleted/*/")}
    folders |= {path.name: path.parent.parent for path in workspace.experiments.glob("*/runs/*/")}
    if name in folders:
        experiment = Experiment(folders[name])
        return experiment, experiment.run(name)
    slugs = workspace.slugs("experiments")
    if name in slugs:
        return Experiment.of(workspace, name)
    raise RunError(
        f"there is no run and no experiment {name!r}{nearest(name, [*folders, *slugs])}",
        fix="`claimbook runs` lists the runs, `claimbook runs 'deleted = true'` those that were put away",
    )


def _print_explanation(told: Explanation) -> None:
    seal = f"seal {told.seal[:12]}" if told.seal else "no seal"
    click.echo(f"{click.style(told.run, bold=True)}: {told.status}, {told.kind}, {seal}")
    if told.seal_in_force and told.seal_in_force != told.seal:
        click.echo(f"in force     seal {told.seal_in_force[:12]}")
    verdict = click.style("reused", fg="green") if told.reused else click.style("not reused", fg="red")
    click.echo(f"{verdict}{': ' if told.hinders else ''}{'; '.join(told.hinders)}")
    for change in told.parameters:
        click.echo(f"  parameter {change.what}: {change.text}")
    for cell in told.cells:
        click.echo(f"  {cell}")
    for change in told.code:
        how = "changed" if change.was and change.now else "added" if change.now else "removed"
        click.echo(f"  {change.what} {how}")
    if told.data:
        click.echo(f"  product set {str(told.data.was)[:12]} → {str(told.data.now)[:12]}")
    if told.beside or told.made_with:
        click.echo("shown, and no hindrance:")
    for change in told.beside:
        click.echo(f"  {change.what}: {change.text}")
    for name, value in told.made_with.items():
        click.echo(f"  made with {name}: {value}")
    for line in told.difference.splitlines():
        click.secho(line, fg={"+": "green", "-": "red"}.get(line[:1]))
    click.echo(f"what to do: {told.advice}")


def _print_outlook(told: Outlook) -> None:
    reused = sum(prospect.reused for prospect in told.prospects)
    kind = f"seal {told.seal[:12]}" if told.seal else f"exploratory: {', '.join(told.why_exploratory)}"
    click.echo(f"{told.experiment}: {reused} reused, {len(told.prospects) - reused} to make ({kind})")
    rows = [
        [
            f"{prospect.arm} seed {prospect.seed}",
            "reused" if prospect.reused else "to make",
            "; ".join(prospect.hinders) if prospect.hinders else prospect.run or "",
        ]
        for prospect in told.prospects
    ]
    print_table(["arm and seed", "", ""], rows)
    nearest = [prospect.run for prospect in told.prospects if prospect.run and not prospect.reused]
    if nearest:
        click.echo(f"`claimbook explain {nearest[0]}` shows the differences in full")


VERBS = (params, explain)
