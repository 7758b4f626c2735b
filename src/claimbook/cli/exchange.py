"""The verbs of exchange with other tools: export and import."""

from __future__ import annotations

from pathlib import Path

import click

from claimbook.cli.printing import AS_JSON, experiment_of, print_json


@click.group()
def export() -> None:
    """Send records to other tools."""


@export.command("mlflow", epilog="Example: claimbook export mlflow siglip-shop --to http://localhost:5000")
@click.argument("slugs", nargs=-1)
@click.option(
    "--to",
    "uri",
    required=True,
    envvar="MLFLOW_TRACKING_URI",
    help="The tracking server; MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, open it.",
)
@click.option("--no-notebooks", is_flag=True, help="Keep executed notebooks here: they show products.")
@AS_JSON
def export_to_mlflow(slugs: tuple[str, ...], uri: str, no_notebooks: bool, as_json: bool) -> None:
    """Send experiments (default: all) to an MLflow server.

    Done again, it adds what is new.
    """
    from claimbook import workspace
    from claimbook.display import counted
    from claimbook.exchange import export_mlflow

    with counted("runs sent") as report:
        done = export_mlflow(workspace.find(), uri, slugs, notebooks=not no_notebooks, report=report)
    _warn(done.warnings)
    if as_json:
        print_json(vars(done))
    else:
        click.echo(f"{done.address}: {', '.join(done.experiments) or 'no experiment'}")
        click.echo(f"{done.sent} runs sent, {done.unchanged} there already")


@export.command("csv", epilog="Example: claimbook export csv runs.csv siglip-shop")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("slugs", nargs=-1)
@click.option("--items", is_flag=True, help="The item scores of one experiment instead of runs.")
def export_csv(file: Path, slugs: tuple[str, ...], items: bool) -> None:
    """Write runs or item scores as a table for a spreadsheet."""
    _export_table(file, ".csv", slugs, items)


@export.command("parquet", epilog="Example: claimbook export parquet items.parquet siglip-shop --items")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("slugs", nargs=-1)
@click.option("--items", is_flag=True, help="The item scores of one experiment instead of runs.")
def export_parquet(file: Path, slugs: tuple[str, ...], items: bool) -> None:
    """Write runs or item scores as a typed table."""
    _export_table(file, ".parquet", slugs, items)


@click.group("import")
def import_() -> None:
    """Take in runs of other tools, as exploratory ones."""


@import_.command(
    "mlflow", epilog='Example: claimbook import mlflow "shop search" --from http://localhost:5000'
)
@click.argument("experiment")
@click.option(
    "--from",
    "uri",
    required=True,
    envvar="MLFLOW_TRACKING_URI",
    help="The tracking server; MLFLOW_TRACKING_USERNAME and _PASSWORD, or _TOKEN, open it.",
)
@AS_JSON
def import_from_mlflow(experiment: str, uri: str, as_json: bool) -> None:
    """Read the runs of an MLflow experiment.

    They go to experiments/exploratory/; none is read twice.
    """
    from claimbook import workspace
    from claimbook.display import counted
    from claimbook.exchange import import_mlflow

    with counted("runs read") as report:
        done = import_mlflow(workspace.find(), uri, experiment, report=report)
    _warn(done.warnings)
    if as_json:
        print_json(vars(done))
    else:
        click.echo(f"{len(done.runs)} runs new in experiments/exploratory/, {done.known} here already")


def _export_table(file: Path, ending: str, slugs: tuple[str, ...], items: bool) -> None:
    from claimbook import workspace
    from claimbook.exchange import export_items, export_table, run_rows

    if file.suffix != ending:
        raise click.BadParameter(f"name a file that ends with {ending}", param_hint="FILE")
    if items and len(slugs) != 1:
        raise click.BadParameter("name one experiment with --items", param_hint="SLUGS")
    if items:
        number = export_items(file, experiment_of(slugs[0])[1])
    else:
        number = export_table(file, run_rows(workspace.find(), slugs))
    click.echo(f"{file}: {number} {'item scores' if items else 'runs'}")


def _warn(warnings: list[str]) -> None:
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)


VERBS = (export, import_)
