"""The engine of a Ray cluster: the same slots, on as many machines as it has.

    this process                       a node of the cluster
    RayEngine ── an actor per node ──▶ NodeHost   the unpacked workspaces, the fork server
    RaySlot   ── an actor each ──────▶ NodeSlot   the local slot, with its worker and kernel

Knows which node has what it takes, and brings the results home. What travels is plain data: a run's record
as JSON, files as bytes; no environment variable does. What happens on a node is `ray_node`'s.

A slot is an actor and no task: its worker has papermill loaded for all of its runs, and it keeps its GPU. Ray
makes nothing again by itself: a lost run comes back as lost, and its batch decides.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec

import claimbook
from claimbook.errors import RunError
from claimbook.experiments import Experiment, Pulse
from claimbook.products.named import fingerprint_of, named_in
from claimbook.records import Failure, Run, decode_json, encode_json
from claimbook.records.run import Status
from claimbook.runner import parcel, ray_cluster
from claimbook.runner.engine import Update
from claimbook.runner.ray_cluster import Needs, Node, StoppedError
from claimbook.runner.ray_node import RESULTS, NodeHost, NodeSlot
from claimbook.runner.slots import Limits
from claimbook.session import now
from claimbook.surroundings import redacted
from claimbook.workspace import Workspace, append_line, open_lines, write_bytes

_SILENT = 10.0
"""Seconds after which a node that lost a run and says nothing is taken for gone."""


class RayEngine:
    """Slots on a Ray cluster. A context manager: when it is left, nothing that it started lives on."""

    name: Literal["ray"] = "ray"

    def __init__(
        self,
        workspace: Workspace,
        limits: Limits,
        slots: int,
        *,
        gpu_share: float | None = None,
        address: str | None = None,
        preload: Sequence[str] | None = None,
    ) -> None:
        """slots: how many at most; a run takes `limits.threads` processors of its node, or one.

        gpu_share: the GPUs that a run takes, such as 0.5; None hides them. address: of a running cluster,
        such as host:6379; None takes RAY_ADDRESS, or starts one on this machine. preload: what the nodes'
        fork servers import beforehand; None for cold kernels only.
        """
        self._workspace = workspace
        self._limits = replace(limits, threads=limits.threads or 1)
        self._asked = slots
        self._needs = Needs(limits.threads or 1, gpu_share or 0.0)
        self._address = address or os.environ.get("RAY_ADDRESS")
        self._preload = None if preload is None else list(preload)
        self._slots = 0
        self._leaving = ExitStack()
        self._shipments: dict[object, _Shipment] = {}
        self._hosts: dict[str, _Host] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> RayEngine:
        """Raises RunError when Ray is missing, there is no such cluster, or no node has room for a run."""
        with ExitStack() as leaving:
            processors = max(os.cpu_count() or 1, self._asked * self._needs.cpus)
            leaving.enter_context(ray_cluster.connected(self._address, processors))
            leaving.callback(self._dismiss_hosts)
            self._slots = min(self._asked, sum(node.room for node in ray_cluster.nodes(self._needs)))
            if self._slots == 0:
                raise RunError(
                    f"no node of the Ray cluster has {self._needs}",
                    fix="ask for less, or add a node that has it",
                )
            self._leaving = leaving.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        self._leaving.close()

    @property
    def slots(self) -> int:
        """How many: those that were asked for, as far as the cluster had room when it was joined."""
        return self._slots

    @property
    def gpus(self) -> Sequence[str]:
        """Ray's to give: not known beforehand."""
        return []

    @property
    def notes(self) -> Sequence[str]:
        """Which nodes make no runs, and why."""
        with self._lock:
            hosts = list(self._hosts.values())
        return [why for host in hosts for why in host.complaints()]

    def stop(self) -> None:
        """End the nodes' fork servers, which may still be importing; kernels that run go on."""
        with self._lock:
            for host in self._hosts.values():
                host.actor.stop.remote()

    def open(self, number: int) -> RaySlot:
        """A slot. It looks for a node when it makes its first run."""
        return RaySlot(self)

    def _new_actor(self, unfit: Collection[str]) -> Any:
        """A slot on whatever node has room first, those aside that are unfit, by id."""
        from ray.util.scheduling_strategies import NodeLabelSchedulingStrategy, NotIn

        elsewhere = NodeLabelSchedulingStrategy(hard={"ray.io/node-id": NotIn(*unfit)}) if unfit else "SPREAD"
        made = (
            ray_cluster.load()
            .remote(NodeSlot)
            .options(
                num_cpus=self._needs.cpus,
                num_gpus=self._needs.gpus,
                max_restarts=0,
                max_task_retries=0,
                scheduling_strategy=elsewhere,
            )
        )
        return made.remote(asdict(self._limits), self._needs.gpus)

    def _host(self, node: Node) -> _Host:
        with self._lock:
            if node.id not in self._hosts:
                self._hosts[node.id] = _Host(node, self._limits, self._preload, self._slots)
            return self._hosts[node.id]

    def _vet(self, shipment: _Shipment, stop: threading.Event) -> None:
        """See which nodes' hosts come up: where an actor failed to, Ray does not tell."""
        for host in [self._host(node) for node in self._fit_nodes(shipment)]:
            host.vet(stop)

    def _fit_nodes(self, shipment: _Shipment) -> list[Node]:
        unfit = self._unfit(shipment)
        return [node for node in ray_cluster.nodes(self._needs) if node.id not in unfit]

    def _unfit(self, shipment: _Shipment) -> dict[str, str]:
        """What is wrong with the nodes that cannot make runs of a shipment, by id."""
        with self._lock:
            hosts = list(self._hosts.items())
        return {node_id: why for node_id, host in hosts if (why := host.unfit(shipment))}

    def _shipment(self, notebook: Path, run: Run) -> _Shipment:
        """What a run needs, packed once for all runs of the same notebook, code and product sets."""
        key = (notebook, *named_in([run.parameters]), msgspec.json.encode(run.fingerprints))
        with self._lock:
            if key not in self._shipments:
                self._shipments[key] = _Shipment.of(self._workspace, notebook, run, key)
            return self._shipments[key]

    def _dismiss_hosts(self) -> None:
        ray = ray_cluster.load()
        leaving = [host.actor.leave.remote() for host in self._hosts.values()]
        if leaving:
            ray.wait(leaving, num_returns=len(leaving), timeout=ray_cluster.GRACE)
        for host in self._hosts.values():
            ray.kill(host.actor)


@dataclass(frozen=True)
class _Shipment:
    """A parcel in Ray's store, and what a node must find in it."""

    key: object
    """What tells it from others: two may have the same files, and need product sets that do not travel."""
    files: Any
    notebook: str
    parameters: dict[str, Any]
    fingerprints: dict[str, Any]

    @classmethod
    def of(cls, workspace: Workspace, notebook: Path, run: Run, key: object) -> _Shipment:
        files = parcel.pack(workspace, notebook, run.parameters)
        data, _ = fingerprint_of([run.parameters], workspace)  # the run's own covers those of all arms
        return cls(
            key=key,
            files=ray_cluster.load().put(files),
            notebook=notebook.relative_to(workspace.root).as_posix(),
            parameters=run.parameters,
            fingerprints={**run.fingerprints, "data": data},
        )


class _NoNodeError(Exception):
    """No node that is left could make a run."""


class _Host:
    """The host of one node, and what was sent there."""

    def __init__(self, node: Node, limits: Limits, preload: list[str] | None, slots: int) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._node = node
        self._gone = ""
        self._roots: dict[object, str] = {}
        """Where a shipment lies, by its key."""
        self._unfit: dict[object, str] = {}
        """Why it cannot make the runs of a shipment, by that one's key."""
        self._lock = threading.Lock()
        made = (
            ray_cluster.load()
            .remote(NodeHost)
            .options(
                num_cpus=0,
                max_restarts=0,
                max_concurrency=slots + 1,  # each slot may be waiting for the fork server
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            )
        )
        self.actor = made.remote(asdict(limits), preload)

    def root(self, shipment: _Shipment, stop: threading.Event) -> str | None:
        """Where a shipment lies on the node; None where it is not what it is here: the node is unfit."""
        with self._lock:
            if stop.is_set():
                raise StoppedError
            if shipment.key not in self._roots and not self._gone:
                self._send(shipment, stop)
            return None if self.unfit(shipment) else self._roots[shipment.key]

    def unfit(self, shipment: _Shipment) -> str:
        """Why runs of a shipment cannot be made there; empty when they can, as far as is known."""
        return self._gone or self._unfit.get(shipment.key, "")

    def complaints(self) -> list[str]:
        """All that is known against the node, a sentence each."""
        return [self._gone] if self._gone else list(dict.fromkeys(self._unfit.values()))

    def vet(self, stop: threading.Event) -> None:
        """Wait until the host is up, or cannot come up: a package that it needs is missing there, say."""
        from ray.exceptions import RayError

        try:
            ray_cluster.answer(self.actor.package.remote(), stop)
        except RayError as error:
            self._gone = f"{self._node.name}: {ray_cluster.in_short(error)}; mend it, or take the node out"

    def look(self) -> None:
        """See whether the node is still there: Ray may take a minute to notice, and offers it meanwhile."""
        from ray.exceptions import RayError

        ray = ray_cluster.load()
        try:
            ray.get(self.actor.package.remote(), timeout=_SILENT)
        except RayError:
            self._gone = f"{self._node.name}: it does not answer"

    def _send(self, shipment: _Shipment, stop: threading.Event) -> None:
        version, package = ray_cluster.answer(self.actor.package.remote(), stop)
        sent = (shipment.files, shipment.notebook, shipment.parameters, shipment.fingerprints)
        if package == parcel.package_digest():
            root, differences = ray_cluster.answer(self.actor.receive.remote(*sent), stop)
            what, remedy = "; ".join(differences), "put the same there"
        else:
            root, differences = "", [version]
            what = f"its claimbook {version} has other code than {claimbook.__version__} here"
            remedy = "install the same there"
        self._roots[shipment.key] = root
        if differences:
            self._unfit[shipment.key] = f"{self._node.name}: {what}; {remedy}, or take the node out"


class RaySlot:
    """A slot somewhere on the cluster, as `engine.Slot` promises. A context manager."""

    def __init__(self, engine: RayEngine) -> None:
        self._engine = engine
        self._actor: Any = None
        self._node: Node | None = None

    def __enter__(self) -> RaySlot:
        return self

    def __exit__(self, *exception: object) -> None:
        self._leave()

    def run(
        self,
        experiment: Experiment,
        run: Run,
        notebook: Path,
        stop: threading.Event,
        report: Callable[[Update], None],
        *,
        cold: bool = False,
    ) -> Run:
        """Execute a notebook on a node that is fit for it; return its record as it ended.

        `lost`, when the node or its worker died; `failed`, when no node is fit. Raises RunError when what
        the run needs cannot travel.
        """
        from ray.exceptions import RayError

        began = time.monotonic()
        pulse = Pulse(experiment.run_folder(run.id))
        shipment = self._engine._shipment(notebook, run)
        ending: tuple[Status, str, str]
        try:
            host, root = self._settled(shipment, stop, pulse)
            record = msgspec.json.encode(encode_json(run))
            begun = self._actor.begin.remote(
                host.actor, root, experiment.slug, record, shipment.notebook, cold
            )
            ray_cluster.answer(begun, stop)
            return self._follow(experiment, run, stop, report, pulse)
        except StoppedError:
            self._leave(patience=0.0)
            ending = ("cancelled", "Cancelled", "stopped from outside")
        except _NoNodeError as error:
            ending = ("failed", "NoNode", str(error))
        except RayError as error:
            where = self._node.name if self._node else "a node"
            if self._node and not stop.is_set():
                self._engine._host(self._node).look()
            ending = ("lost", "NodeLost", f"{where}: {ray_cluster.in_short(error)}")
        self._leave()
        status, name, message = ending
        return msgspec.structs.replace(
            run,
            status=status,
            ended=now(),
            seconds=round(time.monotonic() - began, 3),
            failure=Failure(error=name, message=redacted(message)),
        )

    def _settled(self, shipment: _Shipment, stop: threading.Event, pulse: Pulse) -> tuple[_Host, str]:
        """The host of a fit node, this slot's own, and where the shipment lies there.

        Raises _NoNodeError when no node is fit.
        """
        while True:
            unfit = self._engine._unfit(shipment)
            if self._node is not None and self._node.id in unfit:
                self._leave()
            if self._node is None:
                self._node = self._placed(shipment, unfit, stop, pulse)
            if self._node is not None:
                host = self._engine._host(self._node)
                if (root := host.root(shipment, stop)) is not None:
                    return host, root

    def _placed(
        self, shipment: _Shipment, unfit: Mapping[str, str], stop: threading.Event, pulse: Pulse
    ) -> Node | None:
        """The node that has room first; None when the slot could not live on one, which is unfit then."""
        from ray.exceptions import RayError

        ray = ray_cluster.load()
        self._actor = self._engine._new_actor(unfit)
        place = self._actor.node.remote()
        while not ray.wait([place], timeout=0.5)[0]:
            pulse.beat()
            if stop.is_set():
                raise StoppedError
            if not self._engine._fit_nodes(shipment):
                why = "".join(f"; {reason}" for reason in self._engine._unfit(shipment).values())
                raise _NoNodeError(f"no node is left that has {self._engine._needs}{why}")
        try:
            node_id = ray.get(place)
        except RayError:
            self._leave()
            self._engine._vet(shipment, stop)
            if self._engine._unfit(shipment).keys() <= unfit.keys():
                raise
            return None
        known = {node.id: node for node in self._engine._fit_nodes(shipment)}
        return known.get(node_id) or Node(node_id, f"node {node_id[:8]}", 0)

    def _follow(
        self,
        experiment: Experiment,
        run: Run,
        stop: threading.Event,
        report: Callable[[Update], None],
        pulse: Pulse,
    ) -> Run:
        """Pass progress on, and keep the steps, until the run has ended; then bring its results home."""
        seen = 0
        with open_lines(experiment.metrics_path(run.id)) as steps:
            while True:
                pulse.beat()
                news = ray_cluster.answer(self._actor.look.remote(seen, stop.is_set()), stop)
                if "run" in news:
                    break
                append_line(steps, news["steps"])
                seen += len(news["steps"])
                report(msgspec.convert(news["update"], Update))
        for name in RESULTS:  # the finishing line last: where it stands, the item scores are there
            if name in news["files"]:
                write_bytes(experiment.run_folder(run.id) / name, news["files"][name])
        ended = decode_json(news["run"], Run, f"the record of {run.id}")
        return msgspec.structs.replace(ended, ended=now())  # the clocks may differ

    def _leave(self, patience: float = ray_cluster.GRACE) -> None:
        """Leave nothing on the node; it has so many seconds to do so in order."""
        from ray.exceptions import RayError

        actor, self._actor, self._node = self._actor, None, None
        if actor is not None:
            ray = ray_cluster.load()
            with suppress(RayError):  # it is gone, or does not answer
                ray.get(actor.end.remote(), timeout=patience)
            ray.kill(actor)
