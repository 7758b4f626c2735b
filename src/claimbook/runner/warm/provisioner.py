"""Kernels for Jupyter, forked where that is possible: the provisioner that the kernelspec `claimbook` names.

Knows Jupyter's side; papermill, nbclient and JupyterLab use it unchanged. Where no kernel can be forked an
ordinary one is launched, and the reason is logged and kept.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning.local_provisioner import LocalProvisioner
from traitlets import List, Unicode

from claimbook.runner.warm.client import ForkedKernel, NotWarmError, request, shared_server

SERVER_VARIABLE = "CLAIMBOOK_FORK_SERVER"
"""Names the socket of a fork server; without it the user's own is found or started."""


class WarmProvisioner(LocalProvisioner):
    """Forks kernels from a fork server, and launches them as LocalProvisioner does where it cannot."""

    server = Unicode(help="The socket of a fork server, instead of CLAIMBOOK_FORK_SERVER.").tag(config=True)
    preload = List(Unicode(), help="What the user's own fork server imports.").tag(config=True)

    process: Any = None  # a Popen or a ForkedKernel
    why_cold: str | None = None
    """Why the last kernel was not forked."""

    @property
    def keeper(self) -> int | None:
        """The process that watches over a forked kernel."""
        return self.process.keeper if isinstance(self.process, ForkedKernel) else None

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Fork the kernel that a command would start; launch it where that is refused."""
        self.why_cold = None
        try:
            # in a thread: a server that must be started imports for seconds
            kernel = await asyncio.to_thread(self._fork, cmd, **self._scrub_kwargs(kwargs))
        except (NotWarmError, OSError) as reason:
            self.why_cold = str(reason)
            self.log.warning("The kernel starts cold: %s", reason)
            return await super().launch_kernel(cmd, **kwargs)
        self.process = kernel
        self.pid = self.pgid = kernel.pid
        self.cwd = kwargs.get("cwd") or Path.cwd()
        return self.connection_info

    async def kill(self, restart: bool = False) -> None:
        """Kill the kernel and wait for its end, which jupyter_client would look for every 0.1 s."""
        await super().kill(restart)
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.process.wait, 5)

    def _fork(
        self,
        cmd: list[str],
        *,
        env: dict[str, str] | None = None,
        cwd: str | None = None,
        independent: bool = False,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        **others: Any,
    ) -> ForkedKernel:
        if cmd[1:3] != ["-m", "ipykernel_launcher"]:
            raise NotWarmError("its command is not that of an ipykernel")
        if independent or others:
            asked = ", ".join(others) or "independent"
            raise NotWarmError(f"a forked kernel cannot have what was asked for: {asked}")
        environment = {**(os.environ if env is None else env), "JPY_PARENT_PID": str(os.getpid())}
        named = self.server or environment.get(SERVER_VARIABLE)
        address = Path(named) if named else shared_server(self.preload, environment)
        folder = Path(cwd or os.getcwd()).absolute()
        stdin = subprocess.DEVNULL if stdin is None else stdin
        with ExitStack() as opened:
            streams = [_descriptor(*one, opened) for one in ((stdin, 0), (stdout, 1), (stderr, 2))]
            return ForkedKernel(address, request(cmd[0], cmd[3:], environment, folder), streams)


def _descriptor(stream: Any, inherited: int, opened: ExitStack) -> int:
    """The open file that Popen would give its child for such an argument. Raises NotWarmError for a pipe."""
    if stream == subprocess.PIPE:
        raise NotWarmError("a forked kernel has no pipes")
    if stream is None:
        with suppress(OSError):
            os.fstat(inherited)
            return inherited
    if stream is None or stream == subprocess.DEVNULL:
        nowhere = os.open(os.devnull, os.O_RDWR)
        opened.callback(os.close, nowhere)
        return nowhere
    return stream if isinstance(stream, int) else int(stream.fileno())
