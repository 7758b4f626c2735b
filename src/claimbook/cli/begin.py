"""The verbs that begin and show: a workspace, an experiment, the demo, the pages."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claimbook.cli.experiment import judge_and_save, make
from claimbook.cli.making import Making
from claimbook.cli.printing import AS_JSON, opened, print_json
from claimbook.errors import SiteError

if TYPE_CHECKING:
    from claimbook.workspace import Workspace


@click.command(epilog="Example: claimbook init my-claims")
@click.argument("folder", type=click.Path(path_type=Path))
def init(folder: Path) -> None:
    """Make a workspace of your own.

    Papers, notebooks, experiments, settings.
    """
    from claimbook import starter

    workspace = starter.init(folder)
    click.echo(f"{workspace.root}: papers/ notebooks/ experiments/ and pyproject.toml")
    click.echo(f"next: cd {shlex.quote(str(folder))}")
    click.echo("then: claimbook new SLUG --paper siglip --claim small-batch --notebook siglip")


@click.command(
    epilog="Example: claimbook new siglip-shop --paper siglip --claim small-batch --notebook siglip"
)
@click.argument("slug")
@click.option("--paper", required=True, help="Slug of a paper in the library.")
@click.option("--claim", required=True, help="Id of one of its claims.")
@click.option("--notebook", required=True, help="Slug of the notebook that tests it.")
def new(slug: str, paper: str, claim: str, notebook: str) -> None:
    """Write the hypothesis.toml of a new experiment."""
    from claimbook import papers, starter, workspace

    here = workspace.find()
    path = starter.new_experiment(here, slug, paper, papers.load(here, paper).claim(claim), notebook)
    click.echo(f"{path.relative_to(here.root)}: fill it in, then `claimbook check {slug}`")


@click.group()
def site() -> None:
    """The study group's pages."""


@site.command(epilog="Example: claimbook site build")
@AS_JSON
def build(as_json: bool) -> None:
    """Render papers, experiments and notebooks to site/."""
    from claimbook import workspace

    index = build_pages(workspace.find(), quiet=as_json)
    if as_json:
        print_json({"index": str(index)})


@click.command(epilog="Example: claimbook demo")
@click.argument("folder", type=click.Path(path_type=Path), default="claimbook-demo")
@click.option("-j", "slots", type=click.IntRange(1), help="Runs at a time; default: 2, or 1 on one core.")
def demo(folder: Path, slots: int | None) -> None:
    """Go the whole way on the embedded catalog.

    Seal, run, judge, page: minutes on a laptop.
    """
    import os

    from claimbook import starter, workspace
    from claimbook.runner import batch, sealing

    slug = "siglip-small-batch"
    here = workspace.find(folder) if (folder / "pyproject.toml").exists() else starter.init(folder)
    starter.copy_experiment(here, slug)
    experiment = opened(here, slug)
    hypothesis = experiment.hypothesis()
    click.echo(f"workspace    {here.root}")
    click.echo(f"hypothesis   {hypothesis.title}")
    entry = sealing.seal(here, experiment)
    click.echo(f"sealed       {entry.hash[:16]}, before any run, on {entry.data_description}")
    make(here, [batch.plan(here, experiment)], Making(slots=slots or min(2, os.cpu_count() or 1)))
    judge_and_save(here, experiment)
    build_pages(here, quiet=False)


def build_pages(workspace: Workspace, *, quiet: bool) -> Path:
    """Build the pages, say what could not be built, and return the index page."""
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


VERBS = (init, new, site, demo)
