"""The command `kora` on a folder of its own, in this process or as a child."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, NamedTuple

import apsw

from kora_daemon.store.sqlite import SqliteStore
from koractl.app import main

ROOT = Path(__file__).parents[2]
CHILD_TIMEOUT_S = 60
CONFIG = """
schema = "schema.json"
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operations_per_minute = 0
[store]
durability = "normal"
"""


class Ended(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it said, read."""
        assert self.code == 0, self.err
        return json.loads(self.out)


def schema_text(version: int = 1, relations: Any = None, constraints: Any = None, **collections: Any) -> str:
    """A schema file: collection -> field -> kind, or the whole descriptor."""
    made = {
        name: {
            "fields": {field: {"kind": kind} if isinstance(kind, str) else kind for field, kind in fields.items()},
            "constraints": (constraints or {}).get(name, []),
        }
        for name, fields in collections.items()
    }
    return json.dumps({"version": version, "collections": made, "relations": relations or {}})


class Kora:
    """A folder with kora.toml and perhaps schema.json, and the command to use on it."""

    def __init__(self, folder: Path, schema: str | None = None, config: str | None = None) -> None:
        self.folder = folder
        self.config = folder / "kora.toml"
        self.database = folder / "kora.db"
        self.config.write_text(config if config is not None else CONFIG if schema else "")
        if schema is not None:
            self.use(schema)

    def use(self, schema: str) -> None:
        """Put another schema file in place."""
        (self.folder / "schema.json").write_text(schema, "utf-8")

    def __call__(self, *arguments: str, stdin: str = "") -> Ended:
        """Run a command in this process."""
        out, err = BytesIO(), BytesIO()
        before, sys.stdin = sys.stdin, StringIO(stdin)
        code: Any = 0
        try:
            with redirect_stdout(_text(out)), redirect_stderr(_text(err)):
                main([*arguments, "--config", str(self.config)])
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stdin = before
        return Ended(code or 0, out.getvalue().decode(), err.getvalue().decode())

    def child(self, *arguments: str, prepare: Callable[[], None] | None = None) -> Ended:
        """Run a command as a process of its own; `prepare` is called in there, before it begins."""
        with self.begun(*arguments, prepare=prepare) as process:
            out, err = process.communicate(timeout=CHILD_TIMEOUT_S)
        return Ended(process.returncode, out, err)

    @contextmanager
    def begun(
        self, *arguments: str, prepare: Callable[[], None] | None = None, stdout: IO[str] | int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[str]]:
        """The same, just begun; gone at the end."""
        process = subprocess.Popen(
            [sys.executable, "-m", "koractl", *arguments, "--config", str(self.config)],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("KORA_")},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,  # noqa: PLW1509  the child of a test, which has few threads and no locks
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def store(self) -> Iterator[SqliteStore]:
        """The store, open."""
        made = SqliteStore(self.database, durability="normal")
        made.open()
        try:
            yield made
        finally:
            made.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement of the test's own, which may change things."""
        connection = apsw.Connection(str(self.database))
        try:
            connection.set_busy_timeout(5_000)
            return list(connection.execute(statement))
        finally:
            connection.close()

    def tables(self) -> list[tuple[Any, ...]]:
        """Every table and index, as declared."""
        return self.sql("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")

    def contents(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the database, but for what only tells how it came about."""
        names = [name for kind, name, _ in self.tables() if kind == "table" and not name.startswith("sqlite_")]
        found = {}
        for name in names:
            columns = [f'"{one}"' for (one,) in self.sql(f"SELECT name FROM pragma_table_info('{name}')")]
            hidden = {'"received_at"', '"last_seen_at"'}
            shown = ", ".join(sorted(set(columns) - hidden))
            rows = self.sql(f'SELECT {shown} FROM "{name}"')
            # Numbers that only move when something else does.
            found[name] = sorted((row for row in rows if row[0] not in ("shapes", "probe", "floor")), key=repr)
        return found


def _text(stream: BytesIO) -> TextIOWrapper:
    """As Python opens stdout in a pipe."""
    return _Kept(stream, "utf-8", write_through=True, newline="")


class _Kept(TextIOWrapper):
    def close(self) -> None:
        """What was written is still to be looked at."""
