"""The command line: arguments and printing, nothing else.

begin         init, new, demo, site build
notebook      params, explain
paper         paper add, import, list, show, search, open, tag, status, remove, restore, bib
sync          paper sync
discover      discover build, discover search
week          week, week next
experiment    check, seal, amend, run, judge, verify, rerun
batch         batch, batches
log           runs, search, compare, delete, restore
exchange      export, import
printing      what they share
"""

from __future__ import annotations

import signal
import sys

import click

from claimbook import __version__
from claimbook.cli import batch, begin, discover, exchange, experiment, log, notebook, paper, sync, week
from claimbook.errors import ClaimbookError


def main() -> None:
    """Run the command line; a user's errors are printed without a traceback and end with exit code 1."""
    # a batch that is told to stop records it, as with Ctrl-C; so when its terminal is closed, but under nohup
    signal.signal(signal.SIGTERM, _interrupt)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _interrupt)
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
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # one more, on the way out, would change the exit code
        click.echo("stopped; what had finished is kept", err=True)
        sys.exit(130)


@click.group(epilog="Begin with `claimbook demo`, or with `claimbook init DIR`.")
@click.version_option(__version__, prog_name="claimbook")
def cli() -> None:
    """From a paper's claim to a verdict that anyone would accept.

    \b
    new → edit hypothesis.toml → check → seal → run → judge → site build
    """


paper.paper.add_command(sync.sync)
for _module in (begin, notebook, paper, week, discover, experiment, batch, log, exchange):
    for _verb in _module.VERBS:
        cli.add_command(_verb)


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
