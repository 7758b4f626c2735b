"""Whether an experiment's files are what the machine wrote: seal, sources, ledger, runs, one against another.

What does not fit is named, file by file. Nothing here can find a forger who rewrites every file and every
hash: who must rule that out keeps the seal's hash, or a commit, where the forger cannot reach it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from claimbook.errors import RecordError
from claimbook.experiments import Experiment, register
from claimbook.records import Ledger, LedgerLine, Rerun, Run, Seal, Verdict
from claimbook.workspace import Workspace

_RESTORE = "restore the files (git checkout)"


def problems(experiment: Experiment) -> list[RecordError]:
    """Everything about the sealed runs of an experiment that does not fit; empty when all does.

    A record that cannot be read at all comes as its own error.
    """
    try:
        seal = experiment.seal()
        runs = {run.id: run for run in (*experiment.runs(), *experiment.deleted_runs())}
        ledger = experiment.ledger()
    except RecordError as error:
        return [error]
    found: list[RecordError] = []
    for part in (
        _copied(experiment, seal, runs),
        _source_problems(experiment, seal, ledger),
        _ledger_problems(experiment, seal, ledger),
        _witness_problems(experiment, seal, ledger),
        _unentered(experiment, seal, ledger, runs),
        _missing(experiment, ledger, runs),
        _changed(experiment, ledger, runs),
    ):
        try:
            found.extend(part)
        except RecordError as error:
            found.append(error)
    return found


def register_problems(workspace: Workspace) -> list[RecordError]:
    """What does not fit about the register of seals, which no single experiment owns."""
    try:
        numbers = register(workspace.experiments).gaps()
    except RecordError as error:
        return [error]
    return list(_gap_problems(numbers, "experiments/seals.jsonl"))


def _gap_problems(numbers: list[int], name: str) -> Iterator[RecordError]:
    """The first gap, and how many more: line ends that git has changed make one of every line."""
    if numbers:
        more = f", and {len(numbers) - 1} more such lines" if len(numbers) > 1 else ""
        yield RecordError(
            f"the line before this one was changed or taken out{more}",
            fix=f"{_RESTORE}; after a merge keep the lines of both branches; git must not change line ends "
            "(.gitattributes of `claimbook init`)",
            where=f"{name}:{numbers[0]}",
        )


def notes(experiment: Experiment) -> list[str]:
    """What is no fault and worth a look: ends that the supervisor of a run did not live to enter."""
    ledger = experiment.ledger()
    ended = ledger.ended()
    late = [f"run {line.run}: its end was entered late" for line in ended.values() if line.late]
    open_ends = [
        f"run {run.id} is {run.status}, and its end is not entered; the next `claimbook run` does it"
        for run in experiment.runs()
        if run.id in ledger.started() and run.id not in ended and run.status not in ("running", "lost")
    ]
    concluded = {rerun.id for rerun in experiment.reruns()}
    unconcluded = Counter(run.rerun for run in experiment.runs() if run.rerun and run.rerun not in concluded)
    cut_off = [
        f"{rerun}: {count} replications, and no record of what came of it: it was cut off, "
        f"or reruns/{rerun}.json is gone"
        for rerun, count in unconcluded.items()
    ]
    present = {run.id for run in (*experiment.runs(), *experiment.deleted_runs())}
    gone = [
        f"exploratory run {line.run} is gone; `claimbook delete` keeps what it has seen of the test set"
        for line in ledger.started().values()
        if line.seal is None and line.run not in present
    ]
    return late + open_ends + cut_off + gone


def _copied(experiment: Experiment, seal: Seal | None, runs: dict[str, Run]) -> Iterator[RecordError]:
    """A folder that was copied has another experiment's seal and runs."""
    origins = {run.experiment for run in runs.values()} - {experiment.slug}
    own = {entry.hash for entry in (seal.entries if seal else [])}
    for slug in sorted(origins):
        original = Experiment(experiment.folder.parent / slug)
        with_seal = original.seal() if original.seal_path.exists() else None
        if with_seal and own & {entry.hash for entry in with_seal.entries}:
            yield RecordError(
                f"this is a copy of {slug}: seal, ledger and runs are its",
                fix="keep hypothesis.toml and README.md only, then seal and run",
                where=f"experiments/{experiment.slug}",
            )


def _source_problems(experiment: Experiment, seal: Seal | None, ledger: Ledger) -> Iterator[RecordError]:
    # a seal whose making was cut off and that was amended before any run fixes nothing that anyone has seen
    needed = {line.seal for line in ledger.lines} | ({seal.current.hash} if seal else set())
    for entry in seal.entries if seal else []:
        if entry.with_ledger and entry.hash in needed and experiment.sealed_sources(entry) is None:
            name = f"experiments/{experiment.slug}/sealed/{entry.hash[:16]}.json"
            yield RecordError(
                "the sealed sources are missing or were changed after sealing",
                fix=f"{_RESTORE}; if sealing was cut off, run `claimbook seal {experiment.slug}` again",
                where=name,
            )
    known = {entry.hash[:16] for entry in (seal.entries if seal else [])}
    for path in sorted((experiment.folder / "sealed").glob("[!.]*.json")):
        if path.stem not in known:
            yield RecordError(
                f"a seal is gone whose sources are kept, {path.stem}",
                fix=_RESTORE,
                where=f"experiments/{experiment.slug}/seal.json",
            )


def _ledger_problems(experiment: Experiment, seal: Seal | None, ledger: Ledger) -> Iterator[RecordError]:
    name = f"experiments/{experiment.slug}/ledger.jsonl"
    yield from _gap_problems(ledger.gaps(), name)
    known = {entry.hash for entry in (seal.entries if seal else [])}
    if any(line.seal not in known for line in ledger.lines if line.seal is not None):
        yield RecordError(
            "a seal is gone under which the ledger has runs",
            fix=_RESTORE,
            where=f"experiments/{experiment.slug}/seal.json",
        )
    for number in ledger.contradictions():
        yield RecordError(
            f"the line contradicts an earlier one about run {ledger.lines[number - 1].run}",
            fix=_RESTORE,
            where=f"{name}:{number}",
        )


def _witness_problems(experiment: Experiment, seal: Seal | None, ledger: Ledger) -> Iterator[RecordError]:
    """What was computed names the ledger's last lines then: these and all before them must still be there."""
    with_ledger = {entry.hash for entry in (seal.entries if seal else []) if entry.with_ledger}
    verdict = experiment.verdict()
    witnesses: dict[str, Verdict | Rerun] = {}
    if verdict and verdict.seal in with_ledger:
        witnesses["verdict.json"] = verdict
    witnesses |= {
        f"reruns/{rerun.id}.json": rerun for rerun in experiment.reruns() if rerun.verdict is not None
    }
    entered: dict[str, set[str]] = defaultdict(set)  # two merged branches may both have entered an end late
    for line, digest in zip(ledger.lines, ledger.hashes, strict=True):
        if line.event == "ended":
            entered[line.run].add(digest)
    for name, witness in witnesses.items():
        judged = witness if isinstance(witness, Verdict) else witness.verdict
        assert judged is not None
        before = ledger.before(witness.ledger)
        runs = [run for pair in judged.pairs for run in pair.runs]
        if set(witness.ledger) - before or any(not entered[run] & before for run in runs):
            yield RecordError(
                f"lines are missing or were changed that {name} was computed after",
                fix=_RESTORE,
                where=f"experiments/{experiment.slug}/ledger.jsonl",
            )


def _unentered(
    experiment: Experiment, seal: Seal | None, ledger: Ledger, runs: dict[str, Run]
) -> Iterator[RecordError]:
    """Results under a seal with a ledger that the ledger does not know."""
    with_ledger = {entry.hash for entry in (seal.entries if seal else []) if entry.with_ledger}
    started = ledger.started()
    for run in runs.values():
        # killed between its record and its entry, a run never executed anything
        if run.seal in with_ledger and run.id not in started and run.status not in ("running", "lost"):
            yield RecordError(
                f"the run is {run.status}, and the ledger does not know it",
                fix="restore the ledger (git checkout); only what `claimbook run` made can count",
                where=f"experiments/{experiment.slug}/runs/{run.id}",
            )


def _missing(experiment: Experiment, ledger: Ledger, runs: dict[str, Run]) -> Iterator[RecordError]:
    ended = ledger.ended()
    for run_id, line in ledger.started().items():
        if line.seal is None or (run_id in runs and experiment.run_folder(run_id).exists()):
            continue  # only exploratory runs can be put away
        how = ended[run_id].status if run_id in ended else "started"
        yield RecordError(
            f"the run is gone; the ledger has it as {how} at {line.at}",
            fix="restore its folder (git checkout); if it is lost for good, "
            f"`claimbook amend {experiment.slug}` and run again",
            where=f"experiments/{experiment.slug}/runs/{run_id}",
        )


def _changed(experiment: Experiment, ledger: Ledger, runs: dict[str, Run]) -> Iterator[RecordError]:
    for run_id, line in ledger.ended().items():
        if run_id not in runs:
            continue
        for name, how in _differing(experiment, line):
            yield RecordError(
                f"{name} {how}",
                fix="restore the file (git checkout); if it is lost for good, "
                f"`claimbook amend {experiment.slug}` and run again",
                where=f"experiments/{experiment.slug}/runs/{run_id}/{name}",
            )


def _differing(experiment: Experiment, line: LedgerLine) -> Iterator[tuple[str, str]]:
    """The files of an ended run that are not what was entered, and how."""
    found = experiment.file_hashes(line.run)
    for name, digest in line.files.items():
        if name not in found:
            if name != "notebook.ipynb":  # git ignores executed notebooks, so a clone has none
                yield name, "is missing"
        elif found[name] != digest:
            yield name, "was changed after the run had ended"
