"""What a service manager hears."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from tests.support.network import PATIENCE_S

Told = dict[str, str]
"""The assignments of one datagram."""


class Manager:
    """A socket as systemd's, at `address`: a path, or a name that begins with @."""

    def __init__(self, address: str) -> None:
        self.environment = {"NOTIFY_SOCKET": address}
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind("\0" + address[1:] if address.startswith("@") else address)
        self.heard: list[Told] = []

    async def hear(self) -> Told:
        """The next datagram."""
        with trio.fail_after(PATIENCE_S):
            await trio.lowlevel.wait_readable(self._ear)
        return self._take()

    async def hear_until(self, assignment: str) -> Told:
        """The next datagram that has this in it."""
        with trio.fail_after(PATIENCE_S):
            while True:
                told = await self.hear()
                name, _, value = assignment.partition("=")
                if told.get(name) == value:
                    return told

    def all_heard(self) -> list[Told]:
        """All that has come since."""
        self._ear.setblocking(False)
        found = []
        try:
            while True:
                found.append(self._take())
        except BlockingIOError:
            self._ear.setblocking(True)
        return found

    def _take(self) -> Told:
        told = dict(line.split("=", 1) for line in self._ear.recv(4096).decode().splitlines())
        self.heard.append(told)
        return told

    def close(self) -> None:
        self._ear.close()


@contextmanager
def managed(folder: Path, address: str = "") -> Iterator[Manager]:
    """A manager, gone at the end."""
    manager = Manager(address or str(folder / "notify"))
    try:
        yield manager
    finally:
        manager.close()


def listening(address: str = "127.0.0.1") -> socket.socket:
    """A socket that a manager opens for a daemon, on any free port; at :: for both families, as systemd does it."""
    opened = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    if address == "::":
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    opened.bind((address, 0))
    opened.listen(4096)
    return opened
