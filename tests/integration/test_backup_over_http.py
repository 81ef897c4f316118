"""Backups of a running server: out and in over real sockets, and what is done to files that are none."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from kora_daemon.apply.pipeline import ApplyRules
from kora_daemon.http import backup as http_backup
from kora_daemon.http import connection
from kora_daemon.http.backup import ImportOptions
from kora_daemon.server.options import ServerOptions
from kora_daemon.store.contract import Store
from kora_daemon.store.memory import MemoryStore
from kora_daemon.store.postgres import PostgresStore
from kora_daemon.store.sqlite import SqliteStore
from tests.support.devices import insert, inserts, seed
from tests.support.http import Answer, HttpClient, http_client
from tests.support.network import PATIENCE_S, Host, eventually, running_server, streaming
from tests.support.postgres import server
from tests.support.records import schema_of
from tests.support.stock_device import StockDevice
from tests.unit.backup.backup_files import exported, line, sealed

EXPORT, IMPORT = "/__kora/backup/export", "/__kora/backup/import"
MIB = 1 << 20

Make = Callable[[Path], Store]
STORES: dict[str, Make] = {
    "memory": lambda folder: MemoryStore(),
    "sqlite": lambda folder: SqliteStore(folder / f"{len(list(folder.iterdir()))}.db"),
    "postgres": lambda folder: PostgresStore(server().schema()),
}
every_store = pytest.mark.parametrize("make", STORES.values(), ids=STORES)


async def export(client: HttpClient) -> bytes:
    answer = await client.ask(EXPORT, "POST")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/octet-stream")
    assert answer.headers["content-disposition"].endswith('.kora"')
    return answer.body


async def put_back(client: HttpClient, file: bytes, query: str = "") -> Answer:
    return await client.ask(IMPORT + query, "POST", file)


def head(header: str) -> bytes:
    """The head of a request to put a backup back."""
    return f"POST {IMPORT} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n".encode()


def ids(store: Store) -> list[str]:
    return [entry.operation.id for entry in store.entries_after(0, 100_000)]


def kinds(host: Host) -> list[str]:
    return [one.kind for one in host.server.journal.after(0) if one.kind.startswith("backup.")]


# There and back


@every_store
async def test_what_goes_out_comes_in_again(make: Make, tmp_path: Path) -> None:
    first, second = make(tmp_path), make(tmp_path)
    seed(first, inserts("a", 1, 300))
    async with running_server(first) as host, http_client(host.port) as client:
        file = await export(client)
        assert kinds(host) == ["backup.exported"]
    seed(second, inserts("b", 1, 20))
    async with running_server(second) as host, http_client(host.port) as client:
        assert (await put_back(client, file)).json == {"operations": 300, "merged": False}
        assert host.server.get_status().total_operations == 300
        assert ids(second) == [one["id"] for one in inserts("a", 1, 300)]
        assert await export(client) != file  # made by another server, at another time
        assert kinds(host) == ["backup.import_begun", "backup.verified", "backup.restored", "backup.exported"]


@every_store
async def test_devices_come_again_and_have_what_the_backup_has(make: Make, tmp_path: Path) -> None:
    store = make(tmp_path)
    async with running_server(store) as host, http_client(host.port) as client:
        device, other = StockDevice("a"), StockDevice("b")
        async with device.connecting(host.url), other.connecting(host.url):
            await device.until(lambda: device.is_synced)
            await device.push(device.insert("todos", "old", title="old"))
            file = await export(client)
            await device.push(device.insert("todos", "new", title="new"))
            await other.until(lambda: len(other.log) == 2)
            assert (await put_back(client, file)).status == 200
            await eventually(lambda: host.server.measures.closes.by_name == {"1001": 2})
        assert ids(store) == [next(iter(device.log))]
        async with other.online(host.url), device.online(host.url):  # they bring back what the backup lacks
            await eventually(lambda: host.server.get_status().total_operations == 2)
        assert sorted(device.records("todos")) == sorted(other.records("todos")) == ["new", "old"]


@every_store
async def test_a_merge_adds_what_is_missing_and_devices_hear_of_it(make: Make, tmp_path: Path) -> None:
    store = make(tmp_path)
    seed(store, [*inserts("a", 1, 2), *inserts("b", 1, 3)])
    file = b""
    async with running_server(store) as host, http_client(host.port) as client:
        file = await export(client)
    other = make(tmp_path)
    seed(other, inserts("a", 1, 2))
    async with running_server(other) as host, http_client(host.port) as client, streaming(host.url, "c", 2) as c:
        assert (await put_back(client, file, "?merge=true")).json == {"operations": 3, "merged": True}
        batch = await c.hear()
        assert [one["id"] for one in batch["operations"]] == ["b/1", "b/2", "b/3"]
        assert host.server.get_status().total_operations == 5
        assert (await put_back(client, file, "?merge=true")).json == {"operations": 0, "merged": True}
        await c.upload(insert("c", 1))
        assert (await c.hear())["type"] == "acknowledgment"
        assert host.server.get_status().total_operations == 6


@pytest.mark.parametrize("make", [STORES["sqlite"], STORES["postgres"]], ids=["sqlite", "postgres"])
async def test_records_are_made_again(make: Make, tmp_path: Path) -> None:
    options = ServerOptions(apply=ApplyRules(schema_of(todos={"title": "string"})))
    store = make(tmp_path)
    async with running_server(store, options=options) as host, http_client(host.port) as client:
        async with streaming(host.url, "a") as a:
            await a.upload(*inserts("a", 1, 5))
            await a.hear()
            file = await export(client)
            await a.upload(*inserts("a", 6, 9))
            await a.hear()
        assert await host.server.count_collection("todos") == 9
        assert (await put_back(client, file)).status == 200
        assert await host.server.count_collection("todos") == 5
        assert "backup.records_made" in kinds(host)


async def test_uploads_go_on_beside_an_export(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "kora.db")
    seed(store, (insert("a", number, text="x" * 20_000) for number in range(1, 400)))
    async with running_server(store) as host, http_client(host.port) as slow, streaming(host.url, "b", 399) as b:
        assert (await slow.follow(EXPORT, method="POST")).status == 200
        await b.upload(insert("b", 1))
        assert (await b.hear())["type"] == "acknowledgment"
        assert host.server.backups._under_way == "an export"
        file = b""
        while piece := await slow.piece():
            file += piece
    assert file.count(b'"sequenceNumber"') == 399


# One at a time


async def test_one_at_a_time_and_the_next_when_it_is_over(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "kora.db")
    seed(store, (insert("a", number, text="x" * 100_000) for number in range(1, 200)))
    async with running_server(store) as host, http_client(host.port) as client:
        async with http_client(host.port) as stalled:
            await stalled.say(b"POST /__kora/backup/export HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            await eventually(lambda: host.server.backups._under_way == "an export")
            for path in (EXPORT, IMPORT):
                answer = await client.ask(path, "POST")
                assert answer.status == 409
                assert b"an export is under way" in answer.body
        # It has gone without reading to the end.
        await eventually(lambda: host.server.backups._under_way is None)
        assert len(await export(client)) > 19_000_000


async def test_an_export_that_nobody_reads_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "BODY_TIMEOUT_S", 0.1)
    store = SqliteStore(tmp_path / "kora.db")
    seed(store, (insert("a", number, text="x" * 100_000) for number in range(1, 200)))
    async with running_server(store) as host, http_client(host.port) as stalled:
        await stalled.say(b"POST /__kora/backup/export HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
        await eventually(lambda: host.server.backups._under_way == "an export")
        await eventually(lambda: host.server.backups._under_way is None)


async def test_a_server_stops_while_a_backup_is_made(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "kora.db")
    seed(store, (insert("a", number, text="x" * 100_000) for number in range(1, 200)))
    with trio.fail_after(PATIENCE_S):
        async with running_server(store) as host, http_client(host.port) as stalled:
            await stalled.say(b"POST /__kora/backup/export HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
            await eventually(lambda: host.server.backups._under_way == "an export")


# What is no backup

GOOD = sealed(line(1) + line(2))
HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "no backup": b"this is a diary" * 1_000,
    "cut short": GOOD[:-1],
    "cut in the middle": GOOD[: len(GOOD) // 2],
    "one byte changed": GOOD.replace(b"insert", b"insirt", 1),
    "wrong hash": sealed(line(1), checksum="0" * 64),
    "wrong count": sealed(line(1), operationCount=5),
    "another version": sealed(line(1), version=2),
    "a broken operation": sealed(line(1) + b'{"id": 5}\n'),
    "a section without end": b"\x08\x00\x00\x00\xff\xff\xff\xffmanifest{}",
    "a name without end": b"\xff\xff\xff\xff\x00\x00\x00\x00",
    "a manifest of many bytes": b"\x08\x00\x00\x00\x00\x00\x20\x00manifest" + b"[" * (2 * MIB),
    "a deep operation": sealed(b"[" * 200_000 + b"\n"),
    "many sections": b"\x01\x00\x00\x00\x00\x00\x00\x00x" * 20_000,
    "a long line": sealed(b'{"id": "' + b"x" * (2 * MIB) + b"\n"),
    "something behind it": GOOD + b"x",
}


@pytest.mark.parametrize("merge", ["", "?merge=true"], ids=["replace", "merge"])
@pytest.mark.parametrize("file", HOSTILE.values(), ids=HOSTILE)
async def test_what_is_no_backup_changes_nothing(file: bytes, merge: str) -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    async with running_server(store) as host, http_client(host.port) as client, streaming(host.url, "a", 3) as a:
        answer = await put_back(client, file, merge)
        assert answer.status == 422
        assert answer.body.endswith(b"Nothing was changed\n")
        assert kinds(host)[-1] == "backup.import_failed"
        assert ids(store) == ["a/1", "a/2", "a/3"]
        assert host.server.get_connection_count() == 1
        await a.upload(insert("a", 4))
        assert (await a.hear())["type"] == "acknowledgment"


async def test_an_upload_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    store = MemoryStore()
    seed(store, inserts("a", 1, 3))
    async with running_server(store) as host:
        async with http_client(host.port) as client:
            await client.say(head(f"content-length: {len(GOOD)}"))
            await client.say(GOOD[:-10])
            await eventually(lambda: kinds(host) == ["backup.import_begun"])
        await eventually(lambda: host.server.backups._under_way is None)
        assert ids(store) == ["a/1", "a/2", "a/3"]
        assert "backup.verified" not in kinds(host)


async def test_a_backup_that_is_too_large_is_not_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_backup, "WRITTEN_AT_ONCE", 100)
    async with running_server(imports=ImportOptions(max_bytes=1_000)) as host:
        async with http_client(host.port) as client:
            assert (await put_back(client, b"x" * 1_001)).status == 413
        async with http_client(host.port) as client:
            await client.say(head("transfer-encoding: chunked"))
            for _ in range(11):
                await client.say(b"64\r\n" + b"x" * 100 + b"\r\n")
            assert (await client.hear("POST")).status == 413


async def test_a_full_disk_is_said_to_be_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_backup, "SPARE_BYTES", 1 << 60)
    async with running_server() as host, http_client(host.port) as client:
        answer = await put_back(client, GOOD)
        assert (answer.status, b"no room" in answer.body) == (507, True)


async def test_a_compressed_backup_is_refused_before_it_is_read() -> None:
    async with running_server() as host, http_client(host.port) as client:
        answer = await client.ask(IMPORT, "POST", GOOD, {"content-encoding": "gzip"})
        assert answer.status == 415


async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kora_daemon.http.surface.ImportOptions", lambda: ImportOptions(folder=tmp_path))
    async with running_server() as host, http_client(host.port) as client:
        for file in (GOOD, GOOD[:-1]):
            await put_back(client, file)
            assert os.listdir(tmp_path) == []


# Large logs


@pytest.mark.parametrize("make", [STORES["sqlite"], STORES["postgres"]], ids=["sqlite", "postgres"])
@pytest.mark.slow
async def test_a_large_log_goes_out_and_in_through_little_memory(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.http.PATIENCE_S", 60.0)  # it takes some seconds until all is in
    store = make(tmp_path)
    seed(store, (insert("a", number, text="x" * 16_000) for number in range(1, 4_501)))
    target = make(tmp_path)
    async with running_server(store) as source, running_server(target) as host:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _peak_bytes()
        async with http_client(source.port) as reader, http_client(host.port) as writer:
            await pipe(reader, writer)
            assert (await writer.hear("POST")).json == {"operations": 4_500, "merged": False}
        assert _peak_bytes() - before < 60 * MIB
        assert host.server.get_status().total_operations == 4_500


async def pipe(reader: HttpClient, writer: HttpClient) -> None:
    """Send what one server gives to another one, piece by piece."""
    await writer.say(head("transfer-encoding: chunked"))
    assert (await reader.follow(EXPORT, method="POST")).status == 200
    while piece := await reader.piece():
        await writer.say(b"%x\r\n" % len(piece) + piece + b"\r\n")
    await writer.say(b"0\r\n\r\n")


def _peak_bytes() -> int:
    """The most memory that this process has had so far."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_backup_files_of_tests_are_good() -> None:
    assert exported()
    assert GOOD
