"""What permessage-deflate costs and saves: server CPU against bytes, first syncs and fan-out; memory of idle devices.

`python -m tests.benchmarks.bench_compression [OPERATIONS]`: by default first syncs of 100,000 operations with some 30
words of English each, from one daemon (SQLite) on a real socket. Three kinds of devices take turns: "plain" offers
nothing, "ws" compresses its messages of 1 KiB and more as Node's `ws` does, "browser" all that it sends, its
acknowledgments too. CPU is the daemon's process. Rounds of the kinds alternate, medians are shown: compare rows of one
table only.
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import zlib
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import Any

import trio

from kora_daemon.server.framing import TEXT, header
from tests.support.process import Daemon

KINDS = ("plain", "ws", "browser")
ROUNDS = 6
LISTENERS = 100
IDLE = 1_000
WORDS = re.findall(r"[a-z]{2,}", (Path(__file__).parents[2] / "docs" / "how-it-works.md").read_text().lower())
CONFIG = """
[server]
host = "127.0.0.1"
port = 0
[limits]
max_operations_per_minute = 0
max_unauthenticated_per_address = 0
[store]
kind = "{store}"
durability = "normal"
[log]
level = "error"
"""
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extensions}\r\n"
)
OFFER = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


def operation(node: str, number: int, words: random.Random) -> dict[str, Any]:
    """An insert as a device makes it."""
    record = sha256(f"{node}{number // 4}".encode()).hexdigest()
    return {
        "id": sha256(f"{node}:{number}".encode()).hexdigest(),
        "nodeId": node,
        "type": "insert",
        "collection": "todos",
        "recordId": f"{record[:8]}-{record[8:12]}-7{record[13:16]}-{record[16:20]}-{record[20:32]}",
        "data": {
            "title": " ".join(words.choices(WORDS, k=5)),
            "notes": " ".join(words.choices(WORDS, k=25)),
            "completed": bool(number % 2),
        },
        "previousData": None,
        "timestamp": {"wallTime": 1_700_000_000_000 + 37 * number, "logical": 0, "nodeId": node},
        "sequenceNumber": number,
        "causalDeps": [],
        "schemaVersion": 1,
    }


class Device:
    """A bare client on a socket; counts the bytes that it reads."""

    def __init__(self, kind: str, node: str) -> None:
        self._kind = kind
        self.node = node
        self._buffer = bytearray()
        self.bytes_in = 0

    async def open(self, port: int, watermark: int = 0) -> None:
        """Connect and shake hands; the answer is still to be heard."""
        self._stream = await trio.open_tcp_stream("127.0.0.1", port)
        extensions = "" if self._kind == "plain" else OFFER
        await self._stream.send_all(UPGRADE.format(extensions=extensions).encode())
        while b"\r\n\r\n" not in self._buffer:
            await self._read()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        assert (b"permessage-deflate" in head) == (self._kind != "plain"), head
        self._buffer = bytearray(rest)
        self.bytes_in = len(rest)
        handshake = {"type": "handshake", "messageId": "h", "nodeId": self.node, "versionVector": {},
                     "schemaVersion": 1, "lastDeliverySequence": watermark}  # fmt: skip
        await self.say(json.dumps(handshake).encode())

    async def _read(self) -> None:
        data = await self._stream.receive_some(1 << 18)
        assert data, "closed"
        self._buffer += data
        self.bytes_in += len(data)

    async def hear(self) -> bytes:
        """The next message."""
        buffer = self._buffer
        while True:
            if len(buffer) >= 10:
                size, at = buffer[1], 2
                if size >= 126:
                    at = 4 if size == 126 else 10
                    size = int.from_bytes(buffer[2:at], "big")
                if len(buffer) >= at + size:
                    first, payload = buffer[0], bytes(buffer[at : at + size])
                    del buffer[: at + size]
                    return zlib.decompress(payload + b"\0\0\xff\xff\3\0", -15) if first & 0x40 else payload
            await self._read()

    async def say(self, payload: bytes) -> None:
        """Send a message; masked with nothing."""
        kind = TEXT
        if self._kind == "browser" or (self._kind == "ws" and len(payload) >= 1024):
            deflater = zlib.compressobj(6, zlib.DEFLATED, -15)
            payload = (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
            kind |= 0x40
        first, second, *length = header(kind, len(payload))
        await self._stream.send_all(bytes([first, second | 0x80, *length]) + bytes(4) + payload)

    async def take(self, operations: int) -> None:
        """Take and acknowledge batches until there were so many operations in them."""
        while operations > 0:
            message = await self.hear()
            if message.startswith(b'{"type":"operation-batch"'):
                operations -= message.count(b'"recordId"')
                await self._acknowledge(message)

    async def take_all(self) -> None:
        """Take and acknowledge up to the end of the first download."""
        message = b""
        while b'"isFinal":true' not in message[-300:]:
            message = await self.hear()
            if message.startswith(b'{"type":"operation-batch"'):
                await self._acknowledge(message)

    async def _acknowledge(self, batch: bytes) -> None:
        [message_id] = re.findall(rb'"messageId":"([^"]+)"', batch[:200])
        [maximum] = re.findall(rb'"maxDeliverySequence":(\d+)', batch[-200:])
        await self.say(
            b'{"type":"acknowledgment","messageId":"%s-a","acknowledgedMessageId":"%s","lastSequenceNumber":1,'
            b'"deliverySequence":%s}' % (message_id, message_id, maximum)
        )

    async def upload(self, operations: list[dict[str, Any]]) -> None:
        """Send a batch and wait until it is stored."""
        batch = {
            "type": "operation-batch",
            "messageId": "u",
            "operations": operations,
            "isFinal": True,
            "batchIndex": 0,
        }
        await self.say(json.dumps(batch).encode())
        while b'"acknowledgment"' not in await self.hear():
            pass

    async def close(self) -> None:
        await self._stream.aclose()


def cpu_ms(daemon: Daemon) -> float:
    """What the daemon's process has used so far."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def in_turn(turn: int) -> tuple[str, ...]:
    """The kinds, each as often first as the others."""
    first = turn % len(KINDS)
    return KINDS[first:] + KINDS[:first]


def show(title: str, unit: str, measured: dict[str, list[tuple[float, float, float]]]) -> None:
    """A table: CPU (ms per 1,000), bytes and wall time of each kind, and its ratios to the first."""
    print(f"\n{title}\n{'':10}{'CPU ms / 1,000 ' + unit:>28}{'bytes / ' + unit[:-1]:>20}{'seconds':>10}")
    base = [median(column) for column in zip(*measured[KINDS[0]], strict=True)]
    for kind, rounds in measured.items():
        cpu, size, wall = (median(column) for column in zip(*rounds, strict=True))
        print(f"{kind:10}{cpu:21.2f} x{cpu / base[0]:.2f}{size:14.1f} x{size / base[1]:.2f}{wall:10.2f}", flush=True)


async def first_syncs(daemon: Daemon, operations: int) -> None:
    words = random.Random(1)
    writer = Device("plain", "writer")
    await writer.open(daemon.port)
    await writer.take_all()
    for start in range(0, operations, 500):
        await writer.upload([operation("writer", number, words) for number in range(start, start + 500)])
    await writer.close()
    measured: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for turn in range(ROUNDS):
        for kind in in_turn(turn):
            device = Device(kind, f"reader-{kind}-{turn}")
            cpu, wall = cpu_ms(daemon), time.perf_counter()
            await device.open(daemon.port)
            await device.take(operations)
            cpu, wall = cpu_ms(daemon) - cpu, time.perf_counter() - wall
            await device.close()
            measured[kind].append((cpu * 1000 / operations, device.bytes_in / operations, wall))
    show(f"first sync of {operations:,} operations, one device at a time", "operations", measured)


async def fan_out(folder: Path, batch: int, rounds: int) -> None:
    """One writer, listeners that follow live; the batches of a round are as many deliveries for all sizes."""
    measured: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    words, watermark = random.Random(2), 0
    with Daemon(folder, CONFIG.format(store="memory")) as daemon:
        for turn in range(ROUNDS):
            for kind in in_turn(turn):
                writer = Device("plain", f"writer-{kind}-{turn}")
                listeners = [Device(kind, f"listener-{kind}-{turn}-{number}") for number in range(LISTENERS)]
                for device in (writer, *listeners):
                    await device.open(daemon.port, watermark)
                    await device.take_all()
                watermark += batch * rounds
                batches = [
                    [operation(writer.node, index * batch + number, words) for number in range(batch)]
                    for index in range(rounds)
                ]
                before, cpu, wall = sum(device.bytes_in for device in listeners), cpu_ms(daemon), time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for device in listeners:
                        nursery.start_soon(device.take, batch * rounds)
                    for operations in batches:
                        await writer.upload(operations)
                cpu, wall = cpu_ms(daemon) - cpu, time.perf_counter() - wall
                deliveries = LISTENERS * batch * rounds
                size = (sum(device.bytes_in for device in listeners) - before) / deliveries
                measured[kind].append((cpu * 1000 / deliveries, size, wall))
                for device in (writer, *listeners):
                    await device.close()
    show(f"fan-out to {LISTENERS} devices, batches of {batch}", "deliveries", measured)


def resident_kib(daemon: Daemon) -> int:
    """Memory of the daemon's process."""
    [found] = re.findall(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{daemon.process.pid}/status").read_text())
    return int(found)


async def idle(folder: Path) -> None:
    print(f"\n{IDLE:,} idle devices, each of which was sent 20 operations")
    for kind in KINDS:
        with Daemon(folder, CONFIG.format(store="memory")) as daemon:
            writer = Device("plain", "writer")
            await writer.open(daemon.port)
            await writer.take_all()
            await writer.upload([operation("writer", number, random.Random(3)) for number in range(20)])
            warm = [Device(kind, f"warm-{number}") for number in range(20)]
            devices = [Device(kind, f"device-{number}") for number in range(IDLE)]
            for device in warm:
                await device.open(daemon.port)
                await device.take_all()
            before = resident_kib(daemon)
            for device in devices:
                await device.open(daemon.port)
                await device.take_all()
            print(f"{kind:10}{(resident_kib(daemon) - before) / IDLE:8.1f} KiB each", flush=True)
            for device in (writer, *warm, *devices):
                await device.close()


async def measure(operations: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with Daemon(Path(folder), CONFIG.format(store="sqlite")) as daemon:
            await first_syncs(daemon, operations)
        for batch, rounds in ((1, 100), (10, 50), (100, 20)):
            await fan_out(Path(folder), batch, rounds)
        await idle(Path(folder))


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    trio.run(measure, int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
