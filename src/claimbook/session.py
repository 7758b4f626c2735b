"""What a notebook talks to: `run = start()`, `run.log`, `run.figure`, `run.finish`.

Under the runner the run's folder, arm and seed are known, and the supervisor keeps run.json. By hand, in
JupyterLab or under plain papermill, the run is exploratory and keeps its own. Knows nothing of the batch.
"""

from __future__ import annotations

import inspect
import io
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath
from types import FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from claimbook import experiments, workspace
from claimbook.errors import ClaimbookError, RunError
from claimbook.papers.ids import ArxivId
from claimbook.records import Failure, Finish, ItemScores, Run, Scale, Step, decode_json
from claimbook.records.run import agree
from claimbook.surroundings import GitState, distributions, kernel_environment, peak_memory, redacted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUN_VARIABLE = "CLAIMBOOK_RUN"
"""The environment variable by which the runner tells a kernel its run folder."""

_unfinished: Session | None = None
_heart: threading.Thread | None = None


@dataclass
class Session:
    """One execution of a notebook, from `start()` to `finish`."""

    run: Run
    _experiment: experiments.Experiment
    _supervised: bool
    _began: float
    _metrics: experiments.Metrics
    _git: GitState | None = None
    """Under way since the start of a run by hand: git takes longer than all else that a start does."""
    _said: Finish | None = None
    """What `finish` has written; the record of a run by hand may still have to follow."""
    _finished: bool = False

    @property
    def arm(self) -> str:
        """The arm or control that this run tests."""
        return self.run.arm

    @property
    def seed(self) -> int:
        """The run's seed, the same as the notebook's parameter."""
        return self.run.seed

    @property
    def kind(self) -> str:
        """`confirmatory` when a seal covers the run, else `exploratory`."""
        return self.run.kind

    @property
    def folder(self) -> Path:
        """Where the run's records lie."""
        return self._experiment.run_folder(self.run.id)

    def log(self, *, step: int, **values: float) -> None:
        """Append step metrics, such as `run.log(step=i, loss=loss)`.

        Tensors and numpy numbers are taken as floats. Raises RunError for a value that is not finite: a
        training that has diverged has nothing to say about the hypothesis.
        """
        if self._finished:
            raise RunError("this run is finished", fix="log before run.finish(…)")
        numbers = {name: _finite(value, f"{name} at step {step}") for name, value in values.items()}
        at = round(time.time() - self._began, 3)
        self._metrics.append(Step(step=int(step), values=numbers, at=at))

    def figure(self, figure: Figure, alt: str) -> None:
        """Show a matplotlib figure in the notebook, with a text for those who do not see it.

        Raises RunError when the text is empty.
        """
        if not alt.strip():
            raise RunError("a figure without alt text", fix='say what it shows: run.figure(fig, alt="…")')
        from IPython.display import publish_display_data

        png = io.BytesIO()
        figure.savefig(png, format="png", bbox_inches="tight")
        publish_display_data(
            {"image/png": png.getvalue(), "text/plain": alt}, metadata={"image/png": {"alt": alt}}
        )

    def finish(
        self,
        *,
        metrics: Mapping[str, float],
        items: Mapping[str, Sequence[Any]],
        chance: Mapping[str, float] | None = None,
        scale: Mapping[str, float] | None = None,
    ) -> None:
        """Record the result; nothing can be logged afterwards.

        metrics: name → value, each metric with item scores being their mean; items: equal-length columns
        `item`, `cluster` and one per metric; chance: what a guess would score, needed for the metrics that
        controls are judged by; scale: `parameters`, `pairs_seen`, `resolution` of this training.

        Raises RunError when the run is finished already, a value is not finite, a metric is not the mean of
        its item scores, or the registered metric has none; RecordError when the columns do not fit.
        """
        if self._finished:
            raise RunError("this run is finished", fix="begin a new one with start()")
        if self._said is None:
            said = self._result(metrics, items, chance or {}, scale)
            self._metrics.append(said)
            self._said = said
        if not self._supervised:  # on a full disk this fails, and finish may be called again
            self._experiment.save_run(completed(self._known(), self._said, time.time() - self._began))
            experiments.end_beat(self.folder)
        self._finished = True

    def _result(
        self,
        metrics: Mapping[str, float],
        items: Mapping[str, Sequence[Any]],
        chance: Mapping[str, float],
        scale: Mapping[str, float] | None,
    ) -> Finish:
        """The finishing line, once the item scores are written."""
        scores = ItemScores.of(items)
        numbers = {name: _finite(value, name) for name, value in metrics.items()}
        self._check_metrics(numbers, scores)
        return Finish(
            metrics=numbers,
            chance={name: _finite(value, f"chance of {name}") for name, value in chance.items()},
            items_sha256=self._experiment.save_items(self.run.id, scores),
            environment=kernel_environment(),
            peak_memory=peak_memory(),
            peak_gpu_memory=_peak_gpu_memory(),
            scale=msgspec.convert(dict(scale), Scale, strict=False) if scale else None,
        )

    def _known(self) -> Run:
        """The record of a run by hand with what its start did not wait for."""
        return msgspec.structs.replace(
            self.run,
            git=self._git.result() if self._git else self.run.git,
            fingerprints=_product_set(self.run.parameters),
        )

    def _check_metrics(self, numbers: dict[str, float], scores: ItemScores) -> None:
        registered = self.run.metric
        if registered is not None and registered not in numbers:
            raise RunError(
                f"the registered metric {registered!r} is missing",
                fix=f"give it in run.finish(metrics=…); there are: {', '.join(numbers) or 'none'}",
            )
        if registered is not None:
            scores.mean(registered)
        for name in numbers.keys() & scores.scores.keys():
            mean = scores.mean(name)
            if not agree(numbers[name], mean):
                raise RunError(
                    f"{name} is {numbers[name]}, the mean of its item scores {mean}",
                    fix="give the mean of the item scores as the metric, or name one of the two otherwise",
                )

    def __repr__(self) -> str:
        return f"{self.kind} run {self.run.id} · arm {self.arm} · seed {self.seed}"


def start() -> Session:
    """Begin a run; call it once, after the parameters cell.

    Under the runner this joins the run that the supervisor has opened. By hand it opens an exploratory run
    under experiments/exploratory/, with the annotated values of the parameters cell; such a run never
    counts for a verdict. Raises WorkspaceError outside a workspace.
    """
    named = os.environ.get(RUN_VARIABLE)
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return _join(Path(named)) if named else _by_hand(frame.f_back)


def completed(run: Run, finish: Finish, seconds: float | None) -> Run:
    """A run's record once its notebook has said that it is done."""
    return msgspec.structs.replace(
        run,
        status="finished",
        ended=now(),
        seconds=None if seconds is None else round(seconds, 3),
        metrics=finish.metrics,
        chance=finish.chance,
        scale=finish.scale,
        items_sha256=finish.items_sha256,
        environment={**run.environment, **finish.environment},
        peak_memory=finish.peak_memory,
        peak_gpu_memory=finish.peak_gpu_memory,
    )


def now() -> str:
    """The time as the records write it: ISO, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def new_run_id(label: str) -> str:
    """A folder name that sorts by label and time, with 24 random bits against runs of the same second."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return f"{label}-{stamp}-{uuid.uuid4().hex[:6]}"


def _join(folder: Path) -> Session:
    experiment = experiments.Experiment(folder.parent.parent)
    run = decode_json((folder / "run.json").read_bytes(), Run, f"{folder.name}/run.json")
    if experiment.steps(run.id)[1] is not None:
        raise RunError("this run is finished", fix="call start() once in a notebook")
    return Session(run, experiment, True, time.time(), experiments.Metrics(experiment, run.id))


def _by_hand(caller: FrameType) -> Session:
    global _unfinished, _heart
    # a forked process has its parent's run, which goes on there
    ours = _unfinished is not None and _unfinished.run.process == experiments.this_process()
    if _unfinished and ours and not _unfinished._finished:
        _unfinished._experiment.save_run(
            msgspec.structs.replace(
                _unfinished.run,
                status="cancelled",
                ended=now(),
                failure=Failure(error="Restarted", message="start() was called again before run.finish()"),
            )
        )
        experiments.end_beat(_unfinished.folder)
    space = workspace.find()
    parameters = _declared_parameters(caller)
    notebook = _notebook_name(caller)
    seed = parameters.get("seed", 0)
    run = Run(
        id=new_run_id(notebook),
        experiment=experiments.BY_HAND,
        arm="by-hand",
        seed=seed if isinstance(seed, int) else 0,
        kind="exploratory",
        why_exploratory=["run by hand"],
        seal=None,
        notebook=notebook,
        parameters=parameters,
        fingerprints={},
        environment=distributions(),
        git={},
        status="running",
        started=now(),
        process=experiments.this_process(),
    )
    experiment = experiments.Experiment(space.experiments / experiments.BY_HAND)
    experiment.save_run(run, durable="no")  # a power cut would lose a run that has computed nothing yet
    metrics = experiments.Metrics(experiment, run.id)
    _unfinished = Session(run, experiment, False, time.time(), metrics, GitState(space.root))
    if _heart is None or not _heart.is_alive():  # a forked process has the variable and not the thread
        _heart = threading.Thread(target=_keep_beating, name="claimbook-heartbeat", daemon=True)
        _heart.start()
    return _unfinished


def _keep_beating() -> None:
    """One thread for all runs by hand of this process: none of them has a supervisor."""
    while True:
        time.sleep(experiments.HEARTBEAT)
        if _unfinished and not _unfinished._finished:
            experiments.beat(_unfinished.folder)


def _product_set(parameters: Mapping[str, Any]) -> dict[str, str | dict[str, str]]:
    """The product set that a run by hand has scored, for the log to count; empty when it named none."""
    from claimbook.products.named import fingerprint_of, named_in

    if not named_in([parameters]):
        return {}
    try:
        return {"data": fingerprint_of([parameters], workspace.find())[0]}
    except ClaimbookError:
        return {}


def _declared_parameters(caller: FrameType) -> dict[str, Any]:
    """The values of the notebook's annotated names: a typed parameters cell leaves just these.

    Other globals are left alone, and so is a text that an environment variable holds: either may be a secret.
    """
    declared = caller.f_globals.get("__annotations__", {})
    values = {name: _as_recorded(caller.f_globals.get(name)) for name in declared}
    known = {text for text in os.environ.values() if len(text) >= 8}
    return {
        name: value for name, value in values.items() if _is_simple(value) and not _holds_secret(value, known)
    }


def _as_recorded(value: object) -> object:
    """A parameter's value as a record keeps it: paths and papers are texts there."""
    if isinstance(value, list):
        return [_as_recorded(one) for one in value]
    return str(value) if isinstance(value, PurePath | ArxivId) else value


def _holds_secret(value: Any, known: set[str]) -> bool:
    """Whether a value is one of the environment's, or a text with one in it that must not be recorded."""
    parts = value if isinstance(value, list) else [value]
    return any(str(one) in known or (isinstance(one, str) and redacted(one) != one) for one in parts)


def _is_simple(value: object) -> bool:
    simple = (bool, int, float, str)
    return isinstance(value, simple) or (
        isinstance(value, list) and all(isinstance(v, simple) for v in value)
    )


def _notebook_name(caller: FrameType) -> str:
    """The notebook's name where JupyterLab or VS Code tell it."""
    path = os.environ.get("JPY_SESSION_NAME") or caller.f_globals.get("__vsc_ipynb_file__") or ""
    return Path(str(path)).stem or "unknown"


def _finite(value: float, what: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise RunError(
            f"{what} is {number}",
            fix="find out why the training diverged (learning rate, division by zero), then run again",
        )
    return number


def _peak_gpu_memory() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())
