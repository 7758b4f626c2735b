"""Which runs an experiment still needs, and making them over the slots of an engine.

Every job is claimed before it is made, so that batches started at once share the work. What became of it is
recorded three times: in run.json, in the experiment's ledger, and in the batch's journal.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from claimbook.errors import ClaimbookError, RunError
from claimbook.experiments import Experiment, end_beat, this_process
from claimbook.records import Failure, Run
from claimbook.records.batch import (
    Closed,
    Elsewhere,
    Ended,
    Job,
    Line,
    Notice,
    Opened,
    Progress,
    Queued,
    Reused,
    Started,
)
from claimbook.records.experiment import Value
from claimbook.runner.cold_check import UNLIKE, ColdChecks
from claimbook.runner.engine import Engine, Slot, Update
from claimbook.runner.journal import Journal
from claimbook.runner.reuse import as_said, coverage, reusable
from claimbook.runner.sharing import Sharing
from claimbook.runner.state import State, current_state
from claimbook.session import completed, new_run_id, now
from claimbook.surroundings import distributions, git_state, redacted
from claimbook.workspace import Workspace

ATTEMPTS = 3
"""How often a job is tried whose machine or worker died: one that kills every worker must come to an end."""


@dataclass(frozen=True)
class Plan:
    """What `claimbook run` would do for one experiment, at one point of a grid."""

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
    changes: Mapping[str, Value] = field(default_factory=dict)
    """Parameters that differ from the hypothesis."""

    @property
    def kind(self) -> Literal["confirmatory", "exploratory", "replication"]:
        """What its runs will be."""
        if self.rerun is not None:
            return "replication"
        return "confirmatory" if self.seal else "exploratory"

    def job(self, arm: str, seed: int) -> Job:
        """An arm and a seed of it, as the journal names them."""
        return Job(experiment=self.experiment.slug, arm=arm, seed=seed, changes=dict(self.changes))

    def parameters(self, arm: str, seed: int, fallbacks: int = 0) -> dict[str, Value] | None:
        """Effective parameters, the declared fallback applied so often; None where it cannot be."""
        return self.state.hypothesis.fallen_back(self.state.parameters[arm, seed], fallbacks)

    def fits(self, run: Run) -> bool:
        """Whether a run is a result of this very state, so that it need not be made again."""
        return not reusable(run, self.state, self.seal, self.rerun)


def plan(
    workspace: Workspace,
    experiment: Experiment,
    *,
    seeds: list[int] | None = None,
    arms: list[str] | None = None,
    changes: Mapping[str, Value] | None = None,
    failed_only: bool = False,
) -> Plan:
    """Compare the state now with the seal and with the runs there are.

    seeds and changes make the runs exploratory, arms leave the others out. failed_only: of the missing runs,
    those that were tried in this very state and did not finish. Raises what `current_state` raises, before
    any kernel starts, and RunError for seeds and arms that cannot be.
    """
    if seeds is not None and (len(set(seeds)) < len(seeds) or min(seeds, default=-1) < 0):
        raise RunError(
            f"seeds are {', '.join(map(str, seeds)) or 'missing'}",
            fix="list different whole numbers from 0 on",
        )
    state = current_state(workspace, experiment, seeds=seeds, changes=changes)
    covered = coverage(experiment, state, changes or {})
    planned = Plan(
        experiment, state, covered.why_exploratory, covered.seal, [], [], changes=dict(changes or {})
    )
    wanted = _wanted(state, arms)
    runs = [as_said(experiment, run, [state.fingerprints]) for run in experiment.runs()]
    reused: dict[tuple[str, int], Run] = {}
    for run in runs:
        if (run.arm, run.seed) in wanted and planned.fits(run):
            reused.setdefault((run.arm, run.seed), run)
    missing = [pair for pair in wanted if pair not in reused]
    if failed_only:
        tried = {(run.arm, run.seed) for run in runs if _did_not_finish(run, planned)}
        missing = [pair for pair in missing if pair in tried]
    return replace(planned, reused=list(reused.values()), missing=missing)


def _wanted(state: State, arms: list[str] | None) -> list[tuple[str, int]]:
    """Arm and seed of each run, seed by seed."""
    known = state.hypothesis.arm_names()
    for arm in arms or []:
        if arm not in known:
            raise RunError(f"there is no arm {arm!r}", fix=f"use some of: {', '.join(known)}")
    seeds = dict.fromkeys(seed for _, seed in state.parameters)
    return [(arm, seed) for seed in seeds for arm in known if arms is None or arm in arms]


def _did_not_finish(run: Run, plan: Plan) -> bool:
    """Whether a run was an attempt at one of the plan's jobs in this state, and came to nothing."""
    return run.status not in ("finished", "running") and plan.fits(
        msgspec.structs.replace(run, status="finished")
    )


@dataclass(frozen=True)
class _Attempt:
    """A job, and how often it was tried in vain."""

    plan: Plan
    job: Job
    losses: int = 0
    fallbacks: int = 0

    @property
    def number(self) -> int:
        """From 1."""
        return 1 + self.losses + self.fallbacks

    @property
    def parameters(self) -> dict[str, Value]:
        """Effective ones."""
        found = self.plan.parameters(self.job.arm, self.job.seed, self.fallbacks)
        assert found is not None
        return found

    def after(self, run: Run) -> _Attempt | None:
        """The next attempt, if the run that was made warrants one."""
        if run.status == "lost" and self.losses + 1 < ATTEMPTS:
            return replace(self, losses=self.losses + 1)
        smaller = self.plan.parameters(self.job.arm, self.job.seed, self.fallbacks + 1)
        if run.status == "out-of-memory" and smaller is not None:
            return replace(self, fallbacks=self.fallbacks + 1)
        return None


class Conclusion(NamedTuple):
    """What came of a batch once its runs were made."""

    verdicts: Mapping[str, str] = MappingProxyType({})
    """The outcome of each experiment that was judged."""
    left_out: Mapping[str, str] = MappingProxyType({})
    """The experiments that could not be judged, and why."""


def execute(
    workspace: Workspace,
    plans: Sequence[Plan],
    *,
    engine: Engine,
    report: Callable[[Line], None] = lambda event: None,
    name: str = "run",
    verify_cold: int | None = None,
    keep_empty: bool = True,
    left_out: Mapping[str, str] = MappingProxyType({}),
    conclude: Callable[[list[Run]], Conclusion] | None = None,
) -> list[Run]:
    """Make the missing runs over the engine's slots, and return the last run of each job.

    report takes the events, from several threads. verify_cold: one in so many warm runs is repeated cold and
    compared. keep_empty: whether a batch that finds nothing to make keeps a journal too. left_out: the
    experiments that were asked for and are not among the plans, and why. conclude is called when all is made.

    Several processes may do this at once: each job is made by one of them. On KeyboardInterrupt the runs
    under way are cancelled and recorded within seconds, then it is raised again. Raises WorkspaceError when
    an experiment is being sealed, or a rerun of it is under way; RunError, at the end, when notebook, code or
    products changed meanwhile, so that runs of them could not be begun.
    """
    with ExitStack() as locks:
        for slug in {one.experiment.slug for one in plans}:
            locks.enter_context(workspace.lock(slug, shared=True))
        for slug in {one.experiment.slug for one in plans if one.rerun}:
            locks.enter_context(workspace.lock(f"{slug}-rerun"))
        batch = _Batch(workspace, plans, engine, report, name, verify_cold)
        lasting = keep_empty or any(one.missing for one in plans)
        return batch.make(lasting, left_out, conclude)


class _Batch:
    """A batch under way."""

    def __init__(
        self,
        workspace: Workspace,
        plans: Sequence[Plan],
        engine: Engine,
        report: Callable[[Line], None],
        name: str,
        verify_cold: int | None,
    ) -> None:
        self.id = new_run_id(name)
        self._workspace = workspace
        self._engine = engine
        self._name = name
        self._plans = plans
        self._report = report
        self._journal: Journal | None = None
        self._sharing = Sharing(workspace)
        self._cold_checks = ColdChecks(workspace, verify_cold)
        self._installed = distributions()
        self._stop = threading.Event()
        self._waiting: deque[_Attempt] = deque()
        self._overtaken: deque[Job] = deque()
        """Jobs that were not begun, since what they would have been made of had changed."""
        self._last: dict[object, Run] = {}
        self._began = time.monotonic()
        self._lock = threading.Lock()
        self._noticed: set[str] = set()
        self._total = _Total()

    def make(
        self, lasting: bool, left_out: Mapping[str, str], conclude: Callable[[list[Run]], Conclusion] | None
    ) -> list[Run]:
        """Make all jobs."""
        done = self._catch_up()
        opened = Opened(
            batch=self.id,
            name=self._name,
            at=now(),
            process=this_process(),
            engine=self._engine.name,
            slots=self._engine.slots,
            gpus=list(self._engine.gpus),
        )
        with Journal.open(self._workspace, opened) if lasting else nullcontext() as self._journal:
            self._show(opened)
            for slug, why in left_out.items():
                self._notice(f"left out: {slug}: {why}")
            for one in self._plans:
                self._queue(one, done[one.experiment.slug])
            try:
                self._work_all()
                if self._cold_checks.same:
                    self._notice(f"warm runs that gave the same when repeated cold: {self._cold_checks.same}")
                concluded = conclude(list(self._last.values())) if conclude else Conclusion()
            except BaseException:
                self._close({}, left_out, stopped=True)
                raise
            for slug, why in concluded.left_out.items():
                self._notice(f"not judged: {slug}: {why}")
            self._close(concluded.verdicts, {**left_out, **concluded.left_out}, stopped=False)
        self._refuse_overtaken()
        return list(self._last.values())

    def _refuse_overtaken(self) -> None:
        if self._overtaken:
            slugs = sorted({job.experiment for job in self._overtaken})
            raise RunError(
                f"what runs are made of changed: {len(self._overtaken)} were not begun ({', '.join(slugs)})",
                fix="put back what is named above and run again; or, where the change is meant, "
                f"`claimbook amend {slugs[0]}`",
            )

    def _catch_up(self) -> dict[str, list[Run]]:
        """The runs of each experiment, once what a killed batch left behind is recorded."""
        experiments = {one.experiment.slug: one.experiment for one in self._plans}
        return {
            slug: self._sharing.catch_up(
                experiment, [one.state.fingerprints for one in self._plans if one.experiment.slug == slug]
            )
            for slug, experiment in experiments.items()
        }

    def _queue(self, one: Plan, runs: list[Run]) -> None:
        """Enter what is to do; what was finished since the plan was made is done."""
        for run in one.reused:
            self._say(Reused(job=one.job(run.arm, run.seed), run=run.id))
        since = {(run.arm, run.seed): run for run in runs if one.fits(run)}
        for arm, seed in one.missing:
            job = one.job(arm, seed)
            if found := since.get((arm, seed)):
                self._say(Elsewhere(job=job, run=found.id))
                self._last[job.key] = found
            else:
                self._say(Queued(job=job))
                self._waiting.append(_Attempt(one, job))

    def _work_all(self) -> None:
        slots = min(self._engine.slots, len(self._waiting))
        if slots == 0:
            return
        futures: list[Future[None]] = []
        with ThreadPoolExecutor(slots) as pool:
            try:
                futures += [pool.submit(self._work, number) for number in range(slots)]
                # wait in short turns: a thread that blocks for ever would not see Ctrl-C on every system
                while wait_for(futures, timeout=0.5).not_done:
                    if any(future.done() and future.exception() for future in futures):
                        self._stop.set()
            except BaseException:
                self._stop.set()
                self._engine.stop()
                with _undisturbed():  # a second Ctrl-C would leave runs that nobody records
                    wait_for(futures)
                raise
            for future in futures:
                future.result()

    def _work(self, number: int) -> None:
        """What one thread does: take a job, claim it, make it."""
        with self._engine.open(number) as slot:
            while not self._stop.is_set():
                try:
                    first = self._waiting.popleft()
                except IndexError:
                    return
                claim = self._sharing.claim(first.plan.experiment, first.job, first.parameters)
                if claim is None:  # another batch is making it
                    self._waiting.append(first)
                    self._stop.wait(0.1)
                    continue
                with claim:
                    self._make_job(first, number, slot)

    def _make_job(self, first: _Attempt, number: int, slot: Slot) -> None:
        """Make a claimed job, attempt after attempt, unless another batch has made it meanwhile."""
        one, job = first.plan, first.job
        made = self._sharing.made_elsewhere(one.experiment, job)
        if found := next((run for run in made if one.fits(run)), None):
            self._say(Elsewhere(job=job, run=found.id))
            self._last[job.key] = found
            return
        attempt: _Attempt | None = first
        while attempt is not None:
            if changed := _changes(self._workspace, one):
                self._overtaken.append(job)
                self._last.pop(job.key, None)
                self._notice(f"{job.experiment}: nothing more of it is begun, for it changed: {changed}")
                return
            run = self._last[job.key] = self._make(attempt, number, slot)
            attempt = None if self._stop.is_set() else attempt.after(run)
            with self._lock:
                self._total.add(run)
            self._say(_ended(job, run, again=attempt is not None))

    def _make(self, attempt: _Attempt, number: int, slot: Slot) -> Run:
        one, job = attempt.plan, attempt.job
        run = self._new_run(attempt)
        if run.environment != self._installed:
            self._notice("what is installed changed while the batch ran: later runs had other versions")
        self._sharing.ours.add(run.id)
        one.experiment.save_run(run)
        one.experiment.enter_start(run)
        self._say(Started(job=job, run=run.id, at=run.started, attempt=attempt.number, slot=number))

        def progress(update: Update) -> None:
            self._show(Progress(job=job, run=run.id, **msgspec.structs.asdict(update)))

        ended: Run | None = None
        try:
            ended = slot.run(one.experiment, run, one.state.notebook_path, self._stop, progress)
            ended = _vouched(self._workspace, one, ended)
            ended = self._cold_checks.checked(
                one.experiment, ended, slot, one.state.notebook_path, self._stop, progress
            )
        except BaseException as error:
            failure = Failure(error=type(error).__name__, message=redacted(f"while supervising: {error}"))
            known = ended or _as_said(self._workspace, one, run)
            _close(one, msgspec.structs.replace(known, failure=failure))
            raise
        _close(one, ended)
        cold = [f"kernels start cold: {ended.why_cold}"] if ended.why_cold and not self._stop.is_set() else []
        check = ended.cold_check
        checked = [f"{ended.id}, repeated cold, {UNLIKE[check.same]}"] if check and not check.same else []
        for text in [*cold, *checked, *self._engine.notes]:
            self._notice(text)
        return ended

    def _new_run(self, attempt: _Attempt) -> Run:
        one, job = attempt.plan, attempt.job
        return Run(
            id=new_run_id(f"{job.arm}-s{job.seed}"),
            experiment=job.experiment,
            arm=job.arm,
            seed=job.seed,
            kind=one.kind,
            why_exploratory=one.why_exploratory,
            seal=one.seal,
            notebook=one.state.hypothesis.notebook,
            parameters=attempt.parameters,
            fingerprints=one.state.fingerprints,
            environment=distributions(),
            git=git_state(self._workspace.root),
            status="running",
            started=now(),
            process=this_process(),
            metric=one.state.hypothesis.metric,
            rerun=one.rerun,
            batch=self.id,
            attempt=attempt.number,
            fallbacks=attempt.fallbacks,
        )

    def _notice(self, text: str) -> None:
        """Say something once."""
        with self._lock:
            new = text not in self._noticed
            self._noticed.add(text)
        if new:
            self._say(Notice(text=text, at=now()))

    def _say(self, event: Line) -> None:
        if self._journal is not None:
            self._journal.enter(event)
        self._show(event)

    def _show(self, event: Line) -> None:
        """A display that fails, because its pipe was closed say, must not end the runs."""
        with suppress(Exception, SystemExit):
            self._report(event)

    def _close(self, verdicts: Mapping[str, str], left_out: Mapping[str, str], *, stopped: bool) -> None:
        counts = Counter(
            run.status if run.batch == self.id else "made elsewhere" for run in self._last.values()
        )
        counts["reused"] = sum(len(one.reused) for one in self._plans)
        counts["queued"] = len(self._waiting) + len(self._overtaken)
        self._say(
            Closed(
                at=now(),
                seconds=round(time.monotonic() - self._began, 3),
                run_seconds=round(self._total.run_seconds, 3),
                counts={state: count for state, count in counts.items() if count},
                stopped=stopped,
                gpu_seconds=round(self._total.gpu_seconds, 3),
                gpu_energy=self._total.gpu_energy,
                verdicts=dict(verdicts),
                left_out=sorted(left_out),
            )
        )


@dataclass
class _Total:
    """What the runs of a batch took together."""

    run_seconds: float = 0.0
    gpu_seconds: float = 0.0
    gpu_energy: float | None = None

    def add(self, run: Run) -> None:
        """Count a run that has ended."""
        self.run_seconds += run.seconds or 0.0
        if "gpu" in run.environment:
            self.gpu_seconds += run.seconds or 0.0
        if run.gpu_energy is not None:
            self.gpu_energy = (self.gpu_energy or 0.0) + run.gpu_energy


def _ended(job: Job, run: Run, *, again: bool) -> Ended:
    return Ended(
        job=job,
        run=run.id,
        at=run.ended or run.started,
        status=run.status,
        seconds=run.seconds,
        kernel=run.kernel,
        cpu_seconds=run.cpu_seconds,
        peak_memory=run.peak_memory,
        peak_gpu_memory=run.peak_gpu_memory,
        gpu_energy=run.gpu_energy,
        metrics=run.metrics,
        failure=run.failure,
        again=again,
    )


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


def _close(one: Plan, run: Run) -> None:
    """Record how a run ended, then enter it: killed in between, the next batch enters it late."""
    one.experiment.save_run(run)
    one.experiment.enter_end(run)
    end_beat(one.experiment.run_folder(run.id))


def _as_said(workspace: Workspace, one: Plan, run: Run) -> Run:
    """A run whose supervision failed: finished if its notebook had said so, for no result is drawn twice."""
    try:
        _, finish = one.experiment.steps(run.id)
    except ClaimbookError:
        finish = None
    if finish is None:
        return msgspec.structs.replace(run, status="failed", ended=now())
    return _vouched(workspace, one, completed(run, finish, None))


def _vouched(workspace: Workspace, one: Plan, run: Run) -> Run:
    """A finished run as failed when what it was made of changed under it; any other as it is."""
    changed = _changes(workspace, one) if run.status == "finished" else ""
    if not changed:
        return run
    failure = Failure(error="StateChanged", message=f"changed while the run was under way: {changed}")
    return msgspec.structs.replace(run, status="failed", failure=failure)


def _changes(workspace: Workspace, one: Plan) -> str:
    """What of a plan's state is no longer what it was, as text; empty when nothing is."""
    if not ((one.experiment.folder / "hypothesis.toml").exists() or one.experiment.seal_path.exists()):
        return "its folder is gone"  # what is written late may have made an empty one
    try:
        return ", ".join(one.state.changed_since(workspace))
    except ClaimbookError as error:
        return error.problem if error.where is None else f"{error.where}: {error.problem}"
    except OSError as error:
        return str(error)
