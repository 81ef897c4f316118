"""Where modes run: the server that is measured, the loop, and the clients."""

from __future__ import annotations

import gc
import resource
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from kora_daemon.bench.client import Address, Client, Ground, State
from kora_daemon.bench.deliveries import Deliveries
from kora_daemon.bench.footprint import Watch
from kora_daemon.bench.loop import Loop, now_s
from kora_daemon.bench.messages import Hearing
from kora_daemon.bench.own_daemon import OwnDaemon, own_daemon
from kora_daemon.bench.report import Figures, lost_and_doubled
from kora_daemon.errors import KoraError

_QUIET_S = 0.2
"""Before the clock starts: what the last connections set off is over."""
_OPENING = 64
"""Clients that connect at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What to measure: a daemon of our own on this store, or with `url` the server there.

    `pid` is that server's process, `store_pid` its database's; without them their cost is not told. `patience_s` is
    how long a run may go without end.
    """

    store: str = "sqlite"
    store_url: str | None = None
    tables: bool = True
    url: str | None = None
    pid: int | None = None
    store_pid: int | None = None
    token: str | None = None
    patience_s: float = 60.0


class Rig:
    """A server and clients for it. `trouble` counts what should not have happened; a clean run has none."""

    def __init__(self, address: Address, subject: Subject, pid: int | None, daemon: OwnDaemon | None) -> None:
        self.loop = Loop()
        self.trouble: Counter[str] = Counter()
        self.patience_s = subject.patience_s
        self.watch = Watch(pid, subject.store_pid)
        self.daemon = daemon
        self._ground = Ground(self.loop, address, Hearing(), self.trouble, subject.token)
        self._clients: list[Client] = []

    def client(self, watermark: int = 0) -> Client:
        """A device that is not connected yet."""
        made = Client(self._ground, watermark)
        self._clients.append(made)
        return made

    def clients(self, number: int, watermark: int = 0) -> list[Client]:
        """So many of them."""
        return [self.client(watermark) for _ in range(number)]

    def open(self, clients: Sequence[Client], at_once: int = _OPENING) -> None:
        """Bring clients into the stream; who does not get there in time is trouble.

        Raises KoraError when nobody does: there is nothing to measure then.
        """
        waiting, opening = deque(clients), list[Client]()

        def all_are_in() -> bool:
            nonlocal opening
            opening = [one for one in opening if not one.is_streaming and one.state is not State.CLOSED]
            while waiting and len(opening) < at_once:
                one = waiting.popleft()
                one.open()
                opening.append(one)
            return not opening

        self.wait(all_are_in, "connections that did not get into the stream")
        if clients and not any(one.is_streaming for one in clients):
            problems = ", ".join(f"{what} ({times} times)" for what, times in self.trouble.most_common(3))
            raise KoraError(f"no device was let in: {problems or 'no answer'}")

    def wait(self, done: Callable[[], bool], what: str, patience_s: float | None = None) -> None:
        """Run until `done()`; in trouble for `what` when that takes too long."""
        if not self.loop.run(done, self.patience_s if patience_s is None else patience_s):
            self.trouble[f"timeout: {what}"] += 1

    def begin(self) -> float:
        """The clock starts, now that everything is made; the moment."""
        self.loop.rest(_QUIET_S)
        gc.collect()
        gc.freeze()
        self.watch.begin()
        return now_s()

    def seconds_since(self, began: float) -> float:
        """How long ago that was."""
        return now_s() - began

    def pause(self, client: Client, seconds: float) -> None:
        """Let a client read nothing for so long."""
        client.pause()
        self.loop.at(now_s() + seconds, lambda _moment: client.resume())

    def read_log(self, watermark: int = 0) -> tuple[Client, Counter[str]]:
        """A fresh client that has read what is stored behind a watermark, and how often it has got each operation."""
        reader, ids = self.client(watermark), Counter[str]()
        reader.on_taken = lambda _client, batch, _at: ids.update([one.id for one in batch.operations])
        self.open([reader])
        reader.close()
        return reader, ids

    def check_log(self, watermark: int, expected: int) -> int:
        """Whether that many operations are stored behind a watermark, once each; how many there are."""
        _, ids = self.read_log(watermark)
        self.trouble.update(lost_and_doubled(expected, len(ids), ids.total() - len(ids), "operations in the log"))
        return len(ids)

    def judge(self, deliveries: Deliveries) -> None:
        """Whether everybody has got everything once."""
        expected = deliveries.planned * deliveries.listeners
        self.trouble.update(lost_and_doubled(expected, deliveries.delivered, deliveries.doubled, "deliveries"))

    def traffic(self, clients: Sequence[Client]) -> Figures:
        """How often the average operation was sent to each of them, and what else was sent in vain."""
        taken = sum(one.taken for one in clients)
        return {
            "arrivedPerOperation": round(sum(one.arrived for one in clients) / max(1, taken), 2),
            "repeats": sum(one.repeats for one in clients),
            "gaps": sum(one.gaps for one in clients),
        }

    def close(self) -> None:
        """All connections end."""
        for client in self._clients:
            client.close(reset=True)
        self.loop.close()


@contextmanager
def rig(subject: Subject) -> Iterator[Rig]:
    """Set one up; the server is one of our own unless the subject names another. Raises KoraError."""
    _allow_descriptors()
    if subject.url is not None:
        made = Rig(_address(subject.url), subject, subject.pid, None)
        try:
            yield made
        finally:
            made.close()
        return
    with own_daemon(subject.store, subject.store_url, tables=subject.tables) as daemon:
        made = Rig(_address(daemon.url), subject, daemon.pid, daemon)
        try:
            yield made
        finally:
            made.close()
        _judge_end(daemon, made.trouble)


def _judge_end(daemon: OwnDaemon, trouble: Counter[str]) -> None:
    status = daemon.stop()
    if status:
        trouble[f"the daemon ended with {status}"] += 1
    for line in daemon.complaints():
        trouble[f"the daemon logged: {line[:200]}"] += 1


def _address(url: str) -> Address:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "http") or parts.hostname is None:
        raise KoraError(f"--url {url}: expected ws://HOST:PORT/PATH; encryption is not measured here")
    port = parts.port or 80
    try:
        found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise KoraError(f"{url}: {parts.hostname} can't be found: {error}") from error
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    request = (
        f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\n"
    )
    return Address(found[0][0], found[0][4], request.encode())


def _allow_descriptors() -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
