"""Our stream under trio-websocket: data frames go straight to the session, pings and closes through the library.

trio-websocket answers pings and closes; it writes exactly one whole frame per `send_all`, and its writes
and our pushed frames leave through one outbox, so no frame lands inside another. Measured at 4 to 10 times the
library's own message path.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from functools import partial

import trio

from kora_daemon.server.framing import ANY_EXPANSION, PING_FRAME, TRY_AGAIN, FrameError, FrameParser, close_frame
from kora_daemon.server.lookout import Lookout
from kora_daemon.server.luggage import Luggage
from kora_daemon.server.transport import Receiver
from kora_daemon.wire.frame import Frame

RECEIVE_BYTES = 65_536
_RECEIVE_BUFFER = bytearray(RECEIVE_BYTES)
"""One for all sockets of the process: between the read into it and the copy out of it nothing else runs."""
GOODBYE_S = 2.0
"""For a peer that broke the protocol, to take what is still queued for it."""
_CLOSE = 0x88
_PONG = 0x8A
"""First bytes of frames."""
_BARE_CLOSE = b"\x88\x80\0\0\0\0"
"""A client's close frame without code and reason."""
STRANGERS_EXPANSION = 32
"""Before `allow` a compressed message may turn out to be so many times its size, or 64 KiB: five times what a long
version vector needs. To have 4 MiB looked into for 4 KB would be too good an offer to strangers."""
INFLATED_BYTES_PER_S = 16 << 20
"""Faster than that nobody is read who sends compressed messages: some 6 % of a core, however well they compress."""
_INFLATED_AT_ONCE = 1 << 20
_TAKEN_AT_ONCE = 64
"""Messages of one peer, before others have their turn."""
CONTROL_FRAMES_PER_S = 100
_CONTROL_AT_ONCE = 20
"""Pings are cheap to send, and each is an answer of the library: a peer that sends more of them is read more slowly."""
_WRITE_AT_ONCE = 64
_JOINED_BYTES = 65_536
"""Queued frames joined into one write: so many, and none behind one that is larger."""


class Outbox:
    """Bytes on their way to one socket. Written at once while the kernel takes them, queued when it does not.

    A task of `nursery` empties the queue while there is one. Its size is for the owner to watch: `buffered_bytes`.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self.nursery: trio.Nursery | None = None
        # A TLS stream has no file descriptor of use: everything goes through the queue then.
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self._queue: list[bytes | memoryview] = []
        self._drained: trio.Event | None = None
        self.buffered_bytes = 0
        self.broken = False

    def push(self, data: bytes) -> None:
        """Send, or queue; never blocks."""
        if self.broken or self.nursery is None:
            return
        written = 0
        if self._socket is not None and not self._queue:
            try:
                written = os.write(self._socket.fileno(), data)
            except BlockingIOError:
                pass
            except OSError:
                self.broken = True
                return
        if written < len(data):
            self._queue.append(memoryview(data)[written:] if written else data)
            self.buffered_bytes += len(data) - written
            if self._drained is None:
                self._drained = trio.Event()
                self.nursery.start_soon(self._drain, self._drained)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are queued behind the frame that is on its way."""
        return self.buffered_bytes - len(self._queue[0]) if self._queue else 0

    async def flush(self) -> None:
        """Return when everything pushed so far is in the kernel's hands, or never will be."""
        if self._drained is not None:
            await self._drained.wait()

    async def _drain(self, drained: trio.Event) -> None:
        try:
            while self._queue:
                await self._write_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.broken = True
            self._queue.clear()
            self.buffered_bytes = 0
        finally:
            self._drained = None
            drained.set()

    async def _write_some(self) -> None:
        # Large frames are shared with other sockets: joining them would make a copy for each.
        frames = self._queue[:1] if len(self._queue[0]) > _JOINED_BYTES else self._queue[:_WRITE_AT_ONCE]
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        await self._stream.send_all(data)
        del self._queue[: len(frames)]
        self.buffered_bytes -= len(data)

    def in_kernel_bytes(self) -> int:
        """Bytes that the kernel holds and the peer's kernel has not confirmed; 0 where it can't be asked."""
        if self._socket is None or (descriptor := self._socket.fileno()) < 0:
            return 0
        try:
            answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0" * 4)
        except OSError:
            return 0
        count: int = struct.unpack("i", answer)[0]
        return count


class FrameStream(trio.abc.Stream):
    """The `trio.abc.Stream` that trio-websocket runs over: from it come pings and closes only.

    Data frames are handed to `receiver` on the way. `behind_head` is what was read behind the request to be upgraded.
    """

    receiver: Receiver

    def __init__(self, stream: trio.abc.Stream, behind_head: bytes, limit_bytes: int, lookout: Lookout) -> None:
        self._stream = stream
        self._socket = stream.socket if isinstance(stream, trio.SocketStream) else None
        self.outbox = Outbox(stream)
        self._parser = FrameParser(limit_bytes)
        self._parser.expansion = STRANGERS_EXPANSION
        self._parser.feed(behind_head)
        self.luggage: Luggage | None = None
        """Of a peer that nobody knows yet: what it has sent of a message."""
        self._lookout = lookout
        self.fault: FrameError | None = None
        """Why nothing more is read, after a frame that breaks the rules; the peer was told."""
        self._closing = False
        self._control = b""
        """A control frame that was read already."""
        self._taken = self._controls = 0
        """Messages, and control frames since `_controls_since`."""
        self.heard_at = self._controls_since = trio.current_time()

    def allow(self, limit_bytes: int) -> None:
        """Trust the peer with messages of this size, however small they were compressed."""
        self._parser.limit_bytes = limit_bytes
        self._parser.expansion = ANY_EXPANSION
        self._leave_luggage()

    def inflate(self) -> None:
        """Take compressed messages: the client offered them and the answer says yes."""
        self._parser.inflates = True

    def begin_close(self) -> None:
        """From now on nothing of the peer is of interest but that it closes too: trio-websocket can't pong any more."""
        self._closing = True

    async def has_control_frame(self) -> bool:
        """Wait for the next one, which `receive_some` then returns at once; False when nothing more will come."""
        try:
            self._control = await self.receive_some()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return False
        return self._control != b""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """The next ping or close, b"" at the end; data frames before it are handed in."""
        del max_bytes
        if self._control:
            control, self._control = self._control, b""
            return control
        if self.fault is not None:
            return b""
        try:
            while True:
                message = self._hand_in()
                if message is None:
                    message = await self._hand_in_what_comes()
                if isinstance(message, Frame):
                    await self._hand_in_patiently(message)
                elif not message:
                    return b""
                else:
                    await self._pace_control_frames()
                    if message[0] == _PONG:
                        continue
                    if not self._closing:
                        return message
                    if message[0] == _CLOSE:
                        return _BARE_CLOSE
        except FrameError as error:
            self.fault = error
            self.outbox.push(close_frame(error.code, error.reason))
            with trio.move_on_after(GOODBYE_S):
                await self.outbox.flush()
            return b""

    def _hand_in(self) -> Frame | bytes | None:
        """Hand in the data frames that are here, as long as nothing has to be waited for.

        Returns the one before which that is so, the bytes of a control frame, or None when more has to come.
        """
        receiver, parser = self.receiver, self._parser
        while (message := parser.next()) is not None:
            if isinstance(message, bytes) and message[0] == _PONG and self._controls + 1 < _CONTROL_AT_ONCE:
                self._controls += 1  # that it came is all there is to it
                continue
            self._taken += 1
            if (
                isinstance(message, bytes)
                or not receiver.is_ready
                or self._taken % _TAKEN_AT_ONCE == 0
                or parser.inflated_bytes >= _INFLATED_AT_ONCE
            ):
                return message
            if self.luggage is not None:
                self._check_luggage(len(message.payload))
            receiver.receive(message)
        return None

    async def _hand_in_patiently(self, message: Frame) -> None:
        await trio.lowlevel.checkpoint()
        await self.receiver.ready()
        self._check_luggage(len(message.payload))
        self.receiver.receive(message)
        if self._parser.inflated_bytes >= _INFLATED_AT_ONCE:
            await self._rest()

    async def _hand_in_what_comes(self) -> Frame | bytes:
        """What `_hand_in` stops at, b"" at the end of the stream."""
        found: Frame | bytes | None = None
        while found is None:
            if self._socket is None:
                found = self._heard(await self._stream.receive_some(RECEIVE_BYTES))
            elif self._socket.fileno() < 0:
                found = b""
            else:
                found = await self._lookout.watch(self._socket, partial(self._read, self._socket))
        return found

    def _read(self, sock: trio.socket.SocketType) -> Frame | bytes | None:
        """Take what the kernel has; like `_hand_in`, b"" at the end of the stream. Never blocks."""
        try:
            count = os.readv(sock.fileno(), [_RECEIVE_BUFFER])
        except BlockingIOError:
            return None
        except OSError:
            return b""
        return self._heard(memoryview(_RECEIVE_BUFFER)[:count])

    def _heard(self, data: bytes | bytearray | memoryview) -> Frame | bytes | None:
        if not data:
            return b""
        self.heard_at = trio.current_time()
        self._parser.feed(data)
        found = self._hand_in()
        if self.luggage is not None:
            self._check_luggage(self._parser.held_bytes)
        return found

    async def _pace_control_frames(self) -> None:
        self._controls += 1
        if self._controls == _CONTROL_AT_ONCE:
            pause_s = self._controls_since + _CONTROL_AT_ONCE / CONTROL_FRAMES_PER_S - trio.current_time()
            if pause_s > 0:
                await trio.sleep(pause_s)
            self._controls, self._controls_since = 0, trio.current_time()

    async def _rest(self) -> None:
        """Let the peer wait for what it had inflated: it may have taken it next to nothing to send."""
        inflated_bytes, self._parser.inflated_bytes = self._parser.inflated_bytes, 0
        await trio.sleep(inflated_bytes / INFLATED_BYTES_PER_S)

    def ping(self) -> None:
        """Ask for a pong."""
        self.outbox.push(PING_FRAME)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Write one frame of trio-websocket's, behind what was pushed before."""
        self.outbox.push(bytes(data))
        await self.outbox.flush()
        if self.outbox.broken:
            raise trio.BrokenResourceError("the peer is gone")

    async def wait_send_all_might_not_block(self) -> None:
        """Part of the stream interface; trio-websocket does not use it."""
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the socket underneath."""
        self.outbox.broken = True
        self._leave_luggage()
        if self._socket is not None:
            self._lookout.leave(self._socket)
        await self._stream.aclose()

    def _check_luggage(self, size_bytes: int) -> None:
        if self.luggage is not None and not self.luggage.fits(size_bytes):
            raise FrameError(TRY_AGAIN, "too much of devices that are not signed in")

    def _leave_luggage(self) -> None:
        if self.luggage is not None:
            self.luggage.leave()
            self.luggage = None
