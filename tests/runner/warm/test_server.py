"""A forked kernel is one like any other, and nothing outlives whom it belongs to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from claimbook.runner.sockets import TEMPORARY
from claimbook.runner.warm import client
from claimbook.runner.warm.client import RESTARTS, ForkServer

INTERPRETER = sys.executable
"""This one, also where a test has its fork servers run another."""

STATE = """
import json, os, re, signal, sys, threading, warnings, locale, resource, random, tempfile, time
import numpy, torch, matplotlib, matplotlib.pyplot as plt
from tqdm.auto import tqdm
from ctypes import CDLL
import glob
blas = glob.glob(os.path.join(os.path.dirname(numpy.__file__) + ".libs", "*openblas*"))
fig, ax = plt.subplots(); ax.plot([1, 2]); plt.close(fig)
print(json.dumps({
    "argv": [a for a in sys.argv if not a.endswith(".json")], "path": sys.path, "main": __name__,
    "main module": sys.modules["__main__"] is sys.modules[__name__], "cwd": os.getcwd(),
    "environment": {k: v for k, v in os.environ.items() if k not in ("JPY_PARENT_PID", "_")},
    "signals": [str(signal.getsignal(s)) for s in (2, 15, 13, 17)],
    "threads": [torch.get_num_threads(), CDLL(blas[0]).scipy_openblas_get_num_threads64_() if blas else None],
    "python threads": sorted(re.sub("[0-9]", "", t.name) for t in threading.enumerate()),
    "locale": locale.setlocale(locale.LC_ALL), "umask": os.umask(0o22), "files": resource.getrlimit(7),
    "rcParams": {k: str(v) for k, v in matplotlib.rcParams.items()}, "tqdm": str(tqdm),
    "filters": [[f[0], str(f[1]), str(f[2]), str(f[3]), f[4]] for f in warnings.filters],
    "temporary": tempfile.gettempdir(), "stdin": sys.stdin.read() if sys.stdin else None,
    "cuda": torch.cuda.is_initialized(), "tz": time.tzname, "group": os.getpgrp() == os.getpid(),
}))
"""


def test_a_warm_kernel_is_what_a_cold_one_is(server, start, tmp_path):
    folder = tmp_path / "실험 하나"
    folder.mkdir()
    states = []
    for address in (server.address()[0], "/nowhere"):
        with start(address, {"CLAIMBOOK_TEST_MARK": "상품"}, cwd=str(folder)) as kernel:
            assert (kernel.provisioner.why_cold is None) == (address != "/nowhere")
            states.append(json.loads(kernel.printed(STATE).splitlines()[-1]))
    warm, cold = states
    for state in states:
        state["environment"].pop("CLAIMBOOK_FORK_SERVER")
    for name in cold:
        assert warm[name] == cold[name], name
    assert warm["cwd"] == str(folder)
    assert warm["environment"]["CLAIMBOOK_TEST_MARK"] == "상품"
    assert warm["threads"] == [2, 2]
    assert "inline" in warm["rcParams"]["backend"]


def test_figures_appear(server, outputs):
    code = "import sys; assert 'matplotlib.pyplot' in sys.modules\n"
    code += "import matplotlib.pyplot as plt\nplt.plot([1, 2, 3]);"
    found = outputs(code, server.address()[0])
    assert any("image/png" in output.get("data", {}) for output in found)


NUMBERS = """
import torch
torch.set_num_threads({threads})
torch.manual_seed(3)
a = torch.randn(400, 300); w = torch.randn(300, 200, requires_grad=True)
loss = torch.nn.functional.layer_norm(a @ w, (200,)).softmax(1).log().mean(); loss.backward()
import numpy
r = numpy.random.default_rng(3).standard_normal((300, 300))
print(loss.item().hex(), w.grad.double().sum().item().hex(), float(numpy.linalg.svd(r @ r)[1].sum()).hex())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_numbers_warm_and_cold(kernel, threads):
    code = NUMBERS.format(threads=threads)
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert kernel.printed(code) == done.stdout.strip()


def test_no_two_kernels_share_their_random_numbers(server, start):
    code = "import random, numpy, torch\n"
    code += "for n in (random.random(), numpy.random.rand(), torch.rand(1).item()): print(n)"
    address = server.address()[0]
    with start(address) as one, start(address) as other:
        first, second = one.printed(code).split(), other.printed(code).split()
    assert len(first) == 3
    assert all(a != b for a, b in zip(first, second, strict=True))


LEFT_BEHIND = """
import os, subprocess, sys, torch
from torch.utils.data import DataLoader
class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True: yield 1
loader = iter(DataLoader(Endless(), num_workers=2)); next(loader)
daemon = subprocess.Popen(["sh", "-c", "setsid sleep 600 & echo $!"], stdout=subprocess.PIPE)
print(os.getpid(), os.getppid(), int(daemon.stdout.readline()), *(w.pid for w in loader._workers))
"""


@pytest.mark.parametrize("killed", ["kernel", "keeper", "client"])
def test_whoever_is_killed_the_kernel_and_all_that_it_started_go(server, start, gone, killed):
    with start(server.address()[0]) as kernel:
        pids = [int(word) for word in kernel.printed(LEFT_BEHIND).split()]
        assert len(pids) == 5
        assert all(psutil.pid_exists(pid) for pid in pids)
        if killed == "client":
            kernel.provisioner.process.close()  # what the system does to a dead client's socket
        else:
            os.kill(pids[0] if killed == "kernel" else pids[1], signal.SIGKILL)
        assert gone(*pids)


def test_a_kernel_s_end_is_told_when_all_that_it_started_is_gone(server, start):
    with start(server.address()[0]) as kernel:
        pids = [int(word) for word in kernel.printed(LEFT_BEHIND).split()]
        os.kill(pids[0], signal.SIGKILL)
        assert kernel.provisioner.process.wait(30) == -signal.SIGKILL
        assert not any(psutil.pid_exists(pid) for pid in (pids[0], *pids[2:]))


def test_a_killed_server_takes_no_kernel_with_it_and_leaves_none_behind(start, gone):
    with ForkServer(["json"], {**os.environ, "OMP_NUM_THREADS": "2"}) as server:
        address, _ = server.address()
        with start(address) as kernel:
            printed = kernel.printed("import os; print(os.getpid(), os.getppid())")
            pid, keeper = (int(word) for word in printed.split())
            os.kill(server.pid, signal.SIGKILL)
            time.sleep(0.2)
            assert kernel.printed("print(6 * 7)") == "42"
        assert gone(pid, keeper)
        assert server.address()[0] is not None  # and there is a new one


def test_a_client_that_is_killed_leaves_nothing(server, gone, tmp_path):
    script = tmp_path / "client.py"
    script.write_text(
        "import os, sys, time\nfrom pathlib import Path\n"
        "from claimbook.runner.warm.client import ForkedKernel, request\n"
        "from jupyter_client.connect import write_connection_file\n"
        f"file, _ = write_connection_file({str(tmp_path / 'c.json')!r})\n"
        "r = request(sys.executable, ['-f', file], {**os.environ}, Path('/'))\n"
        f"k = ForkedKernel(Path({str(server.address()[0])!r}), r, (0, 1, 2))\n"
        "print(k.pid, k.keeper, flush=True)\ntime.sleep(600)\n"
    )
    client = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout
    pids = [int(word) for word in client.stdout.readline().split()]
    assert len(pids) == 2
    client.kill()
    client.wait()
    client.stdout.close()
    assert gone(*pids)


def test_atexit_functions_run_on_a_graceful_shutdown(server, start, tmp_path):
    mark = tmp_path / "mark"
    with start(server.address()[0]) as kernel:
        kernel.printed("import atexit, pathlib")
        kernel.printed(f"atexit.register(pathlib.Path({str(mark)!r}).write_text, 'done')")
        kernel.manager.shutdown_kernel()
        assert not kernel.manager.has_kernel
    assert mark.read_text() == "done"


def test_an_interrupt_ends_the_cell_and_not_the_kernel(kernel):
    code = "import time; print('sleeping', flush=True); time.sleep(600)"
    # else ipykernel drops what is asked for within a moment of the error
    message = kernel.client.execute(code, stop_on_error=False)
    while kernel.client.get_iopub_msg(timeout=30)["header"]["msg_type"] != "stream":
        pass
    kernel.manager.interrupt_kernel()
    reply = kernel.client.get_shell_msg(timeout=30)
    assert reply["parent_header"]["msg_id"] == message
    assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert kernel.printed("print(6 * 7)") == "42"


def test_a_restarted_kernel_is_a_new_one(kernel):
    before = kernel.printed("x = 1; import os; print(os.getpid())")
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    assert kernel.printed("import os; print('x' in globals(), os.getpid())").split()[0] == "False"
    assert kernel.provisioner.why_cold is None
    assert kernel.provisioner.pid != int(before)


def site_packages(folder: Path) -> tuple[str, Path]:
    """An interpreter with an environment of its own on top of this one, and its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    found = next(folder.glob("lib/*/site-packages"))
    theirs = [p for p in sys.path if p.endswith("site-packages")]
    (found / "parent.pth").write_text("\n".join(theirs))
    return str(folder / "bin" / "python"), found


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """site-packages of an environment whose fork servers this test may make stale."""
    interpreter, folder = site_packages(tmp_path / "environment")
    monkeypatch.setattr(sys, "executable", interpreter)
    return folder


def test_a_server_whose_module_changed_is_restarted(own):
    (own / "shelf.py").write_text("x = 1\n")
    with ForkServer(["shelf"], os.environ) as server:
        first, _ = server.address()
        before = server.pid
        assert server.address() == (first, None)
        assert server.pid == before
        (own / "shelf.py").write_text("x = 22\n")
        assert server.address()[0] is not None
        assert server.pid != before


def test_a_server_is_restarted_when_something_is_installed(own):
    with ForkServer([], os.environ) as server:
        server.address()
        before = server.pid
        (own / "shelf-1.0.dist-info").mkdir()
        assert server.address()[0] is not None
        assert server.pid != before


def test_a_module_that_puts_packages_of_its_own_on_the_path_makes_no_server_stale(own):
    (own / "shelf" / "bundled" / "shelf_parts-1.0.dist-info").mkdir(parents=True)
    (own / "shelf" / "__init__.py").write_text("import sys\nsys.path.insert(0, __path__[0] + '/bundled')\n")
    with ForkServer(["shelf"], os.environ) as server:
        server.address()
        before = server.pid
        assert server.left_out == {}
        assert server.address()[1] is None
        assert server.pid == before


def test_what_starts_a_thread_fails_or_lies_elsewhere_is_left_out_and_said(own, tmp_path):
    (tmp_path / "project.py").write_text("")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    (own / "busy.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    (own / "broken.py").write_text("raise RuntimeError('no such shelf')\n")
    with ForkServer(["busy", "broken", "project", "no_such_module", "json"], environment) as server:
        assert server.address()[1] is None
        assert server.left_out == {
            "busy": "it starts a thread when it is imported",
            "broken": "RuntimeError: no such shelf",
            "project": "ImportError: it does not lie in site-packages",
            "no_such_module": "ImportError: it is not installed",
        }


def test_a_thread_that_starts_later_ends_the_server_s_use(own, start):
    # a signal handler is what can run in a server that waits
    (own / "waking.py").write_text(
        "import signal, threading, time\n"
        "def wake(*_):\n    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
        "signal.signal(signal.SIGUSR1, wake)\n"
    )
    with ForkServer(["waking"], os.environ) as server:
        address, _ = server.address()
        assert server.pid
        os.kill(server.pid, signal.SIGUSR1)
        time.sleep(0.3)
        with start(address) as kernel:
            assert kernel.provisioner.why_cold == "2 threads run in the fork server"
            assert kernel.printed("print(6 * 7)") == "42"


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"OMP_NUM_THREADS": "1"}, "OMP_NUM_THREADS"),
        ({"HF_HOME": "/elsewhere"}, "HF_HOME"),
        ({"PYTHONPATH": "src"}, "PYTHONPATH"),
    ],
)
def test_a_variable_that_is_read_while_importing_makes_the_start_cold(server, start, variables, reason):
    with start(server.address()[0], variables) as kernel:
        assert reason in kernel.provisioner.why_cold
        assert "/elsewhere" not in kernel.provisioner.why_cold
        assert kernel.printed("print(6 * 7)") == "42"


@pytest.mark.parametrize("name", ["json.py", "matplotlibrc"])
def test_a_file_that_importing_would_find_in_the_folder_makes_the_start_cold(server, start, tmp_path, name):
    (tmp_path / name).write_text("")
    with start(server.address()[0], cwd=str(tmp_path)) as kernel:
        assert str(tmp_path / name) in kernel.provisioner.why_cold


def test_a_folder_that_is_not_there_fails_as_a_cold_start_does(server, start):
    address, pid = server.address()[0], server.pid
    with pytest.raises(FileNotFoundError), start(address, cwd="/no/such/folder"):
        pass
    assert server.address()[0]
    assert server.pid == pid


def test_a_gpu_is_chosen_in_the_kernel_and_cuda_untouched_before(server, start):
    with start(server.address()[0], {"CUDA_VISIBLE_DEVICES": "1"}) as kernel:
        assert kernel.provisioner.why_cold is None
        code = "import os, torch; print(os.environ['CUDA_VISIBLE_DEVICES'], torch.cuda.is_initialized(), "
        code += "'PYTORCH_NVML_BASED_CUDA_CHECK' in os.environ)"
        assert kernel.printed(code) == "1 False False"


def test_leaving_the_server_ends_it_and_its_folder(gone):
    server = ForkServer([], os.environ)
    with server:
        address, _ = server.address()
        pid = server.pid
        assert address
        assert pid
    assert gone(pid)
    assert not address.parent.exists()
    assert server.address() == (None, None)


@pytest.fixture
def slow(own, tmp_path) -> Path:
    """A file that is there once the module `slow` is being imported, which takes ten minutes."""
    mark = tmp_path / "importing"
    (own / "slow.py").write_text(
        f"import pathlib, time\npathlib.Path({str(mark)!r}).touch()\ntime.sleep(600)\n"
    )
    return mark


def until_there(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert path.exists()


OWNER = """
import os, sys, time
from claimbook.runner.warm.client import ForkServer
_, sys.executable, *preload = sys.argv
server = ForkServer(preload, os.environ)
print(server.pid, None if preload else server.address()[0], flush=True)
time.sleep(600)
"""


@pytest.fixture
def owner() -> Iterator[Callable[..., tuple[subprocess.Popen[str], int, str]]]:
    """Processes that own a fork server each: such a process, its server's id, and where that listens."""
    started = []

    def start(*preload: str) -> tuple[subprocess.Popen[str], int, str]:
        command = [INTERPRETER, "-c", OWNER, sys.executable, *preload]
        owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(owner)
        assert owner.stdout
        pid, address = owner.stdout.readline().split()
        return owner, int(pid), address

    yield start
    for owner in started:
        owner.kill()
        owner.communicate()
        for folder in TEMPORARY.glob(f"claimbook-{owner.pid}-*"):  # as the sweep does, a day later
            shutil.rmtree(folder)


def test_a_server_whose_owner_is_killed_ends_though_an_import_goes_on(owner, slow, gone):
    process, server, _ = owner("slow")
    until_there(slow)
    process.kill()
    assert gone(server)


def test_a_server_whose_owner_is_killed_ends_with_its_folder(owner, gone):
    process, server, address = owner()
    assert Path(address).exists()
    process.kill()
    assert gone(server)
    assert not Path(address).parent.exists()


def test_a_server_that_imports_for_too_long_is_told_with_the_module(slow, monkeypatch):
    monkeypatch.setattr(client, "READY_SECONDS", 0.5)
    monkeypatch.setattr(client, "RESTARTS", 0)
    with ForkServer(["slow"], os.environ) as server:
        until_there(slow)
        assert server.address() == (None, "after 0.5 s the fork server still imported slow")


def test_who_waits_for_a_server_that_is_told_to_stop_gets_no_reason(slow):
    with ForkServer(["slow"], os.environ) as server, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.address)
        until_there(slow)
        server.close()
        assert waiting.result(60) == (None, None)


@pytest.mark.parametrize(
    ("death", "told"),
    [
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL while it imported fatal"),
        ("os._exit(7)", "ended with exit code 7 while it imported fatal: no message"),
        (
            "os.write(2, b'no disk\\n'); os._exit(7)",
            "ended with exit code 7 while it imported fatal: no disk",
        ),
    ],
)
def test_a_server_that_dies_while_it_imports_is_told_with_how_and_where(own, death, told):
    (own / "fatal.py").write_text(f"import os\n{death}\n")
    with ForkServer(["fatal"], os.environ) as server:
        assert server.address() == (None, f"the fork server {told}")


def test_a_server_that_is_killed_again_and_again_is_told_with_the_signal():
    with ForkServer([], os.environ) as server:
        for _ in range(1 + RESTARTS):
            assert server.address()[1] is None
            os.kill(server.pid, signal.SIGSEGV)
        assert server.address() == (None, "the fork server was ended by SIGSEGV while it served")


def test_what_a_module_prints_when_it_is_imported_reaches_neither_client_nor_kernel(
    own, start, tmp_path, monkeypatch
):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    (own / "loud.py").write_text("print('loud')\nimport os\nos.write(1, b'louder\\n')\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    with ForkServer(["loud"], environment) as server, (tmp_path / "printed").open("w") as printed:
        address, why = server.address()
        assert address, why
        with start(address, stdout=printed) as kernel:
            assert kernel.provisioner.why_cold is None
            assert kernel.printed("import sys; print('loud' in sys.modules)") == "True"
    assert (tmp_path / "printed").read_text() == ""


def test_a_server_that_cannot_start_gives_its_reason(own):
    shutil.rmtree(own)
    with ForkServer([], os.environ) as server:
        address, why = server.address()
    assert address is None
    assert why
    assert "exit code 1 while it imported ipykernel" in why
