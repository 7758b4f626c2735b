"""How runs are to be made: the options that `run`, `rerun` and `batch` share, and the engine they open."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from claimbook.errors import RunError

if TYPE_CHECKING:
    from claimbook.records.batch import Line
    from claimbook.runner.batch import Plan
    from claimbook.runner.engine import Engine
    from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Making:
    """How runs are to be made."""

    slots: int | None = None
    """Runs at a time; None for one, or one on each GPU that is named."""
    gpus: str | None = None
    """Such as `0,1`, or `0:0.5` for runs that take half of it."""
    timeout: float = 3600.0
    """Seconds that one run may take."""
    cell_timeout: float | None = None
    """Seconds that one cell may take."""
    memory: str | None = None
    """What one run may take, such as 8GiB."""
    cold: bool = False
    verify_cold: int | None = None
    """One in so many warm runs is repeated cold and compared."""
    engine: Literal["local", "ray"] = "local"
    ray_address: str | None = None


def _a_number(context: click.Context, option: click.Parameter, value: float | None) -> float | None:
    """NaN lies within any of click's ranges."""
    if value != value:
        raise click.BadParameter("it is not a number")
    return value


_OPTIONS = [
    click.option("-j", "slots", type=click.IntRange(1), help="Runs at a time; default: 1, or one per GPU."),
    click.option(
        "--gpus",
        metavar="0,1",
        help="A run at a time on each; 0:0.5: two on one; none hides them. Ray: how many a run needs.",
    ),
    click.option(
        "--timeout",
        default=3600.0,
        show_default=True,
        type=click.FloatRange(1, 1e9),
        callback=_a_number,
        help="Seconds that one run may take.",
    ),
    click.option(
        "--cell-timeout",
        type=click.FloatRange(1, 1e9),
        callback=_a_number,
        help="Seconds that one cell may take.",
    ),
    click.option("--memory", metavar="8GiB", help="Memory that one run may take."),
    click.option("--cold", is_flag=True, help="A fresh interpreter for every run, nothing imported before."),
    click.option(
        "--verify-cold",
        metavar="N",
        type=click.IntRange(1),
        help="Repeat one in N warm runs cold, and compare.",
    ),
    click.option(
        "--engine",
        type=click.Choice(["local", "ray"]),
        default="local",
        show_default=True,
        help="This machine, or a Ray cluster.",
    ),
    click.option(
        "--ray-address", metavar="HOST:PORT", help="The cluster; default: RAY_ADDRESS, else a local one."
    ),
]


def making(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb the options of how runs are made; it takes them as one argument, `how`."""

    @functools.wraps(command)
    def with_how(**arguments: Any) -> Any:
        how = Making(**{name: arguments.pop(name) for name in Making.__dataclass_fields__})
        return command(how=how, **arguments)

    for option in reversed(_OPTIONS):
        with_how = option(with_how)
    return with_how


def engine_of(workspace: Workspace, how: Making, plans: Sequence[Plan]) -> AbstractContextManager[Engine]:
    """The engine that makes runs as it was asked, for the notebooks of some plans.

    Raises RunError for slots, GPUs or memory that cannot be.
    """
    from claimbook.runner.local import LocalEngine
    from claimbook.runner.memory import parse_bytes
    from claimbook.runner.slots import Limits, places, threads_of
    from claimbook.runner.warm.preload import preload_of

    _refuse_contradictions(how)
    notebooks = list(dict.fromkeys(plan.state.notebook_path for plan in plans if plan.missing))
    preload = preload_of(notebooks, workspace) if notebooks and not how.cold else None
    limits = Limits(
        seconds=how.timeout,
        cell_seconds=how.cell_timeout,
        memory=parse_bytes(how.memory, "--memory") if how.memory else None,
        threads=1,
    )
    if how.engine == "ray" and notebooks:  # a cluster takes seconds to join
        from claimbook.runner.ray_engine import RayEngine

        share, address = _gpus_per_run(how.gpus), how.ray_address
        return RayEngine(workspace, limits, how.slots or 1, gpu_share=share, address=address, preload=preload)
    found = places(how.slots, how.gpus)
    return LocalEngine(replace(limits, threads=threads_of(len(found))), found, preload=preload)


def _refuse_contradictions(how: Making) -> None:
    if how.ray_address and how.engine != "ray":
        raise RunError(
            "it names a cluster that nothing uses",
            fix="add --engine ray, or leave it out",
            where="--ray-address",
        )
    if how.cold and how.verify_cold:
        raise RunError(
            "with --cold there are no warm runs to repeat",
            fix="leave one of the two out",
            where="--verify-cold",
        )


def _gpus_per_run(text: str | None) -> float | None:
    """On a cluster nobody names GPUs: how many, or what share of one, a run asks for."""
    if text is None or text == "none":
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1 and not (share >= 1 and share.is_integer()):
        raise RunError(
            f"{text!r} is no number of GPUs for a run",
            fix="with Ray, write how many each run needs: 1, 2, or 0.5 for half of one",
            where="--gpus",
        )
    return share


@contextmanager
def followed(as_json: bool) -> Iterator[Callable[[Line], None]]:
    """The display of a batch."""
    from claimbook.display import follow, how_to_show

    with follow(how_to_show(as_json=as_json)) as report:
        yield report
