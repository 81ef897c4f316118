"""A proxy for WebSockets that changes what passes through: what a server must not do, done to whoever listens."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from kora_daemon.bench.frames import FrameReader, masked_frame
from kora_daemon.server.framing import TEXT, FrameParser, frame_bytes, header
from kora_daemon.wire.frame import Frame

Change = Callable[[dict[str, Any]], None]
"""Changes a message in place."""


class OnceUploaded:
    """A change to the first batch that the server sends after it was sent one; `heard` has to be told of uploads."""

    def __init__(self, change: Change) -> None:
        self._change: Change | None = change
        self._is_due = threading.Event()

    def heard(self, message: dict[str, Any]) -> None:
        """What a client says, which stays as it is."""
        if _has_operations(message):
            self._is_due.set()

    def said(self, message: dict[str, Any]) -> None:
        """What the server says."""
        if _has_operations(message) and self._is_due.is_set() and self._change is not None:
            change, self._change = self._change, None
            change(message)


def _has_operations(message: dict[str, Any]) -> bool:
    return message["type"] == "operation-batch" and bool(message["operations"])


@contextmanager
def meddling(port: int, *, down: Change | None = None, up: Change | None = None) -> Iterator[str]:
    """The URL of a proxy before a server on this machine; `down` changes what it says, `up` what it hears."""
    listener = socket.create_server(("127.0.0.1", 0))
    ends: list[socket.socket] = [listener]

    def serve() -> None:
        with suppress(OSError):
            while True:
                near = listener.accept()[0]
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                for way in ((near, far, _uploads(up)), (far, near, _deliveries(down))):
                    threading.Thread(target=_pass_on, args=way, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        for one in ends:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def _pass_on(source: socket.socket, target: socket.socket, changed: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            data = source.recv(65_536)
            if not data:
                break
            head += data
        request, _, data = head.partition(b"\r\n\r\n")
        target.sendall(request + b"\r\n\r\n" + changed(data))
        while data := source.recv(65_536):
            target.sendall(changed(data))
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _uploads(change: Change | None) -> Callable[[bytes], bytes]:
    if change is None:
        return lambda data: data
    parser = FrameParser(2**30)

    def changed(data: bytes) -> bytes:
        parser.feed(data)
        passed = b""
        while (found := parser.next()) is not None:
            passed += masked_frame(_edited(found.payload, change)) if isinstance(found, Frame) else found
        return passed

    return changed


def _deliveries(change: Change | None) -> Callable[[bytes], bytes]:
    if change is None:
        return lambda data: data
    reader = FrameReader()

    def changed(data: bytes) -> bytes:
        return b"".join(
            frame_bytes(Frame(_edited(payload, change))) if opcode == TEXT else header(opcode, len(payload)) + payload
            for opcode, payload in reader.feed(data)
        )

    return changed


def _edited(payload: bytes, change: Change) -> bytes:
    message = json.loads(payload)
    change(message)
    return json.dumps(message).encode()
