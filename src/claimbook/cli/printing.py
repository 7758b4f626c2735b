"""What the verbs share: options, opening an experiment, JSON and tables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from claimbook.experiments import Experiment
    from claimbook.workspace import Workspace

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def experiment_of(slug: str) -> tuple[Workspace, Experiment]:
    """The workspace around the current folder and one of its experiments."""
    from claimbook import workspace

    here = workspace.find()
    return here, opened(here, slug)


def opened(workspace: Workspace, slug: str) -> Experiment:
    """An experiment of a workspace; imported here, for `--help` needs none of it."""
    from claimbook.experiments import Experiment

    return Experiment.of(workspace, slug)


def named(workspace: Workspace, slugs: tuple[str, ...]) -> list[str]:
    """The experiments that were named, each once, or all of them."""
    if not slugs:
        sealed = {path.parent.name for path in workspace.experiments.glob("*/seal.json")}
        return sorted({*workspace.slugs("experiments"), *sealed})
    return [opened(workspace, slug).slug for slug in dict.fromkeys(slugs)]


def print_json(value: Any) -> None:
    """For scripts, on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """For people; folded to the terminal's width, but for the first column, which is there to be copied."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False)
    for number, name in enumerate(header):
        table.add_column(name, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # a value in square brackets is no markup
    if not console.is_terminal:  # a file or a pipe has no width to fold to
        console.width = max(80, *(sum(map(len, row)) + 2 * len(row) for row in [header, *rows])) * 2
    console.print(table)
