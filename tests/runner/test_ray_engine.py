"""A cluster of two nodes on this machine: real Ray, real kernels, one node killed while it works."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from msgspec.structs import replace

import claimbook
from claimbook.errors import RunError
from claimbook.experiments import Experiment, this_process
from claimbook.integrity import problems
from claimbook.records import Run
from claimbook.records.batch import Ended, Progress
from claimbook.runner import batch, ray_cluster
from claimbook.runner.local import LocalEngine
from claimbook.runner.ray_cluster import Needs
from claimbook.runner.ray_engine import RayEngine
from claimbook.runner.ray_node import NodeHost
from claimbook.runner.slots import Limits, places
from claimbook.workspace import Workspace, find

LIMITS = Limits(seconds=120, threads=1)
NODE = {"num_cpus": 2, "object_store_memory": 80 * 1024 * 1024, "include_dashboard": False}
QUICK_TO_NOTICE = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
MARK = "CLAIMBOOK_TEST_CLUSTER"

HANG_ON_THE_SECOND_NODE = """\
if os.environ.get("CLAIMBOOK_TEST_NODE") == "second" and seed >= 2:
    run.log(step=0, loss=1.0)
    time.sleep(600)
"""


class TwoNodes:
    """A cluster whose second node can be killed, and started again for the next test."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._mark = uuid.uuid4().hex
        os.environ[MARK] = self._mark
        head = {**NODE, "_system_config": QUICK_TO_NOTICE}
        self._cluster = self._patiently(lambda: Cluster(initialize_head=True, head_node_args=head))
        self._second: Any = None

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def start_second(self, **variables: str) -> str:
        """Another node, with variables of its own; returns its id."""
        self.kill_second()
        told = {"CLAIMBOOK_TEST_NODE": "second", **variables}
        self._second = self._patiently(lambda: self._cluster.add_node(env_vars=told, **NODE))
        return str(self._second.node_id)

    def _patiently(self, start: Callable[[], Any]) -> Any:
        """Ray gives its processes 30 s to come up, which a busy machine may exceed."""
        before = {process.pid for process in self.processes()}
        for _ in range(3):
            try:
                return start()
            except Exception as error:
                failure = error
                for process in self.processes():
                    if process.pid not in before:
                        process.kill()
        raise failure

    def kill_second(self) -> None:
        """End the node's processes without a word to anyone."""
        if self._second is not None:
            self._cluster.remove_node(self._second, allow_graceful=False)
            self._second = None

    def end(self) -> None:
        self._cluster.shutdown()
        del os.environ[MARK]

    def kernels(self) -> list[psutil.Process]:
        """Workers and kernels of runs, wherever on the cluster."""
        return [process for process in self.processes() if _is_of_a_run(process)]

    def processes(self) -> list[psutil.Process]:
        """All that were started under the cluster's mark, this process aside."""
        found = []
        for process in psutil.process_iter():
            try:
                ours = process.environ().get(MARK) == self._mark and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue
        return found


def _is_of_a_run(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
        return "claimbook.runner.worker" in words or "CLAIMBOOK_RUN" in process.environ()
    except psutil.Error:
        return False


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """The first node; tests that need the second one start it."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs the extra `ray`")
    ray_cluster.load()  # as the engine does: how Ray is loaded decides what it prints
    found = TwoNodes()
    yield found
    found.end()
    wait_until(lambda: not found.processes(), 30, "the cluster's processes are gone")


@pytest.fixture
def engine(toy: Workspace, cluster: TwoNodes) -> Callable[[int], RayEngine]:
    """An engine on the cluster, to be entered."""
    return lambda slots: RayEngine(toy, LIMITS, slots, address=cluster.address)


@pytest.fixture
def experiment(toy: Workspace) -> Experiment:
    return Experiment.of(toy, "toy")


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(0.1)
    return value


def change_notebook(toy: Workspace, old: str, new: str) -> None:
    """Replace a text in the toy notebook's code."""
    path = toy.notebook("toy")
    document = json.loads(path.read_text("utf-8"))
    assert any(old in cell["source"] for cell in document["cells"])
    for cell in document["cells"]:
        cell["source"] = cell["source"].replace(old, new)
    path.write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def made_on(engine: RayEngine | LocalEngine, space: Workspace, **changes: Any) -> Run:
    """The baseline's run of seed 5."""
    plan = batch.plan(space, Experiment.of(space, "toy"), seeds=[5], arms=["baseline"], changes=changes)
    (run,) = batch.execute(space, [plan], engine=engine)
    return run


def test_a_batch_of_24_outlives_the_death_of_one_of_two_nodes(toy, experiment, cluster, engine, capfd):
    change_notebook(toy, "random.seed(seed)\n", f"{HANG_ON_THE_SECOND_NODE}random.seed(seed)\n")
    node_id = cluster.start_second()
    killer = threading.Thread(target=cluster.kill_second)
    events = []

    def report(event):
        events.append(event)
        hangs = isinstance(event, Progress) and event.step == 0
        if hangs and killer.ident is None:
            killer.start()

    plan = batch.plan(toy, experiment, seeds=list(range(8)))
    with engine(4) as four:
        assert four.slots == 4
        runs = batch.execute(toy, [plan], engine=four, report=report)
    killer.join()
    assert "raylet" not in "".join(capfd.readouterr())  # what Ray's processes tell is not for our reader

    # 200 items, of which 200 × effect are hits; the arms lose one hit for seed % 3 == 1, two for 2
    expected = {
        (arm, seed): (hits - (0 if arm == "shuffled" else seed % 3)) / 200
        for arm, hits in {"baseline": 40, "treatment": 120, "shuffled": 100}.items()
        for seed in range(8)
    }
    assert {(run.arm, run.seed): run.metrics["hit@1"] for run in runs} == expected
    recorded = experiment.runs()
    assert Counter((run.arm, run.seed) for run in recorded if run.status == "finished") == dict.fromkeys(
        expected, 1
    )
    lost = [run for run in recorded if run.status != "finished"]
    assert lost
    assert {run.status for run in lost} == {"lost"}
    assert {run.failure.error for run in lost} == {"NodeLost"}
    assert any(node_id[:8] in run.failure.message for run in lost)
    again = [run for run in recorded if run.attempt == 2]
    assert {(run.arm, run.seed) for run in again} == {(run.arm, run.seed) for run in lost}
    assert sum(isinstance(event, Ended) and event.again for event in events) == len(lost)
    assert problems(experiment) == []
    wait_until(lambda: not cluster.kernels(), 30, "no kernel is left on either node")


@dataclass
class Made:
    """What was made once for the tests that look at it: a workspace with Korean names, and two runs."""

    space: Workspace
    finished: Run
    failed: Run
    at_home: Run
    """The finished one once more, by the local engine in another copy of the workspace."""

    @property
    def experiment(self) -> Experiment:
        return Experiment.of(self.space, "toy")

    def shown(self) -> str:
        """The text that the finished run's notebook shows."""
        cells = json.loads(self.experiment.notebook_path(self.finished.id).read_text("utf-8"))["cells"]
        outputs = [output for cell in cells for output in cell.get("outputs", [])]
        return "".join("".join(output.get("text", "")) for output in outputs)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Where the runs of `made` are kept for the tests that come after."""
    return {"folder": tmp_path_factory.mktemp("논문 주간")}


@pytest.fixture
def made(toy: Workspace, cluster: TwoNodes, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Made:
    if "made" in kept:
        return kept["made"]
    monkeypatch.setenv("SHOP_PASSWORD", "opensesame-1234")
    (toy.notebooks / "도우미.py").write_text("인사 = '머그컵을 찾았습니다'\n", "utf-8")
    (toy.root / "data").rename(toy.root / "상품")
    settings = toy.root / "pyproject.toml"
    settings.write_text(settings.read_text("utf-8").replace('"data"', '"상품"'), "utf-8")
    change_notebook(toy, "data = load", "import 도우미\nprint(도우미.인사, sorted(os.environ))\ndata = load")
    change_notebook(toy, "hits = [", "scores = [random.random() for i in range(n)]\nhits = [")
    change_notebook(toy, '"hit@1": hits}', '"hit@1": hits, "score": scores}')
    away, here = (find(shutil.copytree(toy.root, kept["folder"] / name)) for name in ("멀리", "여기"))
    with RayEngine(away, LIMITS, 1, address=cluster.address, preload=["numpy"]) as engine:
        finished, failed = made_on(engine, away), made_on(engine, away, crash="raise")
    with LocalEngine(LIMITS, places(1)) as local:
        kept["made"] = Made(away, finished, failed, made_on(local, here))
    return kept["made"]


def test_a_result_is_the_local_engines_to_the_last_digit(made):
    assert made.finished.status == "finished", made.finished.failure
    assert made.finished.metrics == made.at_home.metrics
    assert made.finished.items_sha256 == made.at_home.items_sha256
    assert made.experiment.items(made.finished).mean("hit@1") == 38 / 200  # 40 hits, less 5 % 3
    steps, _ = made.experiment.steps(made.finished.id)
    assert [step.values for step in steps] == [{"loss": 0.5}]
    assert made.finished.environment.keys() == made.at_home.environment.keys()


@pytest.mark.skipif(sys.platform != "linux", reason="warm kernels need Linux")
def test_kernels_are_forked_on_the_node(made):
    assert (made.finished.kernel, made.finished.why_cold) == ("warm", None)
    assert made.at_home.kernel == "cold"


def test_korean_names_and_texts_travel(made):
    assert "notebooks/도우미.py" in made.finished.fingerprints["code"]
    assert "머그컵을 찾았습니다" in made.shown()


def test_no_variable_of_this_process_reaches_a_kernel(made):
    assert "CLAIMBOOK_RUN" in made.shown()
    assert "SHOP_PASSWORD" not in made.shown()


def test_a_cell_that_fails_comes_home_with_its_error_and_its_notebook(made):
    failure = made.failed.failure
    assert (made.failed.status, failure.error, failure.message) == (
        "failed",
        "ValueError",
        "the shelf is empty",
    )
    executed = json.loads(made.experiment.notebook_path(made.failed.id).read_text("utf-8"))["cells"]
    cells = [c for c in executed if "papermill-error-cell-tag" not in c["metadata"].get("tags", [])]
    assert "the shelf is empty" in "".join(cells[failure.cell]["source"])


def test_a_run_that_is_stopped_keeps_its_steps_and_leaves_no_kernel(made, cluster):
    stop = threading.Event()
    seen = []

    def report(update):
        seen.append(update)
        if update.step == 0:
            stop.set()

    run = replace(made.finished, id="again", parameters={**made.finished.parameters, "crash": "hang"})
    made.experiment.save_run(run)
    with RayEngine(made.space, LIMITS, 1, address=cluster.address) as engine, engine.open(0) as slot:
        ended = slot.run(made.experiment, run, made.space.notebook("toy"), stop, report)
        assert not cluster.kernels()
    assert (ended.status, ended.failure.error) == ("cancelled", "Cancelled")
    assert seen[-1].values == {"loss": 1.0}
    assert [step.step for step in made.experiment.steps("again")[0]] == [0]
    assert json.loads(made.experiment.notebook_path("again").read_text("utf-8"))["cells"]


def test_a_driver_that_is_killed_leaves_no_kernel(toy, experiment, cluster):
    code = f"""
from claimbook.runner import batch
from claimbook.runner.ray_engine import RayEngine
from claimbook.runner.ray_node import NodeHost
from claimbook.runner.slots import Limits
from claimbook.experiments import Experiment, this_process
from claimbook.workspace import find
toy = find()
plan = batch.plan(toy, Experiment.of(toy, "toy"), seeds=[0], arms=["baseline"], changes={{"crash": "hang"}})
with RayEngine(toy, Limits(threads=1), 1, address={cluster.address!r}) as engine:
    batch.execute(toy, [plan], engine=engine)
"""
    driver = subprocess.Popen([sys.executable, "-c", code], cwd=toy.root)
    wait_until(lambda: any(experiment.last_step(run.id) for run in experiment.runs()), 90, "a step is home")
    assert cluster.kernels()
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_until(lambda: not cluster.kernels(), 30, "the nodes have noticed")
    assert [run.status for run in experiment.runs()] == ["lost"]


def test_where_no_node_has_the_products_the_runs_fail_and_say_so(cluster, toy, tmp_path, monkeypatch):
    cluster.kill_second()
    (tmp_path / "here").mkdir()
    (toy.root / "data").rename(tmp_path / "here" / "data")
    settings = toy.root / "pyproject.toml"
    text = settings.read_text("utf-8")
    table = text[text.index("[tool.claimbook.products.tiny]") :]
    everywhere = table.replace("tiny", "near").replace('"data"', f'"{tmp_path}/here/data"')
    text = text.replace('"data"', '"$SHELF_HERE_ALONE/data"')
    settings.write_text(f"{text}\n{everywhere}", "utf-8")
    monkeypatch.setenv("SHELF_HERE_ALONE", str(tmp_path / "here"))
    toy = find(toy.root)
    plan = batch.plan(toy, Experiment.of(toy, "toy"), seeds=[0], arms=["baseline", "treatment"])
    with RayEngine(toy, LIMITS, 1, address=cluster.address) as one:
        assert made_on(one, toy, products="near").status == "finished"  # its parcel has the same files
        unfit, without = batch.execute(toy, [plan], engine=one)
    for run in (unfit, without):
        assert (run.status, run.failure.error) == ("failed", "NoNode")
        assert "the product set tiny cannot be loaded: the environment variable" in run.failure.message
        assert "SHELF_HERE_ALONE" in run.failure.message
        assert "put the same there" in run.failure.message


def other_code(folder: Path) -> str:
    """Change the code in a copy of the package; returns how a node is refused that has it."""
    with (folder / "vlm" / "metrics.py").open("a") as file:
        file.write("# another day\n")
    return f"its claimbook {claimbook.__version__} has other code"


def a_missing_package(folder: Path) -> str:
    (folder / "__init__.py").write_text("import a_package_that_is_missing\n")
    return "ModuleNotFoundError: No module named 'a_package_that_is_missing'"


@pytest.mark.parametrize("spoil", [other_code, a_missing_package])
def test_an_unfit_node_is_named_and_costs_no_job_an_attempt(cluster, toy, engine, tmp_path, spoil):
    shutil.copytree(Path(claimbook.__file__).parent, tmp_path / "claimbook")
    why = spoil(tmp_path / "claimbook")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    node_id = cluster.start_second(PYTHONPATH=path)
    plan = batch.plan(toy, Experiment.of(toy, "toy"), seeds=[0])
    with engine(4) as four:
        batch.execute(toy, [plan], engine=four)
        notes = four.notes
    assert [why in note for note in notes if node_id[:8] in note] == [True], notes
    recorded = Experiment.of(toy, "toy").runs()
    assert [(run.status, run.attempt) for run in recorded] == [("finished", 1)] * 3


def test_a_run_that_no_node_has_room_for_is_refused(cluster, toy):
    with (
        pytest.raises(RunError, match="no node of the Ray cluster has 64 CPU and 2 GPU"),
        RayEngine(toy, Limits(threads=64), 1, gpu_share=2, address=cluster.address),
    ):
        pass


def test_a_cluster_that_is_not_there_is_refused_with_its_address(toy):
    pytest.importorskip("ray")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: it refuses
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(RunError, match=f"Ray did not come up at {address}: .*refused"):
            RayEngine(toy, LIMITS, 1, address=address).__enter__()


INTERRUPTED = """\
import psutil, signal
from claimbook.runner import ray_cluster

def interrupt(number, frame):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, interrupt)
ray_cluster.load()
print("starts", flush=True)
try:
    with ray_cluster.connected(None, 1):
        print("is up", flush=True)
except KeyboardInterrupt:
    print("is left", [child.name() for child in psutil.Process().children()])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cluster_that_is_interrupted_while_it_starts_leaves_no_process(number):
    pytest.importorskip("ray")
    driver = subprocess.Popen([sys.executable, "-c", INTERRUPTED], stdout=subprocess.PIPE, text=True)
    assert driver.stdout.readline() == "starts\n"
    wait_until(lambda: psutil.Process(driver.pid).children(), 30, "a process of the cluster is up")
    driver.send_signal(number)
    said, _ = driver.communicate(timeout=60)
    assert said == "is left []\n"


def test_what_a_killed_driver_leaves_of_its_cluster_is_removed_by_the_next(tmp_path):
    owner = replace(this_process(), created=this_process().created - 60)
    folder = tmp_path / "cluster-dead"
    folder.mkdir()
    (folder / "owner.json").write_bytes(msgspec.json.encode(owner))
    marked = {**os.environ, "CLAIMBOOK_RAY_FOLDER": str(folder)}
    left_behind = subprocess.Popen(["sleep", "60"], env=marked)
    kept = ray_cluster.own_folder("cluster-", tmp_path)
    assert left_behind.poll() is not None
    assert list(tmp_path.iterdir()) == [kept]
    ray_cluster.remove(kept)


@pytest.mark.parametrize(
    ("needs", "has", "room"),
    [
        (Needs(2), {"CPU": 7}, 3),
        (Needs(1, 0.5), {"CPU": 16, "GPU": 3}, 6),
        (Needs(1, 1 / 3), {"CPU": 16, "GPU": 2}, 6),
        (Needs(1, 0.4), {"CPU": 16, "GPU": 2}, 4),  # two on each: none lies over both
        (Needs(1, 2), {"CPU": 16, "GPU": 5}, 2),
        (Needs(8, 0.5), {"CPU": 16, "GPU": 4}, 2),
        (Needs(1, 1), {"CPU": 16}, 0),
    ],
)
def test_a_node_has_room_for_as_many_runs_as_its_scarcest_resource(needs, has, room):
    assert needs.room(has) == room


def test_a_host_removes_what_killed_ones_left_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = this_process()
    dead, living, strange = (tmp_path / f"claimbook-node-{name}" for name in ("dead", "living", "strange"))
    for folder, owner in ((dead, replace(ours, created=ours.created - 60)), (living, ours)):
        folder.mkdir()
        (folder / "owner.json").write_bytes(msgspec.json.encode(owner))
    strange.mkdir()
    host = NodeHost({}, None)
    assert not dead.exists()
    assert living.exists()
    assert strange.exists()
    host.leave()
    assert sorted(tmp_path.iterdir()) == [living, strange]
