"""What the log says after a run ended well, badly, or not at all. Real kernels, real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from msgspec.structs import replace

from claimbook.errors import RunError
from claimbook.experiments import Experiment
from claimbook.runner import batch, sealing
from claimbook.runner.local import LocalEngine
from claimbook.runner.slots import Limits, places

QUICK = Limits(seconds=60, threads=1)


@pytest.fixture
def experiment(toy, edit) -> Experiment:
    """The toy experiment with one seed and no control: two runs of three seconds."""
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [0]")
    edit("\n[controls.shuffled]\nshuffle = true\n", "")
    return Experiment.of(toy, "toy")


def only_baseline(toy, experiment, crash: str, limits: Limits = QUICK):
    """Execute one run whose notebook misbehaves."""
    plan = batch.plan(toy, experiment, changes={"crash": crash})
    plan.missing[:] = [("baseline", 0)]
    (run,) = batch.execute(toy, [plan], engine=LocalEngine(limits, places()))
    (recorded,) = experiment.runs()
    assert recorded == run
    assert processes_of(experiment) == []
    return run


def processes_of(experiment: Experiment) -> list[psutil.Process]:
    """Living workers, fork servers, keepers and kernels of its workspace: all but the command line itself."""
    found = []
    for process in psutil.process_iter():
        try:
            here = process.environ().get("TOY_WORKSPACE") == str(experiment.folder.parent.parent)
            is_ours = "claimbook.cli" in " ".join(process.cmdline()) or process.pid == os.getpid()
            if here and not is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_until(condition, seconds: float, what: str):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.05)
    return value


def start_hanging_batch(experiment: Experiment) -> subprocess.Popen:
    """`claimbook run` in a process of its own, its first notebook busy for ten minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", "from claimbook.cli import main; main()", "run", "toy", "--set", "crash=hang"],
        cwd=experiment.folder.parent.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    wait_until(lambda: list(experiment.folder.glob("runs/*/metrics.jsonl")), 60, "the notebook logs a step")
    return process


def test_a_finished_run_records_what_it_depended_on(toy, experiment):
    runs = batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    assert [(r.arm, r.status, r.metrics) for r in runs] == [
        ("baseline", "finished", {"hit@1": 0.2}),
        ("treatment", "finished", {"hit@1": 0.6}),
    ]
    run = runs[0]
    assert run.kind == "exploratory"
    assert run.why_exploratory == ["not sealed"]
    assert run.parameters == {"effect": 0.2, "products": "tiny", "shuffle": False, "crash": "", "seed": 0}
    assert "claimbook/products/subset.py" in run.fingerprints["code"]
    assert run.chance == {"hit@1": 0.5}
    assert run.seconds > 0
    assert run.peak_memory > 10_000_000
    assert run.environment["cores"] == str(os.cpu_count())
    items = experiment.items(run)
    assert items.mean("hit@1") == pytest.approx(0.2)
    steps, finish = experiment.steps(run.id)
    assert [(s.step, s.values) for s in steps] == [(1, {"loss": 0.5})]
    assert finish is not None
    assert json.loads(experiment.notebook_path(run.id).read_text())["cells"]
    assert processes_of(experiment) == []


def test_finished_runs_are_reused_until_the_code_changes(toy, experiment):
    batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    again = batch.plan(toy, experiment)
    assert again.missing == []
    assert len(again.reused) == 2
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("share = 0.5", "share = 0.25 + 0.25"))
    assert batch.plan(toy, experiment).missing == [("baseline", 0), ("treatment", 0)]


def test_a_run_is_exploratory_when_anything_differs_from_the_seal(toy, edit):
    experiment = Experiment.of(toy, "toy")
    entry = sealing.seal(toy, experiment)
    assert batch.plan(toy, experiment).seal == entry.hash
    assert batch.plan(toy, experiment, seeds=[101]).why_exploratory == ["seeds that are not registered (101)"]
    assert batch.plan(toy, experiment, changes={"effect": 0.3}).why_exploratory == [
        "parameters changed for this run (effect)"
    ]
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("share = 0.5", "share = 0.25 + 0.25"))
    edit("margin   = 0.05", "margin   = 0.02")
    (toy.root / "data" / "items.jsonl").write_text(
        (toy.root / "data" / "items.jsonl").read_text().replace("mug 3", "cup 3")
    )
    changed = batch.plan(toy, experiment)
    assert changed.seal is None
    assert changed.why_exploratory == ["hypothesis (margin)", "notebook code", "product set"]


def test_a_notebook_that_raises_is_failed_with_cell_and_error(toy, experiment):
    run = only_baseline(toy, experiment, "raise")
    assert run.status == "failed"
    assert (run.failure.error, run.failure.message) == ("ValueError", "the shelf is empty")
    executed = json.loads(experiment.notebook_path(run.id).read_text())["cells"]
    # papermill marks the failure with cells of its own, which do not count
    cells = [c for c in executed if "papermill-error-cell-tag" not in c["metadata"].get("tags", [])]
    assert "the shelf is empty" in "".join(cells[run.failure.cell]["source"])
    assert run.metrics == {}


def test_a_kernel_that_kills_itself_is_failed(toy, experiment):
    run = only_baseline(toy, experiment, "kill")
    assert (run.status, run.failure.error) == ("failed", "KernelDied")


def test_a_notebook_that_never_ends_is_timed_out(toy, experiment):
    run = only_baseline(toy, experiment, "hang", Limits(seconds=8, threads=1))
    assert (run.status, run.failure.error) == ("timed-out", "RunTimeout")
    assert 8 <= run.seconds < 20


def test_a_notebook_that_forgets_to_finish_is_failed(toy, experiment):
    run = only_baseline(toy, experiment, "forget")
    assert (run.status, run.failure.error) == ("failed", "NotFinished")


def test_a_run_whose_code_changed_under_it_does_not_count(toy, experiment):
    helper = toy.notebooks / "shelf.py"
    helper.write_text("SIZE = 1\n")
    notebook = toy.notebook("toy")
    notebook.write_text(
        notebook.read_text().replace("import os, random", "import shelf, os, random").replace(
            "run.log(step=1", "open('shelf.py', 'a').write('SIZE = 2')\\nrun.log(step=1"
        )
    )  # fmt: skip
    run = only_baseline(toy, experiment, "")
    assert (run.status, run.failure.error) == ("failed", "StateChanged")
    assert "technique code" in run.failure.message


def test_failed_runs_are_made_again_and_finished_ones_kept(toy, experiment):
    only_baseline(toy, experiment, "raise")
    runs = batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    assert [run.status for run in runs] == ["finished", "finished"]
    assert sorted(run.status for run in experiment.runs()) == ["failed", "finished", "finished"]


def test_after_kill_9_of_the_runner_the_run_is_lost_and_nothing_lives_on(toy, experiment):
    process = start_hanging_batch(experiment)
    (running,) = experiment.runs()
    assert running.status == "running"
    assert processes_of(experiment) != []
    process.kill()
    process.wait()
    wait_until(lambda: processes_of(experiment) == [], 5, "worker and kernel are gone")
    (lost,) = experiment.runs()
    assert lost.status == "lost"
    assert batch.plan(toy, experiment).missing == [("baseline", 0), ("treatment", 0)]


def test_after_kill_9_of_the_kernel_the_run_is_failed(toy, experiment):
    process = start_hanging_batch(experiment)
    others = [p for p in processes_of(experiment) if "claimbook.runner.worker" not in p.cmdline()]
    (kernel,) = [p for p in others if p.num_threads() > 1]  # its keeper and the fork server have one
    kernel.kill()
    assert wait_until(lambda: experiment.runs()[0].status == "failed", 10, "the record says failed")
    assert experiment.runs()[0].failure.error == "KernelDied"
    process.send_signal(signal.SIGINT)  # the batch went on with the next run
    process.wait(timeout=10)
    assert processes_of(experiment) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_records_the_run_and_leaves_no_process_within_3_seconds(toy, experiment, signum):
    process = start_hanging_batch(experiment)
    began = time.monotonic()
    process.send_signal(signum)
    assert process.wait(timeout=10) == 130
    assert processes_of(experiment) == []
    assert time.monotonic() - began < 3
    (run,) = experiment.runs()
    assert (run.status, run.failure.error) == ("cancelled", "Cancelled")
    assert process.stderr is not None
    assert "Traceback" not in process.stderr.read()
    assert not list(Path(experiment.folder).rglob("*.tmp"))


def test_a_wrong_parameter_is_refused_before_any_kernel_starts(toy, experiment, edit):
    edit("effect = 0.6", "efect = 0.6")
    with pytest.raises(RunError, match="no parameter 'efect', did you mean 'effect'"):
        batch.plan(toy, experiment)
    edit("efect = 0.6", 'effect = "0.6"')
    with pytest.raises(RunError, match=r"effect is '0\.6', which is no float"):
        batch.plan(toy, experiment)
    assert experiment.runs() == []


def test_runs_in_two_slots_give_what_one_slot_gives(toy, experiment):
    batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places(2)))
    assert [run.metrics for run in sorted(experiment.runs(), key=lambda r: r.arm)] == [
        {"hit@1": 0.2},
        {"hit@1": 0.6},
    ]


def test_what_a_notebook_started_ends_with_its_run(toy, experiment):
    notebook = toy.notebook("toy")
    start = "import subprocess; child = subprocess.Popen(['sleep', '6060'], start_new_session=True)"
    notebook.write_text(notebook.read_text().replace("import os, random", f"{start}\\nimport os, random"))
    runs = batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    assert {run.status for run in runs} == {"finished"}
    assert [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", "6060"]] == []


def test_a_second_ctrl_c_does_not_leave_a_run_that_nobody_records(toy, experiment):
    process = start_hanging_batch(experiment)
    for _ in range(3):
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
    assert process.wait(timeout=10) == 130
    assert [run.status for run in experiment.runs()] == ["cancelled"]
    assert processes_of(experiment) == []


def test_a_closed_pipe_does_not_end_the_batch(toy, experiment):
    command = f"{sys.executable} -c 'from claimbook.cli import main; main()' run toy 2>&1 | head -1"
    subprocess.run(command, shell=True, cwd=toy.root, check=True, stdout=subprocess.DEVNULL)
    assert [run.status for run in experiment.runs()] == ["finished", "finished"]


def test_the_kernel_works_in_the_runners_workspace_whatever_the_variables_say(toy, experiment, monkeypatch):
    monkeypatch.chdir(toy.root.parent)
    monkeypatch.setenv("CLAIMBOOK_ROOT", "workspace")
    monkeypatch.setenv("CLAIMBOOK_CACHE", "elsewhere")
    runs = batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    assert [run.status for run in runs] == ["finished", "finished"]


def test_a_run_that_cannot_be_supervised_is_recorded_as_failed(toy, experiment, monkeypatch):
    def broken(*arguments: object, **options: object) -> None:
        raise OSError("no more processes")

    plan = batch.plan(toy, experiment)
    monkeypatch.setattr("claimbook.runner.supervise._Worker", broken)
    with pytest.raises(OSError, match="no more processes"):
        batch.execute(toy, [plan], engine=LocalEngine(QUICK, places()))
    (run,) = experiment.runs()
    assert (run.status, run.failure.error) == ("failed", "OSError")


@pytest.mark.parametrize("seeds", [[5, 5], [-1], []])
def test_seeds_that_cannot_be_are_refused(toy, experiment, seeds):
    with pytest.raises(RunError, match="different whole numbers"):
        batch.plan(toy, experiment, seeds=seeds)


def test_no_environment_value_is_recorded(toy, experiment, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "hunter2-hunter2")
    batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    for path in Path(experiment.folder).rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    assert os.environ["SECRET_TOKEN"] == "hunter2-hunter2"


def test_a_result_that_was_said_counts_whatever_fails_behind_it(toy, edit, make_notebook):
    """Else a last cell that dislikes the score could draw results until one pleases."""
    notebook = toy.notebooks / "toy.ipynb"
    cells = [cell["source"] for cell in json.loads(notebook.read_text())["cells"]]
    make_notebook(notebook, *cells, 'raise ValueError("bad luck")')
    edit("seeds    = [0, 1, 2, 3, 4, 5]", "seeds    = [7]")
    plan = batch.plan(toy, Experiment.of(toy, "toy"), seeds=[7])
    plan.missing[:] = [("baseline", 7)]
    (run,) = batch.execute(toy, [plan], engine=LocalEngine(QUICK, places()))
    assert run.status == "finished"
    assert run.metrics == {"hit@1": pytest.approx(0.195)}
    assert run.failure is not None
    assert run.failure.message == "bad luck"
    assert batch.plan(toy, Experiment.of(toy, "toy"), seeds=[7]).reused == [run]


def test_a_result_whose_supervisor_died_is_recorded_by_the_next_batch(toy):
    experiment = Experiment.of(toy, "toy")
    plan = batch.plan(toy, experiment, seeds=[7])
    plan.missing[:] = [("baseline", 7)]
    (run,) = batch.execute(toy, [plan], engine=LocalEngine(QUICK, places()))
    lines = experiment.ledger_path.read_bytes().splitlines(keepends=True)
    experiment.ledger_path.write_bytes(lines[0])  # killed before it recorded and entered the end
    gone = replace(run.process, created=0.0)
    experiment.save_run(replace(run, status="running", metrics={}, items_sha256=None, process=gone))
    again = batch.plan(toy, experiment, seeds=[7])
    again.missing[:] = [("baseline", 7)]
    (taken,) = batch.execute(toy, [again], engine=LocalEngine(QUICK, places()))
    (found,) = experiment.runs()
    assert taken == found
    assert (found.status, found.metrics) == ("finished", run.metrics)
    assert experiment.ledger().ended()[run.id].late


def test_a_module_that_is_broken_meanwhile_costs_its_run_and_not_the_batch(toy, experiment):
    (toy.notebooks / "shelf.py").write_text("SIZE = 1\n")
    notebook = toy.notebook("toy")
    broken = "if effect == 0.2: open('shelf.py', 'a').write('def half(')"
    notebook.write_text(
        notebook.read_text().replace("import os, random", "import shelf, os, random").replace(
            "run.log(step=1", f"{broken}\\nrun.log(step=1"
        )
    )  # fmt: skip
    plan = batch.plan(toy, experiment)
    plan.missing[1:] = []
    (run,) = batch.execute(toy, [plan], engine=LocalEngine(QUICK, places()))
    assert (run.status, run.failure.error) == ("failed", "StateChanged")
    assert "no readable Python: line 2" in run.failure.message
    with pytest.raises(RunError, match=r"shelf\.py: no readable Python: line 2"):
        batch.plan(toy, experiment)


def test_a_broken_metrics_file_costs_its_run_and_not_the_batch(toy, experiment):
    notebook = toy.notebook("toy")
    nonsense = (
        "open(run.folder / 'metrics.jsonl', 'ab').write(b'nonsense' + bytes([10])) if effect == 0.2 else 0"
    )
    notebook.write_text(notebook.read_text().replace("run.log(step=1", f"{nonsense}\\nrun.log(step=1"))
    runs = batch.execute(toy, [batch.plan(toy, experiment)], engine=LocalEngine(QUICK, places()))
    assert {run.arm: run.status for run in runs} == {"baseline": "failed", "treatment": "finished"}
    (failed,) = [run for run in runs if run.status == "failed"]
    assert failed.failure.error == "RecordError"


def test_a_failure_without_a_message_is_told(toy, experiment):
    notebook = toy.notebook("toy")
    notebook.write_text(notebook.read_text().replace("the shelf is empty", ""))
    command = [sys.executable, "-c", "from claimbook.cli import main; main()", "run", "toy", "--cold"]
    done = subprocess.run(
        [*command, "--set", "crash=raise", "--arms", "baseline"], cwd=toy.root, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "1 of 1 runs did not finish" in done.stderr
    assert "failed in cell 3: ValueError\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_fork_server_that_takes_longer_than_a_run_may_is_waited_for(toy, experiment):
    engine = LocalEngine(Limits(seconds=8, threads=1), places(), preload=[])
    answer = engine._server.address

    def slow():
        time.sleep(9)
        return answer()

    engine._server.address = slow
    with engine:
        plan = batch.plan(toy, experiment, arms=["baseline"])
        (run,) = batch.execute(toy, [plan], engine=engine)
    assert (run.status, run.kernel) == ("finished", "warm")
    assert run.seconds < 8
