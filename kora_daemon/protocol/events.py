"""What happens to a session besides the messages it receives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from kora_daemon.errors import ProtocolError
from kora_daemon.model.delivery import Page
from kora_daemon.model.node import NodeMemory
from kora_daemon.model.outcome import Rejection
from kora_daemon.model.scope import ScopeMap
from kora_daemon.protocol.messages import Message


class Event(Struct, gc=False):
    """Anything that is not a message."""


class Moment(Struct, frozen=True, gc=False):
    """A reading of the server's two clocks, ms.

    `wall_ms` (since the epoch) is compared with what devices write and may jump; `elapsed_ms` never does: waits count
    on it.
    """

    wall_ms: int
    elapsed_ms: int


class Malformed(Event):
    """A frame that is no message."""

    error: ProtocolError


class Unknown(Event):
    """A well-formed message of a type that means nothing to this server; newer clients may send some."""

    type: str


class Authenticated(Event):
    """The token is good. `scopes` is what it grants; None = everything."""

    user_id: str
    scopes: ScopeMap | None = None


class AuthenticationRefused(Event):
    """The token is bad, for whatever reason."""


class AuthenticationUnavailable(Event):
    """The provider could not decide."""


class Revoked(Event):
    """Whoever this is has no right to be here any more."""


class Renewal(Event):
    """What the token stood for has changed: the client has to come again and show it, or another one."""

    reason: str


class LogRead(Event):
    """What the log holds at the handshake, answer to `ReadLog`.

    The stream begins behind `start`. `delta` are delivery sequences in causal order, for clients without a watermark.
    Watermarks below `floor` are of another log, which this one has taken the place of. `memory` is what is remembered
    of the device; `has_gaps`: it may have withheld some of its operations, and the vector asks for them. `own`: the
    largest sequence number that is known of it, whatever the vector says.
    """

    frontier: int
    version_vector: Mapping[str, int]
    delta: Sequence[int] = ()
    floor: int = 0
    start: int = 0
    memory: NodeMemory | None = None
    has_gaps: bool = False
    own: int = 0


class PageRead(Event):
    """Answer to `Read`."""

    page: Page


class Committed(Event):
    """The oldest batch handed to the writer is durable but for these operations. Answer to `Commit`."""

    rejections: Sequence[Rejection]


class StoreFailed(Event):
    """The store could not take the oldest batch, or could not be read; nothing was acknowledged."""


class FrontierMoved(Event):
    """The log reaches further. A level: losing or doubling one is harmless."""

    frontier: int


class Tick(Event):
    """Time has passed; see whether something is overdue. `silent_ms`: nothing has come from the peer for so long."""

    silent_ms: int = 0


class Draining(Event):
    """The daemon shuts down: finish what is being written, then say goodbye."""


AnyEvent = Event | Message
