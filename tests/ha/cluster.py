"""Three PostgreSQL under Patroni and one etcd, on loopback, in one folder that goes away with the process that made it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from tests.ha.needs import Programs

Disaster = Literal["postmaster", "machine", "frozen"]

NODES = 3
HOST = "127.0.0.1"
POLL = 0.1  # seconds between two looks
READY_SECONDS = 120.0
TAKE_OVER_SECONDS = 90.0
STOP_SECONDS = 30.0
ANSWER_SECONDS = 2.0
LOG_LINES = 15

# Ports from 32768 on are given to outgoing connections, of which a cluster makes many: one would take a port between the choice and the start.
PORTS = range(20_000, 32_768)

# With retry_timeout 1, Patroni's etcd3 client never gets as far as a failover.
TIMING = {"ttl": 20, "loop_wait": 2, "retry_timeout": 3}
PARAMETERS = {"max_connections": 60, "shared_buffers": "32MB", "wal_log_hints": "on", "max_wal_senders": 8, "max_replication_slots": 8}

# Hears which process groups there are, a line with all of them after each start and death; at the end of its input all are killed. Patroni
# first: it would start its server again. The number of a server that was killed may be another process by now: that has another folder.
GUARD = """
while read -r line; do groups=$line; done
for group in $groups; do kill -KILL "-$group"; done
for data in "$1"/*/data; do
    read -r pid <"$data/postmaster.pid" && [ "$(readlink "/proc/$pid/cwd")" = "$data" ] && kill -QUIT "$pid" && kill -CONT "$pid"
done
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf "$1" && exit; sleep 1; done
"""


class ClusterFailed(RuntimeError):
    """The cluster did not do in time what it has to; the text is what its logs say last."""


class Member(NamedTuple):
    """A node as Patroni tells of it."""

    name: str
    role: str
    state: str


def settings(name: str, folder: Path, *, ports: tuple[int, int, int], binaries: Path, synchronous: bool) -> dict[str, Any]:
    """Return Patroni's settings of one node; JSON is YAML.

    Args:
        name: of the node.
        folder: of its own.
        ports: of PostgreSQL, of Patroni, and of etcd.
        binaries: PostgreSQL's.
        synchronous: whether a commit waits for a standby.
    """
    server, rest, etcd = ports
    return {
        "scope": "perdure",
        "name": name,
        "restapi": {"listen": f"{HOST}:{rest}", "connect_address": f"{HOST}:{rest}"},
        "etcd3": {"host": f"{HOST}:{etcd}"},
        "bootstrap": {
            "dcs": {
                **TIMING,
                "maximum_lag_on_failover": 1_048_576,
                "synchronous_mode": synchronous,
                "synchronous_mode_strict": synchronous,
                "primary_start_timeout": 0,  # fail over, do not wait for the old server to recover
                "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": PARAMETERS},
            },
            "initdb": [{"encoding": "UTF8"}, {"locale": "C.UTF-8"}, "data-checksums"],
        },
        "postgresql": {
            "listen": f"{HOST}:{server}",
            "connect_address": f"{HOST}:{server}",
            "data_dir": str(folder / "data"),
            "bin_dir": str(binaries),
            "pgpass": str(folder / "pgpass"),
            "parameters": {"unix_socket_directories": str(folder)},
            "pg_hba": ["local all all trust", f"host all all {HOST}/32 trust", f"host replication all {HOST}/32 trust"],
            "authentication": {
                "superuser": {"username": "postgres", "password": "unused"},
                "replication": {"username": "replicator", "password": "unused"},
                "rewind": {"username": "rewinder", "password": "unused"},
            },
        },
    }


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    found: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        with socket.socket() as probe, contextlib.suppress(OSError):  # taken: the next one
            probe.bind((HOST, port))
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterFailed(f"no {count} ports of {PORTS} are free")


class Node:
    """One server and its Patroni."""

    def __init__(self, name: str, folder: Path, *, server: int, rest: int) -> None:
        self.name = name
        self.folder = folder
        self.server = server
        self.rest = rest
        self.patroni: subprocess.Popen[bytes] | None = None

    def postmaster(self) -> int:
        """Return the process of its server, which runs."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        if Path(f"/proc/{pid}/cwd").readlink() != self.folder / "data":
            raise ClusterFailed(f"{self.name}: process {pid} is not its server")
        return pid

    def members(self) -> list[Member]:
        """Return what its Patroni tells of the cluster; nothing when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.rest}/cluster", timeout=ANSWER_SECONDS) as answer:
                told = json.load(answer)
        except (urllib.error.URLError, OSError, ValueError):
            return []
        return [Member(each["name"], each["role"], each["state"]) for each in told.get("members", [])]


class Cluster:
    """The cluster; it starts when it is entered, and nothing of it is left afterwards."""

    def __init__(self, programs: Programs, *, synchronous: bool = True) -> None:
        self._programs = programs
        self._synchronous = synchronous
        self._running: list[subprocess.Popen[bytes]] = []
        self.nodes: list[Node] = []

    @property
    def url(self) -> str:
        """The URL of its database, with every host."""
        hosts = ",".join(f"{HOST}:{node.server}" for node in self.nodes)
        return f"postgresql://postgres@{hosts}/postgres"

    async def __aenter__(self) -> Self:
        self._prepare()
        try:
            await self._start()
        except BaseException:
            self.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what runs, and remove the folder."""
        self._guard.communicate(timeout=STOP_SECONDS)  # it hears the end of its input
        for process in self._running:
            process.wait(STOP_SECONDS)

    def _prepare(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="perdure-ha-")).resolve()  # as /proc tells of it
        self._own(self.folder)
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", self.folder],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            cwd="/",
            **self._programs.account,
        )

    async def _start(self) -> None:
        etcd, peer, *ports = free_ports(2 + 2 * NODES)
        here, there = f"http://{HOST}:{etcd}", f"http://{HOST}:{peer}"
        self._spawn(
            "etcd",
            *(self._programs.etcd, "--data-dir", self.folder / "etcd", "--name", "etcd", "--initial-cluster", f"etcd={there}"),
            *("--listen-client-urls", here, "--advertise-client-urls", here),
            *("--listen-peer-urls", there, "--initial-advertise-peer-urls", there),
        )
        for n in range(NODES):
            node = Node(f"node{n + 1}", self.folder / f"node{n + 1}", server=ports[2 * n], rest=ports[2 * n + 1])
            node.folder.mkdir(mode=0o700)
            self._own(node.folder)
            told = settings(
                node.name,
                node.folder,
                ports=(node.server, node.rest, etcd),
                binaries=self._programs.postgres,
                synchronous=self._synchronous,
            )
            (self.folder / f"{node.name}.yml").write_text(json.dumps(told, indent=2))
            self.nodes.append(node)
        await self._until("etcd answers", lambda: _healthy_etcd(here), READY_SECONDS)
        for node in self.nodes:
            self.start(node)
        await self.healthy()

    # --- what it is asked ------------------------------------------------------------------------

    def members(self, nodes: Sequence[Node] | None = None) -> list[Member]:
        """Return what the first Patroni that answers tells."""
        return next((found for node in nodes or self.nodes if (found := node.members())), [])

    def leader(self, nodes: Sequence[Node] | None = None) -> Node | None:
        """Return the node that leads, as the first of `nodes` that answers tells."""
        names = {member.name for member in self.members(nodes) if leads(member)}
        return next((node for node in self.nodes if node.name in names), None)

    async def healthy(self) -> None:
        """Wait until one leads, and two follow, one of them synchronously."""
        await self._until("all nodes are there", lambda: is_healthy(self.members(), synchronous=self._synchronous), READY_SECONDS)

    async def successor(self, old: Node) -> Node:
        """Wait until another node leads."""
        others = [node for node in self.nodes if node is not old]

        def another() -> bool:
            return self.leader(others) not in {None, old}

        await self._until(f"another node takes over from {old.name}", another, TAKE_OVER_SECONDS)
        found = self.leader(others)
        assert found is not None, "it has just been there"
        return found

    # --- what is done to it ----------------------------------------------------------------------

    def start(self, node: Node) -> None:
        """Start the Patroni of a node, which starts its server."""
        node.patroni = self._spawn(node.name, self._programs.patroni, self.folder / f"{node.name}.yml")

    def strike(self, node: Node, disaster: Disaster) -> None:
        """Kill its server; its server and Patroni, as when a machine dies; or halt Patroni, so that its server does not hear what becomes of it."""
        server, patroni = node.postmaster(), node.patroni
        assert patroni is not None, "it was started"
        if disaster == "frozen":
            os.killpg(patroni.pid, signal.SIGSTOP)
            return
        if disaster == "machine":
            os.killpg(patroni.pid, signal.SIGKILL)
        os.kill(server, signal.SIGKILL)

    def mend(self, node: Node, disaster: Disaster) -> None:
        """Let it come back."""
        patroni = node.patroni
        assert patroni is not None, "it was started"
        if disaster == "frozen":
            os.killpg(patroni.pid, signal.SIGCONT)
        if disaster == "machine":
            patroni.wait(STOP_SECONDS)
            self._running.remove(patroni)
            self.start(node)

    # --- inside ----------------------------------------------------------------------------------

    def logs(self) -> str:
        """Return the last lines of every log."""
        told = []
        for path in sorted(self.folder.glob("*.log")):
            lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
            told.append("\n".join([f"--- {path.name}", *lines]))
        return "\n".join(told)

    def _own(self, path: Path) -> None:
        if account := self._programs.account:
            shutil.chown(path, account["user"], account["group"])

    def _spawn(self, name: str, *command: str | Path) -> subprocess.Popen[bytes]:
        environment = {"PATH": f"{self._programs.postgres}:/usr/bin:/bin", "HOME": str(self.folder), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
                **self._programs.account,
            )
        self._running.append(process)
        assert self._guard.stdin
        self._guard.stdin.write(f"{' '.join(str(each.pid) for each in self._running)}\n".encode())
        return process

    async def _until(self, what: str, happened: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not await asyncio.to_thread(happened):  # noqa: ASYNC110  # other programs tell only when they are asked
                    await asyncio.sleep(POLL)
        except TimeoutError:
            raise ClusterFailed(f"after {seconds:.0f} s it is not so that {what}: {self.members()}\n{self.logs()}") from None


def leads(member: Member) -> bool:
    """Return whether it takes writes."""
    return member.role in {"leader", "master", "primary"} and member.state == "running"


def is_healthy(members: Sequence[Member], *, synchronous: bool) -> bool:
    """Return whether one leads and the others follow; `synchronous`, one of them so that commits wait for it."""
    following = [member for member in members if member.role in {"replica", "sync_standby"} and member.state in {"running", "streaming"}]
    surely = not synchronous or any(member.role == "sync_standby" for member in following)
    return len(following) == NODES - 1 and sum(map(leads, members)) == 1 and surely


def _healthy_etcd(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
