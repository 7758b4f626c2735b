"""The fork server, a script of its own: it imports heavy modules once and forks kernels that have them.

Knows how to import without starting a thread, and how a fork becomes an ipykernel that behaves as one of a
new interpreter does. It imports the standard library, ipykernel and what it was told to: never claimbook or
a project, whose code would go stale in it. Where it cannot vouch for a kernel it refuses, with the reason.

Its one argument is a JSON object: `socket` (where it listens), `preload` (such as "torch" and
"transformers:CLIPModel"), `linger` (seconds to live without a kernel; null: to live while standard input is
open). On standard output it tells what it imports, {"importing": "torch"}, and once it listens what it left
out, {"left_out": {"module": "reason"}}.

A request is a JSON line with three open files, the kernel's standard streams. The answers are lines too:
{"pid": 7, "keeper": 6} once the kernel listens, and {"exit": 0} once it and all that it started are gone; or
{"refused": "reason", "stale": true}, and a stale server ends. The request {} asks whether it is fresh.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import importlib
import importlib.util
import json
import os
import re
import select
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

READ_AT_IMPORT = re.compile(
    r"PYTHON|LD_|LC_|LANG|TZ$|HOME$|XDG_|OMP_|GOMP_|KMP_|MKL_|OPENBLAS_|GOTO_|BLIS_|NUMEXPR_|NPY_|NUMPY_|MPL"
    r"|TORCH|PYTORCH|ATEN_|TRANSFORMERS_|HF_|HUGGINGFACE_|TOKENIZERS_|SAFETENSORS_|USE_(TF|TORCH|JAX|FLAX)$"
    r"|ARROW_|TF_|JAX_|XLA_|IPYTHON|CUDA_(?!VISIBLE_DEVICES$)"
)
"""Environment variables that libraries read while they are imported: a kernel's must be the server's."""

WHILE_IMPORTING = {
    "OPENBLAS_NUM_THREADS": "1",  # OpenBLAS starts its threads when it is loaded; a kernel gets them back
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # pyarrow's allocator starts one too
    "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # CUDA that was touched before a fork is of no use after it
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # the debugger would warn of the interpreter's frozen modules
}
"""What the server sets for itself alone."""

KERNEL_MODULES = (
    "ipykernel.kernelapp",
    "ipykernel.debugger",
    "IPython.core.debugger",
    "IPython.extensions.storemagic",
    "tornado.platform.asyncio",
    "ipykernel.zmqshell",
)
"""What an ipykernel loads as it starts."""

REQUEST_SECONDS = 5.0
"""How long a request may take to arrive once its client has connected."""


def main() -> None:
    """Serve until the end; a kernel that was forked on the way goes on from here to an end of its own."""
    del sys.path[0]  # this script's folder, whose modules would hide others of their names
    configuration = json.loads(sys.argv[1])
    if configuration["linger"] is not None and "left_out" not in configuration and os.fork():
        os._exit(0)  # it outlives the client that started it, which shall not have to collect it
    server = Server(configuration)
    with _ended_with_input() if configuration["linger"] is None else nullcontext():
        server.preload()
    kernel = server.serve()
    if kernel is not None:
        kernel.run()


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that libraries read while they are imported."""
    return {name: value for name, value in environment.items() if READ_AT_IMPORT.match(name)}


def place() -> dict[str, Any]:
    """What a process inherits and a fork of another process would not have."""
    return {
        "set of processors": sorted(os.sched_getaffinity(0)),
        "control group": Path("/proc/self/cgroup").read_text(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }


class Server:
    """Imports, listens, checks each request, and forks a keeper for it."""

    def __init__(self, configuration: Mapping[str, Any]) -> None:
        self._configuration = configuration
        self._left_out: dict[str, str] = dict(configuration.get("left_out", {}))
        self._environment = dict(os.environ)
        self._place = place()
        self._filters: list[Any] = []
        self._path = list(sys.path)  # what is imported may put folders of its own on it
        self._distributions = _distributions(self._path)
        self._files: dict[str, tuple[int, int]] = {}
        self._listening = socket.socket(socket.AF_UNIX)
        self._news = os.dup(1)
        _close_to_nowhere(1)  # what modules print when they are imported is no news
        self._keepers: dict[int, int] = {}
        """A pidfd for each keeper that lives."""

    def preload(self) -> None:
        """Import what the configuration names and note the files; leave out what fails or starts a thread."""
        os.environ.update(WHILE_IMPORTING)
        gc.disable()  # what is imported stays
        self._import(KERNEL_MODULES)
        with _in_a_kernel():
            self._filters = list(warnings.filters)
            self._import(self._configuration["preload"])
        gc.enable()
        gc.freeze()  # collecting would write to pages that the kernels share

    def _import(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._left_out:
                continue
            self._announce(importing=name)
            try:
                _load(name)
            except (Exception, SystemExit) as error:
                reason = str(error).partition("\n")[0]
                self._left_out[name] = f"{type(error).__name__}: {reason}"
            if _threads() > 1:
                self._begin_again_without(name)
            self._note_files()

    def _begin_again_without(self, name: str) -> NoReturn:
        """A thread cannot be undone: start over, without the module that started it."""
        self._left_out[name] = "it starts a thread when it is imported"
        configuration = json.dumps({**self._configuration, "left_out": self._left_out})
        os.dup2(self._news, 1)
        os.execve(sys.executable, [*sys.orig_argv[:-1], configuration], self._environment)

    def _announce(self, **news: Any) -> None:
        os.write(self._news, json.dumps(news).encode() + b"\n")

    def _note_files(self) -> None:
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and path not in self._files:
                with suppress(OSError):
                    self._files[path] = _version(path)

    def serve(self) -> Kernel | None:
        """Answer requests. Returns None at the server's end, and in a fork the kernel that it shall be."""
        _prctl(_SET_CHILD_SUBREAPER, 1)  # what a killed keeper leaves becomes ours, to be killed
        path = Path(self._configuration["socket"])
        with self._listening as listening:
            unready = Path(f"{path}.new")
            unready.unlink(missing_ok=True)
            listening.bind(str(unready))
            listening.listen(64)
            unready.rename(path)  # who sees it can connect
            sys.stdout.flush()  # or each kernel would print what modules have printed
            self._announce(left_out=self._left_out)
            os.close(self._news)
            lingering = self._configuration["linger"]
            while True:
                strays = self._bury()
                lives = lingering is None or self._keepers
                wait = 0.02 if strays else None if lives else lingering
                watched: list[Any] = [listening, *self._keepers.values(), *([0] if lingering is None else [])]
                ready, _, _ = select.select(watched, [], [], wait)
                if 0 in ready or not (ready or strays):
                    break
                if listening in ready:
                    connection, _ = listening.accept()
                    with connection:
                        kernel, stale = self._answer(connection)
                    if kernel is not None or stale:
                        return kernel
            path.unlink(missing_ok=True)
            if lingering is None:  # the owner was killed; alive, it removes its folder itself
                with suppress(OSError):
                    path.parent.rmdir()
            return None

    def _answer(self, connection: socket.socket) -> tuple[Kernel | None, bool]:
        """Answer one request. Returns in a fork its kernel, and whether the server is stale."""
        try:
            request, streams = _receive(connection)
        except (OSError, ValueError):
            return None, False  # a client that died
        try:
            stale = self._stale()
            if stale:  # before another server is started
                Path(self._configuration["socket"]).unlink(missing_ok=True)
            refusal = stale or (self._objection(request) if request else None)
            if refusal is None and request:
                keeper = os.fork()
                if keeper == 0:
                    self._let_go()
                    return Keeper(connection, request, streams).fork(self._imported()), False
                self._keepers[keeper] = os.pidfd_open(keeper)
            elif refusal is None:
                _tell(connection, fresh=True)
            else:
                _tell(connection, refused=refusal, stale=stale is not None)
        finally:
            for stream in streams:
                os.close(stream)
        return None, stale is not None

    def _let_go(self) -> None:
        """Close in a fork what is the server's: its socket would seem to listen after the server's death."""
        self._listening.close()
        for pidfd in self._keepers.values():
            os.close(pidfd)

    def _imported(self) -> dict[str, Any]:
        """What importing changed in this process and would change in a new interpreter too."""
        variables = {
            name: value
            for name, value in os.environ.items()
            if self._environment.get(name) != value and name not in WHILE_IMPORTING
        }
        return {"variables": variables, "filters": [f for f in warnings.filters if f not in self._filters]}

    def _stale(self) -> str | None:
        """Why this process should not be forked any more."""
        if (threads := _threads()) > 1:
            return f"{threads} threads run in the fork server"
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            return "CUDA is initialised in the fork server"
        for path, version in self._files.items():
            try:
                fresh = _version(path) == version
            except OSError:
                fresh = False
            if not fresh:
                return f"stale: {path} changed"
        if changes := self._distributions ^ _distributions(self._path):
            return f"stale: {min(changes)} came or went"
        return None

    def _objection(self, request: Mapping[str, Any]) -> str | None:
        """Why a kernel forked here would differ from one of a new interpreter, or cannot be forked."""
        if request["interpreter"] != sys.executable:
            return f"the fork server runs {sys.executable}"
        ours, theirs = read_at_import(self._environment), read_at_import(request["environment"])
        if differ := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
            return f"{', '.join(differ)}: read while importing, and not as in the fork server"
        if differ := [name for name, value in self._place.items() if request["place"].get(name) != value]:
            return f"the fork server has another {' and '.join(differ)}"
        if not all(map(os.path.isabs, theirs.get("PYTHONPATH", "/").split(os.pathsep))):
            return "PYTHONPATH holds a relative path"
        folder = Path(request["folder"])
        if "matplotlib" in sys.modules and (folder / "matplotlibrc").exists():
            return f"{folder / 'matplotlibrc'} is read when matplotlib is imported"
        try:
            hiding = next(_hiding(folder), None)
        except OSError as error:
            return f"the folder to work in cannot be read: {error}"
        return f"{hiding} comes before the imported module of its name" if hiding else None

    def _bury(self) -> bool:
        """Collect dead keepers and kill what a killed one left; returns whether some of that still lives."""
        for dead in _reap()[0]:
            if dead in self._keepers:
                os.close(self._keepers.pop(dead))
        strays = set(_children_of_all().get(os.getpid(), [])) - self._keepers.keys()
        _kill_trees(strays)
        return bool(strays)


class Keeper:
    """A process that forks a kernel and watches over it for the client, whose connection it holds."""

    def __init__(self, connection: socket.socket, request: Mapping[str, Any], streams: list[int]) -> None:
        self._connection = connection
        self._request = request
        self._streams = streams

    def fork(self, imported: dict[str, Any]) -> Kernel:
        """Fork the kernel: returns in the kernel alone. The keeper stays in here to its end."""
        keeper = os.getpid()
        try:
            os.setsid()
            _prctl(_SET_CHILD_SUBREAPER, 1)  # orphans below the kernel become children of this process
            self._take_on()
            up, say_up = os.pipe()
            kernel = os.fork()
            if kernel == 0:
                _prctl(_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != keeper:
                    os._exit(1)
                os.setsid()
                for number, stream in enumerate(self._streams):
                    os.dup2(stream, number)
                os.close(up)
                return Kernel(self._request, imported, say_up)
            os.close(say_up)
            self._watch(kernel, up)
        except BaseException as error:
            if os.getpid() == keeper:
                _tell(self._connection, refused=f"{type(error).__name__}: {error}", stale=False)
        os._exit(0)

    def _take_on(self) -> None:
        """What a child of the client would inherit."""
        import resource  # not there on Windows, where this module is imported too

        os.umask(self._request["umask"])
        for name, limits in self._request["limits"].items():
            number = getattr(resource, name)
            if resource.getrlimit(number) != tuple(limits):
                resource.setrlimit(number, tuple(limits))
        os.chdir(self._request["folder"])

    def _watch(self, kernel: int, up: int) -> None:
        """Wait for the kernel's or the client's end, kill everything that is left, and tell."""
        for number in range(3):
            _close_to_nowhere(number)
        for stream in self._streams:
            os.close(stream)
        codes: dict[int, int] = {}
        waiting: list[Any] = [self._connection, os.pidfd_open(kernel), up]
        told = False
        while kernel not in codes:
            ready, _, _ = select.select(waiting, [], [], 1.0)  # in turns, to collect orphans that ended
            if self._connection in ready:
                break  # the client says nothing more: this is its end
            if up in ready:
                waiting.remove(up)
                if told := bool(os.read(up, 1)):
                    _tell(self._connection, pid=kernel, keeper=os.getpid())
            codes |= _reap()[0]
        while True:
            dead, left = _reap()
            codes |= dead
            if not left:
                break
            _kill_trees(set(_children_of_all().get(os.getpid(), [])))
            time.sleep(0.002)
        if told:
            _tell(self._connection, exit=codes[kernel])
        else:
            _tell(self._connection, refused=f"it ended as it started, with code {codes[kernel]}", stale=False)


class Kernel:
    """A fork that becomes an ipykernel as a new interpreter would."""

    def __init__(self, request: Mapping[str, Any], imported: Mapping[str, Any], say_up: int) -> None:
        self._request = request
        self._imported = imported
        self._say_up = say_up

    def run(self) -> None:
        """Be the kernel until its shutdown. The interpreter's own end, atexit and all, comes after."""
        from ipykernel.kernelapp import IPKernelApp

        launcher = importlib.util.find_spec("ipykernel_launcher")
        sys.argv[:] = [str(launcher and launcher.origin), *self._request["arguments"]]
        sys.orig_argv[:] = [sys.executable, "-m", "ipykernel_launcher", *self._request["arguments"]]
        os.environ.clear()
        os.environ.update(self._imported["variables"] | self._request["environment"])
        tempfile.tempdir = None  # it may have been asked for under another TMPDIR
        importlib.invalidate_caches()
        _give_openblas_its_threads()
        _reseed()
        for entry in self._imported["filters"]:
            warnings.filters.remove(entry)  # type: ignore[attr-defined]  # typeshed calls the list a Sequence
        app = IPKernelApp.instance(parent_handle=os.getppid())
        app.initialize(self._request["arguments"])
        # IPython adds filters when it starts, libraries when they are imported, which is later
        warnings.filters[:0] = self._imported["filters"]  # type: ignore[index]
        if "matplotlib" in sys.modules:  # what it reads when imported, which the app has just set
            sys.modules["matplotlib"].rcParams["backend"] = os.environ["MPLBACKEND"]
        os.write(self._say_up, b"1")
        os.close(self._say_up)
        app.start()


@contextmanager
def _ended_with_input() -> Iterator[None]:
    """Let this process end at once when its standard input does, though an import may take a minute.

    By SIGIO, which the system sends then and which ends a process: a process that forks must have no thread
    that waits for it.
    """
    import fcntl  # not there on Windows, where this module is imported too

    flags = fcntl.fcntl(0, fcntl.F_GETFL) & ~os.O_ASYNC
    fcntl.fcntl(0, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(0, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([0], [], [], 0)[0]:  # it ended before
        sys.exit()
    yield
    fcntl.fcntl(0, fcntl.F_SETFL, flags)


@contextmanager
def _in_a_kernel() -> Iterator[None]:
    """Let modules find an IPython shell: tqdm.auto and transformers.trainer look for one when imported."""
    from ipykernel.zmqshell import ZMQInteractiveShell
    from traitlets.config import Config

    ours = sys.modules["__main__"]
    config = Config({"IPKernelApp": {"connection_file": ""}, "HistoryManager": {"enabled": False}})
    shell = ZMQInteractiveShell.instance(config=config)
    try:
        yield
    finally:
        atexit.unregister(shell.atexit_operations)
        ZMQInteractiveShell.clear_instance()
        sys.modules["__main__"] = ours


def _load(name: str) -> None:
    """Import a module such as "torch", or a name of one as in "transformers:CLIPModel", which loads lazily.

    Raises ImportError for what lies neither in site-packages nor in the standard library.
    """
    module, _, attribute = name.partition(":")
    if not _installed(module.partition(".")[0]):
        raise ImportError("it does not lie in site-packages")
    loaded = importlib.import_module(module)
    if attribute and not hasattr(loaded, attribute):
        importlib.import_module(f"{module}.{attribute}")


def _installed(package: str) -> bool:
    if package in sys.stdlib_module_names:
        return True
    spec = importlib.util.find_spec(package)
    if spec is None:
        raise ImportError("it is not installed")
    files = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    return all({"site-packages", "dist-packages"} & set(Path(file).parts) for file in files)


def _hiding(folder: Path) -> Iterator[Path]:
    """Modules of a folder that have the name of one that is imported here."""
    names = {name.partition(".")[0] for name in sys.modules}
    for entry in os.scandir(folder):
        stem = entry.name.removesuffix(".py")
        if stem in names and (stem != entry.name or (folder / stem / "__init__.py").exists()):
            yield folder / entry.name


def _distributions(path: Iterable[str]) -> set[str]:
    """Names that come, go or change their version when something is installed on a path or removed."""
    found: set[str] = set()
    for folder in path:
        with suppress(OSError):
            found.update(os.listdir(folder))
    return {name for name in found if name.endswith((".dist-info", ".egg-info", ".pth"))}


def _version(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_mtime_ns, status.st_size


def _reseed() -> None:
    """Fresh random numbers, as in a new interpreter; the standard library sees to its own after a fork."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "torch" in sys.modules:
        # not torch.seed(), which would reseed CUDA's generators too: their first seed is fixed
        sys.modules["torch"].default_generator.seed()


def _give_openblas_its_threads() -> None:
    """As many as OpenBLAS would have started, had it been loaded now (its README, "Setting the number")."""
    names = ("OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS")
    given = (os.environ.get(name, "") for name in names)
    count = next((int(text) for text in given if text.isdigit() and int(text)), len(os.sched_getaffinity(0)))
    maps = Path("/proc/self/maps").read_text("utf-8", "surrogateescape")
    for path in set(re.findall(r"/.*openblas.*\.so.*$", maps, re.MULTILINE)):
        library = ctypes.CDLL(path)
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                with suppress(AttributeError):
                    getattr(library, f"{prefix}_set_num_threads{suffix}")(count)


def _threads() -> int:
    """How many run in this process; one that is about to end is waited for."""
    for _ in range(20):
        if (count := len(os.listdir("/proc/self/task"))) == 1:
            break
        time.sleep(0.01)
    return count


def _receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """A request and the files that came with it."""
    connection.settimeout(REQUEST_SECONDS)
    data, streams, _, _ = socket.recv_fds(connection, 1 << 16, 3)
    try:
        while not data.endswith(b"\n"):
            if not (more := connection.recv(1 << 16)):
                raise ConnectionError("the client went before it had asked")
            data += more
        connection.settimeout(None)
        return json.loads(data), streams
    except BaseException:
        for stream in streams:
            os.close(stream)
        raise


def _tell(connection: socket.socket, **answer: Any) -> None:
    with suppress(OSError):  # the client is gone, and needs no answer
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _close_to_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.close(nowhere)


def _reap() -> tuple[dict[int, int], bool]:
    """Collect the children that ended: their exit codes, and whether others are left."""
    codes: dict[int, int] = {}
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return codes, False
        if child == 0:
            return codes, True
        codes[child] = os.waitstatus_to_exitcode(status)


def _children_of_all() -> dict[int, list[int]]:
    """The children of every process that has some."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):  # it has ended meanwhile
                status = Path("/proc", name, "stat").read_text("utf-8", "replace")
                parent = int(status.rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(name))
    return children


def _kill_trees(roots: set[int]) -> None:
    """Kill processes and all below them. What forks meanwhile is found the next time."""
    children = _children_of_all() if roots else {}
    waiting = list(roots)
    while waiting:
        process = waiting.pop()
        waiting += children.get(process, [])
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)


_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    main()
