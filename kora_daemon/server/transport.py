"""What a connection needs of whatever carries its frames. A WebSocket is one; library users may bring others."""

from __future__ import annotations

from contextlib import suppress
from typing import Final, Protocol

import trio

from kora_daemon.protocol.actions import Close
from kora_daemon.wire.frame import Frame

_SPARE_PART = 4
"""Live traffic that is not stored fills at most one part in so many of a queue; the rest is for operations."""


def has_room(buffered_bytes: int, size_bytes: int, limit_bytes: int) -> bool:
    """Whether a frame that can be done without may join a queue: it stays below a quarter of its limit, or is empty."""
    return buffered_bytes + size_bytes <= limit_bytes // _SPARE_PART or (
        buffered_bytes == 0 and size_bytes <= limit_bytes
    )


class Receiver(Protocol):
    """The connection's side: where a transport puts what the peer sent."""

    def opened(self) -> None:
        """Frames may be sent from now on."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether the next frame may be handed in now."""
        ...

    async def ready(self) -> None:
        """Return when the next frame may be handed in; until then the peer has to wait."""
        ...

    def receive(self, frame: Frame) -> None:
        """Take one frame; the payload of a text frame is UTF-8, checked. Never blocks, never raises."""
        ...

    def overflowed(self) -> None:
        """More than `max_buffered_bytes` wait for a peer that does not read, behind the message that is on its way.

        That one does not count: whoever is closed for its size would come again for the same message, for ever.
        """
        ...


class Transport(Protocol):
    """One peer. All calls come from the event loop's thread."""

    @property
    def keeps_order(self) -> bool:
        """Whether the peer's messages are on their way together, so that none can arrive without those before it."""
        ...

    async def serve(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Hand in the peer's frames, in order, until it is gone. `await receiver.ready()` before each.

        Tasks of the transport live in `nursery`, which is cancelled soon after this returns.
        """
        ...

    def admit(self) -> None:
        """The peer's handshake was accepted: it may send messages of full size now."""
        ...

    def send(self, frame: Frame) -> None:
        """Send a frame, or queue it; never blocks. Nothing happens when the peer is gone."""
        ...

    def ping(self) -> None:
        """Provoke a sign of life."""
        ...

    @property
    def heard_at(self) -> float:
        """When the peer last gave a sign of life, on the event loop's clock (s)."""
        ...

    @property
    def buffered_bytes(self) -> int:
        """Bytes queued here and not yet given to the network."""
        ...

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether a frame that can be done without may be queued: not behind so much that the peer seems to be slow."""
        ...

    def delivered(self) -> bool:
        """Whether all that was sent has left this machine, as far as can be known."""
        ...

    @property
    def own_close(self) -> Close | None:
        """How it has ended the connection by itself: the peer broke its rules, or was not heard of any more.

        None when the session has closed it, or the peer has just gone.
        """
        ...

    async def close(self, code: int, reason: str) -> None:
        """Say goodbye and end the connection; takes a few seconds at most. Idempotent."""
        ...


class MemoryTransport:
    """A transport inside one process: the other end is a `MemoryPeer`."""

    name: Final = "memory"

    def __init__(self, incoming: trio.MemoryReceiveChannel[Frame], outgoing: trio.MemorySendChannel[Frame]) -> None:
        self._incoming = incoming
        self._outgoing = outgoing
        self.closed_with: tuple[int, str] | None = None

    @property
    def keeps_order(self) -> bool:
        """As a channel does."""
        return True

    async def serve(self, receiver: Receiver, nursery: trio.Nursery) -> None:
        """Hand in frames until either end is closed."""
        del nursery
        self._receiver = receiver
        receiver.opened()
        with suppress(trio.ClosedResourceError):
            async for frame in self._incoming:
                await receiver.ready()
                receiver.receive(frame)

    def admit(self) -> None:
        """All sizes are welcome anyway."""

    def send(self, frame: Frame) -> None:
        """Queue a frame; a peer that has as many unread as the channel takes has overflowed."""
        try:
            self._outgoing.send_nowait(frame)
        except trio.WouldBlock:
            self._receiver.overflowed()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def ping(self) -> None:
        """Not needed: a peer in the same process can't vanish."""

    @property
    def heard_at(self) -> float:
        """Always now."""
        return trio.current_time()

    @property
    def buffered_bytes(self) -> int:
        """Nothing waits outside the channel."""
        return 0

    def has_room_for(self, size_bytes: int) -> bool:
        """Whether the channel is less than half full."""
        del size_bytes
        statistics = self._outgoing.statistics()
        return 2 * statistics.current_buffer_used < statistics.max_buffer_size

    def delivered(self) -> bool:
        """Whether the peer has read everything."""
        return self._outgoing.statistics().current_buffer_used == 0

    @property
    def own_close(self) -> Close | None:
        """Never: there are no rules to break."""
        return None

    async def close(self, code: int, reason: str) -> None:
        """Close both directions."""
        if self.closed_with is None:
            self.closed_with = (code, reason)
        await self._outgoing.aclose()
        await self._incoming.aclose()


class MemoryPeer:
    """The client's end of a `MemoryTransport`."""

    def __init__(
        self,
        transport: MemoryTransport,
        outgoing: trio.MemorySendChannel[Frame],
        incoming: trio.MemoryReceiveChannel[Frame],
    ) -> None:
        self._transport = transport
        self._outgoing = outgoing
        self._incoming = incoming

    @property
    def closed_with(self) -> tuple[int, str] | None:
        """Close code and reason once the server has closed."""
        return self._transport.closed_with

    async def send(self, text: str | bytes) -> None:
        """Send a text frame (str) or a binary one (bytes)."""
        binary = isinstance(text, bytes)
        await self._outgoing.send(Frame(text if isinstance(text, bytes) else text.encode(), binary))

    async def receive(self) -> bytes:
        """The payload of the next frame; raises trio.EndOfChannel when the server has closed."""
        return (await self._incoming.receive()).payload

    async def close(self) -> None:
        """Vanish."""
        await self._outgoing.aclose()
        await self._incoming.aclose()


def memory_transport(frames: int = 1_000) -> tuple[MemoryTransport, MemoryPeer]:
    """Two connected ends; each direction holds at most `frames` unread frames."""
    to_server, from_client = trio.open_memory_channel[Frame](frames)
    to_client, from_server = trio.open_memory_channel[Frame](frames)
    transport = MemoryTransport(from_client, to_client)
    return transport, MemoryPeer(transport, to_server, from_server)
