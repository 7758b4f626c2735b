"""What the driver tells of a run's GPU: its library is a stand-in behind the real binding, see nvml.c."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Ask = Callable[..., Any]
GIB = 1024**3
UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, DRIVER_NOT_LOADED, GPU_IS_LOST = 1, 3, 4, 9, 15

METER = """\
import json, os, sys
from claimbook.runner.gpu import Meter, installed, unmeasured
from claimbook.runner.slots import Place, places

def state(text):
    open(os.environ["NVML_STATE"], "w").write(text)

def say(*values):
    print(json.dumps(values))
"""


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Path:
    """The folder of the stand-in."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("no C compiler here to make the driver's stand-in")
    folder = tmp_path_factory.mktemp("nvml")
    made = folder / "libnvidia-ml.so.1"
    source = Path(__file__).with_name("nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", made, source], check=True)
    return folder


@pytest.fixture
def ask(library, tmp_path) -> Ask:
    """Run code in a process that finds the stand-in, with a state and variables; returns what it says."""

    def run(code: str, state: str = "", **variables: str) -> Any:
        path = tmp_path / "state"
        path.write_text(state)
        ours = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")}
        found = {"LD_LIBRARY_PATH": str(library), "NVML_STATE": str(path)}
        done = subprocess.run(
            [sys.executable, "-c", METER + textwrap.dedent(code)],
            env={**ours, **found, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_a_run_alone_on_a_gpu_gets_its_memory_and_energy(ask):
    """1 and 2 GiB of its two processes at first, then 5; the third is another's. 7,500 mJ are 7.5 J."""
    told = ask(
        """\
        meter = Meter(Place(gpu="1"))
        state("energy 1 1007500\\nprocess 1 11 1073741824\\nprocess 1 12 2147483648\\nprocess 1 13 99")
        meter.sample({11, 12})
        first = meter.peak_memory
        meter._next = 0
        state("energy 1 1007500\\nprocess 1 12 5368709120\\nprocess 0 11 999999999999")
        meter.sample({11, 12})
        meter._next = 0
        state("energy 1 1007500")
        meter.sample({11, 12})
        say(first, meter.peak_memory, meter.energy, meter.environment)
        """,
        state="energy 1 1000000\nenergy 0 5",
    )
    assert told == [3 * GIB, 5 * GIB, 7.5, {"gpu": "NVIDIA Stand-In 80GB", "driver": "580.1.2"}]


def test_energy_is_no_runs_own_where_runs_share_the_gpu(ask):
    told = ask(
        'meter = Meter(Place(gpu="0", gpu_share=0.5))\nsay(meter.energy, meter.environment["gpu"])',
        state="energy 0 1",
    )
    assert told == [None, "NVIDIA Stand-In 80GB"]


def test_a_run_that_has_several_gpus_gets_the_energy_of_all(ask):
    """As Ray gives them, two at a time: 1,000 and 2,500 mJ are 3.5 J."""
    told = ask(
        """\
        meter = Meter(Place(gpu="0,1", gpu_share=2.0))
        state("energy 0 2000\\nenergy 1 7500")
        say(meter.energy)
        """,
        state="energy 0 1000\nenergy 1 5000",
    )
    assert told == [3.5]


def test_gpus_that_no_driver_tells_of_are_used_and_the_user_is_told(ask):
    code = """\
        gpus = [place.gpu for place in places(None, "0:0.5,1")]
        say(gpus, unmeasured(gpus), unmeasured([]))
        """
    gpus, note, nothing = ask(code, LD_LIBRARY_PATH="")
    assert gpus == ["0", "1", "0"]
    assert "whether there is a GPU 0, 1 cannot be checked" in note
    assert nothing is None
    assert ask(code)[1:] == [None, None]


def test_the_environments_choice_is_measured_where_no_gpu_was_named(ask):
    """All that it shows, and none of those behind one that there is not, as CUDA reads it."""
    code = "say(Meter(Place()).environment.get('gpu', '').count('Stand-In'))"
    shown = [None, "", "1", "0,1", "1,-1,0", "GPU-bbbb", "GPU-", "MIG-cccc-2", "7"]
    found = [ask(code, **({} if one is None else {"CUDA_VISIBLE_DEVICES": one})) for one in shown]
    assert found == [[2], [0], [1], [2], [1], [1], [0], [1], [0]]
    both = "meter = Meter(Place())\nstate('energy 0 1500\\nenergy 1 2500')\nsay(meter.energy)"
    assert ask(both, state="energy 0 1000\nenergy 1 1000") == [2.0]


def test_a_part_of_a_gpu_tells_its_memory_and_no_energy(ask):
    told = ask(
        """\
        meter = Meter(Place(gpu="MIG-cccc-2"))
        meter.sample({11})
        say(meter.peak_memory, meter.energy, meter.environment["gpu"])
        """,
        state="process 2 11 2147483648\nprocess 1 11 1",
    )
    assert told == [2 * GIB, None, "NVIDIA Stand-In MIG 1g.10gb"]


@pytest.mark.parametrize("code", [UNINITIALIZED, NOT_SUPPORTED, NO_PERMISSION, GPU_IS_LOST])
@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", [7, None, "NVIDIA Stand-In 80GB", "580.1.2"]),
        ("nvmlDeviceGetComputeRunningProcesses_v3", [None, 0.0, "NVIDIA Stand-In 80GB", "580.1.2"]),
        ("nvmlDeviceGetName", [7, 0.0, None, None]),
        ("nvmlSystemGetDriverVersion", [7, 0.0, "NVIDIA Stand-In 80GB", None]),
        ("nvmlDeviceGetHandleByIndex_v2", [None, None, None, None]),
    ],
)
def test_what_the_driver_refuses_to_tell_is_none_and_the_rest_is_told(ask, function, expected, code):
    told = ask(
        """\
        meter = Meter(Place(gpu="0"))
        meter.sample({11})
        about = meter.environment
        say(meter.peak_memory, meter.energy, about.get("gpu"), about.get("driver"))
        """,
        state=f"process 0 11 7\nenergy 0 5\nerror {function} {code}",
    )
    assert told == expected


def test_a_gpu_that_is_lost_while_a_run_goes_on_leaves_what_was_seen(ask):
    told = ask(
        """\
        meter = Meter(Place(gpu="0"))
        meter.sample({11})
        meter._next = 0
        state("".join(f"error {name} 15\\n" for name in (
            "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetName")))
        meter.sample({11})
        say(meter.peak_memory, meter.energy, meter.environment)
        """,
        state="process 0 11 7\nenergy 0 5",
    )
    assert told == [7, None, {}]


def test_a_driver_that_is_not_loaded_is_no_error(ask):
    code = """\
        meter = Meter(Place(gpu="0"))
        meter.sample({11})
        say(installed(), meter.peak_memory, meter.energy, meter.environment)
        """
    assert ask(code, state=f"error nvmlInitWithFlags {DRIVER_NOT_LOADED}") == [[], None, None, {}]
    assert ask(code, LD_LIBRARY_PATH="") == [[], None, None, {}]


def test_without_a_driver_the_binding_is_not_even_imported(ask):
    code = "Meter(Place(gpu='0')).sample({1})\nsay('pynvml' in sys.modules)"
    assert ask(code, LD_LIBRARY_PATH="") == [False]
    assert ask(code) == [True]


def test_a_gpu_that_the_machine_has_not_is_refused_before_any_run(ask):
    code = """\
        from claimbook.errors import RunError
        said = []
        for text in ("0,1", "2", "GPU-aaaa", "GPU-dddd", "MIG-cccc-2"):
            try:
                said.append([place.gpu for place in places(None, text)])
            except RunError as error:
                said.append(error.problem)
        say(said)
        """
    assert ask(code) == [
        [
            ["0", "1"],
            "there is no GPU 2: this machine has 2",
            ["GPU-aaaa"],
            "there is no GPU GPU-dddd: this machine has 2",
            ["MIG-cccc-2"],
        ]
    ]


def test_a_run_records_what_the_driver_saw_of_its_kernel(ask, toy, make_notebook):
    """The notebook fails; what it took until then is recorded, its child's memory too, another's not."""
    cell = """\
    import os, subprocess, sys, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    held = f"process 0 {os.getpid()} 1000\\nprocess 0 {child.pid} 234\\nprocess 0 1 9"
    with open(os.environ["NVML_STATE"], "w") as file:
        file.write(f"energy 0 4250\\n{held}")
    time.sleep(2.5)
    1 / 0
    """
    make_notebook(toy.notebook("toy"), "seed: int = 0", textwrap.dedent(cell))
    code = f"""\
        import threading
        from pathlib import Path
        from claimbook.experiments import Experiment, this_process
        from claimbook.records import Run
        from claimbook.runner.slots import Limits
        from claimbook.runner.supervise import Slot
        experiment = Experiment(Path({str(toy.experiments / "toy")!r}))
        run = Run(
            id="one", experiment="toy", arm="baseline", seed=0, kind="exploratory", why_exploratory=[],
            seal=None, notebook="toy", parameters={{"seed": 0}}, fingerprints={{}}, git={{}},
            environment={{"python": "3"}}, status="running", started="2026-01-01T00:00:00Z",
            process=this_process(),
        )
        experiment.save_run(run)
        with Slot(Limits(seconds=100, threads=1), Place(gpu="0")) as slot:
            notebook = Path({str(toy.notebook("toy"))!r})
            ended = slot.run(experiment, run, notebook, threading.Event(), lambda update: None)
        say(ended.status, ended.peak_gpu_memory, ended.gpu_energy, ended.environment)
        """
    told = ask(code, state="energy 0 3000")
    about = {"python": "3", "gpu": "NVIDIA Stand-In 80GB", "driver": "580.1.2"}
    assert told == ["failed", 1234, 1.25, about]
