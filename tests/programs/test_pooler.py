"""A real PgBouncer between us and PostgreSQL: kora doctor knows it, and what it does."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from kora_daemon.store.postgres.inspection import pooling
from kora_daemon.store.postgres.sessions import Session
from tests.support.doctor import diagnosed, has_failed, is_well
from tests.support.postgres import server

PATIENCE_S = 20


@contextmanager
def pooled(folder: Path, mode: str) -> Iterator[str]:
    """The URL of a database through a pooler in this mode."""
    upstream = conninfo_to_dict(server().url(server().database()))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "pgbouncer.ini"
    (folder / "users.txt").write_text('"kora" ""\n')
    config.write_text(
        f"""
        [databases]
        app = host={upstream["host"]} dbname={upstream["dbname"]} user=kora
        [pgbouncer]
        listen_addr = 127.0.0.1
        listen_port = {port}
        unix_socket_dir =
        auth_type = trust
        auth_file = {folder}/users.txt
        pool_mode = {mode}
        """
    )
    process = subprocess.Popen(
        [_program(), "-q", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **_nobody(folder)
    )
    try:
        url = f"postgresql://kora@127.0.0.1:{port}/app"
        _wait_for(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _program() -> str:
    return shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


def _nobody(folder: Path) -> dict[str, Any]:
    """It does not run as root."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    for path in (folder, *folder.iterdir()):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        time.sleep(0.02)
    raise RuntimeError("PgBouncer did not start")


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter."""
    made = Path("/tmp") / f"kora-pgbouncer-{os.getpid()}"
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_pooler_is_known_by_what_it_does(folder: Path, tmp_path: Path, mode: str) -> None:
    with pooled(folder, mode) as url:
        session = Session(url, "kora-doctor", "normal", 5, 5, 5)
        assert [pooling(session) for _ in range(3)] == [mode] * 3
        found = diagnosed(tmp_path, f'[server]\nport = 0\n[store]\nkind = "postgres"\nurl = "{url}"')
        if mode == "session":
            is_well(found["postgres.pooler"], "in session mode")
        else:
            has_failed(found["postgres.pooler"], "between transactions", "session mode")
        is_well(found["postgres.reachable"])
        is_well(found["postgres.rights"])
