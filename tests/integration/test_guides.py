"""The guides are followed: quick start, moving from the TypeScript server."""

from __future__ import annotations

import json
import re
from pathlib import Path

import apsw
import pytest

from koractl.app import main
from tests.integration.test_docs import Desk, blocks
from tests.support.network import connected
from tests.support.operations import wire_operation
from tests.support.process import Daemon

ANY_PORT = '\n[server]\nhost = "127.0.0.1"\nport = 0\n'
APP_SCHEMA = {
    "version": 1,
    "collections": {
        "todos": {
            "fields": {
                "title": {"kind": "string", "required": True},
                "completed": {"kind": "boolean", "required": False, "defaultValue": False},
                "createdAt": {"kind": "timestamp", "required": False, "auto": True},
            },
            "indexes": ["completed", "createdAt"],
        }
    },
}
"""What the generator's templates have."""


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KORA_CONFIG", raising=False)
    return Desk(tmp_path, capsys)


async def test_the_quick_start_can_be_followed(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    init, first, checked, asked, built = blocks("quick-start.md", "toml", "console")
    desk.take(init)
    desk.take(first)
    server = desk.folder / "server"
    with pytest.raises(SystemExit, match="0"):
        main(["config", "check", "--config", str(server / "kora.toml")])
    printed, complained = capsys.readouterr()
    assert re.findall(r"^(\w+)$", printed, re.M) == ["todos", "forms", "responses"]
    assert complained.startswith("kora: doubtful: auth: nobody is held to the scope of the schema")
    (server / "schema.json").write_text(json.dumps(APP_SCHEMA))
    desk.take(checked)
    await _write_a_todo(server)
    desk.take(asked)
    (desk.folder / "dist").mkdir()
    desk.take(built)
    desk.take(checked)


async def _write_a_todo(server: Path) -> None:
    """A device of the app connects where the page says, on any port, and writes."""
    config = (server / "kora.toml").read_text()
    elsewhere = config.replace("port = 3001", 'host = "127.0.0.1"\nport = 0')
    assert elsewhere != config
    with Daemon(server, elsewhere) as daemon:
        assert daemon.url.endswith("/kora-sync")
        async with connected(daemon.url) as client:
            await client.shake_hands()
            await client.download()
            data = {"title": "Paint the door", "completed": False, "createdAt": 1}
            await client.upload(wire_operation(1, collection="todos", recordId="r1", data=data))
            while (await client.hear())["type"] != "acknowledgment":
                pass
    (server / "kora.toml").write_text(config)


def test_what_moving_says_about_a_sqlite_file_can_be_done(desk: Desk) -> None:
    _file_of_the_typescript_server(desk.folder / "app.db")
    (desk.folder / "schema.json").write_text(json.dumps(APP_SCHEMA))
    for block in blocks("moving.md", "toml", "console"):
        desk.take(block)


def _file_of_the_typescript_server(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(
        """CREATE TABLE operations (
            id TEXT PRIMARY KEY, node_id TEXT NOT NULL, type TEXT NOT NULL, collection TEXT NOT NULL,
            record_id TEXT NOT NULL, data TEXT, previous_data TEXT, wall_time INTEGER NOT NULL,
            logical INTEGER NOT NULL, timestamp_node_id TEXT NOT NULL, sequence_number INTEGER NOT NULL,
            causal_deps TEXT NOT NULL DEFAULT '[]', schema_version INTEGER NOT NULL, received_at INTEGER NOT NULL,
            atomic_ops TEXT, delivery_sequence INTEGER
        );
        CREATE TABLE sync_state (
            node_id TEXT PRIMARY KEY, max_sequence_number INTEGER NOT NULL, last_seen_at INTEGER NOT NULL
        );
        CREATE TABLE todos (
            id TEXT PRIMARY KEY NOT NULL, title TEXT, completed INTEGER DEFAULT 0, createdAt INTEGER,
            _created_at INTEGER NOT NULL, _updated_at INTEGER NOT NULL, _deleted INTEGER NOT NULL DEFAULT 0
        );
        CREATE INDEX idx_todos_completed ON todos (completed);
        CREATE INDEX idx_todos_createdAt ON todos (createdAt);
        CREATE INDEX idx_todos__deleted ON todos (_deleted);
        INSERT INTO sync_state VALUES ('node-a', 2, 300);"""
    )
    for number, record in enumerate(("r1", "r2"), start=1):
        connection.execute(
            """INSERT INTO operations VALUES
            (?, 'node-a', 'insert', 'todos', ?, '{"title":"Paint","completed":false}', NULL, 5, 0, 'node-a', ?, '[]',
             1, 6, NULL, ?)""",
            (f"op-{number}", record, number, number),
        )
    connection.close()
