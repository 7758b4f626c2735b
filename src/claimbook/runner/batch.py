"""Which runs an experiment still needs, and making them: reuse, slots, records."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import msgspec

from claimbook.errors import ClaimbookError, RunError
from claimbook.experiments import Experiment, end_beat, this_process
from claimbook.records import Failure, Run
from claimbook.records.experiment import Value
from claimbook.runner.state import State, current_state
from claimbook.runner.supervise import Limits, Progress, Slot
from claimbook.session import completed, new_run_id, now
from claimbook.surroundings import distributions, git_state, redacted
from claimbook.workspace import Workspace


@dataclass(frozen=True)
class Plan:
    """What `claimbook run` would do for one experiment."""

    experiment: Experiment
    state: State
    why_exploratory: list[str]
    """Empty when the seal covers this state."""
    seal: str | None
    """Hash of the seal that covers it."""
    reused: list[Run]
    """Finished runs of this very state: not made again."""
    missing: list[tuple[str, int]]
    """Arm and seed of the runs to make, seed by seed, so that an early stop leaves whole pairs."""
    rerun: str | None = None
    """Id of the rerun that replicates `seal`; None for runs that count, or that explore."""

    @property
    def kind(self) -> Literal["confirmatory", "exploratory", "replication"]:
        """What its runs will be."""
        if self.rerun is not None:
            return "replication"
        return "confirmatory" if self.seal else "exploratory"


def plan(
    workspace: Workspace,
    experiment: Experiment,
    *,
    seeds: list[int] | None = None,
    changes: Mapping[str, Value] | None = None,
) -> Plan:
    """Compare the state now with the seal and with the runs there are.

    seeds and changes make the runs exploratory. Raises what `current_state` raises, before any kernel starts.
    """
    if seeds is not None and (len(set(seeds)) < len(seeds) or min(seeds, default=-1) < 0):
        raise RunError(
            f"seeds are {', '.join(map(str, seeds)) or 'missing'}",
            fix="list different whole numbers from 0 on",
        )
    state = current_state(workspace, experiment, seeds=seeds, changes=changes)
    seal = experiment.seal()
    why = ["not sealed"] if seal is None else state.differences(seal.current)
    if changes:
        why.append(f"parameters changed for this run ({', '.join(changes)})")
    unregistered = [seed for seed in seeds or [] if seed not in state.hypothesis.seeds]
    if unregistered:
        why.append(f"seeds that are not registered ({', '.join(map(str, unregistered))})")
    covered_by = None if why or seal is None else seal.current.hash
    reused: dict[tuple[str, int], Run] = {}
    for run in experiment.runs():
        key = (run.arm, run.seed)
        if (
            run.status == "finished"
            and run.kind != "replication"
            and run.seal == covered_by
            and run.parameters == state.parameters.get(key)
            and run.fingerprints == state.fingerprints
        ):
            reused.setdefault(key, run)
    arms, all_seeds = state.hypothesis.arm_names(), seeds or state.hypothesis.seeds
    missing = [(arm, seed) for seed in all_seeds for arm in arms if (arm, seed) not in reused]
    return Plan(experiment, state, why, covered_by, list(reused.values()), missing)


def execute(
    workspace: Workspace,
    plans: Sequence[Plan],
    *,
    slots: int = 1,
    limits: Limits | None = None,
    report: Callable[[Progress], None] = lambda progress: None,
) -> list[Run]:
    """Make the missing runs, `slots` at a time, and return their records as they ended.

    report is called from several threads. On KeyboardInterrupt the runs under way are cancelled and recorded
    within seconds, then it is raised again. Raises WorkspaceError when another process runs one of them.
    """
    report = _tolerant(report)
    limits = limits or Limits(threads=max(1, (os.cpu_count() or 1) // slots))
    stop = threading.Event()
    mended: dict[str, set[tuple[str, int]]] = {}
    with ExitStack() as locks:
        for one in plans:
            locks.enter_context(workspace.lock(one.experiment.slug))
            mended[one.experiment.slug] = _mend(one)
        jobs: queue.SimpleQueue[tuple[Plan, str, int]] = queue.SimpleQueue()
        for one in plans:
            for arm, seed in one.missing:
                if (arm, seed) not in mended[one.experiment.slug]:
                    jobs.put((one, arm, seed))

        def work() -> list[Run]:
            done = []
            with Slot(limits) as slot, suppress(queue.Empty):
                while not stop.is_set():
                    done.append(_run(workspace, *jobs.get_nowait(), slot, stop, report))
            return done

        with ThreadPoolExecutor(slots) as pool:
            futures: list[Future[list[Run]]] = [pool.submit(work) for _ in range(slots)]
            try:
                # wait in short turns: a thread that blocks for ever would not see Ctrl-C on every system
                while wait_for(futures, timeout=0.5, return_when=FIRST_EXCEPTION).not_done:
                    if any(future.done() and future.exception() for future in futures):
                        stop.set()
            except BaseException:
                stop.set()
                with _undisturbed():  # a second Ctrl-C would leave runs that nobody records
                    wait_for(futures)
                raise
            return [run for future in futures for run in future.result()]


def _tolerant(report: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """A display that fails, because its pipe was closed say, must not end the runs."""

    def tolerant(progress: Progress) -> None:
        with suppress(Exception, SystemExit):
            report(progress)

    return tolerant


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM for a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = [(s, signal.signal(s, signal.SIG_IGN)) for s in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield
    finally:
        for number, handler in earlier:
            signal.signal(number, handler)


def _run(
    workspace: Workspace,
    one: Plan,
    arm: str,
    seed: int,
    slot: Slot,
    stop: threading.Event,
    report: Callable[[Progress], None],
) -> Run:
    run = Run(
        id=new_run_id(f"{arm}-s{seed}"),
        experiment=one.experiment.slug,
        arm=arm,
        seed=seed,
        kind=one.kind,
        why_exploratory=one.why_exploratory,
        seal=one.seal,
        notebook=one.state.hypothesis.notebook,
        parameters=one.state.parameters[arm, seed],
        fingerprints=one.state.fingerprints,
        environment=distributions(),
        git=git_state(workspace.root),
        status="running",
        started=now(),
        process=this_process(),
        metric=one.state.hypothesis.metric,
        rerun=one.rerun,
    )
    one.experiment.save_run(run)
    one.experiment.enter_start(run)
    try:
        ended = slot.run(one.experiment, run, one.state.notebook_path, stop, report)
    except BaseException as error:
        failure = Failure(error=type(error).__name__, message=redacted(f"while supervising: {error}"))
        _close(one, msgspec.structs.replace(run, status="failed", ended=now(), failure=failure))
        raise
    if ended.status == "finished":
        ended = _vouched(workspace, one.state, ended)
    _close(one, ended)
    report(Progress(ended))
    return ended


def _mend(one: Plan) -> set[tuple[str, int]]:
    """Record what a supervisor that was killed left behind: results that were said, ends not yet entered.

    Such a result counts while the state is the one that it was made in. Returns the arms and seeds of the
    plan that need not be made any more.
    """
    ended = one.experiment.ledger().ended()
    found = set()
    for run in one.experiment.runs():
        if run.status != "lost" or run.id in ended or run.fingerprints != one.state.fingerprints:
            continue
        _, finish = one.experiment.steps(run.id)
        if finish is not None:
            one.experiment.save_run(completed(run, finish, None))
            if (run.seal, run.rerun) == (one.seal, one.rerun):
                found.add((run.arm, run.seed))
    one.experiment.enter_late()
    return found


def _close(one: Plan, run: Run) -> None:
    """Record how a run ended, then enter it: killed in between, the next batch enters it late."""
    one.experiment.save_run(run)
    one.experiment.enter_end(run)
    end_beat(one.experiment.run_folder(run.id))


def _vouched(workspace: Workspace, state: State, run: Run) -> Run:
    """The run, or the run as failed when what it was made of changed under it."""
    try:
        changed = state.changed_since(workspace)
    except ClaimbookError as error:
        changed = [error.problem]
    if not changed:
        return run
    message = f"changed while the run was under way: {', '.join(changed)}"
    return msgspec.structs.replace(
        run, status="failed", failure=Failure(error="StateChanged", message=message)
    )
